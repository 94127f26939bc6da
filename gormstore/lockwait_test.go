package gormstore_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

const (
	shortLockTimeout = 500 * time.Millisecond
	// longestWait is far above what a wait of shortLockTimeout takes, and below
	// the ten seconds that a commit may take, or a wait by default.
	longestWait = 9 * time.Second
)

// lockedTable locks a table as Django's migrations and CREATE INDEX do, until
// the test ends or release is called.
func lockedTable(t *testing.T, db *gorm.DB, table, mode string) (release func()) {
	t.Helper()
	tx := again(t, db).Begin()
	if err := tx.Exec("SET LOCAL application_name = 'migration'").Error; err != nil {
		t.Fatal(err)
	}
	if err := tx.Exec("LOCK TABLE " + table + " IN " + mode + " MODE").Error; err != nil {
		t.Fatal(err)
	}
	release = sync.OnceFunc(func() { tx.Rollback() })
	t.Cleanup(release)
	return release
}

// wantTimelyLockTimeout checks an error that says that nothing is stored, and
// when it came.
func wantTimelyLockTimeout(t *testing.T, wait *stopwatch, err error) {
	t.Helper()
	if took := wait.took(); took > longestWait {
		t.Errorf("the wait took %v; the lock timeout is %v, want at most %v", took, shortLockTimeout, longestWait)
	}
	if !errors.Is(err, persistence.ErrLockTimeout) || errors.Is(err, persistence.ErrOutcomeUnknown) || errors.Is(err, context.Canceled) {
		t.Errorf("got %v; want a lock timeout, and not that the caller has canceled", err)
	}
}

// A save waits for a table that another session has locked as long as for the
// order lock, and knows then that nothing is stored, and who holds the lock.
func TestSaveBoundsWaitForTable(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"SHARE", "EXCLUSIVE"} { // as CREATE INDEX and as Django do
		for name, saves := range map[string]int{"one": 1, "parallel": 20} {
			t.Run(mode+"-"+name, func(t *testing.T) {
				t.Parallel()
				db := created(t, testdb.OpenPostgres(t))
				gormstore.LookLong(db)
				r := recorder(t, db, "Dogs", gormstore.WithLockTimeout(shortLockTimeout))
				release := lockedTable(t, db, "stored_events", mode)
				wait := measure(t)
				var wg sync.WaitGroup
				for i := range saves {
					wg.Go(func() {
						_, err := r.InsertEvents(t.Context(), history(uuid.New(), 0, i%3+1))
						wantTimelyLockTimeout(t, wait, err)
						wantHolder(t, err)
					})
				}
				wg.Wait()
				if stored := wholeLog(t, r); len(stored) != 0 {
					t.Errorf("%d events are stored after lock timeouts, want 0", len(stored))
				}
				release()
				insert(t, r, history(uuid.New(), 0, 1)...)
				wantIdle(t, db)
			})
		}
	}
}

