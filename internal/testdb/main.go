package testdb

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"

	"go.uber.org/goleak"
)

// Main runs the tests of a package, ends the shared PostgreSQL cluster if a
// test started it, and returns the exit code for TestMain to pass to [os.Exit].
// Tests that pass but leave goroutines running count as failed.
//
// Unless -parallel says how many parallel tests run at the same time, there are
// at least six, since tests of databases wait most of their time.
func Main(m *testing.M) int {
	flag.Parse()
	if err := raiseParallel(flag.CommandLine); err != nil {
		fmt.Fprintln(os.Stderr, "testdb:", err)
		return 1
	}
	code := m.Run()
	if err := closeShared(); err != nil {
		fmt.Fprintln(os.Stderr, "testdb:", err)
		code = max(code, 1)
	}
	if code != 0 {
		return code // a failed test may well leave goroutines; its message matters more
	}
	// GORM's pool of prepared statements, of Config.PrepareStmt, has a
	// goroutine that never ends.
	if err := goleak.Find(goleak.IgnoreAnyFunction("gorm.io/gorm/internal/lru.NewLRU[...].func1")); err != nil {
		fmt.Fprintln(os.Stderr, "testdb:", err)
		return 1
	}
	return 0
}

// leastParallel is how many parallel tests run at the same time on a machine
// with few processors. On others it is the default of go test, one for each
// processor: more would need more connections than servers have.
const leastParallel = 6

// raiseParallel sets -parallel in the parsed flags of a test program, unless
// the caller of the program has set it or is fuzzing. For a fuzz
// test, -parallel is the number of workers.
func raiseParallel(flags *flag.FlagSet) error {
	given := false
	flags.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" || f.Name == "test.fuzz" })
	if given {
		return nil
	}
	return flags.Set("test.parallel", strconv.Itoa(max(leastParallel, runtime.GOMAXPROCS(0))))
}
