package system_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/doctored"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// contended is a system whose follower counts tricks. While its handler has an
// aggregate, another writer saves the same aggregate, or tries to.
type contended struct {
	*system.Runner
	counters *counters
	// meet waits until the writer has saved, or cannot.
	meet func(save func() (saved <-chan error)) error

	calls  int // of the handler
	saves  int // of the other writer
	writer sync.WaitGroup
}

// newContended has 4 tricks to count, after an event of another kind.
func newContended(t *testing.T, store persistence.Factory) *contended {
	t.Helper()
	r, err := newConcurrent(newSystem(t, counting()), application.WithStore(store))
	closing(t, r, err)
	c := &contended{Runner: r, counters: get[*counters](t, r, countersName)}
	save(t, c.counters.Application, countersOf.Create(counterID("sit"), Counted{}))
	register(t, get[*school.TrainingSchool](t, r, schoolName), 4, "Fido")
	update := func() error {
		return c.counters.repository.Update(t.Context(), counterID("sit"), func(counter *Counter) error {
			domain.Trigger(counter, Counted{})
			return nil
		})
	}
	c.counters.become(func(ctx context.Context, event domain.Event, processing *collector) error {
		c.calls++
		if _, ok := event.Data.(school.TrickAdded); !ok {
			return nil
		}
		counter, err := c.counters.repository.Get(ctx, counterID("sit"))
		if err != nil {
			return err
		}
		save := func() <-chan error {
			saved := make(chan error, 1)
			c.saves++
			c.writer.Go(func() {
				err := update()
				if err != nil {
					t.Error(err)
				}
				saved <- err
			})
			return saved
		}
		if err := c.meet(save); err != nil {
			return err
		}
		domain.Trigger(counter, Counted{})
		processing.Collect(counter)
		return nil
	})
	return c
}

// wantCounted expects that every trick was counted once, and every save kept.
func (c *contended) wantCounted(t *testing.T) {
	t.Helper()
	c.writer.Wait()
	if got, want := c.counters.counted(t, "sit"), 1+4+c.saves; got != want {
		t.Errorf("counted %d, want %d", got, want)
	}
}

// savedOrWaiting waits until the writer has saved or waits for the lock of the
// log.
func savedOrWaiting(db *gorm.DB, saved <-chan error) error { return savedOr(db, 1, saved) }

// savedOr waits until the writer has saved or so many writers wait for the lock
// of a log.
func savedOr(db *gorm.DB, wait int, saved <-chan error) error {
	var err error
	found := expect.Eventually(func() bool {
		waiting := 0
		err = db.Raw("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = " +
			"(SELECT oid FROM pg_database WHERE datname = current_database())").Scan(&waiting).Error
		return err != nil || waiting >= wait || len(saved) > 0
	})
	if !found {
		return fmt.Errorf("no writer has saved, and fewer than %d wait", wait)
	}
	return err
}

// After a conflict the follower locks its log before it reads, so that the
// batch is processed at the second attempt, however many others write. A
// conflict is no failure.
func TestContention(t *testing.T) {
	t.Parallel()
	db := migrated(t, testdb.OpenPostgres(t))
	c := newContended(t, gormstore.New(db))
	c.meet = func(save func() <-chan error) error { return savedOrWaiting(db, save()) }
	start(t, c)
	waitForHeads(t, c)
	if want := 2 + 5; c.calls != want { // the first attempt ends at the first trick
		t.Errorf("the policy was called %d times, want %d", c.calls, want)
	}
	c.wantCounted(t)
}

