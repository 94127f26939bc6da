package mapper

import (
	"fmt"
	"strings"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// UnknownTopicError says that an event was stored under a name that no
// definition of the application has.
type UnknownTopicError struct {
	Topic string
}

func (e *UnknownTopicError) Error() string {
	return fmt.Sprintf("topic %q is not defined; if a newer program wrote it, deploy that one; "+
		"otherwise add it with domain.On, domain.Alias or domain.Retired, or give its definition to application.WithDefinitions", e.Topic)
}

// Unwrap makes the error an ErrNewerProgram: a program that knows the topic has
// written the event.
func (e *UnknownTopicError) Unwrap() error { return persistence.ErrNewerProgram }

// StateTypeError says that a snapshot holds a state of another structure than
// the program's: it was made by a program whose state has other fields.
type StateTypeError struct {
	Topic string
	// Stored and Known are the fingerprints of the two structures. Stored is ""
	// for a snapshot that was made before snapshots had fingerprints, and
	// "Python layout" for one in that layout, which has none.
	Stored, Known string
	// Lost is not empty if a snapshot was not stored because earlier ones, which
	// the Python library reads, have fields that the program's state lacks.
	Lost []string
}

func (e *StateTypeError) Error() string {
	if len(e.Lost) > 0 {
		return fmt.Sprintf("snapshots of %q have the fields %s, which the program's state lacks, and the Python library would lose them; "+
			"add the fields, or delete those snapshots", e.Topic, strings.Join(e.Lost, ", "))
	}
	if e.Stored == "" {
		return fmt.Sprintf("the snapshot of %q does not say what fields its state has", e.Topic)
	}
	return fmt.Sprintf("the state in the snapshot of %q has other fields than the program's state (%s, not %s)",
		e.Topic, e.Stored, e.Known)
}

// Unwrap makes the error a domain.ErrEventSourcing.
func (e *StateTypeError) Unwrap() error { return domain.ErrEventSourcing }
