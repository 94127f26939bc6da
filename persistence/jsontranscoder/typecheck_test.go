package jsontranscoder_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/python"
)

type (
	// Money is exported because it is embedded.
	Money struct{ Cents int64 }
	units struct{ Units int64 }
)

type (
	badEmbedded struct{ secret int }
	goodBase    struct{ Name string }
	otherBase   struct{ Name string }
	oneWay      struct{ Name string }
	otherWay    struct{ Name string }
	ownMethods  struct {
		time.Time
		Note string
	}
	tree struct {
		Children []tree
		Parent   *tree
		ByName   map[string]*tree
	}
	dog struct {
		domain.Aggregate
		goodBase
		Tricks []string
		Any    any
		Map    map[uuid.UUID]time.Time
		Fee    *python.Decimal
		Raw    json.RawMessage
		Clock  clockTime
		Tree   tree
		Own    ownMethods
		_      int
	}
)

func (oneWay) MarshalJSON() ([]byte, error) { return nil, nil }

func (*otherWay) UnmarshalText([]byte) error { return nil }

func (ownMethods) MarshalJSON() ([]byte, error) { return []byte("{}"), nil }

func (*ownMethods) UnmarshalJSON(b []byte) error { return nil }

func TestCheckType(t *testing.T) {
	t.Parallel()
	type Dog struct {
		domain.Aggregate
		Name   string
		secret int
	}
	tests := []struct {
		name    string
		value   any
		path    string
		problem string
	}{
		{"aggregate", dog{}, "", ""},
		{"pointer to an aggregate", &dog{}, "", ""},
		{"transcoding", uuid.UUID{}, "", ""},
		{"custom transcoding", customType2{}, "", ""},
		{"nothing to store", struct{}{}, "", ""},
		{"snapshot", eventtype.SnapshotState[dog]{}, "", ""},
		{"snapshot with a secret", eventtype.SnapshotState[Dog]{}, "SnapshotState.State.secret", "not exported"},
		{"field that is not exported", Dog{secret: 1}, "Dog.secret", "not exported"},
		{"aggregate that is not embedded", struct{ Root domain.Aggregate }{}, ".Root.id", "not exported"},
		{"field of an embedded struct", struct{ badEmbedded }{badEmbedded{secret: 1}}, ".badEmbedded.secret", "not exported"},
		{"embedded pointer", struct{ *goodBase }{}, ".goodBase", "cannot be filled"},
		{"left out", struct {
			A int `json:"-"`
		}{}, ".A", "leaves the field out"},
		{"channel", struct{ A []chan int }{}, ".A[]", "not serializable"},
		{"function", struct{ A map[string]func() }{}, ".A[]", "not serializable"},
		{"complex", struct{ A *complex64 }{}, ".A", "not serializable"},
		{"interface with methods", struct{ A error }{}, ".A", "use a concrete type"},
		{"method without its counterpart", struct{ A oneWay }{}, ".A", "none UnmarshalJSON"},
		{"counterpart without its method", struct{ A otherWay }{}, ".A", "none MarshalText"},
		{"method of an embedded struct", struct {
			A struct {
				time.Time
				Note string
			}
		}{}, ".A", "leaves out the other fields"},
		{"one name for two fields", struct {
			A int
			B int `json:"A"`
		}{}, ".B", `JSON name "A"`},
		{"one name in two embedded structs", struct {
			goodBase
			otherBase
		}{}, ".Name", `JSON name "Name"`},
		{"hidden by a field around it", struct {
			goodBase
			Name string
		}{}, ".Name", `JSON name "Name"`},
		{"keys without a text", struct{ A map[[2]int]int }{}, ".A", "cannot be a key"},
		{"keys that cannot be read", struct{ A map[texter]int }{}, ".A", "none UnmarshalText"},
		{"looks like a transcoding", mimicry{}, "mimicry", "has a transcoding"},
		{"pointer to itself", loop(nil), "loop", "pointer to itself"},
		{"interface of its own", struct{ A empty }{}, ".A", "use any"},
		{"embedded without a name", struct{ Number }{}, ".Number", `give it the tag json:"Number"`},
		{"option for another type", struct {
			//lint:ignore SA5008 the check is what is tested
			A []int `json:",string"`
		}{}, ".A", `the option "string" is not for type []int`},
		{"malformed tag", struct {
			//lint:ignore SA5008 the same
			A int `json:"-,"`
		}{}, "", "malformed"},
	}
	transcoder := newTranscoder(customTranscodings()...)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := transcoder.CheckType(reflect.TypeOf(test.value))
			if test.problem == "" {
				if err != nil {
					t.Errorf("got error %v, want none", err)
				}
				return
			}
			failure, ok := errors.AsType[*invalid.Error](err)
			if !ok {
				t.Fatalf("got error %v, want an *invalid.Error", err)
			}
			if !strings.HasSuffix(failure.What, test.path) || !strings.Contains(failure.Problem, test.problem) {
				t.Errorf("got path %q and problem %q, want %q and %q", failure.What, failure.Problem, test.path, test.problem)
			}
			if !errors.Is(err, persistence.ErrProgramming) {
				t.Errorf("error %q is not an ErrProgramming", err)
			}
		})
	}
	if err := transcoder.CheckType(nil); err == nil {
		t.Error("nil type: got no error")
	}
}
