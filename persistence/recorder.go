package persistence

import (
	"context"
	"iter"

	"github.com/google/uuid"
)

// A recorder keeps the stored events of one application. There are three
// levels, each containing the one before; every store implements them, and the
// package persistencetest is the definition of what they must do.
//
// All methods are safe for concurrent use. They take over neither the slices
// they are given nor the ones they return. If ctx carries a transaction of the
// recorder's store, they take part in it.
//
// What is stored comes back as it was: names and topics are compared and kept
// byte for byte, whatever a database thinks of case, accents and spaces, and an
// empty state is an empty slice, never nil.

// AggregateRecorder keeps the events of originators. Recorders of snapshots are
// of this level.
type AggregateRecorder interface {
	// InsertEvents stores all the events or, if it returns an error, none of
	// them. It returns the events' notification ids, ascending and in the order
	// of the events; recorders of this level return nil. Storing no events is a
	// success.
	//
	// It calls ValidateEvents first, which refuses a gap in the versions of one
	// insert. The first event of each originator must continue what is stored:
	// the originator's newest version is the one before it, or the originator
	// has no events and the version is 0, or 1 unless StoredEvent.Continues is
	// set, or any if StoredEvent.Begins is set. Otherwise it returns a
	// *ConflictError, whose Gap is set if the version itself is not stored.
	// Recorders of snapshots do not look at that, because snapshots have gaps
	// by nature.
	//
	// It returns a *ConflictError if an event has the originator and version of
	// another one, stored or in events, and ErrOutcomeUnknown if it could not
	// find out whether the events were stored. The Version of the
	// *ConflictError is the lowest of its originator that is in the way; if
	// several originators are in conflict, it may be about any of them. Stored
	// has what is in the way of all of them, in no particular order.
	InsertEvents(ctx context.Context, events []StoredEvent) ([]int64, error)

	// SelectEvents streams the events of an originator. An unknown originator
	// has none. No connection is held while the loop's body runs.
	//
	// The stream is lazy: nothing is read before a loop ranges over it, and
	// each further loop reads again. It gives at most one error, with a zero
	// event, and ends with it. An invalid range is such an error too.
	SelectEvents(ctx context.Context, originatorID uuid.UUID, r EventRange) iter.Seq2[StoredEvent, error]
}

// ApplicationRecorder also keeps all events of an application as one log.
//
// A reader that has read the log up to an id by the methods of this interface
// never finds a lower id there later, however many processes write: ids become
// visible in ascending order. The ids of one save ascend, and those of
// concurrent saves may interleave. Gaps mean nothing.
type ApplicationRecorder interface {
	AggregateRecorder

	// SelectNotifications returns a page of the log, fewer than r.Limit only at
	// the end of the range.
	SelectNotifications(ctx context.Context, r NotificationRange) ([]Notification, error)

	// MaxNotificationID returns the highest id up to which the log is final,
	// and 0 if the log is empty. It is the id of the newest event, unless
	// events with lower ids may still be committed by others.
	MaxNotificationID(ctx context.Context) (int64, error)

	// NewestNotificationID returns the id of the newest event that is stored,
	// and 0 if there is none. Events with lower ids may still be committed. A
	// position that is above it was not reached by reading the log. It is
	// MaxNotificationID for a store whose writers do not run at the same time.
	NewestNotificationID(ctx context.Context) (int64, error)
}

// TrackingRecorder keeps the positions of a follower in the logs of its
// upstream applications. Positions only move forward.
//
// The text of an ErrPositionMoved says what an operator needs to find the
// program that has moved the position: the name of the follower, that of the
// upstream application, the position that it was to be moved to, and the stored
// one. A *Error is enough:
//
//	&Error{Class: ErrPositionMoved, Op: "Counters: move the position in School to 7", Hint: "it is at 9"}
type TrackingRecorder interface {
	// InsertTracking moves the position forward. It returns ErrPositionMoved if
	// the stored position is this one or a later one.
	InsertTracking(ctx context.Context, tracking Tracking) error

	// MovePosition moves the position forward from the position from, which is
	// 0 if nothing was processed. It returns ErrPositionMoved if the position
	// is not from any more. Followers use it, so that a batch is not stored if
	// another program has processed a part of its events.
	MovePosition(ctx context.Context, from int64, to Tracking) error

	// MaxTrackingID returns the position in the log of the upstream
	// application, and 0 if nothing was processed.
	MaxTrackingID(ctx context.Context, upstream string) (int64, error)

	// LockPosition is MaxTrackingID for a position that no other transaction
	// can move until the one in ctx ends; a store that does not lock compares
	// the position when that one commits. It returns ErrNoTransaction if ctx
	// carries no transaction of the store.
	LockPosition(ctx context.Context, upstream string) (int64, error)
}

// ProcessRecorder also stores the events that a follower makes together with
// its position, so that each upstream event has its effect exactly once.
type ProcessRecorder interface {
	ApplicationRecorder
	TrackingRecorder

	// InsertProcessed stores the events and moves the position, or does
	// neither. The events may be none.
	//
	// Its errors are those of InsertEvents and InsertTracking. If both the
	// position and the events are stored already, it is ErrPositionMoved: a
	// process that comes second has often made the same events as the first,
	// and must learn that it came second.
	InsertProcessed(ctx context.Context, events []StoredEvent, tracking Tracking) ([]int64, error)
}

// Factory makes the recorders of applications over one store. It is safe for
// concurrent use.
//
// Making a recorder must work before the store's tables exist: only using one
// needs them.
type Factory interface {
	// ProcessRecorder makes the recorder of an application's events and
	// positions.
	ProcessRecorder(application string) (ProcessRecorder, error)

	// SnapshotRecorder makes the recorder of an application's snapshots.
	SnapshotRecorder(application string) (AggregateRecorder, error)

	// Close releases what the factory itself has opened. It does not close what
	// it was given.
	//
	// After it every use of the factory and of its recorders is ErrClosed, so
	// that a closed store is not taken for an empty one. Closing again does
	// nothing, and is a success.
	Close() error
}

// Transactor is a Factory whose store has transactions that recorders take part
// in. Followers use it to have everything that a handler does, and their
// position, commit together.
type Transactor interface {
	Factory

	// Transaction runs fn in a transaction: what is done with the ctx that fn
	// gets commits when fn returns nil, and is rolled back when fn returns an
	// error or panics. In a ctx that carries a transaction of the store
	// already, fn runs nested in it.
	Transaction(ctx context.Context, fn func(ctx context.Context) error) error
}
