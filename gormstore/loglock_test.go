package gormstore_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// eachOrder runs a test with strict writers and with those that run at the same
// time, on two handles of one database.
func eachOrder(t *testing.T, test func(t *testing.T, db, other *gorm.DB, options []gormstore.Option)) {
	t.Helper()
	t.Parallel()
	for name, options := range map[string][]gormstore.Option{"strict": {gormstore.WithStrictOrder()}, "concurrent": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := created(t, testdb.OpenPostgres(t))
			test(t, db, again(t, db), append(options, gormstore.WithLockTimeout(shortLockTimeout)))
		})
	}
}

// A locked log keeps out strict writers and those that run at the same time, in
// single saves and in transactions, until the transaction ends. The log of
// another application is not locked.
func TestLockLog(t *testing.T) {
	eachOrder(t, func(t *testing.T, db, other *gorm.DB, options []gormstore.Option) {
		r, writer := recorder(t, db, "Dogs", options...), recorder(t, other, "Dogs", options...)
		saves := func() map[string]error {
			_, alone := writer.InsertEvents(t.Context(), history(uuid.New(), 0, 1))
			inTransaction := gormstore.Transaction(t.Context(), other, func(ctx context.Context, _ *gorm.DB) error {
				_, err := writer.InsertEvents(ctx, history(uuid.New(), 0, 1))
				return err
			})
			return map[string]error{"alone": alone, "in a transaction": inTransaction}
		}
		transaction(t, db, func(ctx context.Context, _ *gorm.DB) error {
			if err := r.(capability.LogLocker).LockLog(ctx); err != nil {
				return err
			}
			for how, err := range saves() {
				if !errors.Is(err, persistence.ErrLockTimeout) {
					t.Errorf("a save %s: %v, want a lock timeout", how, err)
				}
			}
			if log := wholeLog(t, writer); len(log) != 0 {
				t.Errorf("a reader finds %d events, want none", len(log))
			}
			insert(t, recorder(t, other, "Cats", options...), history(uuid.New(), 0, 1)...)
			_, err := r.InsertEvents(ctx, history(uuid.New(), 0, 1))
			return err
		})
		for how, err := range saves() {
			if err != nil {
				t.Errorf("a save %s after the lock: %v", how, err)
			}
		}
		if log := wholeLog(t, r); len(log) != 3 {
			t.Errorf("the log has %d events, want 3", len(log))
		}
	})
}

// LockLog waits for a transaction that has saved, and gives up in time.
func TestLockLogWaitsForWriters(t *testing.T) {
	eachOrder(t, func(t *testing.T, db, other *gorm.DB, options []gormstore.Option) {
		r, writer := recorder(t, db, "Dogs", options...), recorder(t, other, "Dogs", options...)
		lock := func() error {
			return gormstore.Transaction(t.Context(), db, func(ctx context.Context, _ *gorm.DB) error {
				return r.(capability.LogLocker).LockLog(ctx)
			})
		}
		transaction(t, other, func(ctx context.Context, _ *gorm.DB) error {
			if _, err := writer.InsertEvents(ctx, history(uuid.New(), 0, 1)); err != nil {
				return err
			}
			if err := lock(); !errors.Is(err, persistence.ErrLockTimeout) {
				t.Errorf("got %v, want a lock timeout", err)
			}
			return nil
		})
		if err := lock(); err != nil {
			t.Errorf("after the writer: %v", err)
		}
	})
}
