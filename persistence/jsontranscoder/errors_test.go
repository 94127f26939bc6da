package jsontranscoder_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/jsontranscoder"
	"github.com/eventsourcing-go/eventsourcing/persistence/python"
)

type (
	hidden  struct{ secret int }
	node    struct{ Next *node }
	loop    *loop
	empty   interface{}
	mimicry struct {
		Type string `json:"_type_"`
		Data string `json:"_data_,omitempty"`
	}
	mimicJSON struct{}
	badJSON   struct{ Text string }
	failing   struct{ Secret string }
)

func (mimicJSON) MarshalJSON() ([]byte, error) {
	return []byte(` {"_type_":"uuid_hex","_data_":1}`), nil
}

func (b badJSON) MarshalJSON() ([]byte, error) { return []byte(b.Text), nil }

func (f failing) MarshalJSON() ([]byte, error) { return nil, errors.New(f.Secret) }

func TestEncodeErrors(t *testing.T) {
	t.Parallel()
	list := []any{nil}
	list[0] = list
	circle := &node{}
	circle.Next = circle
	var self any
	self = &self
	mapping := object{}
	mapping["a"] = mapping
	deep := any(nil)
	for range 10_001 {
		deep = []any{deep}
	}
	type event struct{ Parts []any }

	const unserializable = "object of type %s is not serializable; define and register a transcoding for this type"
	tests := []struct {
		name  string
		value any
		want  string
	}{
		{"channel", make(chan int), fmt.Sprintf(unserializable, "chan int")},
		{"function in an object", object{"key of the payload": func() {}}, "[]: a value of type func() in a field of type any"},
		{"complex number in an event", event{[]any{1i}}, "event.Parts[]: a value of type complex128 in a field of type any"},
		{"nothing exported", hidden{secret: 1}, "hidden: " + fmt.Sprintf(unserializable, "jsontranscoder_test.hidden")},
		{"custom type", customType1{}, fmt.Sprintf(unserializable, "jsontranscoder_test.customType1")},
		{"NaN", math.NaN(), "number of type float64 is not finite"},
		{"infinite", event{[]any{math.Inf(-1)}}, "event.Parts[]: number of type float64 is not finite"},
		{"infinite float32", []float32{float32(math.Inf(-1))}, "[]: number of type float32 is not finite"},
		{"no number", json.Number("abc"), "json.Number is not a number"},
		{"map that looks like a transcoding", object{"_type_": "a", "_data_": int64(1)}, `"_type_" and "_data_" would come back`},
		{"typed map that looks like one", map[string]string{"_type_": "a", "_data_": "b"}, `would come back as something else`},
		{"struct that looks like one", mimicry{"a", "b"}, `mimicry: an object whose only keys`},
		{"method whose result looks like one", mimicJSON{}, `would come back as something else`},
		{"method whose result is not JSON", badJSON{`{"payload`}, "returned no acceptable JSON: the JSON value ends too early"},
		{"method whose result is too deep", badJSON{strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001)}, "nest too deep"},
		{"method that fails", failing{"payload"}, "failing: method MarshalJSON of jsontranscoder_test.failing returned an error"},
		{"empty decimal", python.Decimal(""), `by the transcoding "decimal_str": the empty Decimal is not a number`},
		{"decimal that is none", python.Decimal("payload"), "it is not a decimal number"},
		{"year 0", time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), "its year is not between 1 and 9999"},
		{"year 10000", time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), "its year is not between 1 and 9999"},
		{"text that fails", []failingText{{}}, "[]: method MarshalText of jsontranscoder_test.failingText returned an error"},
		{"key that fails", map[failingText]int{{}: 1}, "method MarshalText of jsontranscoder_test.failingText returned an error"},
		{"two keys with one text", map[texter]int{{1}: 1, {2}: 2}, "have the same text"},
		{"too deep", deep, "values nest too deep"},
		{"slice in itself", list, "contain themselves"},
		{"map in itself", mapping, "contain themselves"},
		{"struct in itself", circle, "contain themselves"},
		{"interface to itself", []any{self}, "a value of type *interface {} in a field of type any"},
	}
	transcoder := newTranscoder()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := transcoder.Encode(nil, test.value)
			wantTranscodingError(t, err, test.want)
		})
	}
}

type failingText struct{}

func (failingText) MarshalText() ([]byte, error) { return nil, errors.New("payload") }

type texter struct{ N int }

