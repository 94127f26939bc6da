package application

import (
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// ErrAggregateNotFound says that an aggregate has no events, or not as many as
// the version that was asked for. The text of the error says which, and what
// version the aggregate has.
var ErrAggregateNotFound = errors.New("aggregate not found")

// notFoundError is an ErrAggregateNotFound.
type notFoundError struct {
	application, definition string
	id                      uuid.UUID
	version                 int64 // that was asked for
	current                 int64 // the version that the aggregate has, or -1 if it has none
}

func (e *notFoundError) Error() string {
	if e.current >= 0 {
		return fmt.Sprintf("%s: %s %s not found at version %d: it is at version %d",
			e.application, e.definition, e.id, e.version, e.current)
	}
	return fmt.Sprintf("%s: %s %s not found", e.application, e.definition, e.id)
}

// Unwrap makes the error an ErrAggregateNotFound.
func (e *notFoundError) Unwrap() []error {
	return []error{ErrAggregateNotFound, domain.ErrEventSourcing}
}

// noSnapshots says that a snapshot cannot be taken because the application keeps
// none.
func noSnapshots(application, definition string, id uuid.UUID) error {
	return &persistence.Error{Class: persistence.ErrNotSupported, Op: fmt.Sprintf("%s: take a snapshot of %s %s", application, definition, id),
		Hint: "the application keeps no snapshots; set IS_SNAPSHOTTING_ENABLED=y, or SNAPSHOTTING_INTERVALS, or give application.WithSnapshotting"}
}

// unusable says that a repository or log cannot work: its events clash with
// those of another definition, or its aggregates would not come back from
// snapshots or the cache as they were.
func unusable(application, definition string, cause error) error {
	what := fmt.Sprintf("definition %q", definition)
	if application != "" {
		what = application + ": " + what
	}
	return &invalid.Error{What: what, Problem: "cannot be used", Class: persistence.ErrProgramming, Err: cause}
}

func noApplication(definition string) error {
	return unusable("", definition, errors.New("the application is nil; check the error of application.New first"))
}

// foreign says that an aggregate was not saved, because it was loaded from
// another application: its stream is in the log of that one, and must go on
// there.
func foreign(application string, event domain.Event) error {
	return &invalid.Error{What: fmt.Sprintf("%s: aggregate %s", application, event.OriginatorID), Class: persistence.ErrProgramming,
		Problem: fmt.Sprintf("cannot be saved, because it was loaded from %s; save it with that application, or create an aggregate of %s",
			event.Application, application)}
}

// copied says that two copies of an aggregate were to be saved together.
func copied(application string, event domain.Event) error {
	return &invalid.Error{What: fmt.Sprintf("%s: aggregate %s", application, event.OriginatorID), Class: persistence.ErrProgramming,
		Problem: fmt.Sprintf("was given to one Save in two copies that both have a version %d; check that the aggregates differ, or change one copy",
			event.OriginatorVersion)}
}
