package natsstore_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/eventsourcing-go/eventsourcing/internal/capability/capabilitytest"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/natsstore"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/persistencetest"
)

// single is a config for one server.
var single = natsstore.Config{Replicas: 1, CreateStreams: true,
	Waive: []natsstore.Waiver{natsstore.SingleReplica, natsstore.PeriodicSync}}

// TestConformance runs the suite on one server.
func TestConformance(t *testing.T) {
	t.Parallel()
	persistencetest.Run(t, harness(t, startAlone(t), single, nil))
}

// withoutTransactions are the rows that a store on NATS does not pass, although
// followers have transactions in it: events have no ids before a commit, a
// transaction is of one application, and has no snapshots.
var withoutTransactions = []string{
	"transaction/what was committed is stored",
	"transaction/what was rolled back is not stored",
	"transaction/after a rollback everything can be stored again",
	"transaction/a transaction sees its own writes",
	"transaction/a conflict does not spoil the transaction",
	"transaction/a refused position does not spoil the transaction",
	"transaction/a transaction spans applications",
	"transaction/inserts are the same inside a transaction",
	"transaction/events can be inserted inside a loop in a transaction",
	"transaction/ids are visible in order although a transaction is open",
	"history/of transactions",
}

// TestConformanceOfTransactions runs the other rows about transactions on one
// server.
func TestConformanceOfTransactions(t *testing.T) {
	t.Parallel()
	conn := startAlone(t)
	only := func(r persistencetest.Row) bool {
		return slices.Contains(r.Needs, persistencetest.Transaction) && !slices.Contains(withoutTransactions, r.Name)
	}
	h := harness(t, conn, single, only)
	h.Transaction = func(ctx context.Context, f persistence.Factory, fn func(ctx context.Context) error) error {
		return f.(*natsstore.Store).Transaction(ctx, fn)
	}
	persistencetest.Run(t, h)
}

// harness says how the suite uses a server: each row has a namespace.
func harness(t testing.TB, conn *nats.Conn, config natsstore.Config, only func(persistencetest.Row) bool) persistencetest.Harness {
	var rows atomic.Int64
	var configs sync.Map // of natsstore.Config by persistence.Factory
	open := func(t testing.TB, config natsstore.Config) persistence.Factory {
		store, err := natsstore.New(conn, config)
		if err != nil {
			t.Fatal(err)
		}
		configs.Store(store, config)
		return store
	}
	return persistencetest.Harness{
		New: func(t testing.TB) persistence.Factory {
			own := config
			own.Namespace = fmt.Sprintf("row%d", rows.Add(1))
			return open(t, own)
		},
		Reopen: func(t testing.TB, f persistence.Factory) persistence.Factory {
			config, _ := configs.Load(f)
			return open(t, config.(natsstore.Config))
		},
		Concurrent: true,
		Parallel:   true,
		Only:       only,
	}
}

// The rows about a capability pass for a store that lacks it.
func TestCapabilitiesOfTheStore(t *testing.T) {
	t.Parallel()
	store := newStore(t, startAlone(t), single)
	capabilitytest.Check(t, capabilitytest.Natsstore, store, expect.Must(store.ProcessRecorder("A")))
}
