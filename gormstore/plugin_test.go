package gormstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/plugin/dbresolver"

	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
)

// withThePlugin is the door of a database with the plugin.
var withThePlugin = door{"WithTx and the plugin", true, withPlugin, withPlugin}

// eachPlugged runs a test on databases with the plugin, whose statements GORM
// prepares or not.
func eachPlugged(t *testing.T, test func(t *testing.T, c *clinic)) {
	t.Helper()
	t.Parallel()
	for _, backend := range sharedBackends {
		for name, prepare := range map[string]bool{"plain": false, "PrepareStmt": true} {
			t.Run(backend.Name+"/"+name, func(t *testing.T) {
				t.Parallel()
				db := configured(t, backend.Open(t).Dialector, gorm.Config{PrepareStmt: prepare})
				test(t, openClinic(t, db, withThePlugin))
				wantIdle(t, db)
			})
		}
	}
}

// A session that prepares its statements stays in the transaction, whether it
// begins it or is made in it.
func TestPluginWithSessionsThatPrepare(t *testing.T) {
	eachPlugged(t, func(t *testing.T, c *clinic) {
		preparing := &gorm.Session{PrepareStmt: true}
		fido, rex, bella := school.RegisterDog("Fido"), school.RegisterDog("Rex"), school.RegisterDog("Bella")
		inside := func(dog *school.Dog, end error) work {
			return func(ctx context.Context, tx *gorm.DB) error {
				tx = tx.Session(preparing)
				return errors.Join(c.bill(t, dog)(gormstore.WithTx(ctx, tx), tx), end)
			}
		}
		if err := c.run(t, inside(fido, errUndone)); !errors.Is(err, errUndone) {
			t.Errorf("got %v, want an error that is %v", err, errUndone)
		}
		c.wantStored(t, 0)
		wantPendingEvents(t, 1, fido)
		if err := c.run(t, inside(fido, nil)); err != nil {
			t.Error(err)
		}
		c.wantStored(t, 1, "Fido")

		begins := c.db.Session(preparing)
		if err := withPlugin(t.Context(), begins, func(ctx context.Context, tx *gorm.DB) error {
			nested := tx.Transaction(func(tx *gorm.DB) error {
				return errors.Join(c.bill(t, bella)(gormstore.WithTx(ctx, tx), tx), errUndone)
			})
			expect.ErrorIs(t, nested, errUndone)
			wantPendingEvents(t, 1, bella)
			return c.bill(t, rex)(ctx, tx)
		}); err != nil {
			t.Error(err)
		}
		c.wantStored(t, 2, "Fido", "Rex")
		wantPendingEvents(t, 0, fido, rex)
	})
}

