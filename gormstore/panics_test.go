package gormstore_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// breaking is a logger that breaks off at a statement: it panics, or ends its
// goroutine as t.FailNow does.
type breaking struct {
	logger.Interface
	left  int // the statements up to the one at which it breaks off, if above 0
	leave func()
}

// Trace implements logger.Interface.
func (b *breaking) Trace(context.Context, time.Time, func() (string, int64), error) {
	if b.left--; b.left == 0 {
		b.leave()
	}
}

// brokenOff runs an operation whose logger breaks off at its statement n. It
// returns false if there are fewer statements.
func (b *breaking) brokenOff(t *testing.T, n int, operation func() error) (brokenOff bool) {
	t.Helper()
	b.left = n
	defer func() { b.left = 0 }()
	done := make(chan error, 1)
	errBrokenOff := errors.New("broken off")
	go func() {
		err := errBrokenOff
		defer func() {
			_ = recover()
			done <- err
		}()
		err = operation()
	}()
	select {
	case err := <-done:
		if err != nil && b.left > 0 {
			t.Errorf("without a panic: %v", err)
		}
		return b.left <= 0
	case <-time.After(patience):
		t.Fatalf("it hangs when the logger breaks off at statement %d", n)
		return false
	}
}

// A logger of the service that panics, or ends its goroutine, at whatever
// statement: the call ends, and leaves no connection, lock or turn taken.
func TestLoggerThatBreaksOff(t *testing.T) {
	for name, leave := range map[string]func(){
		"panic":  func() { panic("on purpose") },
		"goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, db *gorm.DB) { testLoggerThatBreaksOff(t, db, leave) })
		})
	}
}

func testLoggerThatBreaksOff(t *testing.T, db *gorm.DB, leave func()) {
	t.Helper()
	breaking := &breaking{Interface: logger.Discard, leave: leave}
	broken := db.Session(&gorm.Session{Logger: breaking})
	r, quiet := recorder(t, broken, schoolName), recorder(t, db, schoolName)
	store, ctx, dog := gormstore.New(broken), t.Context(), uuid.New()
	insert(t, quiet, history(dog, 1, 3)...)
	save := func(ctx context.Context, events []persistence.StoredEvent) error {
		_, err := r.InsertEvents(ctx, events)
		return err
	}
	position := int64(0)
	move := func(ctx context.Context) error {
		position++
		return r.InsertTracking(ctx, persistence.Tracking{ApplicationName: "Leader", NotificationID: position})
	}
	if err := move(ctx); err != nil {
		t.Fatal(err)
	}
	inTransaction := func(do func(ctx context.Context) error) func() error {
		return func() error { return store.Transaction(ctx, do) }
	}
	for name, operation := range map[string]func() error{
		"one event":      func() error { return save(ctx, history(uuid.New(), 1, 1)) },
		"several events": func() error { return save(ctx, history(uuid.New(), 1, 3)) },
		"many events":    func() error { return save(ctx, history(uuid.New(), 1, 2100)) },
		"two originators": func() error {
			return save(ctx, append(history(uuid.New(), 1, 2), history(uuid.New(), 1, 2)...))
		},
		"conflict": func() error {
			if err := save(ctx, history(dog, 2, 1)); !persistence.IsConflict(err) {
				return fmt.Errorf("got %w, want a conflict", err)
			}
			return nil
		},
		"snapshot": func() error {
			_, err := snapshots(t, broken, schoolName).InsertEvents(ctx, history(uuid.New(), 1, 1))
			return err
		},
		"read events": func() error { return readAll(ctx, r, dog) },
		"read the log": func() error {
			_, err := r.SelectNotifications(ctx, persistence.NotificationRange{Limit: 9})
			return err
		},
		"head":          func() error { _, err := r.MaxNotificationID(ctx); return err },
		"newest":        func() error { _, err := r.NewestNotificationID(ctx); return err },
		"read position": func() error { _, err := r.MaxTrackingID(ctx, "Leader"); return err },
		"move position": func() error { return move(ctx) },
		"in a transaction": inTransaction(func(ctx context.Context) error {
			if _, err := r.LockPosition(ctx, "Leader"); err != nil {
				return err
			}
			for n := range 2 {
				if err := save(ctx, history(uuid.New(), 1, n+1)); err != nil {
					return err
				}
			}
			if err := save(ctx, append(history(uuid.New(), 1, 2), history(uuid.New(), 1, 2)...)); err != nil {
				return err
			}
			return errors.Join(readAll(ctx, r, dog), move(ctx))
		}),
		"nested": inTransaction(func(ctx context.Context) error {
			return store.Transaction(ctx, func(ctx context.Context) error { return save(ctx, history(uuid.New(), 1, 1)) })
		}),
	} {
		t.Run(name, func(t *testing.T) {
			n := 1
			for ; breaking.brokenOff(t, n, operation); n++ {
				wantIdle(t, db)
				ctx, cancel := context.WithTimeout(ctx, patience)
				if _, err := quiet.InsertEvents(ctx, history(uuid.New(), 1, 2)); err != nil {
					t.Fatalf("a save after the logger has broken off at statement %d: %v", n, err)
				}
				if err := errors.Join(readAll(ctx, quiet, dog), quiet.InsertTracking(ctx, tracked(&position))); err != nil {
					t.Fatalf("after the logger has broken off at statement %d: %v", n, err)
				}
				cancel()
			}
			if n == 1 {
				t.Error("the logger has seen no statement")
			}
		})
	}
}

