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

// readError says that the log of another service could not be read. What may
// pass by itself, and what a service or a network is at fault for, is a
// persistence.ErrOperational; what needs another program or another address is
// a persistence.ErrProgramming; an answer that cannot be used is a
// persistence.ErrDatabase.
type readError struct {
	application string
	url         string // without a user, a password and arguments
	status      int    // that of the answer, and 0 if there was none
	class       error
	hint        string // what to do, or ""
	err         error  // the cause, or nil

	again bool          // whether the request may be repeated at once
	after time.Duration // and how long the service wants to be left alone before
}

func (e *readError) Error() string {
	text := fmt.Sprintf("log of %s at %s", e.application, e.url)
	if e.status != 0 && e.status != 200 {
		text += fmt.Sprintf(": status %d", e.status)
	}
	if e.err != nil {
		text += ": " + e.err.Error()
	}
	if e.hint != "" {
		text += "; " + e.hint
	}
	return text
}

// Unwrap returns the class and the cause.
func (e *readError) Unwrap() []error {
	if e.err == nil {
		return []error{e.class}
	}
	return []error{e.class, e.err}
}