func (texter) MarshalText() ([]byte, error) { return []byte("same"), nil }

func wantTranscodingError(t *testing.T, err error, want string) {
	t.Helper()
	failure, ok := errors.AsType[*jsontranscoder.Error](err)
	switch {
	case !ok:
		t.Errorf("got error %v, want a *TranscodingError with %q", err, want)
	case !strings.Contains(err.Error(), want):
		t.Errorf("got error %q, want it to contain %q", err, want)
	case strings.Contains(err.Error(), "payload"):
		t.Errorf("error %q tells what is in the payload", err)
	case !errors.Is(err, persistence.ErrData):
		t.Errorf("error %q is not an ErrData", err)
	case len(failure.Path) > 250:
		t.Errorf("path has %d bytes: %s", len(failure.Path), failure.Path)
	}
}

func TestDecodeErrors(t *testing.T) {
	t.Parallel()
	type inner struct {
		Count int8
		ID    uuid.UUID
		Fee   python.Decimal
		At    time.Time
		Bytes []byte
		Ports map[uint16]bool
		Text  fmt.Stringer
		N     int `json:",string"`

		Float    float32
		Unsigned uint8
		Any      any
		Object   map[string]any
	}
	type event struct{ Parts []inner }
	in := func(part string) string { return `{"Parts":[{` + part + `}]}` }

	const notJSON = "it is not one JSON value"
	syntax := []struct{ name, data, want string }{
		{"nothing", ``, "ends too early (at offset 0)"},
		{"end too early", `{"Parts":["payload`, "ends too early"},
		{"more data", `{} payload`, notJSON + " (at offset 3)"},
		{"no JSON", `payload`, notJSON + " (at offset 0)"},
		{"control character", "\"\x01\"", notJSON},
		{"escape", `"\x"`, notJSON},
		{"escape without digits", `"\u12g4"`, notJSON},
		{"key without quotes", `{payload:1}`, notJSON},
		{"no colon", `{"a" 1}`, notJSON},
		{"no comma", `[1 2]`, notJSON},
		{"comma at the end", `[1,]`, notJSON},
		{"number", `-`, "ends too early"},
		{"number with a zero in front", `[01]`, notJSON},
		{"number without digits", `[1.]`, notJSON},
		{"NUL", "\x00", notJSON},
		{"endlessly deep", strings.Repeat(`{"a":`, 1<<20), "values nest too deep"},
		{"word", `[nul]`, notJSON},
		{"half an escape", `"\u00`, "ends too early"},
	}

	tests := []struct {
		name, data, want string
	}{
		{"float", `{"Parts":[{"Float":"payload"}]}`, "event.Parts[].Float: JSON string does not fit Go type float32"},
		{"large float", `{"Parts":[{"Float":1e39}]}`, "JSON number does not fit Go type float32"},
		{"unsigned", `{"Parts":[{"Unsigned":-1}]}`, "JSON number does not fit Go type uint8"},
		{"inside any", `{"Parts":[{"Any":{"payload":[1e999]}}]}`, "event.Parts[].Any[]: JSON number does not fit"},
		{"map", `{"Parts":[{"Object":[]}]}`, "JSON array does not fit Go type map[string]interface {}"},
		{"other kind", in(`"Count":"payload"`), "event.Parts[].Count: JSON string does not fit Go type int8 (at offset 19)"},
		{"overflow", in(`"Count":128`), "event.Parts[].Count: JSON number does not fit Go type int8"},
		{"fraction", in(`"Count":1.0`), "JSON number does not fit Go type int8"},
		{"object", `{"Parts":{}}`, "event.Parts: JSON object does not fit Go type []jsontranscoder_test.inner"},
		{"unknown name", in(`"ID":{"_type_":"x","_data_":"payload"}`),
			"event.Parts[].ID: data serialized with name 'x' is not deserializable; register a transcoding for it"},
		{"UUID", in(`"ID":{"_type_":"uuid_hex","_data_":"payload"}`), `transcoding "uuid_hex": it is not a UUID`},
		{"UUID of another kind", in(`"ID":{"_type_":"uuid_hex","_data_":1}`), "JSON number does not fit Go type string"},
		{"plain UUID", in(`"ID":"payload"`), "not accepted by the method UnmarshalText of uuid.UUID"},
		{"plain UUID of another kind", in(`"ID":true`), "JSON boolean does not fit Go type uuid.UUID"},
		{"decimal", in(`"Fee":{"_type_":"decimal_str","_data_":"payload"}`), "it is not a decimal number"},
		{"plain decimal", in(`"Fee":"payload"`), "it is not a decimal number"},
		{"time", in(`"At":{"_type_":"datetime_iso","_data_":"2024-13-01T00:00:00"}`), "it is not a time in ISO format"},
		{"plain time", in(`"At":"payload"`), "JSON string is not accepted by the method UnmarshalJSON of time.Time"},
		{"transcoding of another type", in(`"At":{"_type_":"decimal_str","_data_":"1"}`), "UnmarshalJSON of time.Time"},
		{"base64", in(`"Bytes":"payload!"`), "is not base64"},
		{"key", in(`"Ports":{"payload":true}`), "event.Parts[].Ports[]: JSON string does not fit Go type uint16"},
		{"large key", in(`"Ports":{"65536":true}`), "JSON string does not fit Go type uint16"},
		{"value of a key", in(`"Ports":{"1":1}`), "event.Parts[].Ports[]: JSON number does not fit Go type bool"},
		{"interface with methods", in(`"Text":"payload"`), "does not fit Go type fmt.Stringer"},
		{"string option without a string", in(`"N":1`), "event.Parts[].N: JSON number does not fit Go type int"},
		{"string option with something else", in(`"N":"payload"`), "event.Parts[].N: JSON string does not fit Go type int"},
	}
	transcoder := newTranscoder()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var into event
			wantTranscodingError(t, transcoder.Decode([]byte(test.data), &into), test.want)
		})
	}
	for _, test := range syntax {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, into := range []any{new(any), new([]map[string]event)} {
				err := transcoder.Decode([]byte(test.data), into)
				if _, free := into.(*any); free {
					wantTranscodingError(t, err, test.want)
				} else {
					wantTranscodingError(t, err, "")
				}
			}
		})
	}
	t.Run("embedded pointer that is not exported", func(t *testing.T) {
		t.Parallel()
		var into struct{ *goodBase }
		wantTranscodingError(t, transcoder.Decode([]byte(`{"Name":"x"}`), &into), ".Name: object of type")
	})
	t.Run("number that is too large, as any", func(t *testing.T) {
		t.Parallel()
		var into any
		wantTranscodingError(t, transcoder.Decode([]byte(`1e999`), &into), "JSON number does not fit Go type float64")
	})
	t.Run("types that cannot be decoded", func(t *testing.T) {
		t.Parallel()
		const want = "is not serializable; define and register a transcoding for this type"
		for _, into := range []any{new(chan int), new(hidden), new([]func()), new(map[string]chan int)} {
			data := map[reflect.Kind]string{reflect.Slice: `[1]`, reflect.Map: `{"a":1}`}[reflect.TypeOf(into).Elem().Kind()]
			wantTranscodingError(t, transcoder.Decode([]byte(cmp.Or(data, `{}`)), into), want)
		}
	})
	t.Run("no pointer", func(t *testing.T) {
		t.Parallel()
		for _, into := range []any{nil, event{}, (*event)(nil)} {
			wantTranscodingError(t, transcoder.Decode([]byte(`{}`), into), "decoding needs a pointer that is not nil")
		}
	})
}