// In a transaction of the caller's the wait is bounded as well. PostgreSQL
// gives the transaction up then, so that nothing of it is stored, whatever the
// caller does.
func TestSaveInTransactionBoundsWaitForTable(t *testing.T) {
	t.Parallel()
	type body = func(ctx context.Context, tx *gorm.DB) error
	for name, run := range map[string]func(ctx context.Context, db *gorm.DB, fn body) error{
		"Transaction": gormstore.Transaction,
		"WithTx": func(ctx context.Context, db *gorm.DB, fn body) error {
			return db.Transaction(func(tx *gorm.DB) error { return fn(gormstore.WithTx(ctx, tx), tx) })
		},
		"WithTx, prepared": func(ctx context.Context, db *gorm.DB, fn body) error {
			return db.Session(&gorm.Session{PrepareStmt: true}).Transaction(func(tx *gorm.DB) error { return fn(gormstore.WithTx(ctx, tx), tx) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := created(t, testdb.OpenPostgres(t))
			gormstore.LookLong(db)
			r := recorder(t, db, "Dogs", gormstore.WithLockTimeout(shortLockTimeout))
			release := lockedTable(t, db, "stored_events", "EXCLUSIVE")
			err := run(t.Context(), db, func(ctx context.Context, tx *gorm.DB) error {
				wait := measure(t)
				_, err := r.InsertEvents(ctx, history(uuid.New(), 0, 1))
				wantTimelyLockTimeout(t, wait, err)
				wantHolder(t, err)
				release()
				if _, err := r.InsertEvents(ctx, history(uuid.New(), 0, 2)); err == nil {
					t.Error("the transaction goes on after a lock timeout")
				}
				return nil
			})
			if err == nil {
				t.Error("the transaction was committed after a lock timeout")
			}
			if stored := wholeLog(t, r); len(stored) != 0 {
				t.Errorf("%d events are stored; want none", len(stored))
			}
			wantIdle(t, db)
		})
	}
}

// A save in a transaction of the caller's leaves its lock_timeout as it was,
// also if it conflicts.
func TestSaveInTransactionKeepsLockTimeout(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.OpenPostgres(t))
	r := recorder(t, db, "Dogs")
	dog := uuid.New()
	transaction(t, db, func(ctx context.Context, tx *gorm.DB) error {
		if err := tx.Exec("SET LOCAL lock_timeout = '7s'").Error; err != nil {
			return err
		}
		for name, save := range map[string]func() error{
			"one event":      func() error { _, err := r.InsertEvents(ctx, history(uuid.New(), 0, 1)); return err },
			"several events": func() error { _, err := r.InsertEvents(ctx, history(uuid.New(), 0, 3)); return err },
			"several streams": func() error {
				_, err := r.InsertEvents(ctx, append(history(uuid.New(), 0, 1), history(uuid.New(), 0, 1)...))
				return err
			},
			"a conflict": func() error {
				_, err := r.InsertEvents(ctx, history(dog, 5, 1))
				if !persistence.IsConflict(err) {
					return fmt.Errorf("got %w; want a conflict", err)
				}
				return nil
			},
		} {
			if err := save(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			var setting string
			if err := tx.Raw("SHOW lock_timeout").Scan(&setting).Error; err != nil || setting != "7s" {
				t.Errorf("%s: lock_timeout is %q, %v; want that of the transaction", name, setting, err)
			}
		}
		return nil
	})
}

// Every write bounds its wait for a table, also those that take no order lock.
func TestWritesBoundWaitForTable(t *testing.T) {
	t.Parallel()
	up := persistence.Tracking{ApplicationName: "Up", NotificationID: 1}
	type write struct {
		table string
		do    func(ctx context.Context, s *gormstore.Store, r persistence.ProcessRecorder) error
	}
	for name, w := range map[string]write{
		"processed events": {"stored_events", func(ctx context.Context, _ *gormstore.Store, r persistence.ProcessRecorder) error {
			_, err := r.InsertProcessed(ctx, history(uuid.New(), 0, 1), up)
			return err
		}},
		"events in several statements": {"stored_events", func(ctx context.Context, _ *gormstore.Store, r persistence.ProcessRecorder) error {
			_, err := r.InsertEvents(ctx, history(uuid.New(), 1, 6_000))
			return err
		}},
		"the deletion of an originator": {"stored_events", func(ctx context.Context, _ *gormstore.Store, r persistence.ProcessRecorder) error {
			_, err := r.(capability.OriginatorDeleter).DeleteOriginator(ctx, uuid.New())
			return err
		}},
		"leases of partitions": {"follower_partitions", func(ctx context.Context, _ *gormstore.Store, r persistence.ProcessRecorder) error {
			_, err := r.(capability.PartitionRecorder).RenewLeases(ctx, "Up", "p:1:1", []int{0}, time.Minute)
			return err
		}},
		"position": {"notification_tracking", func(ctx context.Context, _ *gormstore.Store, r persistence.ProcessRecorder) error {
			return r.InsertTracking(ctx, up)
		}},
		"snapshot": {"snapshots", func(ctx context.Context, s *gormstore.Store, _ persistence.ProcessRecorder) error {
			r, err := s.SnapshotRecorder("Dogs")
			if err == nil {
				_, err = r.InsertEvents(ctx, history(uuid.New(), 0, 1))
			}
			return err
		}},
		"status": {"follower_status", func(ctx context.Context, s *gormstore.Store, _ persistence.ProcessRecorder) error {
			return capability.Of(s).Statuses.RecordStatus(ctx, capability.FollowerStatus{ApplicationName: "Dogs", UpstreamApplicationName: "Up", State: "running"})
		}},
		"settings": {"follower_settings", func(ctx context.Context, _ *gormstore.Store, r persistence.ProcessRecorder) error {
			return r.(capability.SettingsRecorder).WriteSettings(ctx, "Up", capability.FollowerSettings{})
		}},
		"runner": {"follower_runners", func(ctx context.Context, s *gormstore.Store, _ persistence.ProcessRecorder) error {
			return capability.Of(s).Statuses.RecordStatus(ctx, capability.FollowerStatus{ApplicationName: "Dogs", UpstreamApplicationName: "Up", State: "running"})
		}},
		"parked event": {"parked_events", func(ctx context.Context, _ *gormstore.Store, r persistence.ProcessRecorder) error {
			return r.(capability.ParkingRecorder).ParkEvent(ctx, persistence.ParkedEvent{
				ApplicationName: "Dogs", UpstreamApplicationName: "Up", NotificationID: 1, Topic: "T"})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := created(t, testdb.OpenPostgres(t))
			gormstore.LookLong(db)
			s := gormstore.New(db, gormstore.WithLockTimeout(shortLockTimeout))
			r, err := s.ProcessRecorder("Dogs")
			if err != nil {
				t.Fatal(err)
			}
			lockedTable(t, db, w.table, "EXCLUSIVE")
			inTransaction := func() error {
				return gormstore.Transaction(t.Context(), db, func(ctx context.Context, _ *gorm.DB) error { return w.do(ctx, s, r) })
			}
			for _, write := range []func() error{func() error { return w.do(t.Context(), s, r) }, inTransaction} {
				wait := measure(t)
				err := write()
				wantTimelyLockTimeout(t, wait, err)
				wantHolder(t, err)
			}
		})
	}
}

// A write to SQLite that waits for a connection and then for the lock of the
// file waits for the lock timeout in all, also if the driver would wait longer
// by itself. So does one that waits for another save of its process.
func TestWriteToSQLiteWaitsOnce(t *testing.T) {
	t.Parallel()
	const limit = 2 * time.Second
	for name, write := range map[string]func(r persistence.ProcessRecorder) error{
		"event": func(r persistence.ProcessRecorder) error {
			return last(r.InsertEvents(t.Context(), history(uuid.New(), 0, 1)))
		},
		"events": func(r persistence.ProcessRecorder) error {
			return last(r.InsertEvents(t.Context(), history(uuid.New(), 0, 3)))
		},
		"position": func(r persistence.ProcessRecorder) error {
			return r.InsertTracking(t.Context(), persistence.Tracking{ApplicationName: "Up", NotificationID: 1})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "test.db")
			db, err := gormstore.OpenSQLite(sqlite.Open, path) // whose driver waits for ten seconds
			if err != nil {
				t.Fatal(err)
			}
			pool, err := migrated(t, db).DB()
			if err != nil {
				t.Fatal(err)
			}
			defer pool.Close()
			r := recorder(t, db, "Dogs", gormstore.WithLockTimeout(limit))
			insert(t, recorder(t, db, "Dogs", unhurried), history(uuid.New(), 0, 1)...)
			other := testdb.Open(t, sqlite.Open(testdb.SQLiteDSN(path))).Begin()
			defer other.Rollback()
			used, err := pool.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			watch := measure(t)
			results := make(chan error, 2)
			for range 2 {
				go func() { results <- write(r) }()
			}
			time.Sleep(limit * 3 / 4) // of the lock timeout
			used.Close()
			for range 2 {
				err := <-results
				if took := watch.took(); !errors.Is(err, persistence.ErrLockTimeout) || took > limit*3/2 {
					t.Errorf("got %v after %v, want a lock timeout after %v", err, took, limit)
				}
			}
			other.Rollback()
			if err := write(recorder(t, db, "Dogs", unhurried)); err != nil {
				t.Error(err)
			}
			var busy int
			if err := db.Raw("PRAGMA busy_timeout").Scan(&busy).Error; err != nil || busy != 10_000 {
				t.Errorf("the connection's own wait is %d ms, %v; want it unchanged", busy, err)
			}
		})
	}
}

