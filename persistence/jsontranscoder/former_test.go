package jsontranscoder_test

import (
	"cmp"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/eventsourcing-go/eventsourcing/internal/transcoding"
	"github.com/eventsourcing-go/eventsourcing/persistence/jsontranscoder/internal/formerjson"
)

func newFormerTranscoder() *formerjson.JSONTranscoder {
	return formerjson.NewJSONTranscoder(append(formerjson.DefaultTranscodings(),
		formerjson.NewTranscoding("custom_type1_as_dict",
			func(c customType1) (uuid.UUID, error) { return c.value, nil },
			func(id uuid.UUID) (customType1, error) { return customType1{id}, nil }),
		formerjson.NewTranscoding("custom_type2_as_dict",
			func(c customType2) (customType1, error) { return c.value, nil },
			func(c customType1) (customType2, error) { return customType2{c}, nil }))...)
}

// formerTypes are what states of the first cut are read into.
var formerTypes = []reflect.Type{
	reflect.TypeFor[any](), reflect.TypeFor[numbersShape](), reflect.TypeFor[optionsShape](), reflect.TypeFor[stringShape](),
	reflect.TypeFor[embeddingShape](), reflect.TypeFor[recursiveShape](), reflect.TypeFor[containerShape](),
	reflect.TypeFor[methodShape](), reflect.TypeFor[anyShape](), reflect.TypeFor[visitBooked](), reflect.TypeFor[dogSnapshot](),
	reflect.TypeFor[formerEverywhere](), reflect.TypeFor[map[textKey]customType2](), reflect.TypeFor[map[string]any](),
}

// formerEverywhere has values with a transcoding in every place.
type formerEverywhere struct {
	Field   uuid.UUID
	Pointer *uuid.UUID
	Slice   []uuid.UUID
	Array   [2]uuid.UUID
	Map     map[string]uuid.UUID
	Keys    map[uuid.UUID]int
	Any     any
	Anys    []any
	Omitted uuid.UUID `json:",omitzero"`
	Custom  []customType2
	Text    string
}

// FuzzFormerJSON compares with the JSON of the first cut: what that has read,
// is read as the same, and what it has written of typed values is written in
// the same bytes. The differences are keys that differ from a field's name only
// in case, and whole numbers in fields of type any: floats are written with a
// fraction now, and numbers that are too large for an int64 are read with all
// their digits.
func FuzzFormerJSON(f *testing.F) {
	addSeeds(f)
	// A number with the option "string".
	f.Add([]byte(`{"f":{"_type_":"decimal_str","_data_":"0"}}`))
	f.Add([]byte("[10000000000000000000,{\"a\":-10000000000000000001}]"))
	former, transcoder := newFormerTranscoder(), newTranscoder(customTranscodings()...)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, typ := range formerTypes {
			compareWithFormer(t, former, transcoder, typ, data)
		}
	})
}

func compareWithFormer(t *testing.T, former *formerjson.JSONTranscoder, transcoder transcoding.JSON, typ reflect.Type, data []byte) {
	t.Helper()
	want, got := reflect.New(typ), reflect.New(typ)
	if err := former.Decode(data, want.Interface()); err != nil {
		return
	}
	if err := transcoder.Decode(data, got.Interface()); err != nil {
		if strings.Contains(err.Error(), "base64") { // line breaks, which were never written
			return
		}
		t.Fatalf("%v: %q was read before, and not now: %v", typ, data, err)
	}
	compared := reflect.New(typ)
	if err := transcoder.Decode(data, compared.Interface()); err != nil {
		t.Fatalf("%v: %q was read, and is not the second time: %v", typ, data, err)
	}
	roundLarge(compared)
	if !reflect.DeepEqual(compared.Interface(), want.Interface()) && !foldedKeys(typ, data) {
		t.Fatalf("%v: %q is read as %+v, and was as %+v", typ, data, got.Elem(), want.Elem())
	}
	before, err := former.Encode(nil, got.Interface())
	if err != nil {
		return
	}
	now, err := transcoder.Encode(nil, got.Interface())
	if err != nil {
		t.Fatalf("%v: %q was written before, and is not now: %v", typ, before, err)
	}
	if typ.Kind() != reflect.Interface && typ.Kind() != reflect.Map && typ != reflect.TypeFor[anyShape]() &&
		typ != reflect.TypeFor[formerEverywhere]() && typ != reflect.TypeFor[optionsShape]() && string(now) != string(before) {
		t.Fatalf("%v: %s is written, and was %s", typ, now, before)
	}
	again := reflect.New(typ)
	if err := transcoder.Decode(now, again.Interface()); err != nil {
		t.Fatalf("%v: %s is written, and not read: %v", typ, now, err)
	}
	if repeated, err := transcoder.Encode(nil, again.Interface()); err != nil || string(repeated) != string(now) {
		t.Fatalf("%v: %s comes back as %s, %v, want no error and %v", typ, now, repeated, err, string(now))
	}
}

