package gormstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

func selectOne(ctx context.Context, r persistence.ApplicationRecorder) error {
	_, err := r.SelectNotifications(ctx, persistence.NotificationRange{Limit: 1})
	return err
}

func TestWithTxOfWhatIsNoTransaction(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		for name, handle := range map[string]*gorm.DB{"database": db, "session": db.Session(&gorm.Session{PrepareStmt: true}),
			"condition": db.Where("id = 1"), "nil": nil, "empty": {}} {
			for call, do := range everyCall(t, db) {
				err := do(gormstore.WithTx(t.Context(), handle))
				if !errors.Is(err, persistence.ErrProgramming) || !strings.Contains(err.Error(), "WithTx") {
					t.Errorf("%s, %s: error %v, want ErrProgramming that names WithTx", name, call, err)
				}
			}
		}
		if log := wholeLog(t, recorder(t, db, schoolName)); len(log) != 0 {
			t.Errorf("%d events are stored, want 0", len(log))
		}
		wantIdle(t, db)
	})
}

func TestContextOfAnotherDatabase(t *testing.T) {
	eachShared(t, func(t *testing.T, db *gorm.DB) {
		for name, other := range map[string]*gorm.DB{"sqlite": testdb.SQLiteFile(t), "postgres": testdb.OpenPostgresSchema(t), "same": again(t, db)} {
			contexts := map[string]func(do work) error{
				"Transaction": func(do work) error { return gormstore.Transaction(t.Context(), other, do) },
				"WithTx":      func(do work) error { return withEnded(t.Context(), other, do) },
			}
			for opened, run := range contexts {
				err := run(func(ctx context.Context, _ *gorm.DB) error {
					for call, do := range everyCall(t, db) {
						if err := do(ctx); !isOfAnotherDatabase(err) {
							t.Errorf("%s, %s, %s: error %v, want an error that says that it is of another database", name, opened, call, err)
						}
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		}
		if log := wholeLog(t, recorder(t, db, schoolName)); len(log) != 0 {
			t.Errorf("%d events are stored, want 0", len(log))
		}
	})
}

// A context outlives its transaction: what is done with it then fails, instead
// of being done outside of it.
func TestContextWhoseTransactionHasEnded(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		for _, d := range doors[:2] {
			var ended context.Context
			if err := d.run(t.Context(), db, func(ctx context.Context, _ *gorm.DB) error { ended = ctx; return nil }); err != nil {
				t.Fatal(err)
			}
			for call, do := range everyCall(t, db) {
				if err := do(ended); !errors.Is(err, persistence.ErrInterface) {
					t.Errorf("%s, %s: error %v, want ErrInterface", d.name, call, err)
				}
			}
		}
		if log := wholeLog(t, recorder(t, db, schoolName)); len(log) != 0 {
			t.Errorf("%d events are stored, want 0", len(log))
		}
	})
}

// The first use of a database may be in a transaction that has its only
// connection.
func TestFirstUseInATransaction(t *testing.T) {
	t.Parallel()
	for _, backend := range testdb.Backends() {
		t.Run(backend.Name, func(t *testing.T) {
			t.Parallel()
			first := created(t, backend.Open(t))
			db := again(t, first)
			limit(t, db, 1)
			r := recorder(t, db, schoolName)
			err := withEnded(t.Context(), db, func(ctx context.Context, _ *gorm.DB) error {
				return last(r.InsertEvents(ctx, history(uuid.New(), 1, 2)))
			})
			if err != nil {
				t.Fatal(err)
			}
			insert(t, r, history(uuid.New(), 1, 1)...)
			if log := wholeLog(t, recorder(t, first, schoolName)); len(log) != 3 {
				t.Errorf("%d events are stored, want 3", len(log))
			}
		})
	}
}

// A statement that cannot be prepared is an error like any other.
func TestMissingTablesInATransactionWithPrepareStmt(t *testing.T) {
	t.Parallel()
	for _, backend := range sharedBackends {
		t.Run(backend.Name, func(t *testing.T) {
			t.Parallel()
			db := configured(t, backend.Open(t).Dialector, gorm.Config{PrepareStmt: true})
			for call, do := range everyCall(t, db) {
				if call == "Transaction" {
					continue
				}
				err := withEnded(t.Context(), db, func(ctx context.Context, _ *gorm.DB) error { return do(ctx) })
				if !errors.Is(err, persistence.ErrNotMigrated) {
					t.Errorf("%s: error %v, want ErrNotMigrated", call, err)
				}
			}
		})
	}
}

func TestTxFindsTheTransaction(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		if err := db.AutoMigrate(&Invoice{}); err != nil {
			t.Fatal(err)
		}
		if _, err := gormstore.Tx(t.Context()); !errors.Is(err, persistence.ErrNoTransaction) {
			t.Errorf("outside: error %v, want ErrNoTransaction", err)
		}
		for _, d := range doors[:2] {
			err := d.run(t.Context(), db, func(ctx context.Context, _ *gorm.DB) error {
				tx, err := gormstore.Tx(ctx)
				if err != nil {
					return err
				}
				return errors.Join(tx.Create(&Invoice{Dog: "Fido"}).Error, errUndone)
			})
			if !errors.Is(err, errUndone) || count(t, db, "invoices") != 0 {
				t.Errorf("%s: error %v and %d invoices, want none", d.name, err, count(t, db, "invoices"))
			}
		}
	})
}

// Ended does nothing if there is nothing to end.
func TestEndedWithoutATransaction(t *testing.T) {
	t.Parallel()
	gormstore.Ended(t.Context(), nil)
	gormstore.Ended(t.Context(), errUndone)
}
