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

// Definition is a domain.Definition as the packages of this module see it. It is
// immutable and safe for concurrent use.
type Definition[T any] interface {
	eventtype.Schema

	// Root gives access to the embedded domain.Aggregate.
	Root(aggregate *T) *domain.Aggregate
	// LastEventID returns the id of the event that the aggregate's version
	// counts, saved or not. It is zero if the event has none, as those that the
	// Python library has stored.
	LastEventID(aggregate *T) uuid.UUID
	// Blank makes an aggregate of T that has no events yet, to apply stored
	// events to with Apply.
	Blank(id uuid.UUID) *T
	// Apply applies a stored event to the aggregate, which advances to the
	// event's version. A retired event changes nothing else; of Payloads all are
	// applied. It returns an error if the event belongs to another aggregate or
	// is not the next one, and an *eventtype.PayloadError if its payload is not in
	// the definition.
	Apply(aggregate *T, event domain.Event) error
	// StateType is the type of the state in snapshots: the S of domain.State, or
	// T.
	StateType() reflect.Type
	// TakeSnapshot makes a snapshot of the aggregate as it is. Take snapshots
	// only of what is saved: a snapshot of pending events would outlive a save
	// that fails. The ID of the snapshot is that of the aggregate's last event,
	// so that a reader can tell whether the aggregate still has that event.
	TakeSnapshot(aggregate *T) domain.Event
	// Restore makes the aggregate that a snapshot was taken of. It returns an
	// *eventtype.PayloadError if the snapshot is of another definition.
	Restore(snapshot domain.Event) (*T, error)
}

// Of returns the inside of a definition.
func Of[T any](d *domain.Definition[T]) Definition[T] {
	return eventtype.Inside(d).(Definition[T])
}

// SchemaOf returns the inside of a definition of any type.
func SchemaOf(s domain.Schema) eventtype.Schema {
	return eventtype.Inside(s).(eventtype.Schema)
}
