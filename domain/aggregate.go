package domain

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Aggregate makes a struct an aggregate: embed it by value. It holds the
// identity, the version, the times and the events that were not saved yet. The
// zero Aggregate belongs to no Definition and cannot trigger events; aggregates
// come from a Definition (Create) or a repository.
//
// An aggregate must not be used by two goroutines at once.
type Aggregate struct {
	id         uuid.UUID
	version    int64
	createdOn  time.Time
	modifiedOn time.Time
	lastEvent  uuid.UUID // the id of the event of this version, if it has one
	recordedBy string    // the application that the events were read from, or ""
	pending    []Event
	owner      *Aggregate // who may append to pending in place
	schema     *schema
	applying   bool
	partial    bool // an Apply has not returned: the state may be that of no version

	_ struct{} `json:"-"` // says to encoding/json/v2 that none of this is stored
}

// AggregateOf is the constraint that P is a pointer to a struct T with an
// embedded Aggregate.
type AggregateOf[T any] interface {
	*T
	root() *Aggregate
}

// EventOf is what an event of the aggregate T looks like: it can say what it
// changes. Apply must only assign; it is called when the event is triggered and
// again every time the aggregate is read, so it must not fail, look at a clock
// or reach outside the aggregate.
type EventOf[T any] interface {
	Apply(*T)
}

// ID identifies the aggregate within its application.
func (a *Aggregate) ID() uuid.UUID { return a.id }

// Version is the version of the last event applied, saved or not.
func (a *Aggregate) Version() int64 { return a.version }

// CreatedOn is the time of the first event.
func (a *Aggregate) CreatedOn() time.Time { return a.createdOn }

// ModifiedOn is the time of the last event applied.
func (a *Aggregate) ModifiedOn() time.Time { return a.modifiedOn }

// PendingEvents implements Changes.
func (a *Aggregate) PendingEvents() []Event { return slices.Clone(a.pending) }

func (a *Aggregate) markSaved(n int) { a.pending = slices.Clone(a.pending[min(n, len(a.pending)):]) }

func (a *Aggregate) markUnsaved(events []Event) {
	a.pending = append(slices.Clone(events), a.pending...)
}

func (a *Aggregate) root() *Aggregate { return a }

// Trigger makes a new event of the aggregate: it applies the event, advances
// the version and the modification time, and keeps the event until the
// aggregate is saved. The aggregate, the event and the caller share no memory:
// each has its own copy of the payload's slices, maps and pointers. Times in
// the payload are taken as they are stored, in UTC to the microsecond. Check
// business rules first and return an error from the command when one is broken;
// Trigger itself cannot fail.
//
// It panics, with an error that is an ErrEventSourcing, if the program is wrong:
// the event is missing from Define, the aggregate was not made by its
// Definition, an Apply method triggers, or the payload has more values than can
// be stored. An Apply that panics leaves version, times and pending events as
// they were. What it has assigned stays; the aggregate is then neither cached nor
// stored in a snapshot.
func Trigger[T any, P AggregateOf[T]](aggregate P, event EventOf[T], options ...EventOption) {
	aggregate.root().trigger(event, func(data any) { data.(EventOf[T]).Apply(aggregate) }, options)
}

// trigger makes the event, applies it and keeps it, in this order.
func (a *Aggregate) trigger(data any, apply func(data any), options []EventOption) {
	event := a.next(data, options)
	a.advance(event, func() { apply(a.schema.mustKnow(data).isolated(data)) })
	if a.owner != a { // a copy of another aggregate, which must not write to the events of that one
		a.owner, a.pending = a, slices.Clone(a.pending)
	}
	a.pending = append(a.pending, event)
}

// next is the event that would follow now, with nothing changed yet.
func (a *Aggregate) next(data any, options []EventOption) Event {
	if a.schema == nil {
		panic(&definitionError{problem: "an aggregate that was not made by its Definition cannot trigger events; " +
			"use Definition.Create or a repository"})
	}
	kind := a.schema.mustKnow(data)
	if a.applying {
		panic(&definitionError{definition: a.schema.name, problem: "Apply must not trigger events: " + kind.topic})
	}
	var settings eventSettings
	for _, option := range options {
		option(&settings)
	}
	if settings.timestamp.IsZero() {
		settings.timestamp = notBefore(a.schema.clock(), a.modifiedOn)
	}
	return Event{
		Application:       a.recordedBy,
		OriginatorID:      a.id,
		OriginatorVersion: a.version + 1,
		Topic:             kind.topic,
		ID:                uuid.New(),
		Timestamp:         settings.timestamp,
		Metadata:          settings.metadata,
		Data:              kind.isolated(data),
	}
}

// advance applies an event and only then takes over its version and time.
func (a *Aggregate) advance(event Event, apply func()) {
	a.applying = true
	returned := false
	defer func() {
		a.applying = false
		a.partial = a.partial || !returned
	}()
	apply()
	returned = true
	if a.createdOn.IsZero() {
		a.createdOn = event.Timestamp
	}
	a.version = event.OriginatorVersion
	a.modifiedOn = event.Timestamp
	a.lastEvent = event.ID
	a.recordedBy = event.Application
}

// accepts reports why a stored event cannot be the next one of the aggregate.
func (a *Aggregate) accepts(event Event) error {
	if event.OriginatorID != a.id {
		return fmt.Errorf("%w: event of originator %s cannot be applied to aggregate %s", ErrEventSourcing, event.OriginatorID, a.id)
	}
	if event.OriginatorVersion != a.version+1 {
		return fmt.Errorf("%w: aggregate %s expects version %d next and got version %d", ErrEventSourcing, a.id,
			a.version+1, event.OriginatorVersion)
	}
	return nil
}

// mustKnow finds the event type of a payload, or panics with what to do about
// it.
func (s *schema) mustKnow(data any) *eventType {
	kind, ok := s.byType[reflect.TypeOf(data)]
	if !ok {
		panic(s.unknown(data))
	}
	return kind
}
