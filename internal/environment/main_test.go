package environment_test

import (
	"errors"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// canary is in values that must not come up in an error.
const canary = "canary-in-the-payload"

var errBroken = errors.New("recorder is broken")

// wantError requires an error of type E, and returns it.
func wantError[E error](tb testing.TB, err error) E {
	tb.Helper()
	e, ok := errors.AsType[E](err)
	if !ok {
		tb.Fatalf("got error %v (%T), want a %T", err, err, e)
	}
	return e
}

// wantText requires the text of an error.
func wantText(tb testing.TB, err error, want string) {
	tb.Helper()
	if err == nil || err.Error() != want {
		tb.Errorf("got error %v\nwant      %s", err, want)
	}
}
