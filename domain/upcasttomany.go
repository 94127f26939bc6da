package domain

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
)

// UpcastToMany says that events of this name, which T had in the past, mean
// several events of today:
//
//	domain.UpcastToMany[Dog]("Moved", []any{Left{}, Entered{}},
//		func(e movedV1) []any { return []any{Left{From: e.From}, Entered{To: e.To}} })
//
// It takes the place of the old event's On; From is the old event's type, to
// which options can add the Upcasts that it had. into names the types of the
// payloads that convert returns, each by any value of it. Their events must be
// defined; convert may return any number of each, or none.
//
// A stored event stays one event: it has one version, position, id and time. An
// aggregate applies all its payloads at that version, so no snapshot, cache or
// version that can be loaded is between them. New events of the name cannot be
// triggered. If the payloads mean something else than the old event did, raise
// SnapshotVersion.
//
// Handlers and readers of the log get the events that the stored one means, one
// after the other. They differ in their Data and in Event.Part.
func UpcastToMany[T, From any](name string, into []any, convert func(From) []any, options ...TypeOption) Option[T] {
	return func(d *Definition[T]) {
		t := newEventType[From](d.name, name, d.name+"."+name, options)
		t.convert = func(data any) []any { return convert(data.(From)) }
		for _, made := range into {
			t.into = append(t.into, reflect.TypeOf(made))
		}
		d.events = append(d.events, t)
	}
}

func (t *eventType) Into() []reflect.Type { return slices.Clone(t.into) }

func (t *eventType) IsPast() bool { return t.IsRetired() || t.convert != nil }

// several makes the payloads of today.
func (t *eventType) several(data any) (any, error) {
	payloads := eventtype.Payloads(t.convert(data))
	for _, payload := range payloads {
		if made := reflect.TypeOf(payload); !slices.Contains(t.into, made) {
			return nil, fmt.Errorf("%w: UpcastToMany of %s returned a payload of type %v; add it to the types that it makes",
				ErrEventSourcing, t.topic, made)
		}
	}
	return payloads, nil
}

// checkInto checks what the UpcastToMany of the schema make.
func (s *schema) checkInto() {
	for _, t := range s.events {
		problem := ""
		switch {
		case t.convert != nil && s.isLog:
			problem = fmt.Sprintf("%s is an event of a log, and those mean one event each; UpcastToMany is for aggregates", t.topic)
		case t.convert != nil && len(t.into) == 0:
			problem = fmt.Sprintf("UpcastToMany of %s needs the types that it makes", t.topic)
		case t.convert != nil && len(t.downs) > 0:
			problem = fmt.Sprintf("events of %s are only read, so its domain.Downcast has no effect; remove it", t.topic)
		}
		for _, made := range t.into {
			if s.byType[made] == nil && problem == "" {
				problem = fmt.Sprintf("UpcastToMany of %s makes %v, which is not defined; add %s", t.topic, made, s.adder())
			}
		}
		if problem != "" {
			panic(&definitionError{definition: s.name, problem: problem})
		}
	}
}
