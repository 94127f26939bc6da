package system

import (
	"errors"
	"fmt"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// mistake is what is wrong with a system, a runner or a call of it.
type mistake struct {
	name    string // the application concerned, or ""
	problem string
}

func (m *mistake) Error() string {
	if m.name == "" {
		return "system: " + m.problem
	}
	return fmt.Sprintf("system: application %q: %s", m.name, m.problem)
}

// Unwrap makes the error a persistence.ErrProgramming.
func (m *mistake) Unwrap() error { return persistence.ErrProgramming }

// ErrStopped is the use of a runner that was stopped.
var ErrStopped = fmt.Errorf("%w: the runner was stopped; make a new one", domain.ErrEventSourcing)

func errNotStarted() error { return &mistake{"", "the runner was not started; call Start"} }

func errAlreadyStarted() error {
	return &mistake{"", "the runner was started before; make a new one"}
}

// panicError is a panic while an event was processed, usually of a handler. It
// counts as an error of the handler.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("handler panicked: %v", e.value) }

// Unwrap makes the error a domain.ErrEventSourcing and, if the panic's value was
// an error, that error.
func (e *panicError) Unwrap() []error {
	if err, ok := e.value.(error); ok {
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
	// Err is the cause. If a handler has panicked with an error, Err wraps it.
	Err error
	// Stack is the stack of the panic, as debug.Stack has it, if a handler has
	// panicked, and nil if it has returned an error.
	Stack []byte
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

// ErrAhead says that a follower's position is beyond the end of the log that it
// is in: the log was restored from a backup, or the position was edited. What is
// recorded next gets the ids of events that were processed once, and would be
// skipped; so the follower stops until its position is another one. The text
// names the follower and the log; Status has both ends.
var ErrAhead = fmt.Errorf("%w: the follower's position is ahead of the log", domain.ErrEventSourcing)

// aheadError is an ErrAhead of one follower.
type aheadError struct {
	follower, leader string
	position         int64
	head             int64 // when that was found, or -1 if another process has found it
}

func (e *aheadError) Error() string {
	if e.head < 0 {
		return fmt.Sprintf("%s: position %d was ahead of the log of %s earlier, and events with ids below it are new; "+
			"reset the follower, or restore both from the same backup; %s", e.follower, e.position, e.leader, afterDeletion)
	}
	return fmt.Sprintf("%s: position %d is ahead of the log of %s, which ends at %d; "+
		"reset the follower, or restore both from the same backup and restart; %s", e.follower, e.position, e.leader, e.head, afterDeletion)
}

// Unwrap makes the error an ErrAhead.
func (e *aheadError) Unwrap() error { return ErrAhead }

// afterDeletion is what to do if the log was not restored.
const afterDeletion = "if its newest events were deleted with delete_originator and nothing was restored, run followers continue"
