package jsontranscoder_test

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/internal/transcoding"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/jsontranscoder"
	"github.com/eventsourcing-go/eventsourcing/persistence/python"
)

func newTranscoder(custom ...jsontranscoder.Transcoding) transcoding.JSON {
	return newPlain(append(python.Transcodings(), custom...)...)
}

func newPlain(transcodings ...jsontranscoder.Transcoding) transcoding.JSON {
	return jsontranscoder.New(transcodings...).(transcoding.JSON)
}

func encode(t *testing.T, transcoder persistence.Transcoder, value any) string {
	t.Helper()
	data, err := transcoder.Encode(nil, value)
	if err != nil {
		t.Fatalf("Encode(%#v): %v", value, err)
	}
	return string(data)
}

func decode[T any](t *testing.T, transcoder persistence.Transcoder, data string) T {
	t.Helper()
	var value T
	if err := transcoder.Decode([]byte(data), &value); err != nil {
		t.Fatalf("Decode(%s): %v", data, err)
	}
	return value
}

type object = map[string]any

var (
	sampleID   = uuid.MustParse("b2723fe2-c01a-40d2-875e-a3aac6a09ff5")
	sampleTime = time.Date(2024, 1, 2, 3, 4, 5, 678901000, time.UTC)
)

// The custom types of the Python library's tests: one is stored as an object
// that contains the other.
type customType1 struct{ value uuid.UUID }

type customType2 struct{ value customType1 }

func customTranscodings() []jsontranscoder.Transcoding {
	return []jsontranscoder.Transcoding{
		jsontranscoder.NewTranscoding("custom_type1_as_dict",
			func(c customType1) (uuid.UUID, error) { return c.value, nil },
			func(id uuid.UUID) (customType1, error) { return customType1{id}, nil }),
		jsontranscoder.NewTranscoding("custom_type2_as_dict",
			func(c customType2) (customType1, error) { return c.value, nil },
			func(c customType1) (customType2, error) { return customType2{c}, nil }),
	}
}

// TestConformance holds the cases of the Python library's tests of transcoders:
// the exact bytes, and that the value comes back if nothing says what type it
// has.
func TestConformance(t *testing.T) {
	t.Parallel()
	const id = `{"_type_":"uuid_hex","_data_":"b2723fe2c01a40d2875ea3aac6a09ff5"}`
	tests := []struct {
		name  string
		value any
		want  string
	}{
		{"string", "a", `"a"`},
		{"quotes are escaped", `a"b\c`, `"a\"b\\c"`},
		{"control characters are escaped", "\x00\x1f\b\f\n\r\t\x7f", `"\u0000\u001f\b\f\n\r\t` + "\x7f" + `"`},
		{"emoji are UTF-8", "🐈 哈哈", `"🐈 哈哈"`},
		{"characters of HTML stay", "<b>&amp;</b>", `"<b>&amp;</b>"`},
		{"line separators stay", "a\u2028b\u2029c", "\"a\u2028b\u2029c\""},
		{"null", nil, `null`},
		{"boolean", true, `true`},
		{"whole number", int64(-9007199254740993), `-9007199254740993`},
		{"number", 1.5, `1.5`},
		{"empty object", object{}, `{}`},
		{"object without white space", object{"b": int64(2), "a": int64(1)}, `{"a":1,"b":2}`},
		{"nested objects", object{"a": object{"b": object{}}}, `{"a":{"b":{}}}`},
		{"two keys, only one of them _type_", object{"_type_": "x", "b": int64(1)}, `{"_type_":"x","b":1}`},
		{"two keys, only one of them _data_", object{"_data_": "x", "b": int64(1)}, `{"_data_":"x","b":1}`},
		{"three keys", object{"_data_": "x", "_type_": "y", "b": nil}, `{"_data_":"x","_type_":"y","b":null}`},
		{"only _type_", object{"_type_": "uuid_hex"}, `{"_type_":"uuid_hex"}`},
		{"nested lists", []any{[]any{}, []any{"a", []any{true, nil}}}, `[[],["a",[true,null]]]`},
		{"UUID", sampleID, id},
		{"UUID in an object in a list", []any{object{"a": sampleID}}, `[{"a":` + id + `}]`},
		{"datetime", sampleTime, `{"_type_":"datetime_iso","_data_":"2024-01-02T03:04:05.678901+00:00"}`},
		{"datetime without microseconds", sampleTime.Truncate(time.Second),
			`{"_type_":"datetime_iso","_data_":"2024-01-02T03:04:05+00:00"}`},
		{"decimal", python.Decimal("1E+3"), `{"_type_":"decimal_str","_data_":"1E+3"}`},
		{"custom types that contain each other", customType2{customType1{sampleID}},
			`{"_type_":"custom_type2_as_dict","_data_":{"_type_":"custom_type1_as_dict","_data_":` + id + `}}`},
	}
	transcoder := newTranscoder(customTranscodings()...)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := encode(t, transcoder, test.value)
			if got != test.want {
				t.Errorf("Encode: got %s, want %s", got, test.want)
			}
			if back := decode[any](t, transcoder, got); !reflect.DeepEqual(back, test.value) {
				t.Errorf("Decode: got %#v, want %#v", back, test.value)
			}
		})
	}
}

