package domain

import (
	"fmt"
	"iter"
	"reflect"
	"slices"
)

// Payloads is the Data of a stored event that UpcastToMany has made several
// payloads of, in their order. It may be empty.
type Payloads []any

// UpcastToMany says that events of this name, which T had in the past, mean
// several events of today:
//
//	domain.UpcastToMany[Dog]("Moved",
//		func(e movedV1) []any { return []any{Left{From: e.From}, Entered{To: e.To}} },
//		domain.Into(Left{}, Entered{}))
//
// It takes the place of the old event's On; From is the old event's type, to
// which options can add the Upcasts that it had. Into names the types of the
// payloads that convert returns. Their events must be defined; convert may
// return any number of each, or none.
//
// A stored event stays one event: it has one version, position, id and time. An
// aggregate applies all its payloads at that version, so no snapshot, cache or
// version that can be loaded is between them. New events of the name cannot be
// triggered. If the payloads mean something else than the old event did, raise
// SnapshotVersion.
//
// A reader of an application's log that takes only events with one payload
// stops at such an event with a persistence.ErrNewerProgram; it passes none
// over.
func UpcastToMany[T, From any](name string, convert func(From) []any, options ...TypeOption) Option[T] {
	return func(d *Definition[T]) {
		t := newEventType[From](d.name, name, d.name+"."+name, options)
		t.convert = func(data any) []any { return convert(data.(From)) }
		d.events = append(d.events, t)
	}
}

// Into names the types of the payloads that the function of an UpcastToMany
// returns, each by any value of it.
func Into(payloads ...any) TypeOption {
	return func(t *eventType) {
		for _, payload := range payloads {
			t.into = append(t.into, reflect.TypeOf(payload))
		}
	}
}

func (t *eventType) Into() []reflect.Type { return slices.Clone(t.into) }

func (t *eventType) IsPast() bool { return t.IsRetired() || t.convert != nil }

// several makes the payloads of today.
func (t *eventType) several(data any) (any, error) {
	payloads := Payloads(t.convert(data))
	for _, payload := range payloads {
		if made := reflect.TypeOf(payload); !slices.Contains(t.into, made) {
			return nil, fmt.Errorf("%w: UpcastToMany of %s returned a payload of type %v; name it in domain.Into",
				ErrEventSourcing, t.topic, made)
		}
	}
	return payloads, nil
}

// checkInto checks what the UpcastToMany of the schema make.
func (s *Schema) checkInto() {
	for _, t := range s.events {
		problem := ""
		switch {
		case t.convert == nil && len(t.into) > 0:
			problem = fmt.Sprintf("domain.Into of %s is only for UpcastToMany", t.topic)
		case t.convert != nil && len(t.into) == 0:
			problem = fmt.Sprintf("UpcastToMany of %s needs domain.Into with the types that it makes", t.topic)
		case t.convert != nil && len(t.downs) > 0:
			problem = fmt.Sprintf("events of %s are only read, so its domain.Downcast has no effect; remove it", t.topic)
		}
		for _, made := range t.into {
			if s.byType[made] == nil && problem == "" {
				problem = fmt.Sprintf("UpcastToMany of %s makes %v, which is not defined; add domain.On", t.topic, made)
			}
		}
		if problem != "" {
			panic(&definitionError{definition: s.name, problem: problem})
		}
	}
}

// Parts returns the events that a stored event means today: one for each of its
// Payloads, in their order, or the event itself if it has another Data. They
// differ only in Data and Part.
func (e Event) Parts() iter.Seq[Event] {
	return func(yield func(Event) bool) {
		payloads, ok := e.Data.(Payloads)
		if !ok {
			yield(e)
			return
		}
		for i, payload := range payloads {
			part := e
			part.Part, part.Data = i, payload
			if !yield(part) {
				return
			}
		}
	}
}
