package jsontranscoder_test

import (
	"bytes"
	"encoding/json"
	"errors"
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

	"github.com/eventsourcing-go/eventsourcing/persistence/jsontranscoder"
	"github.com/eventsourcing-go/eventsourcing/persistence/python"
)

// The shapes below are structs without transcodings, for which the transcoder
// must do what encoding/json does.
type (
	numbersShape struct {
		I   int
		I8  int8
		I16 int16
		I32 int32
		I64 int64
		U   uint
		U8  uint8
		U16 uint16
		U32 uint32
		U64 uint64
		P   uintptr
		F32 float32
		F64 float64
		N   json.Number
	}
	optionsShape struct {
		Bool     bool              `json:",omitempty"`
		Int      int               `json:"int,omitempty"`
		Float    float64           `json:",omitempty"`
		Text     string            `json:",omitempty"`
		Pointer  *int              `json:",omitempty"`
		Slice    []int             `json:",omitempty"`
		Array    [0]int            `json:",omitempty"`
		Map      map[string]int    `json:",omitempty"`
		Struct   struct{ A int }   `json:",omitempty"`
		Any      any               `json:",omitempty"`
		ZInt     int               `json:",omitzero"`
		ZArray   [2]int            `json:",omitzero"`
		ZStruct  struct{ A int }   `json:",omitzero"`
		ZTime    time.Time         `json:",omitzero"`
		ZPointer *time.Time        `json:",omitzero"`
		ZSlice   []int             `json:",omitzero"`
		ZOdd     oddIsZero         `json:",omitzero"`
		ZOddP    pointerOddIsZero  `json:",omitzero"`
		ZOddPP   *pointerOddIsZero `json:",omitzero"`
		Ignored  int               `json:"-"`
		Symbols  int               `json:"<a&b>"`
		Both     string            `json:"both,omitempty,omitzero"`
	}
	stringShape struct {
		Bool    bool        `json:",string"`
		Int     int8        `json:",string"`
		Uint    uint64      `json:",string"`
		F32     float32     `json:",string"`
		Float   float64     `json:"f,string,omitempty"`
		Text    string      `json:",string"`
		Pointer *int        `json:",string"`
		Texts   *string     `json:",string"`
		Number  json.Number `json:",string"`
	}
	baseShape struct {
		Name   string
		Hidden int
		Twice  string
	}
	OtherBase struct {
		Twice  string
		Tagged string `json:"Name2"`
	}
	DeepBase struct {
		OtherBase
		Deep  string
		Named int
	}
	embeddingShape struct {
		baseShape
		*DeepBase
		OtherBase `json:"other"`
		Number    `json:"Number"`
		Hidden    string // of baseShape
		Named     int    `json:"named"`
		Name2     string
	}
	Number       int
	diamondShape struct{ leftShape }
	leftShape    struct{ Left, Both int }
	clashShape   struct {
		leftShape2
		rightShape2
	}
	leftShape2     struct{ leftShape }
	rightShape2    struct{ leftShape }
	recursiveShape struct {
		Name     string
		Children []recursiveShape
		ByName   map[string]*recursiveShape
	}
	containerShape struct {
		Bytes     []byte
		Named     namedBytes
		ByteArray [4]byte
		Texts     []string
		Nested    [][]int
		Array     [2][]bool
		Strings   map[string]string
		Named2    map[namedString]int
		Ints      map[int16]string
		Uints     map[uint64]*int
		Keys      map[textKey]int
		Maps      map[string]map[string][]int
		Pointers  []*int
		Twice     **string
		Structs   []struct{ A, B int }
	}
	methodShape struct {
		Time    time.Time
		Pointer *time.Time
		Addr    netip.Addr
		Addrs   map[string]netip.Addr
		Raw     json.RawMessage
		Raws    []json.RawMessage
		Key     textKey
		Keys    []*textKey
		Cased   upper
		Cases   []upper
		Uppers  map[string]upper
	}
	anyShape struct {
		Any  any
		Anys []any
		Map  map[string]any
		Maps []map[string]any
	}
	namedBytes  []byte
	namedString string
)

type oddIsZero int

func (o oddIsZero) IsZero() bool { return o%2 != 0 }

type pointerOddIsZero int

func (o *pointerOddIsZero) IsZero() bool { return *o%2 != 0 }

type textKey struct{ N int }

func (k textKey) MarshalText() ([]byte, error) { return []byte("<" + strconv.Itoa(k.N) + ">"), nil }

func (k *textKey) UnmarshalText(text []byte) (err error) {
	k.N, err = strconv.Atoi(strings.Trim(string(text), "<>"))
	return err
}

type upper struct{ S string }

func (u upper) MarshalJSON() ([]byte, error) {
	return json.MarshalIndent(map[string]string{"upper <&>": strings.ToUpper(u.S)}, " ", "  ")
}

func (u *upper) UnmarshalJSON(data []byte) error {
	var m map[string]string
	err := json.Unmarshal(data, &m)
	u.S = m["upper <&>"]
	return err
}