// TestDecodeAny holds further forms that are understood.
func TestDecodeAny(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		data string
		want any
	}{
		{"escaped text of older data", `"\u8d70\u308b \ud83d\udc15"`, "走る 🐕"},
		{"half a character", `"\ud83d x \udc15\ud83d\u0041"`, "\ufffd x \ufffd\ufffdA"},
		{"bytes that are not UTF-8", "\"a\xffb\"", "a\ufffdb"},
		{"white space", " { \"a\" : [ 1 , 2.0 ] } \n", object{"a": []any{int64(1), 2.0}}},
		{"largest int64", `9223372036854775807`, int64(math.MaxInt64)},
		{"more than int64", `9223372036854775808`, new(big.Int).SetUint64(1 << 63)},
		{"less than int64", `-9223372036854775809`, new(big.Int).Sub(big.NewInt(math.MinInt64), big.NewInt(1))},
		{"exponent", `1e3`, 1000.0},
		{"escaped keys", `{"\u005ftype_":"uuid_hex","_data\u005F":"b2723fe2c01a40d2875ea3aac6a09ff5"}`, sampleID},
		{"keys the other way round", `{"_data_":"1.0","_type_":"decimal_str"}`, python.Decimal("1.0")},
		{"_type_ that is no name", `{"_type_":1,"_data_":2}`, object{"_type_": int64(1), "_data_": int64(2)}},
		{"the same key twice", `{"_type_":"x","_type_":"y"}`, object{"_type_": "y"}},
		{"UUID with dashes", `{"_type_":"uuid_hex","_data_":"b2723fe2-c01a-40d2-875e-a3aac6a09ff5"}`, sampleID},
		{"time with Z", `{"_type_":"datetime_iso","_data_":"2024-01-02T03:04:05.678901Z"}`, sampleTime},
		{"time with another offset", `{"_type_":"datetime_iso","_data_":"2024-01-02T05:34:05.678901+02:30"}`, sampleTime},
		{"time with seconds in the offset", `{"_type_":"datetime_iso","_data_":"2024-01-02T03:04:06.678901+00:00:01"}`,
			sampleTime},
		{"time without offset", `{"_type_":"datetime_iso","_data_":"2024-01-02T03:04:05.678901"}`, sampleTime},
	}
	transcoder := newTranscoder()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := decode[any](t, transcoder, test.data); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %#v, want %#v", got, test.want)
			}
		})
	}
}

// everywhere has a value with a transcoding in each place that can have one.
type everywhere struct {
	Field    uuid.UUID
	Pointer  *uuid.UUID
	Nil      *uuid.UUID
	Slice    []uuid.UUID
	Array    [2]uuid.UUID
	Map      map[string]uuid.UUID
	Keys     map[uuid.UUID]int
	Any      any
	Anys     []any
	Omitted  uuid.UUID            `json:",omitzero"`
	Decimal  python.Decimal       `json:",string"`
	Pointers []*time.Time         `json:"pointers"`
	Stringer fmt.Stringer         `json:"-"`
	Deep     map[string][]object2 `json:"deep"`
}

type object2 struct{ ID any }

