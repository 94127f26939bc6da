package jsontranscoder_test

import (
	"encoding/json"
	"math/big"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/definitions"
	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
	"github.com/eventsourcing-go/eventsourcing/internal/transcoding"
	"github.com/eventsourcing-go/eventsourcing/persistence/jsontranscoder"
	"github.com/eventsourcing-go/eventsourcing/persistence/python"
)

type color string

// kennel is a state of everything that is copied without being encoded.
type kennel struct {
	domain.Aggregate
	Name    string `json:"name"`
	Color   color
	Count   int32
	Large   uint64
	Open    bool
	Weights [2]float64
	Tags    []string
	Dogs    []kennelDog
	ByName  map[string]*kennelDog
	Years   map[int][]time.Time
	Owner   *uuid.UUID
	None    *kennelDog
	Raw     []byte
	Note    string `json:"note,omitempty"`
	Spare   int    `json:",omitzero"`
	base
}

type kennelDog struct {
	ID     uuid.UUID
	Name   string
	Born   time.Time
	Tricks []string
}

type kennelOpened struct{}

func (kennelOpened) Apply(*kennel) {}

type base struct{ Address string }

// A copy of the memory is what a value that was encoded and decoded would be.
func TestCopyIsWhatIsDecoded(t *testing.T) {
	t.Parallel()
	transcoder := newTranscoder()
	define := domain.Define("Kennel", domain.On("Opened", kennelOpened{}))
	kind := definitions.Of(define).SnapshotType()
	if !transcoder.CopiesPlain(kind.GoType()) {
		t.Fatalf("%v is not copied plainly", kind.GoType())
	}
	id := uuid.New()
	born := time.Date(2024, 2, 29, 23, 59, 59, 123_456_789, time.FixedZone("", -3*60*60))
	fido := kennelDog{ID: uuid.New(), Name: "Fido", Born: born, Tricks: []string{"roll over", "sit"}}
	state := eventtype.SnapshotState[kennel]{CreatedOn: born, ModifiedOn: born, State: kennel{
		Name: "Home \u2028", Color: "red", Count: -7, Large: 1<<64 - 1, Open: true, Weights: [2]float64{0.1, -1e300},
		Tags: []string{"a", ""}, Dogs: []kennelDog{fido, {Tricks: []string{}}}, ByName: map[string]*kennelDog{"Fido": &fido},
		Years: map[int][]time.Time{-2024: {born}}, Owner: &id, Raw: []byte{0, 255}, base: base{"here"},
	}}
	data, err := transcoder.Encode(nil, state)
	if err != nil {
		t.Fatal(err)
	}
	var decoded eventtype.SnapshotState[kennel]
	if err := transcoder.Decode(data, &decoded); err != nil {
		t.Fatal(err)
	}
	got, ok := kind.Copy(state)
	if own := got.(eventtype.SnapshotState[kennel]); !ok || !sameTexts(t, own, decoded) {
		t.Errorf("got %+v, want %+v", own, decoded)
	}
}

// sameTexts compares values, in which nil and empty slices are the same.
func sameTexts(t *testing.T, a, b eventtype.SnapshotState[kennel]) bool {
	t.Helper()
	for _, state := range []*eventtype.SnapshotState[kennel]{&a, &b} {
		for i := range state.State.Dogs {
			if len(state.State.Dogs[i].Tricks) == 0 {
				state.State.Dogs[i].Tricks = nil
			}
		}
	}
	return reflect.DeepEqual(a, b)
}

type (
	freeForm struct{ A any }
	optional struct {
		A []int `json:",omitempty"`
	}
	leftOut struct {
		A int `json:"-"`
	}
	recursive struct{ Next *recursive }
	cents     int64
	texts     map[spokenKey]int
	spokenKey int
	appender  int
)

func (k spokenKey) MarshalText() ([]byte, error)          { return []byte("key"), nil }
func (a appender) AppendText(data []byte) ([]byte, error) { return append(data, "appended"...), nil }

func TestCopiesPlain(t *testing.T) {
	t.Parallel()
	plain, own := newTranscoder(), newTranscoder(identity[cents]("cents"))
	for _, test := range []struct {
		name       string
		transcoder transcoding.JSON
		value      any
		want       bool
	}{
		{"a number", plain, cents(1), true},
		{"a number with a transcoding", own, cents(1), false},
		{"a struct with such a number", own, struct{ A []cents }{}, false},
		{"a UUID", plain, uuid.UUID{}, true},
		{"a UUID without a transcoding", newPlain(), uuid.UUID{}, true},
		{"a UUID that does not come back", newPlain(jsontranscoder.NewTranscoding("id",
			func(uuid.UUID) (string, error) { return "", nil }, func(string) (uuid.UUID, error) { return uuid.Nil, nil })), uuid.UUID{}, false},
		{"a time", plain, time.Time{}, true},
		{"a time that keeps its zone", newPlain(), time.Time{}, false},
		{"a time in a struct that is embedded", newPlain(), struct{ kennelDog }{}, false},
		{"a decimal", plain, python.Decimal("1"), false},
		{"a type with methods", plain, big.Int{}, false},
		{"a pointer to one", plain, struct{ A *big.Int }{}, false},
		{"a raw message", plain, json.RawMessage{}, false},
		{"a text of its own", plain, appender(0), false},
		{"keys with a text of their own", plain, texts{}, false},
		{"a free-form field", plain, freeForm{}, false},
		{"a free-form map", plain, map[string]any{}, false},
		{"a field with an option", plain, optional{}, false},
		{"a scalar field with an option", plain, struct {
			A string `json:"a,omitempty"`
			B int    `json:"b,omitzero"`
		}{}, true},
		{"a scalar field with another option", plain, struct {
			A int `json:",string"`
		}{}, false},
		{"a field that is left out", plain, leftOut{}, false},
		{"a type that contains itself", plain, recursive{}, false},
		{"one type twice", plain, struct{ A, B kennelDog }{}, true},
		{"a function", plain, func() {}, false},
		{"an address", plain, uintptr(0), false},
		{"an aggregate that is not embedded", plain, struct{ A domain.Aggregate }{}, false},
	} {
		if got := test.transcoder.CopiesPlain(reflect.TypeOf(test.value)); got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}
