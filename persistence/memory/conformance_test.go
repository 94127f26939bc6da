package memory_test

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/capability/capabilitytest"
	"github.com/eventsourcing-go/eventsourcing/internal/doctored"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/persistence/persistencetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	persistencetest.Run(t, harness(func(testing.TB) persistence.Factory { return memory.New() }))
}

// The suite asks of a store what package persistence does, and no more.
func TestConformanceWithoutCapabilities(t *testing.T) {
	recorder, err := doctored.NewBareStore().ProcessRecorder("A")
	if err != nil || capability.OfRecorder(recorder) != (capability.Recorder{}) || capability.Of(doctored.NewBareStore()) != (capability.Store{}) {
		t.Fatalf("the store has capabilities, or %v; want none and no error", err)
	}
	persistencetest.Run(t, harness(func(testing.TB) persistence.Factory { return doctored.NewBareStore() }))
}

func harness(open func(testing.TB) persistence.Factory) persistencetest.Harness {
	return persistencetest.Harness{
		New: open,
		Transaction: func(ctx context.Context, f persistence.Factory, fn func(context.Context) error) error {
			return f.(persistence.Transactor).Transaction(ctx, fn)
		},
		Parallel: true,
	}
}

// The rows about a capability pass for a store that lacks it.
func TestCapabilitiesOfTheStore(t *testing.T) {
	store := memory.New()
	capabilitytest.Check(t, capabilitytest.Memory, store, expect.Must(store.ProcessRecorder("A")))
}
