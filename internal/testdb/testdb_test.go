package testdb

import (
	"os"
	"testing"
)

// TestMain runs the tests, or, in a process that a test has started, the
// program of that process.
func TestMain(m *testing.M) {
	if os.Getenv(victimVariable) != "" {
		victim()
		return
	}
	os.Exit(Main(m))
}

// recorder is a test that only remembers how it was ended.
type recorder struct {
	testing.TB
	outcome string
}

func (r *recorder) Helper()               {}
func (r *recorder) Skipf(string, ...any)  { r.end("skipped") }
func (r *recorder) Fatalf(string, ...any) { r.end("failed") }

// end keeps the first outcome: the calls above do not stop the caller as those
// of a real test do.
func (r *recorder) end(outcome string) {
	if r.outcome == "" {
		r.outcome = outcome
	}
}
