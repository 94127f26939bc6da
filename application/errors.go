package application

import (
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// ErrAggregateNotFound is what a *NotFoundError is: errors.Is(err,
// ErrAggregateNotFound) answers whether the aggregate exists.
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

// RepositoryError says that a repository or log cannot work: its events clash
// with those of another definition, or its aggregates would not come back from
// snapshots or the cache as they were. Only a change of the program or of its
// settings helps.
type RepositoryError struct {
	Application string
	Definition  string
	// Err says what is wrong, and in which field.
	Err error
}

func (e *RepositoryError) Error() string {
	return fmt.Sprintf("%s: definition %q cannot be used: %v", e.Application, e.Definition, e.Err)
}

func noApplication(definition string) error {
	return &RepositoryError{Definition: definition, Err: errors.New("the application is nil; check the error of application.New first")}
}

// Unwrap returns the class and the cause.
func (e *RepositoryError) Unwrap() []error { return []error{e.Err, domain.ErrEventSourcing} }

// ForeignAggregateError says that an aggregate was not saved, because it was
// loaded from another application: its stream is in the log of that one, and
// must go on there. It is a persistence.ErrProgramming.
type ForeignAggregateError struct {
	// Application is the one that was to save the aggregate.
	Application string
	// LoadedFrom is the one that the aggregate was loaded from.
	LoadedFrom string
	ID         uuid.UUID
}

func (e *ForeignAggregateError) Error() string {
	return fmt.Sprintf("%s: cannot save aggregate %s, which was loaded from %s; save it with that application, "+
		"or create an aggregate of %s", e.Application, e.ID, e.LoadedFrom, e.Application)
}

// Unwrap makes the error a persistence.ErrProgramming.
func (e *ForeignAggregateError) Unwrap() error { return persistence.ErrProgramming }
