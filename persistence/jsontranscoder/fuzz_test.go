package jsontranscoder_test

import (
	"bytes"
	"encoding/json"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence/jsontranscoder"
	"github.com/eventsourcing-go/eventsourcing/persistence/python"
)

var drawString = rapid.Custom(func(t *rapid.T) string {
	text := rapid.OneOf(rapid.String(), rapid.StringN(0, 5, -1), rapid.SampledFrom([]string{
		"", "<>&\u00a0", "\x00\x1f\x7f\"\\/", "\ufffd", "🐕", "a,b:[c]", "_type_",
	})).Draw(t, "text")
	// encoding/json escapes them.
	return strings.NewReplacer("\u2028", "", "\u2029", "").Replace(text)
})

var drawFloat = rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{
	0, math.Copysign(0, -1), 1e-6, 9.9e-7, 1e21, 9.9e20, 1e-10, 1e100, math.MaxFloat64, math.SmallestNonzeroFloat64, 1.5,
}))

// special are the types that cannot hold just anything.
var special = map[reflect.Type]func(*rapid.T) any{
	reflect.TypeFor[json.Number](): func(t *rapid.T) any {
		numbers := []json.Number{"0", "-0", "1.50", "1E+3", "123456789012345678901234567890"}
		return rapid.SampledFrom(numbers).Draw(t, "number")
	},
	reflect.TypeFor[json.RawMessage](): func(t *rapid.T) any {
		return json.RawMessage(rapid.SampledFrom([]string{`null`, ` { "a" : [ 1, "b c" ] } `, `"\u0041<"`, `{}`}).Draw(t, "raw"))
	},
	reflect.TypeFor[time.Time](): func(t *rapid.T) any {
		seconds := rapid.Int64Range(-1e9, 1e11).Draw(t, "seconds")
		return time.Unix(seconds, rapid.Int64Range(0, 999999999).Draw(t, "nanoseconds")).UTC()
	},
	reflect.TypeFor[netip.Addr](): func(t *rapid.T) any {
		return netip.AddrFrom4([4]byte{rapid.Byte().Draw(t, "byte"), 0, 0, 1})
	},
}

// fill gives a value that was zero some content.
func fill(t *rapid.T, v reflect.Value, depth int) {
	if draw := special[v.Type()]; draw != nil {
		v.Set(reflect.ValueOf(draw(t)))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(rapid.OneOf(rapid.Int64(), rapid.Just(int64(0))).Draw(t, "int") >> (64 - v.Type().Bits()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		v.SetUint(rapid.Uint64().Draw(t, "uint") >> (64 - v.Type().Bits()))
	case reflect.Float32:
		v.SetFloat(float64(rapid.OneOf(rapid.Float32(), rapid.SampledFrom([]float32{1e-6, 1e21})).Draw(t, "float32")))
	case reflect.Float64:
		v.SetFloat(drawFloat.Draw(t, "float"))
	case reflect.String:
		v.SetString(drawString.Draw(t, "string"))
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() {
				fill(t, f, depth)
			} else if f.Kind() == reflect.Struct && v.Type().Field(i).Anonymous {
				fillEmbedded(t, f, depth)
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i), depth)
		}
	default:
		if depth > 0 && rapid.IntRange(0, 3).Draw(t, "present") > 0 {
			fillReference(t, v, depth-1)
		}
	}
}

// fillEmbedded fills the exported fields of an embedded struct that is not
// exported.
func fillEmbedded(t *rapid.T, v reflect.Value, depth int) {
	for i := range v.NumField() {
		if f := v.Field(i); f.CanSet() {
			fill(t, f, depth)
		}
	}
}

func fillReference(t *rapid.T, v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), depth)
	case reflect.Slice:
		n := rapid.IntRange(0, 3).Draw(t, "length")
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(t, v.Index(i), depth)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range rapid.IntRange(0, 3).Draw(t, "length") {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(t, key, depth)
			fill(t, value, depth)
			v.SetMapIndex(key, value)
		}
	case reflect.Interface:
		v.Set(reflect.ValueOf(drawFree(t, depth)))
	}
}

// drawFree makes up what a field of type any can hold. Numbers have a fraction:
// whole ones are written in another way than by encoding/json.
func drawFree(t *rapid.T, depth int) any {
	length := rapid.IntRange(0, min(depth, 3))
	switch rapid.IntRange(0, 6).Draw(t, "kind") {
	case 0:
		return rapid.Bool().Draw(t, "bool")
	case 1:
		return drawString.Draw(t, "string")
	case 2:
		return rapid.Int64().Draw(t, "int")
	case 3:
		f := drawFloat.Draw(t, "float")
		if f == math.Trunc(f) {
			return 0.5
		}
		return f
	case 4:
		array := []any{}
		for range length.Draw(t, "length") {
			array = append(array, drawFree(t, depth-1))
		}
		return array
	case 5:
		object := map[string]any{}
		for range length.Draw(t, "length") {
			object[drawString.Draw(t, "key")] = drawFree(t, depth-1)
		}
		return object
	}
	return []any{nil}
}

