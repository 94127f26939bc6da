// Package domaintest tests aggregates by what matters about them: given these
// events, when this command is called, then these events follow.
//
//	domaintest.Given(t, Dogs, Registered{Name: "Fido"}).
//		When(func(d *Dog) error { d.AddTrick("roll over"); return nil }).
//		Then(TrickAdded{Trick: "roll over"})
//
// A command that makes the aggregate begins with nothing:
//
//	domaintest.Create(t, Dogs, func() (*Dog, error) { return RegisterDog("Fido"), nil }).
//		Then(Registered{Name: "Fido"})
//
// Beside the events, every scenario checks that the aggregate changes by its
// events alone: one that is read from the given and the new events must have
// the state that the command has left. A command that assigns to a field
// itself, or an Apply that looks at a clock, fails the test.
//
// Folds are tested in the same way. For times that a test can name, give the
// definition a clock: Given(t, Dogs.WithClock(clock), ...).
package domaintest

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/definitions"
)

// ID is the id of the aggregates that Given makes.
var ID = uuid.MustParse("6ba7b812-9dad-41d1-80b4-00c04fd430c8")

// Scenario is an aggregate with a history. It is for one test and one command.
type Scenario[T any] struct {
	tb         testing.TB
	definition *domain.Definition[T]
	history    []domain.Event
	aggregate  *T
}

// Given begins a scenario with an aggregate that has these events, saved:
// payloads as they would be triggered. A payload that is not in the definition
// ends the test.
func Given[T any](tb testing.TB, definition *domain.Definition[T], events ...any) *Scenario[T] {
	tb.Helper()
	s := &Scenario[T]{tb: tb, definition: definition}
	for i, data := range events {
		s.history = append(s.history, newEvent(tb, definition, definitions.Of(definition).First()+int64(i), data))
	}
	s.aggregate = rebuild(tb, definition, ID, s.history)
	return s
}

// newEvent makes the event, and ends the test if the definition panics.
func newEvent[T any](tb testing.TB, definition *domain.Definition[T], version int64, data any) domain.Event {
	tb.Helper()
	defer func() {
		tb.Helper()
		if problem := recover(); problem != nil {
			tb.Fatalf("given event %T cannot be made: %v", data, problem)
		}
	}()
	return definition.NewEvent(ID, version, data)
}

// rebuild reads an aggregate from its events.
func rebuild[T any](tb testing.TB, definition *domain.Definition[T], id uuid.UUID, events []domain.Event) *T {
	tb.Helper()
	inside := definitions.Of(definition)
	aggregate := definitions.Blank(definition, id)
	for _, event := range events {
		if err := inside.Apply(aggregate, event); err != nil {
			tb.Fatalf("event %s cannot be applied: %v", event.Topic, err)
		}
	}
	return aggregate
}

// When calls a command on the aggregate.
func (s *Scenario[T]) When(command func(*T) error) *Outcome[T] {
	s.tb.Helper()
	err := command(s.aggregate)
	return newOutcome(s.tb, s.definition, s.history, s.aggregate, err)
}

// Create calls a command that makes an aggregate. A command that returns an
// error returns nil with it.
func Create[T any](tb testing.TB, definition *domain.Definition[T], command func() (*T, error)) *Outcome[T] {
	tb.Helper()
	aggregate, err := command()
	return newOutcome(tb, definition, nil, aggregate, err)
}

// Outcome is what a command has done.
type Outcome[T any] struct {
	tb        testing.TB
	aggregate *T
	events    []domain.Event
	err       error
}

func newOutcome[T any](tb testing.TB, definition *domain.Definition[T], history []domain.Event, aggregate *T, err error) *Outcome[T] {
	tb.Helper()
	o := &Outcome[T]{tb: tb, aggregate: aggregate, err: err}
	if aggregate == nil {
		return o
	}
	inside := definitions.Of(definition)
	root := inside.Root(aggregate)
	o.events = root.PendingEvents()
	replayed := rebuild(tb, definition, root.ID(), append(history[:len(history):len(history)], o.events...))
	left, read := inside.TakeSnapshot(aggregate).Data, inside.TakeSnapshot(replayed).Data
	if !reflect.DeepEqual(left, read) {
		tb.Errorf("the aggregate does not change by its events alone:\n\tthe command leaves %+v\n\tthe events make   %+v", left, read)
	}
	return o
}

// Then requires that the command succeeded and triggered exactly these events,
// in this order. No events means that it had nothing to do.
func (o *Outcome[T]) Then(events ...any) *Outcome[T] {
	o.tb.Helper()
	if o.err != nil {
		o.tb.Errorf("got error %q, want events %s", o.err, list(events))
		return o
	}
	o.want(events)
	return o
}

// ThenError requires that the command returned an error that is target, as
// errors.Is tells, and triggered nothing.
func (o *Outcome[T]) ThenError(target error) *Outcome[T] {
	o.tb.Helper()
	if !errors.Is(o.err, target) {
		o.tb.Errorf("got error %v, want %v", o.err, target)
	}
	o.want(nil)
	return o
}

// want compares the payloads.
func (o *Outcome[T]) want(events []any) {
	o.tb.Helper()
	got := make([]any, len(o.events))
	for i, event := range o.events {
		got[i] = event.Data
	}
	if len(got) == 0 && len(events) == 0 || reflect.DeepEqual(got, events) {
		return
	}
	o.tb.Errorf("got events %s, want %s", list(got), list(events))
}

// list shows one payload a line.
func list(events []any) string {
	if len(events) == 0 {
		return "none"
	}
	var b strings.Builder
	for _, event := range events {
		fmt.Fprintf(&b, "\n\t%#v", event)
	}
	return b.String()
}

// Err is the error of the command, for tests that look into it.
func (o *Outcome[T]) Err() error { return o.err }

// Events are the events that the command triggered, with their times and
// metadata.
func (o *Outcome[T]) Events() []domain.Event { return o.events }

// Aggregate returns the aggregate as the command has left it, or nil if the
// command of Create returned none.
func (o *Outcome[T]) Aggregate() *T { return o.aggregate }
