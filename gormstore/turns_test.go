package gormstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/internal/txscope"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// A transaction that is nested in the same one by another goroutine waits until
// the first one has ended, so that its failure undoes nothing of the second.
func TestNestedTransactionsOfGoroutines(t *testing.T) {
	eachShared(t, func(t *testing.T, db *gorm.DB) {
		r := recorder(t, db, schoolName)
		dog, undone := uuid.New(), errors.New("undone")
		var saved error
		err := gormstore.Transaction(t.Context(), db, func(ctx context.Context, _ *gorm.DB) error {
			var second sync.WaitGroup
			err := gormstore.Transaction(ctx, db, func(context.Context, *gorm.DB) error {
				entered := make(chan struct{})
				second.Go(func() {
					close(entered)
					saved = gormstore.Transaction(ctx, db, func(ctx context.Context, _ *gorm.DB) error {
						_, err := r.InsertEvents(ctx, history(dog, 1, 1))
						return err
					})
				})
				<-entered
				return undone
			})
			second.Wait()
			if !errors.Is(err, undone) {
				t.Errorf("the first one ended with %v, want an error that is %v", err, undone)
			}
			return nil
		})
		if err := errors.Join(err, saved); err != nil {
			t.Fatal(err)
		}
		wantVersions(t, r, dog, 1)
	})
}

// A save that lacks the context of the nested transaction that it is made in
// ends with an error that says so.
func TestSaveThatForgotItsNestedTransaction(t *testing.T) {
	eachShared(t, func(t *testing.T, db *gorm.DB) {
		r := recorder(t, db, schoolName, gormstore.WithLockTimeout(shortLockTimeout))
		transaction(t, db, func(outer context.Context, _ *gorm.DB) error {
			return gormstore.Transaction(outer, db, func(context.Context, *gorm.DB) error {
				_, err := r.InsertEvents(outer, history(uuid.New(), 1, 1))
				if !errors.Is(err, persistence.ErrLockTimeout) {
					t.Errorf("got %v, want a lock timeout", err)
				}
				return nil
			})
		})
	})
}

// Goroutines that pass one transaction on by themselves take turns, with and
// without the plugin.
func TestWithTxOfGoroutines(t *testing.T) {
	for _, plugin := range []bool{false, true} {
		t.Run(fmt.Sprintf("plugin %v", plugin), func(t *testing.T) {
			eachShared(t, func(t *testing.T, db *gorm.DB) {
				if plugin {
					if err := db.Use(gormstore.Plugin()); err != nil {
						t.Fatal(err)
					}
				}
				r := recorder(t, db, schoolName)
				taken := uuid.New()
				insert(t, r, history(taken, 1, 1)...)
				for range testdb.Figure(10, 100) {
					tx := db.Begin()
					stored := make([]uuid.UUID, 4)
					var writers sync.WaitGroup
					for i := range stored {
						writers.Go(func() {
							ctx := gormstore.WithTx(t.Context(), tx)
							if i%2 == 0 {
								if _, err := r.InsertEvents(ctx, history(taken, 1, 1)); !persistence.IsConflict(err) {
									t.Errorf("got %v, want a conflict", err)
								}
								return
							}
							dog := uuid.New()
							if _, err := r.InsertEvents(ctx, history(dog, 1, 1)); err != nil {
								t.Error(err)
								return
							}
							stored[i] = dog
						})
					}
					writers.Wait()
					if err := tx.Commit().Error; err != nil {
						t.Fatal(err)
					}
					for _, dog := range stored {
						if dog != uuid.Nil {
							wantVersions(t, r, dog, 1)
						}
					}
				}
			})
		})
	}
}

// A statement of the caller's own that would end the transaction has all of it
// fail, in any spelling, whatever becomes of its error.
func TestStatementThatEndsTheTransaction(t *testing.T) {
	for _, statement := range []string{"ROLLBACK", "commit;", "END", "/* done */ Rollback ; SELECT 1"} {
		t.Run(statement, func(t *testing.T) {
			eachShared(t, func(t *testing.T, db *gorm.DB) {
				r := recorder(t, db, schoolName)
				dog := uuid.New()
				err := gormstore.Transaction(t.Context(), db, func(ctx context.Context, tx *gorm.DB) error {
					_ = tx.Exec(statement).Error // as a caller who does not look at it
					_, _ = r.InsertEvents(ctx, history(dog, 1, 1))
					return nil
				})
				if !errors.Is(err, persistence.ErrProgramming) {
					t.Errorf("got %v, want an ErrProgramming", err)
				}
				wantVersions(t, r, dog)
			})
		})
	}
}

// What is saved after a savepoint that the caller's own statement returns to is
// rolled back for what waits for the end of the transaction, in any spelling.
func TestReturnToSavepointInAnySpelling(t *testing.T) {
	for _, spelling := range [][2]string{
		{"SAVEPOINT a", "ROLLBACK TO a"}, {"savepoint a", "rollback to savepoint A;"}, {`SAVEPOINT "a"`, "ROLLBACK TRANSACTION TO SAVEPOINT a"},
	} {
		t.Run(spelling[1], func(t *testing.T) {
			eachShared(t, func(t *testing.T, db *gorm.DB) {
				r := recorder(t, db, schoolName)
				committed, rolledBack := 0, 0
				transaction(t, db, func(ctx context.Context, tx *gorm.DB) error {
					if err := tx.Exec(spelling[0]).Error; err != nil {
						return err
					}
					if _, err := r.InsertEvents(ctx, history(uuid.New(), 1, 1)); err != nil {
						return err
					}
					persistence.OnCommit(ctx, func(context.Context) { committed++ })
					txscope.OnRollback(ctx, func(context.Context) { rolledBack++ })
					return tx.Exec(spelling[1]).Error
				})
				if committed != 0 || rolledBack != 1 {
					t.Errorf("%d calls for a commit and %d for a rollback, want 0 and 1", committed, rolledBack)
				}
			})
		})
	}
}

// A row that SQLite rolls the transaction back for is noticed by what follows,
// also if the caller does not look at its error.
func TestRowThatRollsBack(t *testing.T) {
	t.Parallel()
	db := migrated(t, testdb.SQLiteFile(t))
	run(t, db, "CREATE TABLE numbers (n integer PRIMARY KEY ON CONFLICT ROLLBACK)")
	run(t, db, "INSERT INTO numbers VALUES (1)")
	r := recorder(t, db, schoolName)
	dog := uuid.New()
	err := gormstore.Transaction(t.Context(), db, func(ctx context.Context, tx *gorm.DB) error {
		var n int
		_ = tx.Raw("INSERT INTO numbers VALUES (1) RETURNING n").Row().Scan(&n)
		_, err := r.InsertEvents(ctx, history(dog, 1, 1))
		if err == nil {
			t.Error("a save after the rollback succeeded")
		}
		return nil
	})
	if err == nil {
		t.Error("the transaction committed")
	}
	wantVersions(t, r, dog)
}
