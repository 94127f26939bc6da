package gormstore_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// A save never commits on its own, also if a statement of the caller's has
// ended the transaction that it was to be part of. Without the plugin such a
// statement is not refused.
func TestSaveAfterTheEndOfItsTransaction(t *testing.T) {
	for _, statement := range []string{"ROLLBACK", "COMMIT"} {
		for way, events := range map[string]func(dog uuid.UUID) []persistence.StoredEvent{
			"one event":      func(dog uuid.UUID) []persistence.StoredEvent { return history(dog, 1, 1) },
			"several events": func(dog uuid.UUID) []persistence.StoredEvent { return history(dog, 1, 3) },
			"many events":    func(dog uuid.UUID) []persistence.StoredEvent { return history(dog, 1, 5001) },
			"two aggregates": func(dog uuid.UUID) []persistence.StoredEvent {
				return append(history(dog, 1, 1), history(uuid.New(), 1, 1)...)
			},
		} {
			t.Run(statement+", "+way, func(t *testing.T) {
				each(t, func(t *testing.T, db *gorm.DB) {
					r, s := recorder(t, db, schoolName), snapshots(t, db, schoolName)
					for _, prepares := range []bool{false, true} {
						dog := uuid.New()
						tx := db.Session(&gorm.Session{PrepareStmt: prepares}).Begin()
						ctx := gormstore.WithTx(t.Context(), tx)
						insert(t, writingIn{r, ctx}, history(uuid.New(), 1, 1)...)
						plain := tx.Session(&gorm.Session{})
						if err := plain.Exec(statement).Error; err != nil {
							t.Fatal(err)
						}
						_, saved := r.InsertEvents(ctx, events(dog))
						_, kept := s.InsertEvents(ctx, history(dog, 1, 1))
						moved := r.InsertTracking(ctx, persistence.Tracking{ApplicationName: kennels, NotificationID: 1})
						for what, err := range map[string]error{"a save": saved, "a snapshot": kept, "a position": moved} {
							if !errors.Is(err, persistence.ErrProgramming) && !errors.Is(err, persistence.ErrOperational) {
								t.Errorf("%s: %v, want an error of the transaction", what, err)
							}
						}
						tx.Rollback()
						wantVersions(t, r, dog)
						wantVersions(t, s, dog)
						if position, err := r.MaxTrackingID(t.Context(), kennels); position != 0 || err != nil {
							t.Errorf("the position is %d (%v), want 0", position, err)
						}
					}
				})
			})
		}
	}
}

// writingIn writes in the transaction of a context.
type writingIn struct {
	persistence.AggregateRecorder
	ctx context.Context
}

func (w writingIn) InsertEvents(_ context.Context, events []persistence.StoredEvent) ([]int64, error) {
	return w.AggregateRecorder.InsertEvents(w.ctx, events)
}

// The state of a session is found in unexported fields of database/sql and pgx.
// If this fails, they have been renamed.
func TestStateOfATransaction(t *testing.T) {
	t.Parallel()
	db := testdb.OpenPostgres(t)
	tx := db.Begin()
	defer tx.Rollback()
	want := func(when, status string) {
		t.Helper()
		if got := gormstore.TxStatusOf(tx); got != status {
			t.Errorf("%s: the state is %q, want %q", when, got, status)
		}
	}
	want("after the beginning", "T")
	tx.Exec("SELECT 1/0")
	want("after a failure", "E")
	tx.Exec("ROLLBACK")
	want("after the end", "I")
}