func readAll(ctx context.Context, r persistence.AggregateRecorder, id uuid.UUID) (err error) {
	for _, err = range r.SelectEvents(ctx, id, persistence.EventRange{}) {
		if err != nil {
			return err
		}
	}
	return nil
}

// tracked is the next position in the log of a leader.
func tracked(position *int64) persistence.Tracking {
	*position++
	return persistence.Tracking{ApplicationName: "Leader", NotificationID: *position}
}

// A save that bounds SQLite's own wait for the lock of the file sets it back,
// also if the logger breaks off.
func TestWaitOfSQLiteAfterAPanic(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.SQLiteFile(t))
	wait := func() (milliseconds int) {
		t.Helper()
		if err := db.Raw("PRAGMA busy_timeout").Scan(&milliseconds).Error; err != nil {
			t.Fatal(err)
		}
		return milliseconds
	}
	before := wait()
	breaking := &breaking{Interface: logger.Discard, leave: func() { panic("on purpose") }}
	r := recorder(t, db.Session(&gorm.Session{Logger: breaking}), schoolName, gormstore.WithLockTimeout(shortLockTimeout))
	broken := breaking.brokenOff(t, 1, func() error {
		_, err := r.InsertEvents(t.Context(), history(uuid.New(), 1, 1))
		return err
	})
	if after := wait(); !broken || after != before {
		t.Errorf("the logger broke off: %v; SQLite waits %d ms afterwards, want %d ms", broken, after, before)
	}
}

// What looks for the holder of a lock runs in a goroutine of the store's, where
// a logger that panics would end the process.
func TestLoggerOfALookAtAHolder(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.OpenPostgresSchema(t))
	gormstore.LookLong(db)
	breaking := &looking{Interface: logger.Discard}
	r := recorder(t, db.Session(&gorm.Session{Logger: breaking}), schoolName, gormstore.WithLockTimeout(shortLockTimeout))
	insert(t, r, history(uuid.New(), 1, 1)...)
	lockedTable(t, db, "stored_events", "ACCESS EXCLUSIVE")
	wait := measure(t)
	_, err := r.InsertEvents(t.Context(), history(uuid.New(), 1, 1))
	wantTimelyLockTimeout(t, wait, err)
}

// looking is a logger that panics at statements that look for locks.
type looking struct{ logger.Interface }

// Trace implements logger.Interface.
func (looking) Trace(_ context.Context, _ time.Time, call func() (string, int64), _ error) {
	if statement, _ := call(); strings.Contains(statement, "pg_locks") {
		panic("on purpose")
	}
}

// A nested transaction whose end is not known, because the logger panicked at
// it, keeps the transaction around it from committing, also if that recovers.
func TestPanicAtTheEndOfANestedTransaction(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		b := &breaking{Interface: logger.Discard, leave: func() { panic("on purpose") }}
		broken := db.Session(&gorm.Session{Logger: b})
		r := recorder(t, broken, schoolName)
		last := 0
		for n := 1; n < 20 && last == 0; n++ {
			id := uuid.New()
			panicked := false
			err := gormstore.Transaction(t.Context(), broken, func(ctx context.Context, _ *gorm.DB) error {
				defer func() { panicked = recover() != nil }()
				b.left = n
				return gormstore.Transaction(ctx, broken, func(ctx context.Context, _ *gorm.DB) error {
					_, err := r.InsertEvents(ctx, history(id, 1, 1))
					return err
				})
			})
			b.left = 0
			switch {
			case panicked: // the nested transaction is not done
				wantVersions(t, r, id)
			case err != nil:
				t.Errorf("without a panic: %v", err)
			default:
				last = n
			}
		}
		if last < 3 {
			t.Errorf("the logger has seen %d statements, want more", last)
		}
		insert(t, r, history(uuid.New(), 1, 1)...)
		wantIdle(t, db)
	})
}
