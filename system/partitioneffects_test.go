package system_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// The calls of effects are made by the process that has the partition, and each
// result is recorded once.
func TestPartitionsWithEffects(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
		store := gormstore.New(db)
		// A lease that ends while the machine is busy would have another process
		// make the calls again.
		config := dividedConfig
		config.PartitionLease = capability.LongestLease
		var mu sync.Mutex // protects calls
		calls := map[int64]int{}
		make := func(process string) divided {
			dogs, err := school.New(application.WithStore(store))
			expect.NoError(t, err)
			app, err := application.New(dividedName, application.WithStore(store))
			expect.NoError(t, err)
			write := writeEffect(process)
			follower, err := system.NewFollower(app, system.Partitions(8), system.Effect(
				func(_ context.Context, event domain.Recorded[school.Registered]) (string, error) {
					mu.Lock()
					defer mu.Unlock()
					calls[event.NotificationID]++
					return event.Data.Name, nil
				},
				func(ctx context.Context, event domain.Recorded[school.Registered], _ string) error {
					return write(ctx, event.Event)
				}))
			expect.NoError(t, err)
			sys, err := system.New(system.Pipe(dogs, follower))
			expect.NoError(t, err)
			runner, err := system.NewRunner(sys, config)
			expect.NoError(t, err)
			return divided{dogs, follower, closing(t, runner, nil), sys}.start(t)
		}
		a, b := make("a"), make("b")
		a.save(t, 60, 0)
		a.waitFor(t)
		b.waitFor(t)
		checkEffects(t, db, 60)
		mu.Lock()
		defer mu.Unlock()
		for id, n := range calls {
			if n != 1 {
				t.Errorf("the call of event %d was made %d times although no process ended, want 1", id, n)
			}
		}
	})
}

// losingStore is the store of a process whose first batch does not commit: it
// learns that it may have lost a lease.
type losingStore struct {
	*gormstore.Store
	lost atomic.Bool
}

func (s *losingStore) ProcessRecorder(application string) (persistence.ProcessRecorder, error) {
	recorder, err := s.Store.ProcessRecorder(application)
	if err != nil {
		return nil, err
	}
	return losingRecorder{recorder.(partitionedRecorder), s}, nil
}

type losingRecorder struct {
	partitionedRecorder
	store *losingStore
}

func (r losingRecorder) MovePartitions(
	ctx context.Context, upstream, process string, leases []capability.PartitionLease, to int64,
) error {
	if !r.store.lost.Swap(true) {
		return capability.ErrLeaseLost
	}
	return r.partitionedRecorder.MovePartitions(ctx, upstream, process, leases, to)
}

// A process that has made calls and not recorded their results keeps their
// partitions when another process asks for them: that one would make the calls
// again.
func TestPartitionsOfUnrecordedCallsAreKept(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
		var calls atomic.Int64
		asked := make(chan struct{})
		config := dividedConfig
		config.PartitionLease = 20 * time.Second // none ends
		process := func(name string, store persistence.Factory) divided {
			write := writeEffect(name)
			return newDividedWith(t, config, store, nil, system.Partitions(2), system.Effect(
				func(ctx context.Context, event domain.Recorded[school.Registered]) (string, error) {
					calls.Add(1)
					select {
					case <-asked:
					case <-ctx.Done():
					}
					return event.Data.Name, ctx.Err()
				},
				func(ctx context.Context, event domain.Recorded[school.Registered], _ string) error {
					return write(ctx, event.Event)
				}))
		}
		a := process("a", &losingStore{Store: gormstore.New(db)})
		a.save(t, 30, 0)
		a.start(t)
		expect.Until(t, "the first process makes calls", func() bool { return calls.Load() > 0 })
		b := process("b", gormstore.New(db)).start(t)
		expect.Until(t, "the second process has asked for a partition", func() bool {
			return slices.ContainsFunc(a.partitions(t).Partitions, func(p persistence.Partition) bool { return p.Successor != "" })
		})
		close(asked)
		a.waitFor(t)
		b.waitFor(t)
		checkEffects(t, db, 30)
		if n := calls.Load(); n != 30 {
			t.Errorf("%d calls were made for 30 events, want 30", n)
		}
		expect.Until(t, "each process has a partition", func() bool { return len(a.owners(t)) == 2 })
	})
}
