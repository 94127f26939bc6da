package gormstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/pythontest"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// A log that a follower has locked keeps out the Python library as well, which
// knows no order lock.
func TestPythonLockLog(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.OpenPostgresSchema(t))
	other := again(t, db)
	r := expect.Must(capability.Of(gormstore.New(db)).Python.PythonProcessRecorder(schoolName))
	libraryLocks := func() error {
		return other.Transaction(func(tx *gorm.DB) error {
			return tx.Exec("LOCK TABLE stored_events IN EXCLUSIVE MODE NOWAIT").Error
		})
	}
	transaction(t, db, func(ctx context.Context, _ *gorm.DB) error {
		if err := r.(capability.LogLocker).LockLog(ctx); err != nil {
			return err
		}
		if libraryLocks() == nil {
			t.Error("the library can write to a log that is locked")
		}
		_, err := r.InsertEvents(ctx, history(uuid.New(), 1, 1))
		return err
	})
	if err := libraryLocks(); err != nil {
		t.Errorf("after the lock: %v", err)
	}
	transaction(t, other, func(ctx context.Context, tx *gorm.DB) error {
		if err := tx.Exec("LOCK TABLE stored_events IN EXCLUSIVE MODE").Error; err != nil {
			return err
		}
		hurried := expect.Must(capability.Of(gormstore.New(db, gormstore.WithLockTimeout(shortLockTimeout))).Python.PythonProcessRecorder(schoolName))
		err := gormstore.Transaction(t.Context(), db, func(ctx context.Context, _ *gorm.DB) error {
			return hurried.(capability.LogLocker).LockLog(ctx)
		})
		if !errors.Is(err, persistence.ErrLockTimeout) {
			t.Errorf("while the library writes: %v, want a lock timeout", err)
		}
		return nil
	})
}