// drawStruct makes up a type.
func drawStruct(t *rapid.T) reflect.Type {
	kinds := []reflect.Type{
		reflect.TypeFor[int](), reflect.TypeFor[string](), reflect.TypeFor[*float64](), reflect.TypeFor[[]byte](),
		reflect.TypeFor[[]string](), reflect.TypeFor[map[string]bool](), reflect.TypeFor[any](), reflect.TypeFor[time.Time](),
		reflect.TypeFor[uuid.UUID](), reflect.TypeFor[baseShape](), reflect.TypeFor[[2]*uint8](),
	}
	tags := []string{``, `json:",omitempty"`, `json:",omitzero"`, `json:"-"`, `json:"%d"`, `json:"%d x,omitempty"`}
	var fields []reflect.StructField
	for i := range rapid.IntRange(0, 6).Draw(t, "fields") {
		fields = append(fields, reflect.StructField{
			Name: string(rune('A' + i)),
			Type: rapid.SampledFrom(kinds).Draw(t, "type"),
			Tag:  reflect.StructTag(strings.ReplaceAll(rapid.SampledFrom(tags).Draw(t, "tag"), "%d", strconv.Itoa(i))),
		})
	}
	return reflect.StructOf(fields)
}

func addSeeds(f *testing.F) {
	f.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "*.json"))
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v, want no error and some files", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, seed := range []string{
		`{"_type_":"custom_type2_as_dict","_data_":{"_type_":"custom_type1_as_dict","_data_":1}}`,
		`{"_data_":"x","_type_":"decimal_str"}`, `{"\u005ftype_":"\ud83d\udc15\ud83d","_data_":[1e9,-0.0]}`, `[[[{}]]]`,
		`{"Children":[{"ByName":{"a":null}}]}`, ``, `{"a":}`, "\"\xff\"", `{"Bytes":"AAA=","Ints":{"-1":"x"}}`,
	} {
		f.Add([]byte(seed))
	}
}

// FuzzDecode decodes anything: nothing panics, only what is JSON is taken, what
// was decoded can be encoded and comes back the same, and without transcodings
// it is what encoding/json makes of it.
func FuzzDecode(f *testing.F) {
	addSeeds(f)
	transcoder := newTranscoder(customTranscodings()...)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, into := range []any{
			new(everywhere), new(containerShape), new(methodShape), new(stringShape), new(embeddingShape), new(visitBooked),
			new(recursiveShape), new([]money), new(map[textKey]customType2),
		} {
			if err := transcoder.Decode(data, into); err != nil {
				wantTyped(t, err)
			}
		}
		var value any
		if err := transcoder.Decode(data, &value); err != nil {
			wantTyped(t, err)
			return
		}
		if !json.Valid(data) {
			t.Fatalf("decoded what is not JSON: %q", data)
		}
		again, err := transcoder.Encode(nil, value)
		if err != nil {
			wantTyped(t, err) // numbers as the values of _type_
			return
		}
		var back any
		if err := transcoder.Decode(again, &back); err != nil {
			t.Fatalf("Decode(%s): %v", again, err)
		}
		if !bytes.Contains(data, []byte("-0")) && !reflect.DeepEqual(back, value) && !bytes.ContainsAny(data, ".eE") {
			t.Fatalf("got %#v, want %#v", back, value)
		}
		if !bytes.Contains(data, []byte("_")) && !bytes.Contains(data, []byte(`\u`)) {
			var want any
			if err := json.Unmarshal(data, &want); err != nil || !reflect.DeepEqual(toFloats(value), want) {
				t.Fatalf("got %#v, want %#v (%v)", value, want, err)
			}
		}
	})
}

func wantTyped(t *testing.T, err error) {
	t.Helper()
	expect.ErrorAs[*jsontranscoder.Error](t, err)
}

// FuzzRoundTrip encodes an event and decodes it again, into its type and into
// any.
func FuzzRoundTrip(f *testing.F) {
	f.Add("走る 🐕", int64(9007199254740993), 0.1, []byte("0123456789abcdef"), int64(1704164645678901), "1E+3")
	f.Add("", int64(0), 0.0, []byte(nil), int64(0), "0")
	f.Add("\u2028\xff", int64(-1), math.Inf(1), []byte{0}, int64(-62135596800000001), "x")
	transcoder := newTranscoder()
	type event struct {
		Text    string
		Number  int64
		Float   float64 `json:"float,string"`
		Bytes   []byte
		ID      uuid.UUID
		At      *time.Time
		Fee     python.Decimal
		Any     any
		Objects map[string]any
	}
	f.Fuzz(func(t *testing.T, text string, number int64, float float64, data []byte, micros int64, fee string) {
		text = string([]rune(text)) // bytes that are not UTF-8 do not come back
		at := time.UnixMicro(micros).UTC()
		value := event{
			Text: text, Number: number, Float: float, Bytes: data, ID: uuid.NewSHA1(uuid.NameSpaceOID, data), At: &at,
			Fee: python.Decimal(fee), Any: []any{text, number, at}, Objects: object{text: object{text: nil}},
		}
		encoded, err := transcoder.Encode(nil, value)
		if err != nil {
			wantTyped(t, err)
			return
		}
		if !json.Valid(encoded) {
			t.Fatalf("not JSON: %q", encoded)
		}
		var back event
		if err := transcoder.Decode(encoded, &back); err != nil {
			t.Fatalf("Decode(%s): %v", encoded, err)
		}
		if back.Bytes == nil && data != nil || !reflect.DeepEqual(back, value) {
			t.Fatalf("got %#v, want %#v", back, value)
		}
		var dynamic map[string]any
		if err := transcoder.Decode(encoded, &dynamic); err != nil || dynamic["ID"] != any(value.ID) ||
			dynamic["At"] != any(at) || dynamic["Number"] != any(number) {
			t.Fatalf("got %#v, %v", dynamic, err)
		}
	})
}
