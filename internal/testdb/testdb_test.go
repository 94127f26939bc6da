package testdb

import (
	"flag"
	"os"
	"runtime"
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

func TestParallelIsRaisedUnlessGiven(t *testing.T) {
	t.Parallel()
	const unset = 1
	for _, row := range []struct {
		name string
		args []string
		want int
	}{
		{"not given", nil, max(leastParallel, runtime.GOMAXPROCS(0))},
		{"given", []string{"-test.parallel=3"}, 3},
		{"fuzzing", []string{"-test.fuzz=FuzzCut"}, unset},
	} {
		flags := flag.NewFlagSet("", flag.ContinueOnError)
		parallel := flags.Int("test.parallel", unset, "")
		flags.String("test.fuzz", "", "")
		if err := flags.Parse(row.args); err != nil {
			t.Fatal(err)
		}
		if err := raiseParallel(flags); err != nil || *parallel != row.want {
			t.Errorf("%s: got -parallel=%d, error %v; want %d", row.name, *parallel, err, row.want)
		}
	}
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