func TestTranscodingEverywhere(t *testing.T) {
	t.Parallel()
	const id = `{"_type_":"uuid_hex","_data_":"b2723fe2c01a40d2875ea3aac6a09ff5"}`
	value := everywhere{
		Field: sampleID, Pointer: &sampleID, Slice: []uuid.UUID{sampleID}, Array: [2]uuid.UUID{sampleID, sampleID},
		Map: map[string]uuid.UUID{"a": sampleID}, Keys: map[uuid.UUID]int{sampleID: 1}, Any: sampleID,
		Anys: []any{sampleID}, Decimal: "1.0", Pointers: []*time.Time{&sampleTime, nil},
		Deep: map[string][]object2{"x": {{ID: sampleID}}},
	}
	want := `{"Field":` + id + `,"Pointer":` + id + `,"Nil":null,"Slice":[` + id + `],"Array":[` + id + `,` + id +
		`],"Map":{"a":` + id + `},"Keys":{"b2723fe2-c01a-40d2-875e-a3aac6a09ff5":1},"Any":` + id + `,"Anys":[` + id +
		`],"Decimal":{"_type_":"decimal_str","_data_":"1.0"},"pointers":[{"_type_":"datetime_iso","_data_":` +
		`"2024-01-02T03:04:05.678901+00:00"},null],"deep":{"x":[{"ID":` + id + `}]}}`
	transcoder := newTranscoder()
	for name, v := range map[string]any{"value": value, "pointer": &value} {
		if got := encode(t, transcoder, v); got != want {
			t.Errorf("Encode of a %s: got %s, want %s", name, got, want)
		}
	}
	if got := decode[everywhere](t, transcoder, want); !reflect.DeepEqual(got, value) {
		t.Errorf("Decode: got %+v, want %+v", got, value)
	}
}

type (
	dogRegistered struct {
		Timestamp       time.Time `json:"timestamp"`
		OriginatorTopic string    `json:"originator_topic"`
		Name            string    `json:"name"`
	}
	trickAdded struct {
		Timestamp time.Time `json:"timestamp"`
		Trick     string    `json:"trick"`
	}
	visitBooked struct {
		Timestamp       time.Time      `json:"timestamp"`
		OriginatorTopic string         `json:"originator_topic"`
		DogID           uuid.UUID      `json:"dog_id"`
		At              time.Time      `json:"at"`
		Fee             python.Decimal `json:"fee"`
		Notes           []string       `json:"notes"`
	}
	feeChanged struct {
		Timestamp time.Time      `json:"timestamp"`
		Fee       python.Decimal `json:"fee"`
	}
	dogSnapshot struct {
		Timestamp time.Time `json:"timestamp"`
		Topic     string    `json:"topic"`
		State     struct {
			CreatedOn  time.Time `json:"_created_on"`
			ModifiedOn time.Time `json:"_modified_on"`
			Name       string    `json:"name"`
			Tricks     []string  `json:"tricks"`
		} `json:"state"`
	}
)

func clock(seconds, microseconds int) time.Time {
	return time.Date(2026, 11, 23, 1, 23, seconds, microseconds*1000, time.UTC)
}

// TestPythonStates reads what the Python original has written, and writes it
// again as it was, byte for byte.
func TestPythonStates(t *testing.T) {
	t.Parallel()
	var snapshot dogSnapshot
	snapshot.Timestamp, snapshot.Topic = clock(1, 428328), "training_school.domain:Dog"
	snapshot.State.CreatedOn, snapshot.State.ModifiedOn = clock(1, 394746), clock(1, 426237)
	snapshot.State.Name = "Bella"
	snapshot.State.Tricks = strings.Fields("t1 t2 t3 t4 t5 t6 t7 t8 t9")

	tests := []struct {
		file string
		want any
	}{
		{"dog_registered.json", dogRegistered{clock(1, 373511), "training_school.domain:Dog", "Fido"}},
		{"dog_trick_added.json", trickAdded{clock(1, 387890), "走る 🐕"}},
		{"dog_trick_quoted.json", trickAdded{clock(1, 391780), `it's "quoted" \ back`}},
		{"dog_snapshot.json", snapshot},
		{"visit_fee_changed.json", feeChanged{clock(1, 484357), "12.50"}},
		{"visit_booked.json", visitBooked{
			clock(1, 481460), "training_school.domain:Visit", uuid.MustParse("1e1d7398-8986-57af-bb01-11a89b2f8b02"),
			time.Date(2024, 2, 29, 23, 59, 59, 123456000, time.UTC), "10.10", []string{"first", "über"}}},
		{"visit_booked_exponent.json", visitBooked{
			clock(1, 489442), "training_school.domain:Visit", uuid.MustParse("407d3ee3-a4f3-54fe-98dd-13c70cfefff8"),
			time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC), "1E+3", []string{}}},
	}
	transcoder := newTranscoder()
	for _, test := range tests {
		t.Run(test.file, func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(filepath.Join("testdata", test.file))
			if err != nil {
				t.Fatal(err)
			}
			got := reflect.New(reflect.TypeOf(test.want))
			if err := transcoder.Decode(data, got.Interface()); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got.Elem().Interface(), test.want) {
				t.Errorf("Decode: got %+v, want %+v", got.Elem(), test.want)
			}
			if again := encode(t, transcoder, test.want); again != string(data) {
				t.Errorf("Encode: got %s, want %s", again, data)
			}
		})
	}
}

