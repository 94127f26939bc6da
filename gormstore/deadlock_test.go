package gormstore_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// beside opens another handle on a database of PostgreSQL, whose sessions look
// for deadlocks after the given time. It counts those that they are the victims
// of.
func beside(t testing.TB, db *gorm.DB, deadlockTimeout string) (*gorm.DB, *deadlocks) {
	t.Helper()
	counter := &deadlocks{Interface: logger.Discard}
	address := withParameter(t, dsn(t, db), "deadlock_timeout", deadlockTimeout)
	return openWith(t, postgres.Open(address), &gorm.Config{Logger: counter}), counter
}

// deadlocks is a logger that counts the statements that failed with a deadlock.
type deadlocks struct {
	logger.Interface
	count atomic.Int32
}

func (d *deadlocks) LogMode(logger.LogLevel) logger.Interface { return d }

func (d *deadlocks) Trace(_ context.Context, _ time.Time, _ func() (string, int64), err error) {
	if failed, ok := errors.AsType[*pgconn.PgError](err); ok && failed.Code == "40P01" {
		d.count.Add(1)
	}
}

// sortedIDs makes ids of originators in ascending order.
func sortedIDs(n int) []uuid.UUID {
	ids := make([]uuid.UUID, n)
	for i := range ids {
		ids[i] = uuid.New()
	}
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return strings.Compare(a.String(), b.String()) })
	return ids
}

// Of two transactions that save the same aggregates in opposite order, one is
// rolled back with an error that says to repeat it. It succeeds then.
func TestDeadlockOfTransactions(t *testing.T) {
	t.Parallel()
	for name, join := range joins {
		for way, more := range map[string]int{"one aggregate at a time": 0, "several at a time": 1} {
			t.Run(name+", "+way, func(t *testing.T) {
				t.Parallel()
				truth := created(t, testdb.OpenPostgres(t))
				ids := sortedIDs(2)
				var met sync.WaitGroup // both have saved their first aggregate
				met.Add(2)
				work := func(db *gorm.DB, r persistence.ProcessRecorder, first, second uuid.UUID, version int64, meet func()) error {
					return join(t.Context(), db, func(ctx context.Context, _ *gorm.DB) error {
						if _, err := r.InsertEvents(ctx, history(first, version, 1)); err != nil {
							return err
						}
						meet()
						events := history(second, version, 1)
						for range more {
							events = append(events, history(uuid.New(), 1, 1)...)
						}
						_, err := r.InsertEvents(ctx, events)
						return err
					})
				}
				failed := make([]error, 2)
				var both sync.WaitGroup
				for i := range failed {
					both.Go(func() {
						db, _ := beside(t, truth, "100ms")
						failed[i] = work(db, recorder(t, db, schoolName), ids[i], ids[1-i], 1, func() { met.Done(); met.Wait() })
					})
				}
				both.Wait()
				err := errors.Join(failed...)
				if (failed[0] == nil) == (failed[1] == nil) {
					t.Fatalf("want one victim, got %v", failed)
				}
				if !errors.Is(err, persistence.ErrRetryTransaction) || !persistence.IsRetryable(err) || persistence.IsConflict(err) {
					t.Errorf("got %v, want an ErrRetryTransaction that is no conflict", err)
				}
				if err := work(truth, recorder(t, truth, schoolName), ids[0], ids[1], 2, func() {}); err != nil {
					t.Errorf("the transaction repeated: %v", err)
				}
				for _, id := range ids {
					wantVersions(t, recorder(t, truth, schoolName), id, 1, 2)
				}
			})
		}
	}
}

// pauses has each transaction on a database wait for a lock before it stores a
// second row with the topic "paused".
const pauses = `CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	IF NEW.topic = 'paused' THEN
		IF current_setting('test.row', true) = 'second' THEN PERFORM pg_advisory_xact_lock_shared(4711); END IF;
		PERFORM set_config('test.row', 'second', true);
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER pause BEFORE INSERT ON stored_events FOR EACH ROW EXECUTE FUNCTION pause()`

