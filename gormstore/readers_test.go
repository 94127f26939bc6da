package gormstore_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Queries through Readers do not wait for the connection that writes, see what
// is committed, and cannot write.
func TestReaders(t *testing.T) {
	db, err := gormstore.OpenSQLite(sqlite.Open, filepath.Join(t.TempDir(), "test.sqlite3"))
	if err != nil {
		t.Fatal(err)
	}
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if err := gormstore.AutoMigrate(db); err != nil {
		t.Fatal(err)
	}
	readers := gormstore.Readers(db)
	count := func() (n int64) {
		t.Helper()
		if err := readers.Model(&gormstore.StoredEvent{}).Count(&n).Error; err != nil {
			t.Fatal(err)
		}
		return n
	}
	dogs, err := school.New(application.WithStore(gormstore.New(db)))
	if err != nil {
		t.Fatal(err)
	}
	err = gormstore.Transaction(t.Context(), db, func(ctx context.Context, _ *gorm.DB) error {
		if err := dogs.Register(ctx, "Fido"); err != nil {
			return err
		}
		if n := count(); n != 0 { // it would wait for the transaction for ever on db
			t.Errorf("counted %d events before the commit, want 0", n)
		}
		return nil
	})
	if err != nil || count() != 1 {
		t.Errorf("got %v and %d events, want 1", err, count())
	}
	if err := readers.Exec("DELETE FROM stored_events").Error; err == nil || count() != 1 {
		t.Errorf("a reader has deleted events: got error %v and %d rows, want 1 row and an error", err, count())
	}
	other := testdb.SQLiteMemory(t)
	if got := gormstore.Readers(other); got != other {
		t.Errorf("got another handle for a database that OpenSQLite has not opened: got %v, want %v", got, other)
	}
}

// A handler reads another database with a context that carries no transaction.
func TestWithoutTx(t *testing.T) {
	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		db, other := open(t), testdb.SQLiteFile(t)
		for _, db := range []*gorm.DB{db, other} {
			if err := gormstore.AutoMigrate(db); err != nil {
				t.Fatal(err)
			}
		}
		elsewhere, err := school.New(application.WithStore(gormstore.New(other)))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(elsewhere.Register(t.Context(), "Fido"), elsewhere.AddTrick(t.Context(), "Fido", "sit")); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err = gormstore.Transaction(ctx, db, func(ctx context.Context, _ *gorm.DB) error {
			if _, err := elsewhere.Tricks(ctx, "Fido"); !isOfAnotherDatabase(err) {
				t.Errorf("with the transaction: got %v, want an error that says that it is of another database", err)
			}
			outside := gormstore.WithoutTx(ctx)
			tricks, err := elsewhere.Tricks(outside, "Fido")
			if _, failed := gormstore.Tx(outside); len(tricks) != 1 || !errors.Is(failed, persistence.ErrNoTransaction) {
				t.Errorf("without it: got %v, and %v for the transaction, want 1 tricks and an error that is %v", tricks, failed, persistence.ErrNoTransaction)
			}
			cancel()
			if outside.Err() == nil {
				t.Error("the context does not end with the one that it was made of")
			}
			return err
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the cancellation", err)
		}
	})
}