// A process manager changes aggregates of other applications than its own. After
// a conflict it locks their logs, and not the one that it does not save to.
func TestContentionInOtherApplications(t *testing.T) {
	t.Parallel()
	db := migrated(t, testdb.OpenPostgres(t))
	var logged syncBuffer
	store := application.WithStore(gormstore.New(db))
	dogs, err := school.New(store)
	expect.NoError(t, err)
	app, err := application.New("Manager", store, application.WithLogger(slog.New(slog.NewTextHandler(&logged, nil))))
	expect.NoError(t, err)
	var tallies []*application.Repository[Counter]
	for _, name := range []string{"Tallies", "Accounts"} {
		tally, err := application.New(name, store)
		expect.NoError(t, err)
		repository, err := application.NewRepository(tally, countersOf)
		expect.NoError(t, err, repository.Save(t.Context(), countersOf.Create(counterID("sit"), Counted{})))
		tallies = append(tallies, repository)
	}
	calls := 0
	writes := map[*application.Repository[Counter]]int{}
	var writer sync.WaitGroup
	follower, err := system.NewFollower(app, system.On(func(ctx context.Context, _ domain.Recorded[school.TrickAdded]) error {
		calls++
		for i, repository := range tallies {
			counter, err := repository.Get(ctx, counterID("sit"))
			if err != nil {
				return err
			}
			saved := make(chan error, 1)
			writes[repository]++
			writer.Go(func() {
				saved <- repository.Update(t.Context(), counterID("sit"), func(c *Counter) error { domain.Trigger(c, Counted{}); return nil })
			})
			if err := savedOr(db, i+1, saved); err != nil {
				return err
			}
			domain.Trigger(counter, Counted{})
			if err := repository.Save(ctx, counter); err != nil {
				return err
			}
		}
		return nil
	}))
	expect.NoError(t, err)
	sys, err := system.New(system.Pipe(dogs, follower))
	expect.NoError(t, err)
	r, err := system.NewRunner(sys, system.Config{})
	closing(t, r, err)
	register(t, dogs, 4, "Fido")
	expect.NoError(t, r.Start(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	expect.NoError(t, r.WaitFor(ctx, follower))
	writer.Wait()
	// A conflict in one application, and then in the other.
	if want := 1 + 1 + 4; calls != want {
		t.Errorf("the handler was called %d times, want %d", calls, want)
	}
	for i, repository := range tallies {
		counter, err := repository.Get(t.Context(), counterID("sit"))
		expect.NoError(t, err)
		if want := 1 + 4 + writes[repository]; counter.N != want {
			t.Errorf("application %d has counted %d, want %d", i, counter.N, want)
		}
	}
	if strings.Contains(logged.String(), "level=WARN") {
		t.Errorf("got the log %s, want no failure", &logged)
	}
}

// A batch and another writer that wait for each other are a conflict as well,
// whether they wait for aggregates or for other rows. The batch that PostgreSQL
// ends for it is repeated at once.
func TestDeadlockWithAWriterIsNoFailure(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"aggregate", "own row"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			testDeadlockWithAWriter(t, what == "own row")
		})
	}
}

func testDeadlockWithAWriter(t *testing.T, own bool) {
	db := migrated(t, testdb.OpenPostgres(t))
	expect.NoError(t, db.Exec("CREATE TABLE rolls (id bigint PRIMARY KEY, counted bigint)").Error,
		db.Exec("INSERT INTO rolls VALUES (1, 1)").Error)
	var logged syncBuffer
	r, err := newConcurrent(newSystem(t, counting()), application.WithStore(gormstore.New(db)),
		application.WithLogger(slog.New(slog.NewTextHandler(&logged, nil))))
	closing(t, r, err)
	c := get[*counters](t, r, countersName)
	save(t, c.Application, countersOf.Create(counterID("sit"), Counted{}), countersOf.Create(counterID("roll"), Counted{}))
	register(t, get[*school.TrainingSchool](t, r, schoolName), 0, "Fido")
	count := func(ctx context.Context, name string) error {
		return c.repository.Update(ctx, counterID(name), func(counter *Counter) error {
			domain.Trigger(counter, Counted{})
			return nil
		})
	}
	roll := func(ctx context.Context) error {
		if !own {
			return count(ctx, "roll")
		}
		tx, err := gormstore.Tx(ctx)
		if err != nil {
			return err
		}
		return tx.Exec("UPDATE rolls SET counted = counted + 1").Error
	}
	written := make(chan error, 1)
	write := func() {
		written <- gormstore.Transaction(t.Context(), db, func(ctx context.Context, tx *gorm.DB) error {
			// The batch looks for a deadlock first, and is ended.
			return errors.Join(tx.Exec("SET LOCAL deadlock_timeout = '1min'").Error, roll(ctx), count(ctx, "sit"))
		})
	}
	calls := 0
	c.become(func(ctx context.Context, event domain.Event, _ *collector) error {
		calls++
		if err := count(ctx, "sit"); err != nil {
			return err
		}
		if calls == 1 {
			go write()
			if !expect.Eventually(func() bool { return isWaiting(db) }) {
				return errors.New("the writer does not wait for the handler")
			}
		}
		return roll(ctx)
	})
	start(t, r)
	waitForHeads(t, r)
	expect.NoError(t, <-written)
	rolled := c.counted(t, "roll")
	if own {
		expect.NoError(t, db.Raw("SELECT counted FROM rolls").Scan(&rolled).Error)
	}
	if sat := c.counted(t, "sit"); calls != 2 || sat != 1+2 || rolled != 1+2 {
		t.Errorf("after %d calls counted %d and %d, want 2 calls, 3 and 3", calls, sat, rolled)
	}
	if strings.Contains(logged.String(), "level=WARN") {
		t.Errorf("got the log %s, want no failure", &logged)
	}
}