var shapes = []reflect.Type{
	reflect.TypeFor[numbersShape](),
	reflect.TypeFor[optionsShape](),
	reflect.TypeFor[stringShape](),
	reflect.TypeFor[embeddingShape](),
	reflect.TypeFor[diamondShape](),
	reflect.TypeFor[clashShape](),
	reflect.TypeFor[recursiveShape](),
	reflect.TypeFor[containerShape](),
	reflect.TypeFor[methodShape](),
	reflect.TypeFor[anyShape](),
	reflect.TypeFor[map[string]any](),
	reflect.TypeFor[[]any](),
	reflect.TypeFor[*string](),
}

// TestLikeEncodingJSON compares with encoding/json, in both directions, for
// values and types of all kinds.
func TestLikeEncodingJSON(t *testing.T) {
	t.Parallel()
	for _, shape := range shapes {
		t.Run(shape.String(), func(t *testing.T) {
			t.Parallel()
			transcoder := newTranscoderWithoutTimes()
			rapid.Check(t, func(t *rapid.T) {
				value := reflect.New(shape)
				fill(t, value.Elem(), 3)
				compareWithEncodingJSON(t, transcoder, value)
			})
		})
	}
}

// TestLikeEncodingJSONOfAnyStruct does it for structs that are made up.
func TestLikeEncodingJSONOfAnyStruct(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		value := reflect.New(drawStruct(t))
		fill(t, value.Elem(), 2)
		compareWithEncodingJSON(t, jsontranscoder.New(), value)
	})
}

// newTranscoderWithoutTimes has a transcoding, but none of a type in the
// shapes.
func newTranscoderWithoutTimes() *jsontranscoder.Transcoder {
	return jsontranscoder.New(python.UUIDHex(), python.DecimalStr())
}

func compareWithEncodingJSON(t *rapid.T, transcoder *jsontranscoder.Transcoder, value reflect.Value) {
	var want bytes.Buffer
	encoder := json.NewEncoder(&want)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value.Interface()); err != nil {
		t.Fatalf("encoding/json: %v", err)
	}
	data, err := transcoder.Encode(nil, value.Interface())
	if err != nil {
		t.Fatalf("Encode: %v, but encoding/json gives %s", err, want.Bytes())
	}
	if string(data) != strings.TrimSuffix(want.String(), "\n") {
		t.Fatalf("Encode:\n got %s\nwant %s", data, want.Bytes())
	}
	byValue, err := transcoder.Encode(nil, value.Elem().Interface())
	if err != nil || !bytes.Equal(byValue, data) && !strings.Contains(value.Type().String(), "optionsShape") {
		t.Fatalf("Encode of the value:\n got %s, %v\nwant %s", byValue, err, data)
	}
	compareDecoding(t, transcoder, value.Type().Elem(), data)
	if loose := addSpace(data); json.Valid(loose) {
		compareDecoding(t, transcoder, value.Type().Elem(), loose)
	}
}

func compareDecoding(t *rapid.T, transcoder *jsontranscoder.Transcoder, typ reflect.Type, data []byte) {
	want, got := reflect.New(typ), reflect.New(typ)
	wantErr := json.Unmarshal(data, want.Interface())
	err := transcoder.Decode(data, got.Interface())
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("Decode(%s): got error %v, encoding/json %v", data, err, wantErr)
	}
	if err != nil {
		return
	}
	floats(got.Elem())
	if !reflect.DeepEqual(got.Interface(), want.Interface()) {
		t.Fatalf("Decode(%s):\n got %+v\nwant %+v", data, got.Elem(), want.Elem())
	}
}

// addSpace puts white space wherever a comma stands, which may be wrong inside
// strings but is the same for everybody.
func addSpace(data []byte) []byte {
	return []byte(" \n" + strings.NewReplacer(",", " ,\t", ":", " : ", "{", "{ ", "]", " ]").Replace(string(data)) + "\r\n ")
}

