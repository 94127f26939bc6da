package gormstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/internal/txscope"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// wantHolder checks that an error names who has locked a table.
func wantHolder(t *testing.T, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), `of application_name "migration" holds the lock, in a transaction that began`) {
		t.Errorf("the error does not say who holds the lock: %v", err)
	}
}

// A save that waits too long for the order lock is told which session has it,
// in a single save, in one that is too large to be merged and in a transaction.
func TestSaveNamesTheHolderOfTheLog(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.OpenPostgres(t))
	gormstore.LookLong(db)
	r := recorder(t, db, "Dogs", gormstore.WithLockTimeout(shortLockTimeout))
	save := func(ctx context.Context, events int) error {
		_, err := r.InsertEvents(ctx, history(uuid.New(), 0, events))
		return err
	}
	other := again(t, db)
	transaction(t, other, func(ctx context.Context, tx *gorm.DB) error {
		if err := tx.Exec("SET LOCAL application_name = 'migration'").Error; err != nil {
			return err
		}
		if _, err := recorder(t, other, "Dogs", gormstore.WithStrictOrder()).InsertEvents(ctx, history(uuid.New(), 0, 1)); err != nil {
			return err
		}
		for name, err := range map[string]error{
			"merged": save(t.Context(), 1),
			"large":  save(t.Context(), 3000),
			"joined": gormstore.Transaction(t.Context(), db, func(ctx context.Context, _ *gorm.DB) error { return save(ctx, 1) }),
		} {
			wantHolder(t, err)
			if !errors.Is(err, persistence.ErrLockTimeout) {
				t.Errorf("%s: %v, want a lock timeout", name, err)
			}
		}
		return nil
	})
}

// A save in a transaction that waits for another save of the same version is
// told which session that is, and names none that only writes to the log.
func TestSaveInTransactionNamesWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.OpenPostgres(t))
	gormstore.LookLong(db)
	r, dog := recorder(t, db, "Dogs", gormstore.WithLockTimeout(shortLockTimeout)), uuid.New()
	other, own := again(t, db), again(t, db)
	save := func(ctx context.Context, r persistence.ProcessRecorder, id uuid.UUID) error {
		_, err := r.InsertEvents(ctx, history(id, 0, 1))
		return err
	}
	transaction(t, other, func(ctx context.Context, _ *gorm.DB) error {
		if err := save(ctx, recorder(t, other, "Dogs"), uuid.New()); err != nil {
			return err
		}
		transaction(t, own, func(ctx context.Context, tx *gorm.DB) error {
			if err := tx.Exec("SET LOCAL application_name = 'migration'").Error; err != nil {
				return err
			}
			if err := save(ctx, recorder(t, own, "Dogs"), dog); err != nil {
				return err
			}
			err := gormstore.Transaction(t.Context(), db, func(ctx context.Context, _ *gorm.DB) error { return save(ctx, r, dog) })
			wantHolder(t, err)
			return nil
		})
		return nil
	})
}

// A save that waits for another one of its process, which waits for a lock,
// waits for the lock timeout in all, and not once more in its own batch. A save
// of the same batch that came later has its whole time.
func TestQueuedSaveWaitsOnce(t *testing.T) {
	t.Parallel()
	const lockTimeout = 4 * time.Second
	db := created(t, testdb.OpenPostgres(t))
	gormstore.LookLong(db)
	r := recorder(t, db, "Dogs", gormstore.WithLockTimeout(lockTimeout))
	release := lockedTable(t, db, "stored_events", "EXCLUSIVE")
	type outcome struct {
		err    error
		waited time.Duration
	}
	save := func() <-chan outcome {
		saved := make(chan outcome, 1)
		go func() {
			begin := time.Now()
			_, err := r.InsertEvents(t.Context(), history(uuid.New(), 0, 1))
			saved <- outcome{err, time.Since(begin)}
		}()
		return saved
	}
	waitFor := func(saves int) {
		if !expect.Eventually(func() bool { waiting, led := gormstore.WaitingSaves(db); return led && waiting == saves }) {
			t.Fatalf("%d saves do not wait", saves)
		}
	}
	first := save()
	waitFor(0)
	watch := measure(t)
	second := save()
	waitFor(1)
	time.Sleep(lockTimeout / 2) // the third comes that much later than the second
	third := save()
	waitFor(2)
	if got := <-first; !errors.Is(got.err, persistence.ErrLockTimeout) {
		t.Errorf("first: %v, want a lock timeout", got.err)
	}
	got := <-second
	if took := watch.took(); !errors.Is(got.err, persistence.ErrLockTimeout) || took > lockTimeout*7/4 {
		t.Errorf("second: %v after %v, want a lock timeout after %v", got.err, took, lockTimeout)
	}
	release()
	stored := 1
	if got = <-third; errors.Is(got.err, persistence.ErrLockTimeout) && got.waited >= lockTimeout {
		stored = 0 // the machine was so busy that its time is over
	} else if got.err != nil {
		t.Errorf("third: %v after %v, want success", got.err, got.waited)
	}
	if log := wholeLog(t, r); len(log) != stored {
		t.Errorf("%d events are stored, want %d", len(log), stored)
	}
}

// A save that waits for the only connection is told what has it.
func TestSaveNamesTheHolderOfTheConnection(t *testing.T) {
	t.Parallel()
	for _, backend := range testdb.OneConnection() {
		t.Run(backend.Name, func(t *testing.T) {
			t.Parallel()
			db := created(t, backend.Open(t))
			r := recorder(t, db, "Dogs", gormstore.WithLockTimeout(shortLockTimeout))
			outer := txscope.WithOperation(t.Context(), "nightly import")
			err := gormstore.Transaction(outer, db, func(context.Context, *gorm.DB) error {
				_, err := r.InsertEvents(t.Context(), history(uuid.New(), 1, 1))
				return err
			})
			if !errors.Is(err, persistence.ErrLockTimeout) || !strings.Contains(err.Error(), `"nightly import" has been open for `) {
				t.Errorf("got %v, want a lock timeout that names the nightly import", err)
			}
		})
	}
}
