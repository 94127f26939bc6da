package testdb

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// Main runs the tests of a package, ends the shared PostgreSQL cluster if a
// test started it, and returns the exit code for TestMain to pass to [os.Exit].
// Tests that pass but leave goroutines running count as failed.
func Main(m *testing.M) int {
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