// paused makes an event that pauses causes to wait.
func paused(id uuid.UUID, version int64) []persistence.StoredEvent {
	events := history(id, version, 1)
	events[0].Topic = "paused"
	return events
}

// pause holds the lock that pauses waits for until the function that it returns
// is called.
func pause(t testing.TB, db *gorm.DB) (end func()) {
	t.Helper()
	tx := db.Begin()
	if err := tx.Exec("SELECT pg_advisory_xact_lock(4711)").Error; err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	end = func() { once.Do(func() { tx.Rollback() }) }
	t.Cleanup(end)
	return end
}

// wantWaiting waits until so many sessions wait for a lock.
func wantWaiting(t testing.TB, db *gorm.DB, sessions int) {
	t.Helper()
	if !expect.Eventually(func() bool { return sessionsWaiting(t, db) == sessions }) {
		t.Errorf("there are not %d sessions that wait for a lock", sessions)
	}
}

// Batches of two processes that save the same aggregates do not deadlock, in
// whatever order the saves came.
func TestBatchesOfTwoProcessesDoNotDeadlock(t *testing.T) {
	t.Parallel()
	truth := created(t, testdb.OpenPostgres(t))
	run(t, truth, pauses)
	ids := sortedIDs(2)
	b := block(t, truth, nil)
	var leaders, waiting []*asked
	var counters []*deadlocks
	for _, order := range [][]uuid.UUID{{ids[0], ids[1]}, {ids[1], ids[0]}} {
		db, counter := beside(t, truth, "100ms")
		w := &watched{db: db, other: truth}
		r := recorder(t, db, schoolName)
		leaders = append(leaders, w.plug(t))
		waiting = append(waiting, w.queue(t, saving(t.Context(), r, paused(order[0], 1)), saving(t.Context(), r, paused(order[1], 1)))...)
		counters = append(counters, counter)
	}
	end := pause(t, truth)
	b.end(t)
	wantWaiting(t, truth, 2)
	end()
	stored := 0
	for _, a := range append(leaders, waiting...) {
		switch got := a.get(t); {
		case got.err == nil:
			stored++
		case !persistence.IsConflict(got.err):
			t.Errorf("a save: %v, want nil or a conflict", got.err)
		}
	}
	if stored != len(leaders)+2 {
		t.Errorf("%d saves were stored, want %d", stored, len(leaders)+2)
	}
	if first, second := counters[0].count.Load(), counters[1].count.Load(); first+second != 0 {
		t.Errorf("%d deadlocks, want none", first+second)
	}
}

// A batch that is the victim of a deadlock with a transaction is written again:
// each of its saves is stored, or meets the conflict that it is.
func TestDeadlockOfABatch(t *testing.T) {
	t.Parallel()
	for name, batch := range map[string]func(ids []uuid.UUID) [][]persistence.StoredEvent{
		"several saves": func(ids []uuid.UUID) [][]persistence.StoredEvent {
			return [][]persistence.StoredEvent{paused(ids[0], 1), paused(ids[1], 1), history(ids[2], 1, 1)}
		},
		"one save": func(ids []uuid.UUID) [][]persistence.StoredEvent {
			return [][]persistence.StoredEvent{append(paused(ids[0], 1), paused(ids[1], 1)...)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			truth := created(t, testdb.OpenPostgres(t))
			run(t, truth, pauses)
			ids := sortedIDs(3)
			db, counter := beside(t, truth, "100ms")
			patient, _ := beside(t, truth, "1h") // never finds a deadlock
			other := recorder(t, patient, schoolName)
			r := recorder(t, db, schoolName)
			w := &watched{db: db, other: truth}
			b := block(t, truth, nil)
			leader := w.plug(t)
			var waiting []*asked
			for _, events := range batch(ids) {
				waiting = append(waiting, w.queue(t, saving(t.Context(), r, events))...)
			}
			end := pause(t, truth)
			b.end(t)
			wantWaiting(t, truth, 1)
			transaction(t, patient, func(ctx context.Context, _ *gorm.DB) error {
				if _, err := other.InsertEvents(ctx, history(ids[1], 1, 1)); err != nil {
					return err
				}
				go func() {
					defer end()
					wantWaiting(t, truth, 2)
				}()
				_, err := other.InsertEvents(ctx, history(ids[0], 1, 1))
				return err
			})
			if got := leader.get(t); got.err != nil {
				t.Error(got.err)
			}
			for i, a := range waiting {
				if got := a.get(t); i < 2 && !persistence.IsConflict(got.err) || i == 2 && got.err != nil {
					t.Errorf("save %d: %v, want conflicts of the first two and no other error", i+1, got.err)
				}
			}
			// A busy machine may find it again when the batch is repeated.
			if counter.count.Load() < 1 {
				t.Errorf("the batch was the victim of %d deadlocks, want at least one: the test proves nothing", counter.count.Load())
			}
		})
	}
}