// TestReferenceSize is the size that the Python library's tests of mappers
// give.
func TestReferenceSize(t *testing.T) {
	t.Parallel()
	event := struct {
		Timestamp time.Time      `json:"timestamp"`
		Amount    python.Decimal `json:"amount"`
	}{sampleTime, "10.00"}
	if got := encode(t, newTranscoder(), event); len(got) != 134 {
		t.Errorf("got %d bytes, want 134: %s", len(got), got)
	}
}

func TestEncodeAppends(t *testing.T) {
	t.Parallel()
	transcoder := newTranscoder()
	prefix := append(make([]byte, 0, 64), "prefix"...)
	got, err := transcoder.Encode(prefix, sampleID)
	if want := `prefix{"_type_":"uuid_hex","_data_":"b2723fe2c01a40d2875ea3aac6a09ff5"}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	if got, err := transcoder.Encode(prefix, make(chan int)); err == nil || string(got) != "prefix" {
		t.Errorf("after an error: got %q, %v, want %q and an error", got, err, prefix)
	}
}

func identity[T any](name string) jsontranscoder.Transcoding {
	return jsontranscoder.NewTranscoding(name,
		func(T) (string, error) { return "", nil },
		func(string) (value T, err error) { return value, nil })
}

// TestEmbeddedTranscoding embeds a struct with a transcoding, which is a field
// and has a name, and one without.
func TestEmbeddedTranscoding(t *testing.T) {
	t.Parallel()
	type price struct {
		units
		Money    `json:"Money"`
		Currency string
	}
	transcoder := newPlain(jsontranscoder.NewTranscoding("money",
		func(m Money) (int64, error) { return m.Cents, nil },
		func(cents int64) (Money, error) { return Money{cents}, nil }))
	var unnamed struct {
		units
		Money
	}
	err := transcoder.CheckType(reflect.TypeOf(unnamed))
	if failure, ok := errors.AsType[*invalid.Error](err); !ok || !strings.Contains(failure.Problem, `give it the tag json:"Money"`) {
		t.Errorf("without a name: got %v, want an error that says which tag it needs", err)
	}
	value := price{units{1}, Money{5}, "EUR"}
	const want = `{"Units":1,"Money":{"_type_":"money","_data_":5},"Currency":"EUR"}`
	if got := encode(t, transcoder, value); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := decode[price](t, transcoder, want); got != value {
		t.Errorf("got %+v, want %+v", got, value)
	}
}

// TestConcurrentUse makes the codecs of recursive types from many goroutines at
// once.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	transcoder := newTranscoder()
	value := tree{Children: []tree{{ByName: map[string]*tree{"x": {}}}}, Parent: &tree{}}
	want := encode(t, newTranscoder(), value)
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for range 50 {
				data, err := transcoder.Encode(nil, value)
				if err != nil || string(data) != want {
					t.Errorf("got %s, %v, want %s", data, err, want)
				}
				var back tree
				if err := transcoder.Decode(data, &back); err != nil || !reflect.DeepEqual(back, value) {
					t.Errorf("got %+v, %v, want %+v", back, err, value)
				}
			}
		})
	}
	group.Wait()
}