// A deadline of the caller's that ends the wait for the order lock is in the
// error, and the caller gets it although the batch waits longer for others. So
// does the caller who leads, and it leaves.
func TestSaveEndsWithCallersDeadline(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.OpenPostgres(t))
	r := recorder(t, db, "Dogs", unhurried) // so that a wait for the table does not end
	transaction(t, again(t, db), func(_ context.Context, tx *gorm.DB) error {
		if err := tx.Exec("LOCK TABLE stored_events IN EXCLUSIVE MODE").Error; err != nil {
			return err
		}
		patient := make(chan error, 1)
		ctx, stop := context.WithCancel(t.Context())
		go func() { _, err := r.InsertEvents(ctx, history(uuid.New(), 0, 1)); patient <- err }()
		if !expect.Eventually(func() bool { _, led := gormstore.WaitingSaves(db); return led }) {
			t.Fatal("no save leads")
		}
		short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := r.InsertEvents(short, history(uuid.New(), 0, 1))
		if !errors.Is(err, context.DeadlineExceeded) || len(patient) > 0 {
			t.Errorf("%v; want the deadline, before the batch has ended", err)
		}
		stop()
		err = <-patient
		if !errors.Is(err, context.Canceled) || !errors.Is(err, persistence.ErrOutcomeUnknown) {
			t.Errorf("after its context was canceled: %v; want an unknown outcome", err)
		}
		return nil
	})
}