// roundLarge makes a float64 of every *big.Int in a field of type any in v, as
// the first cut has read it.
func roundLarge(v reflect.Value) {
	switch v.Kind() {
	case reflect.Interface:
		if n, ok := v.Interface().(*big.Int); ok {
			float, _ := new(big.Float).SetInt(n).Float64()
			v.Set(reflect.ValueOf(float))
		} else if !v.IsNil() {
			v.Set(rounded(v.Elem()))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			roundLarge(v.Elem())
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			roundLarge(v.Index(i))
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			v.SetMapIndex(key, rounded(v.MapIndex(key)))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if field := v.Field(i); field.CanSet() {
				roundLarge(field)
			}
		}
	}
}

func rounded(v reflect.Value) reflect.Value {
	same := reflect.New(v.Type()).Elem()
	same.Set(v)
	roundLarge(same)
	return same
}

// foldedKeys reports whether data may have a key that only the first cut took
// for a field.
func foldedKeys(typ reflect.Type, data []byte) bool {
	if typ.Kind() == reflect.Interface || typ.Kind() == reflect.Map {
		return false
	}
	var value any
	err := newTranscoder(customTranscodings()...).Decode(data, &value)
	return err != nil || hasFoldedKey(value)
}

func hasFoldedKey(value any) bool {
	switch v := value.(type) {
	case []any:
		for _, element := range v {
			if hasFoldedKey(element) {
				return true
			}
		}
	case map[string]any:
		for key, element := range v {
			if hasFoldedKey(element) {
				return true
			}
			for _, name := range names {
				if name != key && strings.EqualFold(name, key) {
					return true
				}
			}
		}
	}
	return false
}

// names are those of all fields in formerTypes.
var names = func() []string {
	found := map[string]bool{}
	visited := map[reflect.Type]bool{}
	var visit func(typ reflect.Type)
	visit = func(typ reflect.Type) {
		if visited[typ] {
			return
		}
		visited[typ] = true
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
			visit(typ.Elem())
		case reflect.Struct:
			for _, f := range reflect.VisibleFields(typ) {
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				found[cmp.Or(name, f.Name)] = true
				visit(f.Type)
			}
		}
	}
	for _, typ := range formerTypes {
		visit(typ)
	}
	return slices.Collect(maps.Keys(found))
}()

// TestFormerJSON does the same with values that are made up.
func TestFormerJSON(t *testing.T) {
	t.Parallel()
	former, transcoder := newFormerTranscoder(), newTranscoder(customTranscodings()...)
	for _, typ := range formerTypes[1:10] {
		t.Run(typ.String(), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(r *rapid.T) {
				value := reflect.New(typ)
				fill(r, value.Elem(), 3)
				data, err := former.Encode(nil, value.Interface())
				if err != nil {
					return // years and Decimals that are none
				}
				compareWithFormer(t, former, transcoder, typ, data)
			})
		})
	}
}