// Savepoints that the user sets are noticed, too.
func TestPluginWithSavepointsByHand(t *testing.T) {
	eachPlugged(t, func(t *testing.T, c *clinic) {
		fido, rex, bella := school.RegisterDog("Fido"), school.RegisterDog("Rex"), school.RegisterDog("Bella")
		tx := c.db.Begin()
		ctx := gormstore.WithTx(t.Context(), tx)
		for _, step := range []func() error{
			func() error { return c.bill(t, fido)(ctx, tx) },
			func() error { return tx.SavePoint("a").Error },
			func() error { return c.bill(t, rex)(ctx, tx) },
			func() error { return tx.SavePoint("b").Error },
			func() error { return tx.RollbackTo("a").Error },
			func() error { return c.bill(t, bella)(ctx, tx) },
			// A savepoint outlives the way back to it.
			func() error { return tx.RollbackTo("a").Error },
			func() error { return c.bill(t, rex)(ctx, tx) },
		} {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		wantPendingEvents(t, 1, bella)
		if err := tx.Commit().Error; err != nil {
			t.Fatal(err)
		}
		c.wantStored(t, 2, "Fido", "Rex")
		wantPendingEvents(t, 0, fido, rex)
		wantPendingEvents(t, 1, bella)
	})
}

// A commit that the database refuses is a rollback.
func TestPluginWithACommitThatFails(t *testing.T) {
	t.Parallel()
	c := openClinic(t, testdb.OpenPostgresSchema(t), withThePlugin)
	for _, statement := range []string{"CREATE TABLE parents (id int PRIMARY KEY)",
		"CREATE TABLE children (parent int REFERENCES parents DEFERRABLE INITIALLY DEFERRED)"} {
		if err := c.db.Exec(statement).Error; err != nil {
			t.Fatal(err)
		}
	}
	fido := school.RegisterDog("Fido")
	err := c.run(t, func(ctx context.Context, tx *gorm.DB) error {
		return errors.Join(c.bill(t, fido)(ctx, tx), tx.Exec("INSERT INTO children VALUES (1)").Error)
	})
	if err == nil {
		t.Error("the commit was not refused")
	}
	c.wantStored(t, 0)
	wantPendingEvents(t, 1, fido)
}

// Transactions in which nothing is saved are what they were.
func TestPluginLeavesOtherTransactionsAlone(t *testing.T) {
	eachPlugged(t, func(t *testing.T, c *clinic) {
		if err := c.db.Create(&Invoice{Dog: "Fido"}).Error; err != nil {
			t.Fatal(err)
		}
		var seen []Invoice
		err := c.db.Transaction(func(tx *gorm.DB) error {
			rows, err := tx.Model(&Invoice{}).Rows()
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var invoice Invoice
				if err := tx.ScanRows(rows, &invoice); err != nil {
					return err
				}
				seen = append(seen, invoice)
			}
			return rows.Err()
		})
		if err != nil || len(seen) != 1 {
			t.Errorf("%v, %v; want one invoice", seen, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		tx := c.db.WithContext(ctx).Begin()
		cancel()
		if err := tx.Create(&Invoice{}).Error; err == nil {
			t.Error("the transaction of a cancelled context goes on")
		}
		tx.Rollback()
		if pool, err := c.db.DB(); err != nil || pool.Ping() != nil {
			t.Errorf("DB: %v", err)
		}
		if got := count(t, c.db, "invoices"); got != 1 {
			t.Errorf("%d invoices, want 1", got)
		}
	})
}

func TestPluginTwice(t *testing.T) {
	t.Parallel()
	db := testdb.SQLiteMemory(t)
	if err := db.Use(gormstore.Plugin()); err != nil {
		t.Fatal(err)
	}
	if err := db.Use(gormstore.Plugin()); !errors.Is(err, gorm.ErrRegistered) {
		t.Errorf("error %v, want gorm.ErrRegistered", err)
	}
}

// The plugin has to be used before dbresolver, and says so.
func TestPluginAndResolver(t *testing.T) {
	t.Parallel()
	for _, backend := range sharedBackends {
		for name, prepare := range map[string]bool{"plain": false, "PrepareStmt": true} {
			t.Run(backend.Name+"/"+name, func(t *testing.T) {
				t.Parallel()
				late := testdb.SQLiteMemory(t)
				if err := late.Use(dbresolver.Register(dbresolver.Config{})); err != nil {
					t.Fatal(err)
				}
				if err := late.Use(gormstore.Plugin()); err == nil || !strings.Contains(err.Error(), "before dbresolver") {
					t.Errorf("after dbresolver: error %v, want one that says so", err)
				}

				db := configured(t, backend.Open(t).Dialector, gorm.Config{PrepareStmt: prepare})
				c := openClinic(t, db, withThePlugin)
				resolve(t, db, backend.Open(t))
				fido, rex := school.RegisterDog("Fido"), school.RegisterDog("Rex")
				if err := c.run(t, func(ctx context.Context, tx *gorm.DB) error {
					nested := tx.Transaction(func(tx *gorm.DB) error {
						return errors.Join(c.bill(t, rex)(gormstore.WithTx(ctx, tx), tx), errUndone)
					})
					expect.ErrorIs(t, nested, errUndone)
					return c.bill(t, fido)(ctx, tx)
				}); err != nil {
					t.Error(err)
				}
				source := c.db.Clauses(dbresolver.Write)
				if got := count(t, source, "invoices"); got != 1 {
					t.Errorf("%d invoices, want 1", got)
				}
				wantPendingEvents(t, 0, fido)
				wantPendingEvents(t, 1, rex)
				if len(c.recorded) != 1 || c.recorded[0] != "Fido" {
					t.Errorf("told of %v, want Fido", c.recorded)
				}
			})
		}
	}
}

// resolve has GORM read from a replica.
func resolve(t testing.TB, db, replica *gorm.DB) {
	t.Helper()
	pool, err := replica.DB()
	if err != nil {
		t.Fatal(err)
	}
	var d gorm.Dialector = sqlite.New(sqlite.Config{Conn: pool})
	if replica.Name() == "postgres" {
		d = postgres.New(postgres.Config{Conn: pool})
	}
	if err := db.Use(dbresolver.Register(dbresolver.Config{Replicas: []gorm.Dialector{d}})); err != nil {
		t.Fatal(err)
	}
}

// Stores that were made before the plugin was used have the same queue as those
// made after it.
func TestPluginKeepsTheQueue(t *testing.T) {
	eachWatched(t, func(t *testing.T, w *watched) {
		before := recorder(t, w.db, schoolName)
		if err := w.db.Use(gormstore.Plugin()); err != nil {
			t.Fatal(err)
		}
		after := recorder(t, w.db, schoolName)
		first, second := history(uuid.New(), 1, 1), history(uuid.New(), 1, 2)
		w.faults.Arm(never)
		answers := w.batch(t, saving(t.Context(), before, first), saving(t.Context(), after, second))
		wantAnswer(t, after, answers[1], first)
		wantAnswer(t, before, answers[2], second)
		if n := w.writes(w.faults.Disarm()); n > 2 {
			t.Errorf("3 saves took %d writes, want one for the leader and one for the rest", n)
		}
	})
}
