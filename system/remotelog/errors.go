package remotelog

import (
	"errors"
	"fmt"
	"time"
)

// What can be wrong with an answer.
var (
	// errWrongApplication is a log of another application than the client was
	// made for. Positions in it would mean something else, so nothing of it is
	// used.
	errWrongApplication = errors.New("the log is that of another application")

	// errMalformed is an answer that is not one of a log, or cannot be true.
	errMalformed = errors.New("the answer makes no sense")

	// errTooLarge is an answer that is larger than the client takes; see
	// ClientConfig.MaxResponse.
	errTooLarge = errors.New("the answer is too large")

	// errStale is an answer that says that the log ends before an earlier head:
	// it comes from a replica that lags, or from a backup. It is a
	// persistence.ErrOperational.
	errStale = errors.New("the answer is older than one before it")
)

// Error says that the log of another service could not be read. What may pass
// by itself, and what a service or a network is at fault for, is a
// persistence.ErrOperational; what needs another program or another address is
// a persistence.ErrProgramming; an answer that cannot be used is a
// persistence.ErrDatabase.
type Error struct {
	// Application is the name of the application whose log was to be read.
	Application string
	// URL is where, without a user, a password and arguments.
	URL string
	// Status is that of the answer, and 0 if there was none.
	Status int
	// Class is one of the Err… values of the package persistence.
	Class error
	// Hint says what to do, if that is known.
	Hint string
	// Err is the cause: what is wrong with the answer, the error of the
	// connection, or what the service says.
	Err error

	again bool          // whether the request may be repeated at once
	after time.Duration // and how long the service wants to be left alone before
}

func (e *Error) Error() string {
	text := fmt.Sprintf("log of %s at %s", e.Application, e.URL)
	if e.Status != 0 && e.Status != 200 {
		text += fmt.Sprintf(": status %d", e.Status)
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}

// Unwrap returns the class and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Class}
	}
	return []error{e.Class, e.Err}
}
