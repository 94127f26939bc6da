package gormstore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// In gormstore.Transaction a save waits for locks of all kinds no longer than
// the lock timeout, or than the caller's deadline allows, although it sets no
// lock_timeout.
func TestSaveInTransactionBoundsAllWaits(t *testing.T) {
	t.Parallel()
	dog := uuid.New()
	for name, hold := range map[string]string{
		"the order lock": "SELECT pg_advisory_xact_lock(?)",
		"the same version": "INSERT INTO stored_events (application_name, originator_id, originator_version, topic, state) " +
			"SELECT 'Dogs', '" + dog.String() + "', 0, 'Dog', '' WHERE ?::bigint IS NOT NULL",
	} {
		for _, limit := range []string{"lock timeout", "deadline"} {
			t.Run(name+", "+limit, func(t *testing.T) {
				t.Parallel()
				db := created(t, testdb.OpenPostgres(t))
				ctx, options := t.Context(), []gormstore.Option{gormstore.WithLockTimeout(shortLockTimeout)}
				if limit == "deadline" {
					short, cancel := context.WithTimeout(ctx, shortLockTimeout)
					defer cancel()
					ctx, options = short, nil
				}
				r := recorder(t, db, "Dogs", options...)
				other := again(t, db).Begin()
				if err := other.Exec(hold, gormstore.OrderKey("public", "stored_events", "Dogs")).Error; err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				err := gormstore.Transaction(ctx, db, func(ctx context.Context, _ *gorm.DB) error {
					_, err := r.InsertEvents(ctx, history(dog, 0, 1))
					return err
				})
				switch took := time.Since(begin); {
				case limit == "lock timeout":
					wantTimelyLockTimeout(t, begin, err)
				case took > longestWait || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, persistence.ErrOutcomeUnknown):
					t.Errorf("got %v after %v; want the caller's deadline", err, took)
				}
				if err := other.Rollback().Error; err != nil {
					t.Fatal(err)
				}
				if stored := wholeLog(t, r); len(stored) != 0 {
					t.Errorf("%d events are stored; want none", len(stored))
				}
				wantIdle(t, db)
			})
		}
	}
}

// A save whose time limit passes while it waits for nobody goes on.
func TestSlowSaveInTransactionGoesOn(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.OpenPostgres(t))
	r := recorder(t, db, "Dogs", gormstore.WithLockTimeout(shortLockTimeout))
	if err := db.Exec("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1.2); RETURN NEW; END'").Error; err != nil {
		t.Fatal(err)
	}
	if err := db.Exec("CREATE TRIGGER slow BEFORE INSERT ON stored_events FOR EACH ROW EXECUTE FUNCTION slow()").Error; err != nil {
		t.Fatal(err)
	}
	transaction(t, db, func(ctx context.Context, _ *gorm.DB) error {
		_, err := r.InsertEvents(ctx, history(uuid.New(), 0, 1))
		return err
	})
	if stored := wholeLog(t, r); len(stored) != 1 {
		t.Errorf("%d events are stored; want 1", len(stored))
	}
}

// A save between a savepoint and the return to it loses its lock of the order,
// and the transaction takes it again for the next one.
func TestOrderLockAfterReturnToSavepoint(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.OpenPostgres(t))
	r := recorder(t, db, "Dogs")
	transaction(t, db, func(ctx context.Context, tx *gorm.DB) error {
		undone := errors.New("undo")
		err := tx.Transaction(func(*gorm.DB) error {
			_, err := r.InsertEvents(ctx, history(uuid.New(), 0, 1))
			return errors.Join(undone, err)
		})
		if err.Error() != undone.Error() {
			return err
		}
		if _, err := r.InsertEvents(ctx, history(uuid.New(), 0, 1)); err != nil {
			return err
		}
		var locks int
		query := "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
		if err := tx.Raw(query).Scan(&locks).Error; err != nil || locks != 2 {
			t.Errorf("the transaction has %d advisory locks (%v), want 2", locks, err)
		}
		return nil
	})
}
