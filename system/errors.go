package system

import (
	"errors"
	"fmt"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Error says that a system or a runner was put together wrongly, or that a
// runner was used before it was started or started again.
type Error struct {
	// Name is the application concerned, or "".
	Name string
	// Problem says what is wrong.
	Problem string
}

func (e *Error) Error() string {
	if e.Name == "" {
		return "system: " + e.Problem
	}
	return fmt.Sprintf("system: application %q: %s", e.Name, e.Problem)
}

// Unwrap makes the error a domain.ErrEventSourcing.
func (e *Error) Unwrap() error { return domain.ErrEventSourcing }

// ErrStopped is the use of a runner that was stopped.
var ErrStopped = fmt.Errorf("%w: the runner was stopped; make a new one", domain.ErrEventSourcing)

func errNotStarted() error { return &Error{Problem: "the runner was not started; call Start"} }

func errAlreadyStarted() error {
	return &Error{Problem: "the runner was started before; make a new one"}
}

// PanicError is a panic while an event was processed, usually of a handler. It
// counts as an error of the handler.
type PanicError struct {
	// Value is what the handler gave to panic.
	Value any
	// Stack is the stack of the panic, as debug.Stack has it.
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("handler panicked: %v", e.Value) }

// Unwrap makes the error a domain.ErrEventSourcing and, if the panic's value was
// an error, that error.
func (e *PanicError) Unwrap() []error {
	if err, ok := e.Value.(error); ok {
		return []error{err, domain.ErrEventSourcing}
	}
	return []error{domain.ErrEventSourcing}
}

// ProcessingError says that a follower could not process an event, or not read
// the log that it is in.
type ProcessingError struct {
	Follower string
	Leader   string
	// NotificationID is the event's position, or 0 if no single event is at
	// fault.
	NotificationID int64
	// Topic is the event's topic, or "".
	Topic string
	// Err is the cause.
	Err error
}

func (e *ProcessingError) Error() string {
	newer := ""
	if errors.Is(e.Err, persistence.ErrNewerProgram) {
		newer = persistence.ErrNewerProgram.Error() + ": "
	}
	if e.NotificationID == 0 {
		return fmt.Sprintf("%s: cannot follow %s: %s%v", e.Follower, e.Leader, newer, e.Err)
	}
	return fmt.Sprintf("%s: cannot process notification %d (%s) of %s: %s%v",
		e.Follower, e.NotificationID, e.Topic, e.Leader, newer, e.Err)
}

// Unwrap returns the class and the cause.
func (e *ProcessingError) Unwrap() []error { return []error{domain.ErrEventSourcing, e.Err} }

// AheadError says that a follower's position is beyond the end of the log that
// it is in: the log was restored from a backup, or the position was edited.
// What is recorded next gets the ids of events that were processed once, and
// would be skipped; so the follower stops until its position is another one.
type AheadError struct {
	Follower string
	Leader   string
	Position int64
	// Head is the end of the log when that was found, or -1 if it was found by
	// another process.
	Head int64
}

func (e *AheadError) Error() string {
	if e.Head < 0 {
		return fmt.Sprintf("%s: position %d was ahead of the log of %s earlier, and events with ids below it are new; "+
			"reset the follower, or restore both from the same backup; %s", e.Follower, e.Position, e.Leader, afterDeletion)
	}
	return fmt.Sprintf("%s: position %d is ahead of the log of %s, which ends at %d; "+
		"reset the follower, or restore both from the same backup and restart; %s", e.Follower, e.Position, e.Leader, e.Head, afterDeletion)
}

// afterDeletion is what to do if the log was not restored.
const afterDeletion = "if its newest events were deleted with delete_originator and nothing was restored, run followers continue"

// Unwrap makes the error a domain.ErrEventSourcing.
func (e *AheadError) Unwrap() error { return domain.ErrEventSourcing }
