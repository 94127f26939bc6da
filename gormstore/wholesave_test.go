package gormstore_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/faultdb"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// joins are the ways to save in a transaction.
var joins = map[string]func(ctx context.Context, db *gorm.DB, fn func(ctx context.Context, tx *gorm.DB) error) error{
	"Transaction": gormstore.Transaction,
	"WithTx": func(ctx context.Context, db *gorm.DB, fn func(ctx context.Context, tx *gorm.DB) error) error {
		return db.Transaction(func(tx *gorm.DB) error { return fn(gormstore.WithTx(ctx, tx), tx) })
	},
}

// Each save of one stream in a transaction on PostgreSQL is one round trip,
// whichever mode the store has.
func TestSaveInTransactionIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	for mode, options := range map[string][]gormstore.Option{
		"strict": {gormstore.WithStrictOrder()}, "concurrent": nil, "notifying": {gormstore.WithNotify()},
	} {
		for name, join := range joins {
			t.Run(mode+"-"+name, func(t *testing.T) {
				t.Parallel()
				w := watch(t, created(t, testdb.OpenPostgresSchema(t)))
				r := recorder(t, w.db, schoolName, options...)
				saves := func() error {
					return join(t.Context(), w.db, func(ctx context.Context, tx *gorm.DB) error {
						dog := uuid.New()
						for _, events := range [][]persistence.StoredEvent{history(dog, 1, 1), history(dog, 2, 1), history(dog, 3, 4), history(uuid.New(), 1, 3)} {
							if _, err := r.InsertEvents(ctx, events); err != nil {
								return err
							}
						}
						return nil
					})
				}
				if err := saves(); err != nil { // the first one looks for the table
					t.Fatal(err)
				}
				w.faults.Arm(never)
				err := saves()
				calls := w.faults.Disarm()
				if err != nil {
					t.Fatal(err)
				}
				sent := 0
				for _, call := range calls {
					if call.Op == faultdb.Exec || call.Op == faultdb.Query {
						sent++
					}
				}
				if sent != 4 {
					t.Errorf("%d statements for 4 saves, want one each:\n%v", sent, calls)
				}
				if stored := wholeLog(t, r); len(stored) != 2*9 {
					t.Errorf("%d events are stored, want 18", len(stored))
				}
			})
		}
	}
}

// A save that loses its stream to a transaction which commits while it waits
// stores none of its events, and its own transaction goes on.
func TestSaveInTransactionThatLosesARace(t *testing.T) {
	t.Parallel()
	for name, join := range joins {
		for mode, options := range map[string][]gormstore.Option{"strict": {gormstore.WithStrictOrder()}, "concurrent": nil} {
			for winner := range 3 {
				t.Run(fmt.Sprintf("%s-%s-%d", name, mode, winner+1), func(t *testing.T) {
					t.Parallel()
					db := created(t, testdb.OpenPostgresSchema(t))
					beside := again(t, db)
					r, other := recorder(t, db, schoolName, options...), recorder(t, beside, schoolName, options...)
					dog, cat := uuid.New(), uuid.New()
					insert(t, r, history(dog, 1, 1)...)
					stored, commit, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
					go func() {
						done <- gormstore.Transaction(t.Context(), beside, func(ctx context.Context, _ *gorm.DB) error {
							defer close(stored)
							_, err := other.InsertEvents(ctx, history(dog, 2, winner+1))
							if err == nil {
								stored <- struct{}{}
								<-commit
							}
							return err
						})
					}()
					<-stored
					err := join(t.Context(), db, func(ctx context.Context, tx *gorm.DB) error {
						pid := 0
						if err := tx.Raw("SELECT pg_backend_pid()").Scan(&pid).Error; err != nil {
							return err
						}
						go func() {
							defer close(commit)
							if !expect.Eventually(func() bool { return waitsForLock(beside, pid) }) {
								t.Error("the save does not wait for the other transaction")
							}
						}()
						_, err := r.InsertEvents(ctx, history(dog, 2, 2))
						conflict, ok := errors.AsType[*persistence.ConflictError](err)
						if !ok || conflict.Version != 2 || conflict.Current != int64(winner)+2 {
							t.Errorf("got %v; want a conflict on version 2 of %d", err, winner+2)
						}
						_, err = r.InsertEvents(ctx, history(cat, 1, 2))
						return err
					})
					if err := errors.Join(err, <-done); err != nil {
						t.Fatal(err)
					}
					wantVersions(t, r, cat, 1, 2)
					wantVersions(t, r, dog, []int64{1, 2, 3, 4}[:winner+2]...)
				})
			}
		}
	}
}

// waitsForLock reports whether a session waits for a lock.
func waitsForLock(db *gorm.DB, pid int) (waits bool) {
	return db.Raw("SELECT EXISTS (SELECT FROM pg_locks WHERE pid = ? AND NOT granted)", pid).Scan(&waits).Error == nil && waits
}

// Transactions that find the tables in different schemas of one pool take the
// locks of the log that they write to.
func TestSaveInTransactionFindsItsTable(t *testing.T) {
	t.Parallel()
	db := testdb.OpenPostgresSchema(t)
	inSchema(t, db, "north")
	inSchema(t, db, "south")
	r := recorder(t, db, schoolName)
	save := func(schema string, dog uuid.UUID, version int64) error {
		return gormstore.Transaction(t.Context(), db, func(ctx context.Context, tx *gorm.DB) error {
			if err := tx.Exec("SET LOCAL search_path = " + schema).Error; err != nil {
				return err
			}
			if _, err := r.InsertEvents(ctx, history(dog, version, 1)); err != nil {
				return err
			}
			var held bool
			key := gormstore.OrderKey(schema, "stored_events", schoolName)
			err := tx.Raw("SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() "+
				"AND (classid::int8 << 32 | objid::int8) = ?)", key).Scan(&held).Error
			if err == nil && !held {
				t.Errorf("a save in %s does not have the lock of its log", schema)
			}
			return err
		})
	}
	dog := uuid.New()
	for version := range int64(3) {
		if err := errors.Join(save("north", dog, version+1), save("south", dog, version+1)); err != nil {
			t.Fatal(err)
		}
	}
}
