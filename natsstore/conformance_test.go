package natsstore_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/eventsourcing-go/eventsourcing/natsstore"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/persistencetest"
)

// single is a config for one server.
var single = natsstore.Config{Replicas: 1, CreateStreams: true,
	Waive: []natsstore.Waiver{natsstore.SingleReplica, natsstore.PeriodicSync}}

// TestConformance runs the suite on one server in this process.
func TestConformance(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t).ClientURL())
	persistencetest.Run(t, harness(t, conn, single, nil))
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