// floats makes the integers in interfaces what encoding/json makes of them.
func floats(v reflect.Value) {
	switch v.Kind() {
	case reflect.Interface:
		if !v.IsNil() {
			v.Set(reflect.ValueOf(toFloats(v.Interface())))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			floats(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				floats(v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			floats(v.Index(i))
		}
	case reflect.Map:
		if m, ok := v.Interface().(map[string]any); ok {
			toFloats(m)
		}
	}
}

func toFloats(value any) any {
	switch value := value.(type) {
	case int64:
		return float64(value)
	case []any:
		for i := range value {
			value[i] = toFloats(value[i])
		}
	case map[string]any:
		for key := range value {
			value[key] = toFloats(value[key])
		}
	}
	return value
}

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

// latin1Text is a key whose text is not valid UTF-8.
type latin1Text struct{}

func (latin1Text) MarshalText() ([]byte, error) { return []byte("M\xfcller"), nil }

func (*latin1Text) UnmarshalText([]byte) error { return nil }

type latin1JSON struct{}

func (latin1JSON) MarshalJSON() ([]byte, error) { return []byte("\"M\xfcller\""), nil }

func (*latin1JSON) UnmarshalJSON([]byte) error { return nil }

// TestInvalidUTF8 shows that text that would come back as another is refused,
// wherever it is, by an error without the text.
func TestInvalidUTF8(t *testing.T) {
	t.Parallel()
	const bad = "M\xfcller"
	type person struct{ Name string }
	for name, value := range map[string]any{
		"string":        bad,
		"cut off":       "M\xc3",
		"surrogate":     "\xed\xa0\x80",
		"field":         person{bad},
		"pointer":       &person{bad},
		"slice":         []string{"", bad},
		"any":           []any{map[string]any{"a": bad}},
		"key of object": map[string]any{bad: int64(1)},
		"key of map":    map[string]int{bad: 1},
		"key by method": map[latin1Text]int{{}: 1},
		"method text":   latin1Text{},
		"method JSON":   latin1JSON{},
		"raw":           json.RawMessage("\"M\xfcller\""),
		"string in JSON": struct {
			A string `json:",string"`
		}{bad},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := newTranscoder().Encode(nil, value)
			e, ok := errors.AsType[*jsontranscoder.Error](err)
			if !ok || !strings.Contains(err.Error(), "UTF-8") {
				t.Fatalf("got %q, error %v, want an error that names UTF-8", got, err)
			}
			if strings.Contains(e.Error(), "ller") {
				t.Errorf("the error shows the text: %v", e)
			}
		})
	}
	for _, good := range []string{"Müller", "\ufffd", "\x00", "🐕"} {
		if _, err := newTranscoder().Encode(nil, good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

// TestPointerMethods shows that methods with pointer receivers count where
// encoding/json would pass over them.
func TestPointerMethods(t *testing.T) {
	t.Parallel()
	type event struct {
		Field pointerMethods
		Map   map[string]pointerMethods
	}
	const want = `{"Field":"1","Map":{"a":"2"}}`
	value := event{pointerMethods{1}, map[string]pointerMethods{"a": {2}}}
	if got := encode(t, newTranscoder(), value); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	back := decode[event](t, newTranscoder(), want)
	if !reflect.DeepEqual(back, value) {
		t.Errorf("got %+v, want %+v", back, value)
	}
}

type pointerMethods struct{ n int }

func (p *pointerMethods) MarshalJSON() ([]byte, error) {
	return []byte(`"` + strconv.Itoa(p.n) + `"`), nil
}

func (p *pointerMethods) UnmarshalJSON(data []byte) (err error) {
	p.n, err = strconv.Atoi(strings.Trim(string(data), `"`))
	return err
}

// TestDecodeLikeEncodingJSON compares data that no encoder writes.
func TestDecodeLikeEncodingJSON(t *testing.T) {
	t.Parallel()
	type target struct {
		Name    string
		Other   string `json:"NAME"`
		Int     int
		Pointer *int
		Slice   []int
		Array   [2]int
		Map     map[string]int
		Bytes   []byte
		Key     textKey
		Time    time.Time
		Any     any
		Number  json.Number
		Quoted  *int `json:",string"`
		Struct  struct{ A int }
		*DeepBase
		*baseShape
	}
	tests := []string{
		`{"NAME":"exact"}`, `{"unknown":{"a":[1,"}"]}}`,
		`{"Name":null,"Int":null,"Pointer":null,"Slice":null,"Array":null,"Map":null,"Bytes":null,"Any":null}`,
		`{"Key":null,"Number":null,"Quoted":null,"Struct":null,"Time":null}`,
		`{"Array":[1]}`, `{"Array":[1,2,3]}`, `{"Bytes":[1,2]}`, `{"Bytes":""}`, `{"Bytes":"!"}`, `{"Slice":[]}`,
		`{"Number":"1.5"}`, `{"Number":"x"}`, `{"Number":1E5}`, `{"Quoted":"1"}`, `{"Quoted":""}`,
		`{"Quoted":" 1"}`, `{"Quoted":"[]"}`, `{"Quoted":1}`, `{"Int":1e2}`, `{"Int":-1}`, `{"Int":"1"}`, `{"Key":"<5>"}`,
		`{"Key":5}`, `{"Deep":"x","Twice":"y"}`, `{"Hidden":1}`, `{"Name":"a","Name":"b"}`, `{"Int":99999999999999999999}`,
		`null`, `[]`, `"x"`, `{}`, ` {} `, `{"Struct":[]}`, `{"Time":"2024-01-01T00:00:00Z"}`, `{"Map":{"":0}}`, `{"":1}`,
	}
	for _, data := range tests {
		var want, got target
		wantErr := json.Unmarshal([]byte(data), &want)
		err := newTranscoderWithoutTimes().Decode([]byte(data), &got)
		if (err == nil) != (wantErr == nil) {
			t.Errorf("%s: got error %v, encoding/json %v", data, err, wantErr)
		}
		if err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", data, got, want)
		}
	}
}

func addSeeds(f *testing.F) {
	f.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "*.json"))
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
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
	if _, ok := errors.AsType[*jsontranscoder.Error](err); !ok {
		t.Fatalf("got %T: %v, want a *TranscodingError", err, err)
	}
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
