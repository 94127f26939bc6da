package system_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
	"github.com/eventsourcing-go/eventsourcing/telemetry"
)

// The status of a divided follower has its partitions, with the processes that
// own them, and its position is the lowest of theirs. That of another follower
// has none.
func TestStatusHasPartitions(t *testing.T) {
	t.Parallel()
	test := func(t *testing.T, a, b divided) {
		whole := statuses(t, a.runner)[0]
		if whole.Partitions != nil {
			t.Errorf("before it was divided: %+v, want no partitions", whole.Partitions)
		}
		a.start(t)
		b.start(t)
		expect.Until(t, "both have two partitions", func() bool { return len(a.owners(t)) == 2 && a.owners(t)[statuses(t, a.runner)[0].Process] == 2 })
		a.save(t, 10, 1)
		a.waitFor(t)
		b.waitFor(t)
		first, second := statuses(t, a.runner)[0], statuses(t, b.runner)[0]
		end := head(t, a.dogs.Application)
		if first.Process == second.Process || first.Position != end || second.Position != end {
			t.Errorf("the statuses are %+v and %+v, want both at %d", first, second, end)
		}
		for _, p := range first.Partitions.Partitions {
			if p.Owner != first.Process && p.Owner != second.Process || !p.Leased || p.Position != end {
				t.Errorf("partition %d is %+v, want it leased by a runner, at position %d", p.Number, p, end)
			}
		}
		expect.NoError(t, a.runner.Close(), b.runner.Close())
		for _, p := range statuses(t, b.runner)[0].Partitions.Partitions {
			if p.Leased || p.Owner != "" || time.Since(p.Until) > patience {
				t.Errorf("after the end of all processes partition %d is %+v, want at most %v", p.Number, p, patience)
			}
		}
	}
	ignoring := func(context.Context, domain.Event) error { return nil }
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		test(t, newDivided(t, gormstore.New(db), ignoring, system.Partitions(4)), newDivided(t, gormstore.New(db), ignoring, system.Partitions(4)))
	})
	t.Run("memory", func(t *testing.T) {
		store := memory.New()
		test(t, newDivided(t, store, ignoring, system.Partitions(4)), newDivided(t, store, ignoring, system.Partitions(4)))
	})
}

// A partition that no process takes makes its follower unhealthy, and one that
// a process has taken does not.
func TestPartitionWithoutOwnerIsUnhealthy(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		d := newDivided(t, gormstore.New(db), func(context.Context, domain.Event) error { return nil }, system.Partitions(4))
		d.save(t, 3, 1)
		_, err := d.runner.CatchUp(t.Context(), d.follower, nil)
		expect.NoError(t, err)
		d.save(t, 3, 1)
		status := statuses(t, d.runner)[0]
		if healthy, reason := status.Health(time.Now(), 0); !healthy {
			t.Errorf("just after the partitions were given back: %s, want healthy", reason)
		}
		if healthy, reason := status.Health(time.Now().Add(2*time.Minute), 0); healthy {
			t.Errorf("two minutes later: %s, want unhealthy", reason)
		}
		d.start(t)
		expect.Until(t, "it is healthy in future as well", func() bool {
			healthy, _ := statuses(t, d.runner)[0].Health(time.Now().Add(2*time.Minute), 0)
			return healthy
		})
	})
}

