// Package definitions gives the packages of this module that load and store
// aggregates what a domain.Definition does not show to its users: who calls it
// at the wrong time gets aggregates that their events do not make.
package definitions

import (
	"reflect"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
)

// Definition is a domain.Definition as the packages of this module see it: what
// is generic is as little as possible, because the compiler makes it anew for
// each aggregate of each program. Its methods panic if an aggregate is not a
// pointer to the definition's type. It is immutable and safe for concurrent use.
type Definition interface {
	eventtype.Schema

	// Root gives access to the embedded domain.Aggregate.
	Root(aggregate any) *domain.Aggregate
	// LastEventID returns the id of the event that the aggregate's version
	// counts, saved or not. It is zero if the event has none, as those that the
	// Python library has stored.
	LastEventID(aggregate any) uuid.UUID
	// IsPartial reports whether an Apply of an aggregate has not returned, so that
	// its state may be that of no version.
	IsPartial(aggregate any) bool
	// Blank makes an aggregate that has no events yet, to apply stored events to
	// with Apply.
	Blank(id uuid.UUID) any
	// Apply applies a stored event to the aggregate, which advances to the
	// event's version. A retired event changes nothing else; of Payloads all are
	// applied. It returns an error if the event belongs to another aggregate or
	// is not the next one, and an *eventtype.PayloadError if its payload is not in
	// the definition.
	Apply(aggregate any, event domain.Event) error
	// StateType is the type of the state in snapshots: the S of domain.State, or
	// that of the aggregate.
	StateType() reflect.Type
	// TakeSnapshot makes a snapshot of the aggregate as it is. Take snapshots
	// only of what is saved: a snapshot of pending events would outlive a save
	// that fails. The ID of the snapshot is that of the aggregate's last event,
	// so that a reader can tell whether the aggregate still has that event.
	TakeSnapshot(aggregate any) domain.Event
	// Restore makes the aggregate that a snapshot was taken of. It returns an
	// *eventtype.PayloadError if the snapshot is of another definition.
	Restore(snapshot domain.Event) (any, error)
}

// Of returns the inside of a definition.
func Of(d domain.Schema) Definition { return eventtype.Inside(d).(Definition) }

// Blank is Definition.Blank, with the type of the aggregate.
func Blank[T any](d *domain.Definition[T], id uuid.UUID) *T { return Of(d).Blank(id).(*T) }

// Restore is Definition.Restore, with the type of the aggregate.
func Restore[T any](d *domain.Definition[T], snapshot domain.Event) (*T, error) {
	return Typed[T](Of(d).Restore(snapshot))
}

// Typed gives what a load returns the type of the aggregate.
func Typed[T any](aggregate any, err error) (*T, error) {
	if err != nil {
		return nil, err
	}
	return aggregate.(*T), nil
}
