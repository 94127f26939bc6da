package persistencetest

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Harness tells the suite how to use a store, and what the store is able to do.
type Harness struct {
	// New makes a factory over a new, empty store. It is called once for each
	// row. The suite closes the factory; New releases whatever else it opened
	// with t.Cleanup. It must be given.
	New func(t testing.TB) persistence.Factory

	// Reopen makes a second factory over the store of f, as another process
	// would. Unless Concurrent is set, f was closed before. Leave it nil if a
	// store ends with its factory.
	Reopen func(t testing.TB, f persistence.Factory) persistence.Factory

	// Concurrent says that the factory that Reopen makes may be used beside the
	// first one.
	Concurrent bool

	// Transaction runs fn with a context that carries a transaction of the
	// store of f. It commits if fn returns nil, and otherwise rolls back and
	// returns the error. Leave it nil if the store has no transactions for its
	// users.
	Transaction func(ctx context.Context, f persistence.Factory, fn func(ctx context.Context) error) error

	// Parallel says that rows may run at the same time, each with its own
	// store.
	Parallel bool

	// Only reports whether a row runs. It is for stores that are slow to make
	// and whose whole suite runs elsewhere, such as in a nightly run. If it is
	// nil, all rows run.
	Only func(r Row) bool
}

// Feature is an ability that a store may lack.
type Feature string

// The abilities, named after the fields of Harness that declare them.
const (
	Reopen      Feature = "Reopen"
	Concurrent  Feature = "Concurrent"
	Transaction Feature = "Transaction"
)

// Features returns the abilities that the harness declares.
func (h Harness) Features() []Feature {
	var features []Feature
	if h.Reopen != nil {
		features = append(features, Reopen)
	}
	if h.Reopen != nil && h.Concurrent {
		features = append(features, Concurrent)
	}
	if h.Transaction != nil {
		features = append(features, Transaction)
	}
	return features
}

// Row is one test of the suite.
type Row struct {
	// Name is the group and the name, with a slash between them.
	Name string
	// Explanation is the sentence of the contract that the row tests.
	Explanation string
	// Needs are the abilities without which the row is left out.
	Needs []Feature
}

// Rows returns the rows that Run runs with the harness, in their order. It
// ignores Harness.Only.
func Rows(h Harness) []Row {
	rows, _ := divide(h)
	return published(rows)
}

// LeftOut returns the rows that Run does not run with the harness, because they
// need what the store is not able to do.
func LeftOut(h Harness) []Row {
	_, rows := divide(h)
	return published(rows)
}

// Run runs the suite on a store, each row as a subtest.
func Run(t *testing.T, h Harness) {
	t.Helper()
	if h.New == nil {
		t.Fatal("persistencetest: Harness.New must be given")
	}
	rows, without := divide(h)
	for _, r := range without {
		t.Logf("left out, needs %s: %s", strings.Join(names(r.needs), " and "), r.fullName())
	}
	for _, group := range groups {
		t.Run(group.name, func(t *testing.T) {
			for _, r := range rows {
				if r.group != group.name || h.Only != nil && !h.Only(r.published()) {
					continue
				}
				t.Run(r.name, func(t *testing.T) {
					if h.Parallel {
						t.Parallel()
					}
					r.exercise(t, h)
				})
			}
		})
	}
}

// group is a table of rows.
type group struct {
	name  string
	rows  []row
	needs []Feature
	// snapshots says that the target of the rows is the recorder of snapshots;
	// otherwise it is that of events.
	snapshots bool
}

var groups = []group{
	{name: "aggregate", rows: aggregateRows},
	{name: "snapshot", rows: aggregateRows, snapshots: true},
	{name: "snapshots", rows: snapshotRows},
	{name: "keeping", rows: keepingRows},
	{name: "loading", rows: loadingRows},
	{name: "deleting", rows: deletingRows},
	{name: "application", rows: applicationRows},
	{name: "continuity", rows: continuityRows},
	{name: "tracking", rows: trackingRows},
	{name: "settings", rows: settingsRows},
	{name: "parking", rows: parkingRows},
	{name: "statuses", rows: statusRows},
	{name: "partitions", rows: partitionRows, needs: []Feature{Transaction}},
	{name: "locks", rows: lockRows, needs: []Feature{Transaction}},
	{name: "process", rows: processRows},
	{name: "badinput", rows: badInputRows},
	{name: "concurrency", rows: concurrencyRows},
	{name: "ordering", rows: orderingRows},
	{name: "transaction", rows: transactionRows, needs: []Feature{Transaction}},
	{name: "lifecycle", rows: lifecycleRows},
	{name: "history", rows: historyRows},
}

// row is a row in its table.
type row struct {
	name  string
	says  string // the explanation
	needs []Feature
	heavy bool // takes much longer than others
	run   func(t testing.TB, s *store)

	group     string
	snapshots bool
}

func (r row) fullName() string { return r.group + "/" + r.name }

// exercise runs the row on a new store, and then looks at everything that the
// store holds.
func (r row) exercise(t testing.TB, h Harness) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the contract: %s", r.says)
		}
	})
	s := newStore(t, h, r.snapshots)
	r.run(t, s)
	s.verify(t)
}

// divide returns all rows, those that can be run with the harness apart from
// those that cannot.
func divide(h Harness) (can, cannot []row) {
	features := h.Features()
	for _, g := range groups {
		for _, r := range g.rows {
			r.group, r.snapshots = g.name, g.snapshots
			r.needs = slices.Concat(g.needs, r.needs)
			if missing(r.needs, features) {
				cannot = append(cannot, r)
			} else {
				can = append(can, r)
			}
		}
	}
	return can, cannot
}

func missing(needs, features []Feature) bool {
	return slices.ContainsFunc(needs, func(f Feature) bool { return !slices.Contains(features, f) })
}

func published(rows []row) []Row {
	all := make([]Row, len(rows))
	for i, r := range rows {
		all[i] = r.published()
	}
	return all
}

func (r row) published() Row { return Row{Name: r.fullName(), Explanation: r.says, Needs: r.needs} }

func names(features []Feature) []string {
	texts := make([]string, len(features))
	for i, f := range features {
		texts[i] = string(f)
	}
	return texts
}
