package persistence_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const school = "TrainingSchool"

var errBroken = errors.New("recorder is broken")

var sampleID = uuid.MustParse("b2723fe2-c01a-40d2-875e-a3aac6a09ff5")

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

func dogID(name string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceURL, []byte("/dogs/"+name)) }
