package jsontranscoder

import (
	"encoding"
	"reflect"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
)

// CopiesPlain implements transcoding.JSON, for types that CheckType accepts. A
// copy does the same as Encode and Decode at a fraction of the time.
//
// It returns true for booleans, numbers, text, times, UUIDs, and for slices,
// arrays, maps, pointers and structs of them. It returns false for free-form
// fields, for types with methods or further options for JSON, for types that contain
// themselves, and for types with a transcoding that does more.
func (t *transcoder) CopiesPlain(typ reflect.Type) bool {
	return t.copiesPlain(typ, map[reflect.Type]bool{})
}

// copiesPlain is given the types around typ.
func (t *transcoder) copiesPlain(typ reflect.Type, around map[reflect.Type]bool) bool {
	switch {
	case around[typ]:
		return false
	case typ == reflect.TypeFor[time.Time]():
		return t.keepsTimes()
	case typ == reflect.TypeFor[uuid.UUID]():
		return t.keepsUUIDs()
	case t.byType[typ] != nil, hasMethodForJSON(typ):
		return false
	}
	around[typ] = true
	defer delete(around, typ)
	switch kind := typ.Kind(); kind {
	case reflect.String, reflect.Bool, reflect.Float32, reflect.Float64:
		return true
	case reflect.Slice, reflect.Array, reflect.Pointer:
		return t.copiesPlain(typ.Elem(), around)
	case reflect.Map:
		isKey := typ.Key().Kind() == reflect.String || isInteger(typ.Key().Kind())
		return isKey && !hasMethodForJSON(typ.Key()) && t.copiesPlain(typ.Elem(), around)
	case reflect.Struct:
		for i := range typ.NumField() {
			if f := typ.Field(i); !isAggregateRoot(f) && !t.copiesField(f, around) {
				return false
			}
		}
		return true
	default:
		return isInteger(kind)
	}
}

// isAggregateRoot reports whether a field is the embedded domain.Aggregate,
// which is not encoded and is empty in a state.
func isAggregateRoot(f reflect.StructField) bool { return f.Anonymous && f.Type == aggregateType }

func (t *transcoder) copiesField(f reflect.StructField, around map[reflect.Type]bool) bool {
	_, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	isLost := f.Tag.Get("json") == "-" || !f.IsExported() && !f.Anonymous
	return !isLost && (options == "" || leavesOutZero(f, options)) && t.copiesPlain(f.Type, around)
}

// leavesOutZero reports whether a field is left out only if it has the value
// that it has again when it was left out.
func leavesOutZero(f reflect.StructField, options string) bool {
	kind := f.Type.Kind()
	isScalar := kind == reflect.String || kind == reflect.Bool || isInteger(kind)
	return isScalar && (options == "omitempty" || options == "omitzero")
}

func isInteger(kind reflect.Kind) bool { return kind >= reflect.Int && kind <= reflect.Uint64 }

// keepsTimes reports whether times come back in UTC, to the microsecond.
func (t *transcoder) keepsTimes() bool {
	probe := time.Date(2001, 2, 3, 4, 5, 6, 789_123_456, time.FixedZone("", 2*60*60))
	got, ok := roundTrip(t, probe)
	return ok && got == probe.UTC().Truncate(time.Microsecond)
}

func (t *transcoder) keepsUUIDs() bool {
	probe := uuid.UUID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	got, ok := roundTrip(t, probe)
	return ok && got == probe
}

func roundTrip[T any](t *transcoder, value T) (got T, ok bool) {
	data, err := t.Encode(nil, value)
	if err == nil {
		err = t.Decode(data, &got)
	}
	return got, err == nil
}

// hasMethodForJSON reports whether a type or a pointer to it says itself how it
// is written or read.
func hasMethodForJSON(typ reflect.Type) bool {
	for _, method := range []reflect.Type{
		marshalerType, unmarshalerType, textMarshalerType, textUnmarshalerType,
		reflect.TypeFor[json.MarshalerTo](), reflect.TypeFor[json.UnmarshalerFrom](), reflect.TypeFor[encoding.TextAppender](),
	} {
		if implements(typ, method) {
			return true
		}
	}
	return false
}