// After SQLite has rolled a transaction back by itself, a save in it fails: it
// would otherwise commit alone.
func TestSaveInTransactionRolledBackBySQLite(t *testing.T) {
	t.Parallel()
	db := migrated(t, testdb.SQLiteFile(t))
	r := recorder(t, db, "Dogs")
	if err := db.Exec("CREATE TABLE own (id integer primary key)").Error; err != nil {
		t.Fatal(err)
	}
	failure := errors.New("give up")
	writes := map[string]func(context.Context) error{
		"save": func(ctx context.Context) error {
			_, err := r.InsertEvents(ctx, history(uuid.New(), 0, 1))
			return err
		},
		"position": func(ctx context.Context) error {
			return r.InsertTracking(ctx, persistence.Tracking{ApplicationName: "Up", NotificationID: 1})
		},
		"nested": func(ctx context.Context) error {
			return gormstore.Transaction(ctx, db, func(ctx context.Context, _ *gorm.DB) error {
				_, err := r.InsertEvents(ctx, history(uuid.New(), 0, 1))
				return err
			})
		},
	}
	for name, write := range writes {
		err := db.Transaction(func(tx *gorm.DB) error {
			for range 2 {
				tx.Exec("INSERT OR ROLLBACK INTO own VALUES (1)")
			}
			ctx := gormstore.WithTx(t.Context(), tx)
			if err := write(ctx); !errors.Is(err, persistence.ErrOperational) {
				t.Errorf("%s: %v; want an ErrOperational", name, err)
			}
			return failure
		})
		if !errors.Is(err, failure) {
			t.Errorf("%s: %v, want an error that is %v", name, err, failure)
		}
	}
	if stored := wholeLog(t, r); len(stored) != 0 {
		t.Errorf("%d events are stored by transactions that were rolled back, want 0", len(stored))
	}
}

// A save whose connection became read-only, or was ended by the server while it
// was idle, is written on another connection.
func TestSaveReplacesDeadConnection(t *testing.T) {
	t.Parallel()
	for name, kill := range map[string]func(db, other *gorm.DB) error{
		"read-only": func(db, _ *gorm.DB) error {
			return db.Exec("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY").Error
		},
		"terminated": func(db, other *gorm.DB) error {
			var pid int
			if err := db.Raw("SELECT pg_backend_pid()").Scan(&pid).Error; err != nil {
				return err
			}
			return other.Exec("SELECT pg_terminate_backend(?, 10000)", pid).Error
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := created(t, testdb.OpenPostgres(t))
			limit(t, db, 1)
			r, other := recorder(t, db, "Dogs"), again(t, db)
			insert(t, r, history(uuid.New(), 0, 1)...)
			for n := range 3 {
				if err := kill(db, other); err != nil {
					t.Fatal(err)
				}
				insert(t, r, history(uuid.New(), 0, n+1)...)
			}
			if stored := wholeLog(t, r); len(stored) != 7 {
				t.Errorf("%d events are stored, want 7", len(stored))
			}
		})
	}
}

// Snapshots and deletions wait for a locked table no longer than saves do.
func TestOtherWritesBoundWaitForTable(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.OpenPostgres(t))
	gormstore.LookLong(db)
	store := gormstore.New(db, gormstore.WithLockTimeout(shortLockTimeout))
	made, err := store.SnapshotRecorder("Dogs")
	if err != nil {
		t.Fatal(err)
	}
	snapshots := made.(capability.SnapshotRecorder)
	r := recorder(t, db, "Dogs", gormstore.WithLockTimeout(shortLockTimeout))
	dog := uuid.New()
	insert(t, r, history(dog, 1, 1)...)
	old := history(dog, 1, 1)[0]
	if err := snapshots.InsertSnapshot(t.Context(), old, 2); err != nil {
		t.Fatal(err)
	}
	next := history(dog, 2, 1)[0]
	changed := history(dog, 1, 1)[0]
	writes := map[string]func() error{
		"snapshot, keep 2":   func() error { return snapshots.InsertSnapshot(t.Context(), next, 2) },
		"snapshot, keep all": func() error { return snapshots.InsertSnapshot(t.Context(), next, 0) },
		"replacement":        func() error { _, err := snapshots.ReplaceSnapshot(t.Context(), old, changed); return err },
		"deletion": func() error {
			_, err := r.(capability.OriginatorDeleter).DeleteOriginator(t.Context(), dog)
			return err
		},
	}
	release := lockedTable(t, db, "snapshots", "EXCLUSIVE")
	for name, write := range writes {
		t.Log(name)
		wantTimelyLockTimeout(t, measure(t), write())
	}
	release()
	if err := writes["replacement"](); err != nil {
		t.Error(err)
	}
	// This locks out readers as well.
	release = lockedTable(t, db, "notification_tracking", "ACCESS EXCLUSIVE")
	wantTimelyLockTimeout(t, measure(t), writes["deletion"]())
	release()
}
