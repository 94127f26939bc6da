package domain

import (
	"reflect"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
)

func init() {
	eventtype.Inside = func(definition any) any { return definition.(Schema).inside() }
}

// schemaInside implements eventtype.Schema, which says what its methods do.
type schemaInside struct{ schema *schema }

func (s schemaInside) Name() string { return s.schema.name }

func (s schemaInside) EventTypes() []eventtype.Type {
	types := make([]eventtype.Type, len(s.schema.events))
	for i, t := range s.schema.events {
		types[i] = t
	}
	return types
}

func (s schemaInside) SnapshotType() eventtype.Type {
	if s.schema.isLog {
		return nil
	}
	return s.schema.snapshot
}

func (s schemaInside) First() int64 { return s.schema.first }

func (s schemaInside) Kind(data any) (eventtype.Type, bool) {
	if kind := s.schema.byType[reflect.TypeOf(data)]; kind != nil {
		return kind, true
	}
	return nil, false
}

// definitionInside implements definitions.Definition, which says what its
// methods do.
type definitionInside[T any] struct {
	schemaInside
	definition *Definition[T]
}

func (d *Definition[T]) inside() any { return definitionInside[T]{schemaInside{d.schema}, d} }

func (d definitionInside[T]) Root(aggregate *T) *Aggregate { return d.definition.root(aggregate) }

func (d definitionInside[T]) LastEventID(aggregate *T) uuid.UUID {
	return d.definition.root(aggregate).lastEvent
}

func (d definitionInside[T]) Blank(id uuid.UUID) *T { return d.definition.blank(id) }

func (d definitionInside[T]) Apply(aggregate *T, event Event) error {
	return d.definition.applyStored(aggregate, event)
}

func (d definitionInside[T]) StateType() reflect.Type { return d.definition.state.state }

func (d definitionInside[T]) TakeSnapshot(aggregate *T) Event {
	return d.definition.takeSnapshot(aggregate)
}

func (d definitionInside[T]) Restore(snapshot Event) (*T, error) {
	return d.definition.restore(snapshot)
}
