package system

import (
	"errors"
	"fmt"

	"github.com/eventsourcing-go/eventsourcing/domain"
)

// Error says that a system or a runner was put together or used wrongly.
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

// Errors of runners that are used at the wrong time.
var (
	ErrAlreadyStarted = fmt.Errorf("%w: the runner was started before; make a new one", domain.ErrEventSourcing)
	ErrNotStarted     = fmt.Errorf("%w: the runner was not started", domain.ErrEventSourcing)
)

// ErrPolicyPanic is what a *PanicError is.
var ErrPolicyPanic = errors.New("policy panicked")

// PanicError is a panic of a policy, which counts as an error of it.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("policy panicked: %v", e.Value) }

// Unwrap makes the error an ErrPolicyPanic and, where the panic's value was an error, that error.
func (e *PanicError) Unwrap() []error {
	if err, ok := e.Value.(error); ok {
		return []error{ErrPolicyPanic, err, domain.ErrEventSourcing}
	}
	return []error{ErrPolicyPanic, domain.ErrEventSourcing}
}

// ProcessingError says that a follower could not process an event, or not read the log that it is in.
type ProcessingError struct {
	Follower string
	Leader   string
	// NotificationID is the event's position, or 0 where the log could not be read.
	NotificationID int64
	// Topic is the event's topic, or "".
	Topic string
	// Err is the cause.
	Err error
}

func (e *ProcessingError) Error() string {
	if e.NotificationID == 0 {
		return fmt.Sprintf("%s: cannot follow %s: %v", e.Follower, e.Leader, e.Err)
	}
	return fmt.Sprintf("%s: cannot process notification %d (%s) of %s: %v",
		e.Follower, e.NotificationID, e.Topic, e.Leader, e.Err)
}

// Unwrap returns the cause.
func (e *ProcessingError) Unwrap() []error { return []error{e.Err, domain.ErrEventSourcing} }

// AheadError says that a follower's position is beyond the end of the log that it is in: the log was restored from a
// backup, or the position was edited. Processing would skip what is recorded next, so the follower stops.
type AheadError struct {
	Follower string
	Leader   string
	Position int64
	Head     int64
}

func (e *AheadError) Error() string {
	return fmt.Sprintf("%s: position %d is ahead of the log of %s, which ends at %d; "+
		"reset the follower, or restore both from the same backup", e.Follower, e.Position, e.Leader, e.Head)
}

// Unwrap makes the error a domain.ErrEventSourcing.
func (e *AheadError) Unwrap() error { return domain.ErrEventSourcing }