// TestCause shows that the cause of an error can be had, although its text is
// left out.
func TestCause(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken payload")
	type broke struct{}
	transcoder := jsontranscoder.New(jsontranscoder.NewTranscoding("broke",
		func(broke) (int, error) { return 0, broken },
		func(int) (broke, error) { return broke{}, broken }))
	_, err := transcoder.Encode(nil, broke{})
	if !errors.Is(err, broken) {
		t.Errorf("Encode: got %v, want it to wrap the cause", err)
	}
	wantTranscodingError(t, err, `broke: value cannot be encoded by the transcoding "broke"`)

	err = transcoder.Decode([]byte(`[{"_type_":"broke","_data_":1}]`), new([]any))
	if !errors.Is(err, broken) {
		t.Errorf("Decode: got %v, want it to wrap the cause", err)
	}
	wantTranscodingError(t, err, `[]: value cannot be decoded by the transcoding "broke" (at offset 28)`)
}

// The errors that outspoken and spokenText return. What contains "payload" must
// not be shown.
var spokenErrors = map[string]error{
	"data": &persistence.Error{Class: persistence.ErrData, Op: "payload", Hint: "shown", Err: errors.New("payload")},
	"data in an error": fmt.Errorf("payload: %w",
		&persistence.Error{Class: persistence.ErrData, Op: "payload", Hint: "shown", Err: errors.New("payload")}),
	"data without a hint": &persistence.Error{Class: persistence.ErrData, Op: "payload", Err: errors.New("payload")},
	"another class":       &persistence.Error{Class: persistence.ErrOperational, Op: "op", Hint: "payload"},
	"a class of its own": &persistence.Error{Class: persistence.ErrOperational, Op: "op", Hint: "payload",
		Err: &persistence.Error{Class: persistence.ErrData, Op: "op", Hint: "payload"}},
	"no class": errors.New("payload"),
}

