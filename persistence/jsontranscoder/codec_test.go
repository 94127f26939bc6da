package jsontranscoder_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/eventsourcing-go/eventsourcing/internal/transcoding"
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
		compareWithEncodingJSON(t, newPlain(), value)
	})
}

// newTranscoderWithoutTimes has a transcoding, but none of a type in the
// shapes.
func newTranscoderWithoutTimes() transcoding.JSON {
	return newPlain(slices.Delete(python.Transcodings(), 1, 2)...)
}

func compareWithEncodingJSON(t *rapid.T, transcoder transcoding.JSON, value reflect.Value) {
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

func compareDecoding(t *rapid.T, transcoder transcoding.JSON, typ reflect.Type, data []byte) {
	want, got := reflect.New(typ), reflect.New(typ)
	wantErr := json.Unmarshal(data, want.Interface())
	err := transcoder.Decode(data, got.Interface())
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("Decode(%s): got error %v, want what encoding/json has: %v", data, err, wantErr)
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
			t.Errorf("%s: got error %v, want what encoding/json has: %v", data, err, wantErr)
		}
		if err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", data, got, want)
		}
	}
}
