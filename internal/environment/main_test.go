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
