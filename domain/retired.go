package domain

import (
	"fmt"
	"reflect"
)

// RetiredEvent is the Data of a stored event whose type is retired: the program
// knows the event's topic and has no type for its payload, which is not
// decoded. Everything else of the event is as it was stored. A RetiredEvent
// cannot be triggered or stored.
type RetiredEvent struct{}

// MarshalText implements encoding.TextMarshaler, for tools that show events.
func (RetiredEvent) MarshalText() ([]byte, error) { return []byte("retired"), nil }

var retiredType = reflect.TypeFor[RetiredEvent]()

// Retired says that T had an event of this name in the past, whose type the
// program no longer has. Stored events of it stay readable: reading an
// aggregate takes over their versions, times and ids and leaves the state as it
// is, and a follower gets them with a RetiredEvent as their Data. New ones
// cannot be triggered, and no other event can be given the name.
//
// Alias and StoredAs give the topics that the events were stored under, as they
// did for On. If the event's Apply changed the state, raise SnapshotVersion:
// snapshots that were taken before still have what it did.
func Retired[T any](name string, options ...TypeOption) Option[T] {
	return func(d *Definition[T]) { d.addRetired(name, options) }
}

func (s *schema) addRetired(name string, options []TypeOption) {
	t := newEventType[RetiredEvent](s.name, name, s.name+"."+name, options)
	if len(t.steps) > 0 {
		panic(&definitionError{definition: s.name, problem: fmt.Sprintf(
			"%s is retired, so its payloads are not read; remove its upcasters", t.topic)})
	}
	s.events = append(s.events, t)
}

func (t *eventType) IsRetired() bool { return t.goType == retiredType }
