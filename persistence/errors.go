package persistence

import (
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
)

// class is a value that errors.Is finds, and every class above it.
type class struct {
	name   string
	parent error
}

func (c *class) Error() string { return c.name }

func (c *class) Unwrap() error { return c.parent }

// The classes that errors of a store fall into, the same for every database,
// under the names that the Python library gives them. Ask with errors.Is; a
// class contains the classes below it:
//
//	ErrPersistence
//	├── ErrInterface       the program's way of talking to the database is at fault: a closed handle, a nil one
//	└── ErrDatabase
//	    ├── ErrData          a value cannot be stored
//	    ├── ErrOperational   the database is at fault: unreachable, locked, full, not migrated
//	    ├── ErrIntegrity     a unique key or a position was violated: a conflict
//	    ├── ErrInternal      the database says that it is broken
//	    ├── ErrProgramming   a call or a statement is wrong
//	    └── ErrNotSupported  the database or the store cannot do this
var (
	ErrPersistence  error = &class{"PersistenceError", domain.ErrEventSourcing}
	ErrInterface    error = &class{"InterfaceError", ErrPersistence}
	ErrDatabase     error = &class{"DatabaseError", ErrPersistence}
	ErrData         error = &class{"DataError", ErrDatabase}
	ErrOperational  error = &class{"OperationalError", ErrDatabase}
	ErrIntegrity    error = &class{"IntegrityError", ErrDatabase}
	ErrInternal     error = &class{"InternalError", ErrDatabase}
	ErrProgramming  error = &class{"ProgrammingError", ErrDatabase}
	ErrNotSupported error = &class{"NotSupportedError", ErrDatabase}
)

// Errors that say more than their class.
var (
	// ErrLockTimeout is a wait for the order lock of an application that took
	// too long (ErrOperational).
	ErrLockTimeout error = &class{"lock timeout", ErrOperational}

	// ErrPositionLocked is a wait for a follower's position that took too long
	// (ErrLockTimeout): another process of the follower is at work, and
	// processes what there is to process.
	ErrPositionLocked error = &class{"another process of the follower is at work", ErrLockTimeout}

	// ErrRetryTransaction says that the whole transaction must be tried again
	// (ErrOperational): the database chose it as the victim of a deadlock, or
	// what it had read is out of date.
	ErrRetryTransaction error = &class{"transaction must be retried", ErrOperational}

	// ErrUnavailable is a database that cannot be reached or takes no
	// connections at the moment (ErrOperational). Nothing was stored.
	// IsRetryable is true for it, but Repository.Update does not repeat the
	// command: how long the database will be down is not known, so the caller
	// decides.
	ErrUnavailable error = &class{"database is unavailable", ErrOperational}

	// ErrOutcomeUnknown is the third outcome of a write, neither success nor
	// failure (ErrOperational): the connection was lost while the commit was on
	// its way. Read before writing again; saving the same aggregate again is
	// safe, because a save that finds its own events stored is a success.
	ErrOutcomeUnknown error = &class{"outcome unknown", ErrOperational}

	// ErrReadOnly is a write to a database that only reads: a standby, or a
	// file without write permission (ErrOperational).
	ErrReadOnly error = &class{"database is read-only", ErrOperational}

	// ErrDiskFull is a write that found no space (ErrOperational).
	ErrDiskFull error = &class{"disk is full", ErrOperational}

	// ErrNotMigrated says that the database lacks a table or a part of one
	// (ErrOperational). The text names it, and says how to create it.
	ErrNotMigrated error = &class{"database is not migrated", ErrOperational}

	// ErrPositionMoved says that a position was not moved, because it is not the
	// expected one (ErrIntegrity): another process of the same follower was
	// faster, or another program has moved it. The text names the follower, the
	// upstream application, and both positions.
	ErrPositionMoved error = &class{"position was moved", ErrIntegrity}

	// ErrOriginatorType says that an originator belongs to another definition
	// than the one that was used to load or save it (ErrIntegrity): two
	// aggregates were given one id. Nothing was stored. It is not a conflict:
	// repeating the command with this id cannot succeed.
	ErrOriginatorType error = &class{"originator of another definition", ErrIntegrity}

	// ErrNewerProgram says that the running program cannot read a state which
	// another one has written (ErrPersistence): the program does not know the
	// topic or the schema version, or it lacks the key, cipher, compressor or
	// transcoding. That says nothing against the event. Deploy the program that
	// has written it, or give this one the same settings.
	ErrNewerProgram error = &class{"a newer program is needed, or the settings of the one that wrote the state", ErrPersistence}

	// ErrClosed is the use of something after it was closed (ErrInterface).
	ErrClosed error = &class{"closed", ErrInterface}

	// ErrNoTransaction says that the context carries no transaction of the
	// store (ErrProgramming).
	ErrNoTransaction error = &class{"no transaction in the context", ErrProgramming}
)

// Error is an error of a store with its class, what was being done, and the
// database's own error as its cause.
type Error struct {
	// Class is one of the Err… values of this package.
	Class error
	// Op says what was being done, with the application's name.
	Op string
	// Hint says what to do, if that is known.
	Hint string
	// Err is the cause; it may be nil.
	Err error
}

