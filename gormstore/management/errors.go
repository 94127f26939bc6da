package management

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Exit codes of the commands.
const (
	exitFailure     = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// CommandError is how a command ended that did not succeed. What it has to say
// is printed already.
type CommandError struct {
	// Code is the exit code: 1, 2 if the command was called wrongly, 130 if it
	// was interrupted.
	Code int
	Err  error
}

func (e *CommandError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *CommandError) Unwrap() error { return e.Err }

// ExitCode is the exit code for what the Execute of a cobra command has
// returned: that of a *CommandError, 0 for nil, 2 for a command that is
// unknown, and 1 for every other error.
func ExitCode(err error) int {
	if command, ok := errors.AsType[*CommandError](err); ok {
		return command.Code
	}
	switch {
	case err == nil:
		return 0
	case strings.HasPrefix(textOf(err), "unknown command "): // cobra has no type for it
		return exitUsage
	}
	return exitFailure
}

// errFailed ends a command whose failures were printed already.
var errFailed = errors.New("there were failures")

// What a command says that was interrupted.
var (
	errInterrupted          = errors.New("interrupted")
	errInterruptedSync      = fmt.Errorf("%w; what was processed before is kept", errInterrupted)
	errInterruptedRehearsal = fmt.Errorf("%w; nothing was changed", errInterrupted)
)

// whatWasInterrupted leaves out what an interrupt has made of statements that
// were on their way.
func whatWasInterrupted(err error) string {
	for _, known := range []error{errInterruptedSync, errInterruptedRehearsal} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return errInterrupted.Error()
}

// codeOf is the exit code of an error that was not printed yet.
func codeOf(ctx context.Context, err error) int {
	if errors.Is(err, errInterrupted) || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return exitInterrupted
	}
	return exitFailure
}
