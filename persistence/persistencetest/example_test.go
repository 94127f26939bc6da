package persistencetest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/persistence/persistencetest"
)

// A store's own test runs the suite. Here the store is the one in memory, which
// ends with its factory and has no transactions.
func ExampleRun() {
	harness := persistencetest.Harness{
		New:      func(t testing.TB) persistence.Factory { return memory.New() },
		Parallel: true,
	}

	// func TestConformance(t *testing.T) { ... }
	_ = func(t *testing.T) { persistencetest.Run(t, harness) }

	fmt.Println(harness.Features())
	// Output: []
}

// The explanations are the contract; a store can print them in its
// documentation.
func ExampleRows() {
	harness := persistencetest.Harness{
		New: func(t testing.TB) persistence.Factory { return memory.New() },
	}
	for _, row := range persistencetest.Rows(harness) {
		if strings.HasPrefix(row.Name, "lifecycle/closing") {
			fmt.Printf("- %s: %s\n", row.Name, row.Explanation)
		}
	}
	// Output:
	// - lifecycle/closing twice succeeds: Closing a factory that is closed does nothing, and is no error.
	// - lifecycle/closing at once by many succeeds: A factory may be closed by several goroutines at once.
}
