package gormstore_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/inventory"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/faultdb/pgproxy"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// storeRead is one kind of read, with the table that it reads.
type storeRead struct {
	table string
	do    func(ctx context.Context) error
}

// readsOf are all kinds of reads of a database.
func readsOf(t *testing.T, db *gorm.DB) map[string]storeRead {
	t.Helper()
	s := gormstore.New(db, gormstore.WithLockTimeout(shortLockTimeout))
	r, err := s.ProcessRecorder("Dogs")
	if err != nil {
		t.Fatal(err)
	}
	snapshots, err := s.SnapshotRecorder("Dogs")
	if err != nil {
		t.Fatal(err)
	}
	id := uuid.New()
	insert(t, r, history(id, 0, 3)...)
	events := func(from persistence.AggregateRecorder) func(context.Context) error {
		return func(ctx context.Context) error {
			for _, err := range from.SelectEvents(ctx, id, persistence.EventRange{}) {
				if err != nil {
					return err
				}
			}
			return nil
		}
	}
	historyOf := func(ctx context.Context) error {
		_, _, err := r.(capability.HistoryReader).SelectHistory(ctx, id, 0)
		return err
	}
	return map[string]storeRead{
		"history, events":    {"stored_events", historyOf},
		"history, snapshots": {"snapshots", historyOf},
		"events":             {"stored_events", events(r)},
		"snapshots":          {"snapshots", events(snapshots)},
		"notifications": {"stored_events", func(ctx context.Context) error {
			_, err := r.SelectNotifications(ctx, persistence.NotificationRange{Limit: 10})
			return err
		}},
		"head": {"stored_events", func(ctx context.Context) error { _, err := r.MaxNotificationID(ctx); return err }},
		"newest id": {"stored_events", func(ctx context.Context) error {
			_, err := r.NewestNotificationID(ctx)
			return err
		}},
		"position": {"notification_tracking", func(ctx context.Context) error { _, err := r.MaxTrackingID(ctx, "Up"); return err }},
		"settings": {"follower_settings", func(ctx context.Context) error {
			_, _, err := r.(capability.SettingsRecorder).Settings(ctx, "Up")
			return err
		}},
		"hold": {"stored_events", func(ctx context.Context) error {
			_, err := r.(capability.LogHoldReader).LogHold(ctx, 0)
			return err
		}},
		"statuses": {"follower_status", func(ctx context.Context) error { _, err := capability.Of(s).Statuses.FollowerStatuses(ctx); return err }},
		"parked events": {"parked_events", func(ctx context.Context) error {
			_, err := r.(capability.ParkingRecorder).ParkedEvents(ctx, "Up")
			return err
		}},
		"parked originators": {"parked_events", func(ctx context.Context) error {
			_, err := r.(capability.ParkingRecorder).ParkedOriginators(ctx, "Up", []uuid.UUID{id})
			return err
		}},
		"positions":    {"notification_tracking", func(ctx context.Context) error { _, err := inventory.Of(s).TrackingStates(ctx); return err }},
		"applications": {"stored_events", func(ctx context.Context) error { _, err := inventory.Of(s).ApplicationNames(ctx); return err }},
	}
}

// tables are the tables of reads.
func tablesOf(reads map[string]storeRead) string {
	names := map[string]bool{}
	for _, read := range reads {
		names[read.table] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(names)), ", ")
}

// A read waits no longer than the lock timeout for a table that another session
// has locked, and says who has locked it, also if all connections of the pool
// wait. Afterwards all is as before.
func TestReadBoundsWaitForTable(t *testing.T) {
	t.Parallel()
	for name, connections := range map[string]int{"unlimited": 0, "few": 3, "one": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := migrated(t, testdb.OpenPostgres(t))
			limit(t, db, connections)
			if connections == 0 {
				gormstore.LookLong(db)
			}
			reads := readsOf(t, db)
			for _, read := range reads { // once before, as what is known of the database is kept
				if err := read.do(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			release := lockedTable(t, db, tablesOf(reads), "ACCESS EXCLUSIVE")
			var wg sync.WaitGroup
			for what, read := range reads {
				watch := measure(t)
				wait := func() {
					err := read.do(t.Context())
					if !errors.Is(err, persistence.ErrLockTimeout) || errors.Is(err, persistence.ErrOutcomeUnknown) {
						t.Errorf("%s: %v; want a lock timeout", what, err)
					}
					if took := watch.took(); connections == 0 && took > longestWait {
						t.Errorf("%s: the wait took %v; the lock timeout is %v", what, took, shortLockTimeout)
					}
					if connections == 0 {
						wantHolder(t, err)
					}
				}
				if connections == 1 {
					wait()
				} else {
					wg.Go(wait)
				}
			}
			wg.Wait()
			release()
			for what, read := range reads {
				if err := read.do(t.Context()); err != nil {
					t.Errorf("%s, later: %v", what, err)
				}
			}
			wantIdle(t, db)
		})
	}
}

