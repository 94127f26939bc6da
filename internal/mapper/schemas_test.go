package mapper_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/jsontranscoder"
)

func TestMapperAdd(t *testing.T) {
	t.Parallel()
	m := newMapper(t, mapper.Config{Application: school})
	frozen := Dogs.WithClock(func() time.Time { return sampleTime })
	for _, again := range []domain.Schema{Dogs, frozen, kennels, Dogs} {
		if err := m.Add(again); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Add(domain.Define("Log", domain.Entry("Entered", 0))); err != nil {
		t.Errorf("a log, which has no snapshots: %v", err)
	}
	checkRoundTrip(t, m, dogEvents("Fido")[0], false)
}

func TestMapperAddRefusesConflicts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		schema domain.Schema
		topic  string
		second reflect.Type
	}{
		{"the same topic", newerDogs, "Dog.Registered", reflect.TypeFor[registeredNow]()},
		{"an alias", domain.Define("Cat", domain.On("Adopted", opened{}, domain.Alias("Dog.TrickAdded"))),
			"Dog.TrickAdded", reflect.TypeFor[opened]()},
		{"the topic of snapshots", domain.Define[kennel]("Dog"), "Dog", reflect.TypeFor[eventtype.SnapshotState[kennel]]()},
		{"a former name", domain.Define("Cat", domain.FormerName[kennel]("Dog"), domain.On("Registered", opened{})),
			"Dog.Registered", reflect.TypeFor[opened]()},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newMapper(t, mapper.Config{Application: school})
			err := m.Add(test.schema)
			got := expect.ErrorAs[*invalid.Error](t, err)
			if got.What != fmt.Sprintf("topic %q", test.topic) || !errors.Is(err, persistence.ErrProgramming) ||
				!strings.HasPrefix(got.Problem, "is defined for both ") || !strings.HasSuffix(got.Problem, " and "+test.second.String()) {
				t.Errorf("got %+v", got)
			}
			checkRoundTrip(t, m, dogEvents("Fido")[0], false)
			if _, ok := m.SchemaOf("Cat.Adopted"); ok {
				t.Error("a part of the refused definition was added")
			}
		})
	}
}

// secretive has a field that JSON would drop.
type secretive struct {
	Name   string
	secret string
}

func (e secretive) Apply(k *kennel) { k.Name = e.Name + e.secret }

func TestMapperAddChecksTypes(t *testing.T) {
	t.Parallel()
	schema := domain.Define("Secret", domain.On("Told", secretive{}))
	err := mapper.New(mapper.Config{Transcoder: jsontranscoder.New()}).Add(schema)
	if got := expect.ErrorAs[*invalid.Error](t, err); got.What != "secretive.secret" {
		t.Errorf("got %+v, want What %q", got, "secretive.secret")
	}
	lenient := mapper.New(mapper.Config{Transcoder: standardJSON{}})
	if err := lenient.Add(schema); err != nil {
		t.Errorf("a transcoder that does not check: %v", err)
	}
}
