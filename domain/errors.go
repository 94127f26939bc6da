package domain

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
)

// ErrEventSourcing is at the root of the errors of applications, stores and
// followers: errors.Is(err, ErrEventSourcing) tells them from others. Packages
// cipher and compressor have their own.
var ErrEventSourcing = eventtype.ErrEventSourcing

// definitionError is a mistake in the program, found when a Definition is made
// or misused. It is a panic value, because no input can cause it and no caller
// can repair it.
type definitionError struct {
	// definition is the name given to Define, or "" if there is none.
	definition string
	// problem says what is wrong and what to do.
	problem string
}

func (e *definitionError) Error() string {
	if e.definition == "" {
		return "domain: " + e.problem
	}
	return fmt.Sprintf("domain: definition %q: %s", e.definition, e.problem)
}

// Unwrap makes the error an ErrEventSourcing.
func (e *definitionError) Unwrap() error { return ErrEventSourcing }

// noPayload says that an event or a snapshot has data of a type that the
// definition does not have.
func (s *schema) noPayload(event Event) error {
	payload := reflect.TypeOf(event.Data)
	return &eventtype.PayloadError{Definition: s.name, Topic: event.Topic, Payload: payload, IsRetired: payload == retiredType}
}

// unknown is the panic value for a payload that Define was not given.
func (s *schema) unknown(data any) *definitionError {
	t := reflect.TypeOf(data)
	problem := fmt.Sprintf("event type %v is not defined; add %s to Define", t, s.adder())
	if t == retiredType {
		problem = "a retired event cannot be triggered; add a new event with " + s.adder()
	}
	if i := slices.IndexFunc(s.events, func(e *eventType) bool { return e.convert != nil && e.goType == t }); i >= 0 {
		problem = fmt.Sprintf("events of %s are only read, by UpcastToMany; new events of it cannot be made", s.events[i].topic)
	}
	if t != nil && t.Kind() == reflect.Pointer && s.byType[t.Elem()] != nil {
		problem = fmt.Sprintf("events are values: trigger %v, not a pointer to it", t.Elem())
	}
	return &definitionError{s.name, problem}
}

// adder is the function that adds an event to a definition.
func (s *schema) adder() string {
	if s.isLog {
		return "domain.Entry"
	}
	if _, ok := s.empty().(interface{ isFold() }); ok {
		return "domain.Evolve"
	}
	return "domain.On"
}