// In the caller's transaction the wait is bounded as well. The error says that
// the transaction has come to nothing, and it does not commit.
func TestReadInTransactionBoundsWaitForTable(t *testing.T) {
	t.Parallel()
	type body = func(ctx context.Context, tx *gorm.DB) error
	for name, run := range map[string]func(ctx context.Context, db *gorm.DB, fn body) error{
		"Transaction": gormstore.Transaction,
		"WithTx": func(ctx context.Context, db *gorm.DB, fn body) error {
			return db.Transaction(func(tx *gorm.DB) error { return fn(gormstore.WithTx(ctx, tx), tx) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := migrated(t, testdb.OpenPostgres(t))
			gormstore.LookLong(db)
			reads := readsOf(t, db)
			if err := db.Exec("CREATE TABLE own (id integer)").Error; err != nil {
				t.Fatal(err)
			}
			locked := tablesOf(reads)
			for what, read := range reads {
				release := lockedTable(t, db, locked, "ACCESS EXCLUSIVE")
				err := run(t.Context(), db, func(ctx context.Context, tx *gorm.DB) error {
					if err := tx.Exec("INSERT INTO own VALUES (1)").Error; err != nil {
						return err
					}
					watch := measure(t)
					err := read.do(ctx)
					wantTimelyLockTimeout(t, watch, err)
					wantHolder(t, err)
					if err == nil || !strings.Contains(err.Error(), "nothing of the transaction is stored") {
						t.Errorf("%s: %v; want what became of the transaction", what, err)
					}
					return nil
				})
				if err == nil {
					t.Errorf("%s: the transaction was committed", what)
				}
				release()
			}
			if n := count(t, db, "own"); n != 0 {
				t.Errorf("%d rows are stored; want none", n)
			}
			wantIdle(t, db)
		})
	}
}

// deadlineContext has a deadline, and ends, as if it had passed, when end is
// called.
type deadlineContext struct {
	context.Context
	deadline time.Time
	done     chan struct{}
}

func newDeadline(ctx context.Context, in time.Duration) *deadlineContext {
	return &deadlineContext{ctx, time.Now().Add(in), make(chan struct{})}
}

func (c *deadlineContext) end() { close(c.done) }

func (c *deadlineContext) Deadline() (time.Time, bool) { return c.deadline, true }

func (c *deadlineContext) Done() <-chan struct{} { return c.done }

func (c *deadlineContext) Err() error {
	select {
	case <-c.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// A deadline before the lock timeout ends the read, and the error says both:
// before it the watch has looked who holds the lock.
func TestReadEndsWithCallersDeadline(t *testing.T) {
	t.Parallel()
	db := migrated(t, testdb.OpenPostgres(t))
	gormstore.LookLong(db)
	r := recorder(t, db, "Dogs") // whose lock timeout is long
	insert(t, r, history(uuid.New(), 0, 1)...)
	lockedTable(t, db, "stored_events", "ACCESS EXCLUSIVE")
	pool := poolOf(t, db)
	pool.SetMaxIdleConns(-1) // each look has a connection to itself
	before := pool.Stats().MaxIdleClosed
	ctx := newDeadline(t.Context(), time.Second)
	done := make(chan error, 1)
	go func() {
		_, err := r.SelectNotifications(ctx, persistence.NotificationRange{Limit: 10})
		done <- err
	}()
	// With the second look it is certain that the first one is remembered.
	expect.Until(t, "the watch has looked twice", func() bool { return len(done) > 0 || pool.Stats().MaxIdleClosed >= before+2 })
	ctx.end()
	err := <-done
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, persistence.ErrLockTimeout) {
		t.Errorf("got %v; want the deadline and a lock timeout", err)
	}
	wantHolder(t, err)
}

// A read that takes longer than the lock timeout and waits for no table goes on,
// although other reads wait.
func TestSlowReadIsNotCanceled(t *testing.T) {
	t.Parallel()
	db := migrated(t, testdb.OpenPostgres(t))
	r := recorder(t, db, "Dogs", gormstore.WithLockTimeout(shortLockTimeout))
	id := uuid.New()
	insert(t, r, history(id, 0, 3)...)
	for _, statement := range []string{
		"CREATE FUNCTION slow(t text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(2); RETURN t; END $$",
		"ALTER TABLE stored_events RENAME TO kept_events",
		"CREATE VIEW stored_events AS SELECT id, application_name, originator_id, originator_version, slow(topic) AS topic, state FROM kept_events",
	} {
		if err := db.Exec(statement).Error; err != nil {
			t.Fatal(err)
		}
	}
	other := recorder(t, again(t, db), "Dogs", gormstore.WithLockTimeout(shortLockTimeout))
	read := func(r persistence.AggregateRecorder) (n int, err error) {
		for _, err := range r.SelectEvents(t.Context(), id, persistence.EventRange{}) {
			if err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	}
	locks, migrator := again(t, db), again(t, db) // before the read, as connecting may take long
	slow := make(chan error, 1)
	go func() {
		n, err := read(r)
		if n != 3 && err == nil {
			t.Errorf("%d events were read; want 3", n)
		}
		slow <- err
	}()
	granted := func(mode string, granted bool) func() bool {
		return func() bool {
			var n int
			err := locks.Raw("SELECT count(*) FROM pg_locks WHERE mode = ? AND relation = 'kept_events'::regclass AND granted = ?",
				mode, granted).Scan(&n).Error
			return err == nil && n > 0
		}
	}
	if !expect.Eventually(granted("AccessShareLock", true)) {
		t.Fatal("the read does not run")
	}
	migration := make(chan error, 1)
	go func() { migration <- migrator.Exec("ALTER TABLE kept_events ADD note text").Error }()
	if !expect.Eventually(granted("AccessExclusiveLock", false)) {
		t.Fatal("the migration does not wait")
	}
	if _, err := read(other); !errors.Is(err, persistence.ErrLockTimeout) {
		t.Errorf("the read that waits: %v; want a lock timeout", err)
	}
	if err := errors.Join(<-slow, <-migration); err != nil {
		t.Error(err)
	}
}

// A save that conflicts finds out what is in the way. If another session locks
// the table before it has, the save waits no longer than the lock timeout.
func TestConflictBoundsWaitForTable(t *testing.T) {
	t.Parallel()
	for name, events := range map[string]int{"one": 1, "two": 2, "large": 3000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			truth := migrated(t, testdb.OpenPostgres(t))
			proxy := pgproxy.New(t, dsn(t, truth))
			db := testdb.Open(t, postgres.Open(proxy.DSN()))
			gormstore.LookLong(db)
			r := recorder(t, db, "Dogs", gormstore.WithLockTimeout(shortLockTimeout))
			id := uuid.New()
			insert(t, r, history(id, 0, 2)...)
			var lock sync.Once
			proxy.Use(func(statement string) pgproxy.Action {
				if strings.HasPrefix(statement, "SELECT id, originator_id") {
					lock.Do(func() { lockedTable(t, truth, "stored_events", "ACCESS EXCLUSIVE") })
				}
				return pgproxy.Forward
			})
			_, err := r.InsertEvents(t.Context(), history(id, 0, events))
			if !errors.Is(err, persistence.ErrLockTimeout) || errors.Is(err, persistence.ErrOutcomeUnknown) {
				t.Errorf("got %v; want a lock timeout", err)
			}
			wantHolder(t, err)
			wantIdle(t, db)
		})
	}
}

// A read whose connection is lost, and which gets no other one, is an error.
func TestReadThatGetsNoOtherConnection(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.OpenPostgres(t))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := gormstore.ReadAfterLoss(t.Context(), ended, gormstore.New(db)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the end of the context", err)
	}
}
