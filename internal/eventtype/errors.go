package eventtype

import (
	"errors"
	"fmt"
	"reflect"
)

// ErrEventSourcing is domain.ErrEventSourcing.
var ErrEventSourcing = errors.New("event sourcing error")

// rooted is embedded in the errors of this package.
type rooted struct{}

// Unwrap makes the error an ErrEventSourcing.
func (rooted) Unwrap() error { return ErrEventSourcing }

// VersionError says that a payload was stored in a schema version that this
// program cannot read: a newer one, written by a newer program, or one so old
// that it has no upcaster.
type VersionError struct {
	rooted

	Topic  string
	Stored int
	// Oldest and Known are the first and the last version that the program can
	// read.
	Oldest int
	Known  int
}

func (e *VersionError) Error() string {
	if e.Stored > e.Known {
		return fmt.Sprintf("%s was stored in schema version %d, newer than version %d that this program knows; "+
			"deploy the newer program", e.Topic, e.Stored, e.Known)
	}
	return fmt.Sprintf("%s was stored in schema version %d, and the oldest that can be read is %d; add a domain.Upcast",
		e.Topic, e.Stored, e.Oldest)
}

// PayloadError says that the payload of an event, or the state of a snapshot,
// is of a type that the definition does not have: the event belongs to another
// aggregate.
type PayloadError struct {
	rooted

	Definition string
	Topic      string
	Payload    reflect.Type
	// IsRetired reports whether Payload is domain.RetiredEvent.
	IsRetired bool
}

func (e *PayloadError) Error() string {
	if e.IsRetired {
		return fmt.Sprintf("definition %q has no payload for the retired event %q", e.Definition, e.Topic)
	}
	return fmt.Sprintf("definition %q has no payload of type %v (topic %q)", e.Definition, e.Payload, e.Topic)
}
