package mapper

import (
	"fmt"
	"maps"

	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// kind is an event type with the schema that it belongs to.
type kind struct {
	eventtype.Type
	schema eventtype.Schema
}

// topicIndex are all event types that a mapper knows. They are immutable;
// adding makes new ones.
type topicIndex struct {
	events    map[string]kind
	snapshots map[string]kind
}

func newTopicIndex() *topicIndex {
	return &topicIndex{events: map[string]kind{}, snapshots: map[string]kind{}}
}

// with returns the kinds together with those of a schema, or a
// *invalid.Error.
func (k *topicIndex) with(schema eventtype.Schema) (*topicIndex, error) {
	next := &topicIndex{events: maps.Clone(k.events), snapshots: maps.Clone(k.snapshots)}
	for _, t := range schema.EventTypes() {
		if err := addTopics(next.events, kind{t, schema}); err != nil {
			return nil, err
		}
	}
	if t := schema.SnapshotType(); t != nil {
		return next, addTopics(next.snapshots, kind{t, schema})
	}
	return next, nil
}

// addTopics enters a type under all its names. The same definition may be added
// again, also with another clock.
func addTopics(topics map[string]kind, added kind) error {
	for _, topic := range append(added.Aliases(), added.Topic()) {
		if other, taken := topics[topic]; taken && other.Type != added.Type {
			return &invalid.Error{What: fmt.Sprintf("topic %q", topic), Class: persistence.ErrProgramming,
				Problem: fmt.Sprintf("is defined for both %v and %v", other.GoType(), added.GoType())}
		}
		topics[topic] = added
	}
	return nil
}
