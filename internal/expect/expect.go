// Package expect holds the checks that the tests of all packages share. Each
// reports at the caller's line, with what it got and what it wanted. A test that
// needs none of these words writes an if and t.Errorf.
package expect

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// NoError ends the test at the first error.
func NoError(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatalf("got error %v (%T), want none", err, err)
		}
	}
}

// Must returns value, and panics if there is an error. It is for the result of
// a call that fails only if the test is wrong: expect.Must(f()).
func Must[T any](value T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("got error %v (%T), want none", err, err))
	}
	return value
}

// ErrorAs ends the test unless err is an error of type E, and returns that one.
func ErrorAs[E error](t testing.TB, err error) E {
	t.Helper()
	e, ok := errors.AsType[E](err)
	if !ok {
		t.Fatalf("got error %v (%T), want a %v", err, err, reflect.TypeFor[E]())
	}
	return e
}

// ErrorIs fails the test unless err is each of the targets.
func ErrorIs(t testing.TB, err error, targets ...error) {
	t.Helper()
	for _, target := range targets {
		if !errors.Is(err, target) {
			t.Errorf("got error %v (%T), want one that is %v", err, err, target)
		}
	}
}

// ErrorText fails the test unless err has the text want.
func ErrorText(t testing.TB, err error, want string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Errorf("got error %v\nwant      %s", err, want)
	}
}

// Contains fails the test unless text contains all the parts.
func Contains(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("got %q, want it to contain %q", text, part)
		}
	}
}

// timeout is how long a test waits for what must happen. It is far above what
// that takes on a machine that is busy with other things.
const timeout = 3 * time.Minute

// Eventually waits for a condition that nothing signals, and reports whether it
// came true in a few minutes. The longer it has waited, the longer it waits
// before it looks again: a condition may ask a database, and what it waits for
// needs the processor too.
func Eventually(condition func() bool) bool {
	begin := time.Now()
	for waited := time.Duration(0); waited < timeout; waited = time.Since(begin) {
		if condition() {
			return true
		}
		time.Sleep(min(time.Millisecond+waited/16, longestPause))
	}
	return false
}

// longestPause is how long Eventually waits at most before it looks again.
const longestPause = 25 * time.Millisecond

// Until ends the test unless the condition, which is called what, comes true in a
// few minutes.
func Until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	if !Eventually(condition) {
		t.Fatalf("waited %v in vain until %s", timeout, what)
	}
}

// Equal fails the test unless got and want, which are called what, are deeply
// equal. A nil slice or map equals an empty one.
func Equal[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if equal(got, want) {
		return
	}
	g, w := printed(got), printed(want)
	if g == w {
		g, w = fmt.Sprintf("%s (%T)", g, got), fmt.Sprintf("%s (%T)", w, want)
	}
	t.Errorf("%s: got %s, want %s", what, g, w)
}

func equal(got, want any) bool {
	a, b := reflect.ValueOf(got), reflect.ValueOf(want)
	if (a.Kind() == reflect.Slice || a.Kind() == reflect.Map) && a.Kind() == b.Kind() && a.Len() == 0 && b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(got, want)
}

func printed(value any) string {
	switch value.(type) {
	case string, []string, []byte:
		return fmt.Sprintf("%q", value)
	}
	return fmt.Sprintf("%+v", value)
}