// afterLock is a logger that calls next once, after the first statement that
// takes an advisory lock.
type afterLock struct {
	logger.Interface
	once sync.Once
	next func()
}

func (l *afterLock) LogMode(logger.LogLevel) logger.Interface { return l }

func (l *afterLock) Trace(ctx context.Context, begin time.Time, statement func() (string, int64), err error) {
	l.Interface.Trace(ctx, begin, statement, err)
	if text, _ := statement(); strings.Contains(text, "pg_advisory_xact_lock") {
		l.once.Do(l.next)
	}
}

// What takes order locks and then writes takes the lock of the table first, as a
// save does whose statement is planned. So it does not deadlock with one that
// comes between two of its statements, nor with a log that is locked for the
// Python library, which locks the table.
func TestOrderLockComesAfterTheTable(t *testing.T) {
	t.Parallel()
	lock := func(ctx context.Context, db *gorm.DB, r persistence.ProcessRecorder) error {
		return gormstore.Transaction(ctx, db, func(ctx context.Context, _ *gorm.DB) error {
			if err := r.(capability.LogLocker).LockLog(ctx); err != nil {
				return err
			}
			return last(r.InsertEvents(ctx, history(uuid.New(), 1, 1)))
		})
	}
	save := func(n int) func(ctx context.Context, _ *gorm.DB, r persistence.ProcessRecorder) error {
		return func(ctx context.Context, _ *gorm.DB, r persistence.ProcessRecorder) error {
			return last(r.InsertEvents(ctx, history(uuid.New(), 1, n)))
		}
	}
	remove := func(ctx context.Context, _ *gorm.DB, r persistence.ProcessRecorder) error {
		_, err := r.(capability.OriginatorDeleter).DeleteOriginator(ctx, uuid.New())
		return err
	}
	type operation struct {
		python bool
		run    func(ctx context.Context, db *gorm.DB, r persistence.ProcessRecorder) error
	}
	for name, first := range map[string]operation{
		"the log of the Python layout": {true, lock}, "the log": {false, lock},
		"many events": {true, save(6_000)}, "a deletion": {false, remove},
	} {
		for beside, second := range map[string]operation{"a save": {true, save(1)}, "the log of the Python layout": {true, lock}} {
			t.Run(name+", "+beside, func(t *testing.T) {
				t.Parallel()
				truth := created(t, testdb.OpenPostgres(t))
				run := func(l logger.Interface, o operation) error {
					address := withParameter(t, dsn(t, truth), "deadlock_timeout", "100ms")
					db := openWith(t, postgres.Open(address), &gorm.Config{Logger: l})
					r := recorder(t, db, schoolName)
					if o.python {
						r = expect.Must(capability.Of(gormstore.New(db)).Python.PythonProcessRecorder(schoolName))
					}
					return o.run(t.Context(), db, r)
				}
				var found deadlocks
				found.Interface = logger.Discard
				ended := make(chan error, 1)
				between := &afterLock{Interface: &found, next: func() {
					go func() { ended <- run(&found, second) }()
					wantWaiting(t, truth, 1)
				}}
				if err := errors.Join(run(between, first), <-ended); err != nil {
					t.Error(err)
				}
				if n := found.count.Load(); n > 0 {
					t.Errorf("%d deadlocks, want none", n)
				}
			})
		}
	}
}
