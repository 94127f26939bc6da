package memory_test

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/persistence/persistencetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	persistencetest.Run(t, persistencetest.Harness{
		New: func(testing.TB) persistence.Factory { return memory.New() },
		Transaction: func(ctx context.Context, f persistence.Factory, fn func(context.Context) error) error {
			return f.(persistence.Transactor).Transaction(ctx, fn)
		},
		Parallel: true,
	})
}
