package main

import (
	"fmt"
	"slices"
	"testing"
)

// lifetime is what package testdb starts servers for, outside of a test: things
// that are ended together. It is a testing.TB with only the methods that testdb
// calls; the others panic.
type lifetime struct {
	testing.TB // nil
	cleanups   []func()
	failure    error
}

// abandoned is the panic with which a lifetime leaves a function of testdb.
type abandoned struct{ reason error }

// start calls a function of testdb and returns as an error why it gave up.
func (l *lifetime) start(f func()) (err error) {
	defer func() {
		switch reason := recover().(type) {
		case nil:
		case abandoned:
			err = reason.reason
		default:
			panic(reason)
		}
	}()
	f()
	return nil
}

// end ends everything, the last first, and reports what went wrong.
func (l *lifetime) end() error {
	for _, cleanup := range slices.Backward(l.cleanups) {
		cleanup()
	}
	l.cleanups = nil
	return l.failure
}

func (l *lifetime) Helper()                           {}
func (l *lifetime) Cleanup(f func())                  { l.cleanups = append(l.cleanups, f) }
func (l *lifetime) Failed() bool                      { return l.failure != nil }
func (l *lifetime) Logf(string, ...any)               {}
func (l *lifetime) Errorf(format string, args ...any) { l.failure = fmt.Errorf(format, args...) }
func (l *lifetime) Fatalf(format string, args ...any) {
	panic(abandoned{fmt.Errorf(format, args...)})
}
func (l *lifetime) Skipf(format string, args ...any) { l.Fatalf(format, args...) }