// isWaiting reports whether a session of the database waits for a lock.
func isWaiting(db *gorm.DB) bool {
	waiting := 0
	err := db.Raw("SELECT count(*) FROM pg_stat_activity " +
		"WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(&waiting).Error
	return err == nil && waiting > 0
}

// unlockable is a store that cannot lock a log.
type unlockable struct{ *gormstore.Store }

func (s unlockable) ProcessRecorder(application string) (persistence.ProcessRecorder, error) {
	recorder, err := s.Store.ProcessRecorder(application)
	return struct{ persistence.ProcessRecorder }{recorder}, err
}

// Without the lock a writer that always comes between keeps the follower from
// processing anything. The attempts are bounded.
func TestContentionWithoutLock(t *testing.T) {
	t.Parallel()
	db := migrated(t, testdb.OpenPostgres(t))
	c := newContended(t, unlockable{gormstore.New(db)})
	c.meet = func(save func() <-chan error) error { return savedOrWaiting(db, save()) }
	_, err := c.CatchUp(t.Context(), called(countersName), nil)
	if !persistence.IsConflict(err) {
		t.Errorf("got %v, want a conflict", err)
	}
	if got := len(ids(t, c.counters.Application)); got != 1+c.saves {
		t.Errorf("the log has %d events, want those of the other writer, %d", got, 1+c.saves)
	}
	c.saves -= 4 // no trick was counted
	c.wantCounted(t)
}

// slowToLock is a store in memory whose saves wait first, as for other writers.
// It says that it has more than one writer.
type slowToLock struct {
	*memory.Store
	capability.Provider
	wait time.Duration
}

func newSlowToLock(wait time.Duration) slowToLock {
	s := slowToLock{Store: memory.New(), wait: wait}
	s.Provider = doctored.Capabilities(s.Store, func(c *capability.Store) { c.Yielder = nil })
	return s
}

func (s slowToLock) ProcessRecorder(application string) (persistence.ProcessRecorder, error) {
	recorder, err := s.Store.ProcessRecorder(application)
	return slowRecorder{recorder.(memoryRecorder), s.wait}, err
}

type slowRecorder struct {
	memoryRecorder
	wait time.Duration
}

func (r slowRecorder) InsertEvents(ctx context.Context, events []persistence.StoredEvent) ([]int64, error) {
	time.Sleep(r.wait)
	return r.memoryRecorder.InsertEvents(ctx, events)
}

// The time of a batch begins when it may write, not when it begins to wait.
func TestBatchTimeBeginsAfterTheWait(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		wait time.Duration
		want []int
	}{
		// The first event saves nothing. The save of the second one is not
		// counted.
		"no wait":     {0, []int{5}},
		"a wait":      {15 * time.Millisecond, []int{4, 1}},
		"a long wait": {time.Second, []int{3, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var c commits
				r, err := newSingle(newSystem(t, counting()),
					application.WithStore(newSlowToLock(test.wait)))
				closing(t, r, err)
				counters := get[*counters](t, r, countersName)
				counters.become(func(ctx context.Context, event domain.Event, processing *collector) error {
					if err := c.policy(ctx, event, processing); err != nil {
						return err
					}
					return counters.count(ctx, event, processing)
				})
				register(t, get[*school.TrainingSchool](t, r, schoolName), 4, "Fido")
				start(t, r)
				if got := c.sizes(); !slices.Equal(got, test.want) {
					t.Errorf("got batches of %v, want %v", got, test.want)
				}
			})
		})
	}
}