func (e *Error) Error() string {
	text := e.Op + ": " + e.Class.Error()
	if e.Hint != "" {
		text += ": " + e.Hint
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the class and the cause.
func (e *Error) Unwrap() []error { return both(e.Class, e.Err) }

func both(class, cause error) []error {
	if cause == nil {
		return []error{class}
	}
	return []error{class, cause}
}

// ConflictError says that an event was not stored, because its originator
// already has an event of that version (another writer was faster) or lacks the
// version before it. Load the originator again and repeat the command, as
// Repository.Update does. It is an ErrIntegrity.
type ConflictError struct {
	Application  string
	OriginatorID uuid.UUID
	// Version is the version that was to be stored.
	Version int64
	// Current is the originator's highest stored version, or -1 if it has no
	// events or it is not known.
	Current int64
	// Gap reports that the version does not continue the stored stream: the one
	// before it is not stored. Events were deleted, or an older state of the
	// database was restored, since the originator was loaded.
	Gap bool
	// Exists reports that the version begins a stream: an originator was
	// created whose id another one has. Repeating the same command cannot
	// succeed. Applications set it; recorders leave it false.
	Exists bool
	// Stale reports that the caller has named the version that it has seen, which
	// is Version-1, as for Repository.UpdateAt. Only the caller can decide again,
	// so gormstore.Retry does not repeat the transaction.
	Stale bool
	// Stored are the events that are in the way, at the places of those that
	// were to be stored, with their notification ids if the recorder has such.
	Stored []Notification
	// Err is the database's own error; it may be nil.
	Err error
}

func (e *ConflictError) Error() string {
	switch {
	case e.Stale && e.Current >= 0:
		return fmt.Sprintf("%s: originator %s is at version %d, and the caller has seen version %d; read it again and decide anew",
			e.Application, e.OriginatorID, e.Current, e.Version-1)
	case e.Gap && e.Current < 0:
		return fmt.Sprintf("%s: originator %s has no events, so version %d does not continue it; load it again and repeat the command",
			e.Application, e.OriginatorID, e.Version)
	case e.Gap:
		return fmt.Sprintf("%s: originator %s ends at version %d, so version %d does not continue it; load it again and repeat the command",
			e.Application, e.OriginatorID, e.Current, e.Version)
	}
	text := fmt.Sprintf("%s: originator %s already has version %d", e.Application, e.OriginatorID, e.Version)
	if e.Exists {
		text = fmt.Sprintf("%s: originator %s exists: it already has version %d", e.Application, e.OriginatorID, e.Version)
	}
	if e.Current > e.Version {
		text += fmt.Sprintf(" and is at version %d", e.Current)
	}
	if e.Exists {
		return text + "; load it instead of creating it, or give the new one another id"
	}
	return text + "; load it again and repeat the command"
}

// Unwrap returns the class and the cause.
func (e *ConflictError) Unwrap() []error { return both(ErrIntegrity, e.Err) }

// IsConflict reports whether a save failed because of a version conflict, so
// that the command can be repeated with the originator loaded again. It returns
// false for two errors, even if a conflict is their cause. ErrOutcomeUnknown: the
// events in the way may be the command's own, and repeating it would do its work
// twice. ErrOriginatorType: the events in the way belong to another definition,
// and repeating the command cannot succeed.
func IsConflict(err error) bool {
	_, ok := errors.AsType[*ConflictError](err)
	return ok && !errors.Is(err, ErrOutcomeUnknown) && !errors.Is(err, ErrOriginatorType)
}

// IsRetryable reports whether the same call may succeed later without anything
// being changed. An unknown outcome is not retryable in this sense.
func IsRetryable(err error) bool {
	if errors.Is(err, ErrOutcomeUnknown) {
		return false
	}
	return errors.Is(err, ErrRetryTransaction) || errors.Is(err, ErrLockTimeout) || errors.Is(err, ErrUnavailable)
}

// MappingError says that the state of one event or snapshot could not be made
// or read, and which. It never contains the state. It is an ErrNewerProgram if
// another program or other settings can read the state, and if that cannot be
// told from damage.
type MappingError struct {
	Application       string
	OriginatorID      uuid.UUID
	OriginatorVersion int64
	// NotificationID is 0 if it is not known.
	NotificationID int64
	Topic          string
	// Stage is what failed: "topic" (the event type is not known), "encode",
	// "compress" or "encrypt" of a save; "decrypt", "decompress", "decode" or
	// "topic" of a load.
	Stage string
	// Err is the cause.
	Err error
}

func (e *MappingError) Error() string {
	position := ""
	if e.NotificationID > 0 {
		position = fmt.Sprintf(" (notification %d)", e.NotificationID)
	}
	stage := e.Stage
	if stage == "topic" {
		stage = "map"
	}
	return fmt.Sprintf("%s: cannot %s the state of %s version %d of originator %s%s: %v",
		e.Application, stage, e.Topic, e.OriginatorVersion, e.OriginatorID, position, e.Err)
}

// Unwrap returns the class and the cause.
func (e *MappingError) Unwrap() []error { return both(ErrPersistence, e.Err) }
