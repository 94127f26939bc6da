package jsontranscoder

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"
)

// The keys of the object that a value with a transcoding is written as.
const (
	typeKey = "_type_"
	dataKey = "_data_"
)

// jsonForm is what this package has in common with encoding/json, in both
// directions, and what it does not have by default.
var jsonForm = json.JoinOptions(
	json.Deterministic(true),
	json.FormatNilSliceAsNull(true),
	json.FormatNilMapAsNull(true),
	jsonv1.FormatByteArrayAsArray(true),
	jsonv1.FormatBytesWithLegacySemantics(true),
	jsonv1.FormatDurationAsNano(true),
	jsonv1.OmitEmptyWithLegacySemantics(true),
	jsonv1.ParseBytesWithLooseRFC4648(true),
	jsonv1.StringifyWithLegacySemantics(true),
	jsonv1.UnmarshalArrayFromAnyLength(true),
	jsontext.PreserveRawStrings(true),
)

// encoder encodes one value at a time.
type encoder struct {
	transcoder *transcoder
	options    json.Options
	out        []byte
	wrapped    int // values with a transcoding in out
}

func newEncoder(t *transcoder) *encoder {
	e := &encoder{transcoder: t}
	marshalers := []*json.Marshalers{
		json.MarshalToFunc(e.freeForm),
		json.MarshalToFunc(e.number),
		json.MarshalToFunc(func(to *jsontext.Encoder, raw stdjson.RawMessage) error { return e.raw(to, jsontext.Value(raw)) }),
		json.MarshalToFunc(e.raw),
	}
	for _, transcoding := range t.byType {
		marshalers = append(marshalers, transcoding.marshaler(&e.wrapped))
	}
	if t.form.AppendFloat != nil {
		marshalers = append(marshalers, json.MarshalToFunc(e.float))
	}
	e.options = json.JoinOptions(jsonForm, json.FormatNilSliceAsNull(!t.form.EmptyForNil), json.FormatNilMapAsNull(!t.form.EmptyForNil),
		json.WithMarshalers(json.JoinMarshalers(marshalers...)))
	return e
}

// Write implements io.Writer.
func (e *encoder) Write(part []byte) (int, error) {
	e.out = append(e.out, part...)
	return len(part), nil
}

func (e *encoder) encode(dst []byte, value any) ([]byte, error) {
	e.out, e.wrapped = dst, 0
	err := json.MarshalWrite(e, value, e.options)
	encoded := e.out
	e.out = nil
	if err != nil {
		return nil, err
	}
	// What looks like a value with a transcoding and is none would come back as
	// another value.
	if n := bytes.Count(encoded[len(dst):], []byte(`"`+typeKey+`":`)); n != e.wrapped && wrappers(encoded[len(dst):]) != e.wrapped {
		return nil, &payloadError{Type: reflect.TypeOf(value), Offset: -1, Problem: `an object whose only keys are "_type_" and ` +
			`"_data_" would come back as something else; name a key differently`}
	}
	return encoded, nil
}

// isKey reports whether the next thing to be written is the key of an object,
// which has no room for a transcoding.
func isKey(e *jsontext.Encoder) bool {
	kind, length := e.StackIndex(e.StackDepth())
	return kind == jsontext.KindBeginObject && length%2 == 0
}

// freeForm writes the value of an interface, of which nothing but the data will
// say what type it has.
func (e *encoder) freeForm(to *jsontext.Encoder, value *any) error {
	switch v := (*value).(type) {
	case nil:
		return to.WriteToken(jsontext.Null)
	case bool:
		return to.WriteToken(jsontext.Bool(v))
	case string:
		return to.WriteToken(jsontext.String(v))
	case int64:
		return to.WriteToken(jsontext.Int(v))
	case float64:
		if e.transcoder.form.AppendFloat != nil {
			return e.writeFloat(to, v, 64)
		}
		return freeFloat(to, v)
	case *big.Int:
		if v != nil && !v.IsInt64() {
			return to.WriteValue(jsontext.Value(v.String()))
		}
	case map[string]any:
		if v != nil {
			return json.MarshalEncode(to, v)
		}
	case []any:
		if v != nil {
			return json.MarshalEncode(to, v)
		}
	default:
		if e.transcoder.byType[reflect.TypeOf(v)] != nil {
			return json.MarshalEncode(to, v)
		}
	}
	typ := reflect.TypeOf(*value)
	return &payloadError{Type: typ, Problem: notFreeForm(typ)}
}

// notFreeForm says why a value of a type cannot be in a field of type any.
func notFreeForm(typ reflect.Type) string {
	problem := fmt.Sprintf("a value of type %v in a field of type any would not come back as it is; ", typ)
	switch kind := typ.Kind(); {
	case typ == reflect.TypeFor[map[string]any]() || typ == reflect.TypeFor[[]any]():
		return fmt.Sprintf("a nil %v in a field of type any would come back as nil; leave it out, or store an empty one", typ)
	case typ == reflect.TypeFor[*big.Int]():
		return problem + "use int64 unless the number is too large for it"
	case kind >= reflect.Int && kind <= reflect.Int32:
		return problem + "use int64"
	case kind >= reflect.Uint && kind <= reflect.Uintptr:
		return problem + "use int64, or a *big.Int if it is too large"
	case kind == reflect.Float32:
		return problem + "use float64"
	case kind == reflect.String:
		return problem + "use string"
	case kind == reflect.Slice && typ.Elem().Kind() == reflect.Uint8:
		return problem + "give the field the type []byte"
	case kind == reflect.Slice || kind == reflect.Array:
		return problem + "use []any"
	case kind == reflect.Map:
		return problem + "use map[string]any"
	}
	return problem + "give the field its type, or register a transcoding for it"
}

// freeFloat writes a number so that it comes back as a float64: whole ones have
// a fraction as well.
func freeFloat(to *jsontext.Encoder, f float64) error {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return &payloadError{Type: reflect.TypeFor[float64](), Problem: notFinite(reflect.TypeFor[float64]())}
	}
	text := jsontext.Float(f).String()
	if !strings.ContainsAny(text, ".e") {
		text += ".0"
	}
	return to.WriteValue(jsontext.Value(text))
}

// number writes the number of a json.Number as its digits are.
func (e *encoder) number(to *jsontext.Encoder, n stdjson.Number) error {
	switch {
	case isKey(to):
		return errors.ErrUnsupported
	case n == "": // the zero Number is 0
		n = "0"
	case !isNumber([]byte(n)):
		return &payloadError{Type: reflect.TypeOf(n), Problem: "json.Number is not a number"}
	}
	if quoted, _ := json.GetOption(to.Options(), json.StringifyNumbers); quoted {
		return to.WriteToken(jsontext.String(string(n)))
	}
	return to.WriteValue(jsontext.Value(n))
}

// isNumber reports whether text is a number in JSON and nothing else.
func isNumber(text []byte) bool {
	v := jsontext.Value(text)
	return v.Kind() == jsontext.KindNumber && v.IsValid() && !isSpace(text[0]) && !isSpace(text[len(text)-1])
}

// raw writes what the caller has encoded, which may have values with a
// transcoding.
func (e *encoder) raw(to *jsontext.Encoder, value jsontext.Value) error {
	if isKey(to) {
		return errors.ErrUnsupported
	}
	if value == nil {
		return to.WriteToken(jsontext.Null)
	}
	e.wrapped += wrappers(value)
	return to.WriteValue(value)
}