// outspoken has a transcoding that returns an error.
type outspoken struct{ Kind string }

// spokenText has methods that return an error.
type spokenText struct{ Kind string }

func (s spokenText) MarshalText() ([]byte, error) { return nil, spokenErrors[s.Kind] }

func (s *spokenText) UnmarshalText(text []byte) error { return spokenErrors[string(text)] }

// TestHints shows which text of an error of the user's is part of the error: the
// hint of an ErrData, and nothing else, because the rest may contain the
// payload.
func TestHints(t *testing.T) {
	t.Parallel()
	transcoder := jsontranscoder.New(jsontranscoder.NewTranscoding("outspoken",
		func(o outspoken) (string, error) { return "", spokenErrors[o.Kind] },
		func(kind string) (outspoken, error) { return outspoken{}, spokenErrors[kind] }))
	encode := func(value any) error { _, err := transcoder.Encode(nil, value); return err }
	decode := func(data string, into any) error { return transcoder.Decode([]byte(data), into) }
	const (
		encoded     = `outspoken: value cannot be encoded by the transcoding "outspoken"`
		decoded     = `outspoken: value cannot be decoded by the transcoding "outspoken"`
		marshaled   = "spokenText: method MarshalText of jsontranscoder_test.spokenText returned an error"
		unmarshaled = "spokenText: JSON string is not accepted by the method UnmarshalText of jsontranscoder_test.spokenText"
		atOffset    = " (at offset "
	)
	for kind, cause := range spokenErrors {
		byTranscoding, byMethod := "", ""
		if strings.HasPrefix(kind, "data") && kind != "data without a hint" {
			byMethod = ": shown"
		}
		if kind == "data" {
			byTranscoding = ": shown"
		}
		for _, test := range []struct {
			err  error
			want string
		}{
			{encode(outspoken{kind}), encoded + byTranscoding},
			{decode(`{"_type_":"outspoken","_data_":"`+kind+`"}`, new(outspoken)), decoded + byTranscoding},
			{encode(spokenText{kind}), marshaled + byMethod},
			{decode(`"`+kind+`"`, new(spokenText)), unmarshaled + byMethod},
		} {
			wantTranscodingError(t, test.err, "")
			if text, _, _ := strings.Cut(fmt.Sprint(test.err), atOffset); text != test.want {
				t.Errorf("%s: got %q, want %q", kind, text, test.want)
			}
			if !errors.Is(test.err, cause) {
				t.Errorf("%s: got %v, want it to wrap the cause", kind, test.err)
			}
		}
	}
}

func TestNewJSONTranscoderPanics(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name         string
		transcodings []jsontranscoder.Transcoding
		want         string
	}{
		{"name twice", []jsontranscoder.Transcoding{identity[uuid.UUID]("a"), identity[time.Time]("a")},
			"two transcodings have this name"},
		{"type twice", []jsontranscoder.Transcoding{identity[money]("a"), identity[money]("b")}, `already has the transcoding "a"`},
		{"no name", []jsontranscoder.Transcoding{identity[money]("")}, "must be valid UTF-8 and not empty"},
		{"interface", []jsontranscoder.Transcoding{identity[error]("a")}, "error is an interface"},
		{"pointer", []jsontranscoder.Transcoding{identity[*money]("a")}, "register jsontranscoder_test.money"},
		{"string", []jsontranscoder.Transcoding{identity[string]("a")}, "string has a form in JSON already"},
		{"zero", []jsontranscoder.Transcoding{{}}, "make it with NewTranscoding"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				err, _ := recover().(error)
				wantTranscodingError(t, err, test.want)
			}()
			jsontranscoder.New(test.transcodings...)
		})
	}
}