// libraryHolds makes the library begin a transaction that writes an event and
// passes a notification. The function that it returns commits the transaction.
func libraryHolds(t *testing.T, library *pythontest.Library, name string, notification int64) (commit func()) {
	t.Helper()
	stop := filepath.Join(t.TempDir(), "stop")
	ended := make(chan error, 1)
	go func() {
		_, err := library.Run(t.Context(), "hold", name, strconv.FormatInt(notification, 10), stop)
		ended <- err
	}()
	exists := func(path string) bool { _, err := os.Stat(path); return err == nil }
	if !expect.Eventually(func() bool { return exists(stop+".held") || len(ended) > 0 }) || len(ended) > 0 {
		t.Fatalf("the library does not hold its transaction: %v", <-ended)
	}
	commit = sync.OnceFunc(func() {
		if err := errors.Join(os.WriteFile(stop, nil, 0o600), <-ended); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(commit)
	return commit
}

// What waits for the library waits for one lock timeout, in a transaction of the
// caller's or not, and stores nothing. Afterwards the library's transaction
// counts, and the position that it has moved is known.
func TestPythonWritesBoundTheirWaits(t *testing.T) {
	t.Parallel()
	f := pythonFixtures[4]
	db := f.open(t)
	gormstore.LookLong(db)
	store := gormstore.New(db, gormstore.WithLockTimeout(shortLockTimeout))
	school := expect.Must(capability.Of(store).Python.PythonProcessRecorder(schoolName))
	counters := expect.Must(capability.Of(store).Python.PythonProcessRecorder(countersName))
	position := expect.Must(counters.MaxTrackingID(t.Context(), schoolName))
	head := expect.Must(school.MaxNotificationID(t.Context()))
	if position >= head {
		insert(t, school, history(uuid.New(), 1, 1)...)
		head = expect.Must(school.MaxNotificationID(t.Context()))
	}
	before := len(wholeLog(t, school))
	commit := libraryHolds(t, f.library(t, db), "Held", head)
	save := func(n int) func(ctx context.Context) error {
		return func(ctx context.Context) error { return last(school.InsertEvents(ctx, history(uuid.New(), 1, n))) }
	}
	for name, write := range map[string]func(ctx context.Context) error{
		"one event": save(1), "many events": save(2_000),
		"the log": func(ctx context.Context) error {
			return gormstore.Transaction(ctx, db, func(ctx context.Context, _ *gorm.DB) error { return school.(capability.LogLocker).LockLog(ctx) })
		},
		"a position": func(ctx context.Context) error {
			return counters.(notificationTracker).TrackNotifications(ctx, position, persistence.Tracking{ApplicationName: schoolName, NotificationID: head}, nil)
		},
	} {
		for where, run := range map[string]func() error{
			"by itself": func() error { return write(t.Context()) },
			"in a transaction": func() error {
				return gormstore.Transaction(t.Context(), db, func(ctx context.Context, _ *gorm.DB) error { return write(ctx) })
			},
		} {
			watch, begin := measure(t), time.Now()
			err := run()
			if took := time.Since(begin); took < shortLockTimeout || watch.took() > longestWait || !errors.Is(err, persistence.ErrLockTimeout) {
				t.Errorf("%s %s: %v after %v, want a lock timeout after %v", name, where, err, took, shortLockTimeout)
			}
		}
	}
	commit()
	if got := len(wholeLog(t, school)); got != before+1 {
		t.Errorf("%d events are stored, want that of the library", got-before)
	}
	if got := expect.Must(counters.MaxTrackingID(t.Context(), schoolName)); got != head {
		t.Errorf("the position is %d, want that of the library, %d", got, head)
	}
	if err := save(1)(t.Context()); err != nil {
		t.Errorf("after the library's commit: %v", err)
	}
}

// A program that reads the whole table by id alone misses no event while the
// library and applications of this module write.
func TestPythonWritersAndReaderOfTheTable(t *testing.T) {
	t.Parallel()
	f := pythonFixtures[4]
	if late := lateEvents(t, f, f.open(t), true, testdb.Figure(150, 3_000)); late > 0 {
		t.Errorf("%d events came late, want 0", late)
	}
}

// The control: without the Python layout such a reader misses events.
func TestPythonWritersAndReaderOfTheTableControl(t *testing.T) {
	t.Parallel()
	f := pythonFixtures[4]
	if late := lateEvents(t, f, f.open(t), false, 0); late != writtenPerSave {
		t.Errorf("%d events came late, want the %d that were overtaken", late, writtenPerSave)
	}
}

// lateEvents has two applications of this module overtake each other, and then
// two processes of the library and the applications write. It returns how many
// events a reader of the table has not found.
func lateEvents(t *testing.T, f pythonFixture, db *gorm.DB, python bool, events int) (late int) {
	t.Helper()
	library, c := f.library(t, db), &concurrency{db: db}
	c.readers = map[string]reading{"reader of the table": c.wholeTable}
	var applications []writer
	for _, name := range []string{schoolName, countersName} {
		store := gormstore.New(db, unhurried)
		r := expect.Must(store.ProcessRecorder(name))
		if python {
			r = expect.Must(capability.Of(store).Python.PythonProcessRecorder(name))
		}
		applications = append(applications, writer{db, r})
	}
	readers := c.startReaders(t)
	c.overtake(t, readers, c.held(applications[0]), c.held(applications[1]))
	var writers sync.WaitGroup
	for i := range 2 {
		writers.Go(func() {
			if _, err := library.Run(t.Context(), "register_many", fmt.Sprint("dog ", i), strconv.Itoa(events)); err != nil {
				t.Error(err)
			}
		})
	}
	for _, a := range applications {
		for range 8 {
			writers.Go(func() {
				for range events / 4 {
					if _, err := a.r.InsertEvents(t.Context(), history(uuid.New(), 1, 2)); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	writers.Wait()
	for _, missing := range readers.finish(t, c.stored(t)) {
		late += missing
	}
	return late
}
