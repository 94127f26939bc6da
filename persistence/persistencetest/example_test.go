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
		if strings.HasPrefix(row.Name, "snapshots/snapshots") {
			fmt.Printf("| %s | %s |\n", row.Name, row.Explanation)
		}
	}
	// Output:
	// | snapshots/snapshots have no ids | A recorder of snapshots returns nil for the ids of what it stores. |
	// | snapshots/snapshots and events are separate | A snapshot and an event may have the same originator and version; neither is in the other's way, nor found among the others. |
	// | snapshots/snapshots are not in the log | Storing a snapshot adds nothing to the log of the application, and does not change its highest id. |
	// | snapshots/snapshots may have any distance | Between the versions of an originator's snapshots there may be any gaps. |
}
