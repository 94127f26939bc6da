package domain

import (
	"errors"
	"fmt"
	"reflect"
)

// ErrEventSourcing is at the root of the errors of applications, stores and
// followers: errors.Is(err, ErrEventSourcing) tells them from others. Packages
// that can be used alone, such as cipher and compressor, have their own.
var ErrEventSourcing = errors.New("event sourcing error")

// rooted is embedded in the errors of this package.
type rooted struct{}

// Unwrap makes the error an ErrEventSourcing.
func (rooted) Unwrap() error { return ErrEventSourcing }

// DefinitionError is a mistake in the program, found when a Definition is made
// or misused. It is a panic value, because no input can cause it and no caller
// can repair it.
type DefinitionError struct {
	rooted

	// Definition is the name given to Define, or "" if there is none.
	Definition string
	// Problem says what is wrong and what to do.
	Problem string
}

func (e *DefinitionError) Error() string {
	if e.Definition == "" {
		return "domain: " + e.Problem
	}
	return fmt.Sprintf("domain: definition %q: %s", e.Definition, e.Problem)
}

// SchemaVersionError says that a payload was stored in a schema version that
// this program cannot read: a newer one, written by a newer program, or one so
// old that it has no upcaster.
type SchemaVersionError struct {
	rooted

	Topic  string
	Stored int
	// Oldest and Known are the first and the last version that the program can
	// read.
	Oldest int
	Known  int
}

func (e *SchemaVersionError) Error() string {
	if e.Stored > e.Known {
		return fmt.Sprintf("%s was stored in schema version %d, newer than version %d that this program knows; "+
			"deploy the newer program", e.Topic, e.Stored, e.Known)
	}
	return fmt.Sprintf("%s was stored in schema version %d, and the oldest that can be read is %d; add a domain.Upcast",
		e.Topic, e.Stored, e.Oldest)
}

// PayloadError says that the payload of an event, or the state of a snapshot,
// is of a type that the Definition does not have: the event belongs to another
// aggregate.
type PayloadError struct {
	rooted

	Definition string
	Topic      string
	Payload    reflect.Type
}

func (e *PayloadError) Error() string {
	if e.Payload == retiredType {
		return fmt.Sprintf("definition %q has no payload for the retired event %q", e.Definition, e.Topic)
	}
	return fmt.Sprintf("definition %q has no payload of type %v (topic %q)", e.Definition, e.Payload, e.Topic)
}

// unknown is the panic value for a payload that Define was not given.
func (s *Schema) unknown(data any) *DefinitionError {
	t := reflect.TypeOf(data)
	problem := fmt.Sprintf("event type %v is not defined; add domain.On to Define", t)
	if t == retiredType {
		problem = "a retired event cannot be triggered; add a new event with domain.On"
	}
	if t != nil && t.Kind() == reflect.Pointer && s.byType[t.Elem()] != nil {
		problem = fmt.Sprintf("events are values: trigger %v, not a pointer to it", t.Elem())
	}
	return &DefinitionError{Definition: s.name, Problem: problem}
}
