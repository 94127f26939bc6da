package system

import (
	"context"
	"errors"
	"runtime/debug"
)

// A logger, an observer or a handler may panic or end its goroutine. In a
// goroutine of this package a panic would end the process.

// inGoroutine calls f in a new goroutine, and waits for its end. It
// returns an error if f panics or ends the goroutine.
func inGoroutine(f func()) error {
	done := make(chan error, 1)
	go func() {
		err := errGoexit // unless it returns
		defer func() {
			if value := recover(); value != nil {
				err = &panicError{value, debug.Stack()}
			}
			done <- err
		}()
		f()
		err = nil
	}()
	return <-done
}

// guarded calls do, which the follower can do without, and logs what becomes of
// it. If the logger panics, that is not said.
func (f *followerLoop) guarded(ctx context.Context, do func()) {
	err := inGoroutine(do)
	if err == nil {
		return
	}
	about := []any{"follower", f.app.Name(), "error", err}
	if panicked, ok := errors.AsType[*panicError](err); ok {
		about = append(about, "stack", string(panicked.stack))
	}
	_ = inGoroutine(func() { f.app.Logger().ErrorContext(ctx, "follower: a logger or an observer broke off", about...) })
}
