package application

import (
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// ErrAggregateNotFound is the class of a *NotFoundError: errors.Is(err,
// ErrAggregateNotFound) reports that the aggregate, or its version, does not
// exist.
var ErrAggregateNotFound = errors.New("aggregate not found")

// NotFoundError says that an aggregate has no events, or not as many as the
// version that was asked for.
type NotFoundError struct {
	Application string
	// Definition is the name of the aggregate's definition.
	Definition string
	ID         uuid.UUID
	// Version is the version that was asked for, or -1 for the latest.
	Version int64
	// Current is the version that the aggregate has, or -1 if it has none.
	Current int64
}

func (e *NotFoundError) Error() string {
	if e.Current >= 0 {
		return fmt.Sprintf("%s: %s %s not found at version %d: it is at version %d",
			e.Application, e.Definition, e.ID, e.Version, e.Current)
	}
	return fmt.Sprintf("%s: %s %s not found", e.Application, e.Definition, e.ID)
}

// Unwrap makes the error an ErrAggregateNotFound.
func (e *NotFoundError) Unwrap() []error {
	return []error{ErrAggregateNotFound, domain.ErrEventSourcing}
}

// ErrSnapshottingDisabled says that a snapshot cannot be taken because the
// application has no store for it.
var ErrSnapshottingDisabled = fmt.Errorf("%w: cannot take a snapshot without a snapshot store; set "+
	"IS_SNAPSHOTTING_ENABLED=y, or SNAPSHOTTING_INTERVALS, or give application.WithSnapshotting", domain.ErrEventSourcing)

// unusable says that a repository or log cannot work: its events clash with
// those of another definition, or its aggregates would not come back from
// snapshots or the cache as they were.
func unusable(application, definition string, cause error) error {
	what := fmt.Sprintf("definition %q", definition)
	if application != "" {
		what = application + ": " + what
	}
	return &persistence.InvalidError{What: what, Problem: "cannot be used", Class: persistence.ErrProgramming, Err: cause}
}

func noApplication(definition string) error {
	return unusable("", definition, errors.New("the application is nil; check the error of application.New first"))
}

// foreign says that an aggregate was not saved, because it was loaded from
// another application: its stream is in the log of that one, and must go on
// there.
func foreign(application string, event domain.Event) error {
	return &persistence.InvalidError{What: fmt.Sprintf("%s: aggregate %s", application, event.OriginatorID), Class: persistence.ErrProgramming,
		Problem: fmt.Sprintf("cannot be saved, because it was loaded from %s; save it with that application, or create an aggregate of %s",
			event.Application, application)}
}

// copied says that two copies of an aggregate were to be saved together.
func copied(application string, event domain.Event) error {
	return &persistence.InvalidError{What: fmt.Sprintf("%s: aggregate %s", application, event.OriginatorID), Class: persistence.ErrProgramming,
		Problem: fmt.Sprintf("was given to one Save in two copies that both have a version %d; check that the aggregates differ, or change one copy",
			event.OriginatorVersion)}
}
