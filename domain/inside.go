package domain

import (
	"reflect"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
)

func init() {
	eventtype.Inside = func(definition any) any { return definition.(Schema).inside() }
}

// schemaInside implements definitions.Definition, which says what its methods do.
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

func (s *schema) inside() any { return schemaInside{s} }

func (s schemaInside) Root(aggregate any) *Aggregate { return rootOf(aggregate) }

func (s schemaInside) LastEventID(aggregate any) uuid.UUID { return rootOf(aggregate).lastEvent }

func (s schemaInside) IsPartial(aggregate any) bool { return rootOf(aggregate).partial }

func (s schemaInside) Blank(id uuid.UUID) any { return s.schema.blank(id) }

func (s schemaInside) Apply(aggregate any, event Event) error {
	return s.schema.applyStored(aggregate, event)
}

func (s schemaInside) StateType() reflect.Type { return s.schema.state.state }

func (s schemaInside) TakeSnapshot(aggregate any) Event { return s.schema.takeSnapshot(aggregate) }

func (s schemaInside) Restore(snapshot Event) (any, error) { return s.schema.restore(snapshot) }
