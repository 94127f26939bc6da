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
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Two logs may be written in one transaction.
func TestTransactionOfTwoApplications(t *testing.T) {
	eachOffice(t, func(t *testing.T, o *office) {
		other := recorder(t, o.db, countersName)
		fido := newDog("Fido")
		err := o.do(t, func(ctx context.Context, tx *gorm.DB) error {
			_, err := other.InsertProcessed(ctx, history(uuid.New(), 1, 1), persistence.Tracking{ApplicationName: schoolName, NotificationID: 1})
			return errors.Join(err, o.bill(ctx, tx, fido), errNoCredit)
		})
		if !errors.Is(err, errNoCredit) {
			t.Fatalf("got %v, want an error that is %v", err, errNoCredit)
		}
		o.want(t, 0, 0, 1, fido)
		if position, err := other.MaxTrackingID(t.Context(), schoolName); err != nil || position != 0 || len(wholeLog(t, other)) != 0 {
			t.Errorf("the other application was left at position %d (%v) with %d events, want no error, 0 and 0 of them", position, err, len(wholeLog(t, other)))
		}
	})
}

// Tx outside of a transaction is an error that says so.
func TestTxWithoutTransaction(t *testing.T) {
	t.Parallel()
	if tx, err := gormstore.Tx(t.Context()); tx != nil || !errors.Is(err, persistence.ErrNoTransaction) {
		t.Errorf("Tx: %v, %v, want ErrNoTransaction", tx, err)
	}
}

// A transaction of one database does not carry the events of another.
func TestTransactionOfAnotherDatabase(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		other := migrated(t, testdb.SQLiteMemory(t))
		here, dog := recorder(t, db, schoolName), uuid.New()
		transaction(t, other, func(ctx context.Context, _ *gorm.DB) error {
			for name, use := range methods(here, snapshots(t, db, schoolName), dog) {
				if err := use(ctx); !isOfAnotherDatabase(err) {
					t.Errorf("%s: %v, want an error that says that it is of another database", name, err)
				}
			}
			err := gormstore.Transaction(ctx, db, func(context.Context, *gorm.DB) error { t.Error("it ran"); return nil })
			if !isOfAnotherDatabase(err) {
				t.Errorf("Transaction: %v, want an error that says that it is of another database", err)
			}
			return nil
		})
		wantVersions(t, here, dog)
	})
}

// A transaction that has ended carries nothing any more, and a context that was
// kept too long says so.
func TestTransactionThatHasEnded(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		var kept context.Context
		transaction(t, db, func(ctx context.Context, _ *gorm.DB) error { kept = ctx; return nil })
		dog := uuid.New()
		for name, use := range methods(recorder(t, db, schoolName), snapshots(t, db, schoolName), dog) {
			if err := use(kept); !errors.Is(err, persistence.ErrPersistence) {
				t.Errorf("%s: %v, want an error", name, err)
			}
		}
		wantVersions(t, recorder(t, db, schoolName), dog)
	})
}

// A save that lacks the context of the transaction waits for the transaction's
// lock, but not for ever, and its error says what the mistake is.
func TestTransactionWithoutItsContext(t *testing.T) {
	eachShared(t, func(t *testing.T, db *gorm.DB) {
		db = shortBusy(t, db)
		openConnections(t, db, 3)
		gormstore.LookLong(db)
		r := recorder(t, db, schoolName, gormstore.WithLockTimeout(500*time.Millisecond), gormstore.WithStrictOrder())
		var err error
		watch := measure(t)
		transaction(t, db, func(ctx context.Context, _ *gorm.DB) error {
			if _, err := r.InsertEvents(ctx, history(uuid.New(), 1, 1)); err != nil {
				return err
			}
			_, err = r.InsertEvents(t.Context(), history(uuid.New(), 1, 1)) // the wrong context
			return nil
		})
		wantLockTimeout(t, "InsertEvents", err, watch.took())
	})
}

// isOfAnotherDatabase reports whether an error says that the transaction in the
// context is one of another database.
func isOfAnotherDatabase(err error) bool {
	return errors.Is(err, persistence.ErrProgramming) &&
		strings.Contains(err.Error(), "the transaction in the context belongs to another database")
}