// A wait for a divided follower ends when the partitions of all processes are
// there, whichever process waits.
func TestPartitionsWait(t *testing.T) {
	t.Parallel()
	db := migrated(t, testdb.OpenPostgres(t)) // of SQLite one process at a time is in a handler
	process := func(handle func(context.Context, domain.Event) error) divided {
		return newDivided(t, gormstore.New(db), handle, system.Partitions(8))
	}
	begun, goOn := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	defer release()
	ignoring := func(context.Context, domain.Event) error { return nil }
	a, outside := process(ignoring).start(t), process(ignoring)
	var once sync.Once
	b := process(func(context.Context, domain.Event) error {
		once.Do(func() { close(begun) })
		<-goOn
		return nil
	}).start(t)
	expect.Until(t, "both have four partitions", func() bool { return a.owners(t)[statuses(t, b.runner)[0].Process] == 4 })
	a.save(t, 40, 0)
	<-begun
	end := head(t, a.dogs.Application)
	waits := map[string]func(ctx context.Context) error{
		"WaitFor":                  func(ctx context.Context) error { return a.runner.WaitFor(ctx, a.follower) },
		"WaitForPosition":          func(ctx context.Context) error { return a.follower.WaitForPosition(ctx, a.dogs, end) },
		"WaitForPosition, outside": func(ctx context.Context) error { return outside.follower.WaitForPosition(ctx, outside.dogs, end) },
	}
	expect.Until(t, "the first process has processed its partitions", func() bool {
		processed := 0
		for _, p := range a.partitions(t).Partitions {
			if p.Position == end {
				processed++
			}
		}
		return processed >= 4
	})
	for name, wait := range waits {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if err := wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s while another process is at an event: %v, want an error that is %v", name, err, context.DeadlineExceeded)
		}
		cancel()
	}
	release()
	for name, wait := range waits {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if err := wait(ctx); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
}

// An observer sees the lag of a partition that fails, although batches of the
// others are at the end of the log, until it has recovered.
func TestObserverSeesTheLagOfAPartitionThatFails(t *testing.T) {
	t.Parallel()
	store, bad, mended := memory.New(), uuid.New(), atomic.Bool{}
	var lag, processed, hidden atomic.Int64
	observer := &telemetry.Observer{BatchDone: func(_ context.Context, b telemetry.Batch) {
		lag.Store(b.Lag())
		processed.Add(int64(b.Processed))
		if b.Processed > 0 && b.Lag() == 0 && !mended.Load() {
			hidden.Add(1)
		}
	}}
	dogs, err := school.New(application.WithStore(store))
	expect.NoError(t, err)
	app, err := application.New(dividedName, application.WithStore(store), application.WithObserver(observer))
	expect.NoError(t, err)
	follower, err := system.NewFollower(app, system.Partitions(8), system.OnEvery(func(_ context.Context, event domain.Event) error {
		if event.OriginatorID == bad && !mended.Load() {
			return errBadEvent
		}
		return nil
	}))
	expect.NoError(t, err)
	sys, err := system.New(system.Pipe(dogs, follower))
	expect.NoError(t, err)
	runner, err := system.NewRunner(sys, dividedConfig)
	d := divided{dogs, follower, closing(t, runner, err), sys}
	_, err = dogs.Save(t.Context(), school.Dogs.Create(bad, school.Registered{Name: "Rex"}))
	expect.NoError(t, err)
	d.save(t, 20, 1)
	d.start(t)
	expect.Until(t, "seven partitions are at the end", func() bool {
		done := 0
		for _, p := range d.partitions(t).Partitions {
			if p.Position == head(t, dogs.Application) {
				done++
			}
		}
		return done == 7
	})
	for range 10 {
		seen, dog := processed.Load(), school.RegisterDog(uuid.NewString())
		for id := dog.ID(); system.PartitionOf(id[:], 8) == system.PartitionOf(bad[:], 8); id = dog.ID() {
			dog = school.RegisterDog(uuid.NewString())
		}
		_, err := dogs.Save(t.Context(), dog)
		expect.NoError(t, err)
		expect.Until(t, "another partition has processed it", func() bool { return processed.Load() > seen })
	}
	if n := hidden.Load(); n > 0 {
		t.Errorf("%d batches have no lag, although a partition is behind, want 0", n)
	}
	mended.Store(true)
	expect.Until(t, "all is processed, and there is no lag", func() bool { return d.atHead(t) && lag.Load() == 0 })
}
