package gormstore_test

import (
	"context"
	"database/sql"
	"errors"
	"iter"
	"strings"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// oldSnapshots are the isolation levels whose transactions see what was
// committed before their first statement.
var oldSnapshots = map[string]sql.IsolationLevel{
	"repeatable read": sql.LevelRepeatableRead, "serializable": sql.LevelSerializable,
}

// inOldSnapshot runs fn in a transaction of the caller's that began before
// meanwhile was called.
func inOldSnapshot(t *testing.T, db *gorm.DB, level sql.IsolationLevel, meanwhile func(), fn func(ctx context.Context) error) error {
	t.Helper()
	return db.Transaction(func(tx *gorm.DB) error {
		var now string
		if err := tx.Raw("SELECT now()::text").Scan(&now).Error; err != nil {
			return err
		}
		meanwhile()
		return fn(gormstore.WithTx(t.Context(), tx))
	}, &sql.TxOptions{Isolation: level})
}

// A save in a transaction that cannot see the events in its way is no conflict
// that loading again could mend: the whole transaction must be repeated.
func TestConflictThatTheTransactionCannotSee(t *testing.T) {
	t.Parallel()
	for name, level := range oldSnapshots {
		for way, events := range map[string]func(dog, cat uuid.UUID) []persistence.StoredEvent{
			"one event":      func(dog, _ uuid.UUID) []persistence.StoredEvent { return history(dog, 2, 1) },
			"several events": func(dog, _ uuid.UUID) []persistence.StoredEvent { return history(dog, 2, 3) },
			"many events":    func(dog, _ uuid.UUID) []persistence.StoredEvent { return history(dog, 2, 5001) },
			"two aggregates": func(dog, cat uuid.UUID) []persistence.StoredEvent {
				return append(history(cat, 1, 1), history(dog, 2, 1)...)
			},
		} {
			t.Run(name+", "+way, func(t *testing.T) {
				t.Parallel()
				db := created(t, testdb.OpenPostgres(t))
				r, dog, cat := recorder(t, db, schoolName), uuid.New(), uuid.New()
				insert(t, r, history(dog, 1, 1)...)
				save := func(ctx context.Context) error {
					_, err := r.InsertEvents(ctx, events(dog, cat))
					return err
				}
				err := inOldSnapshot(t, db, level, func() { insert(t, r, history(dog, 2, 1)...) }, save)
				if !errors.Is(err, persistence.ErrRetryTransaction) || !persistence.IsRetryable(err) || persistence.IsConflict(err) {
					t.Errorf("got %v, want an ErrRetryTransaction that is no conflict", err)
				}
				if err := inOldSnapshot(t, db, level, func() {}, save); !persistence.IsConflict(err) {
					t.Errorf("the transaction repeated: %v, want a conflict", err)
				}
				wantVersions(t, r, dog, 1, 2)
				wantVersions(t, r, cat)
				wantIdle(t, db)
			})
		}
	}
}

// The same for snapshots.
func TestSnapshotThatTheTransactionCannotSee(t *testing.T) {
	t.Parallel()
	for name, level := range oldSnapshots {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := created(t, testdb.OpenPostgres(t))
			s, dog := snapshots(t, db, schoolName), uuid.New()
			err := inOldSnapshot(t, db, level, func() { insert(t, s, history(dog, 2, 1)...) }, func(ctx context.Context) error {
				_, err := s.InsertEvents(ctx, history(dog, 2, 1))
				return err
			})
			if !errors.Is(err, persistence.ErrRetryTransaction) {
				t.Errorf("got %v, want an ErrRetryTransaction", err)
			}
		})
	}
}

// Repeating does not help if it is the sequence that gives ids which are taken.
func TestSequenceBehindInAnOldSnapshot(t *testing.T) {
	t.Parallel()
	for name, level := range oldSnapshots {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := created(t, testdb.OpenPostgres(t))
			r := recorder(t, db, schoolName)
			insert(t, r, history(uuid.New(), 1, 1)...)
			err := inOldSnapshot(t, db, level, func() { run(t, db, "SELECT setval('stored_events_id_seq', 1, false)") }, func(ctx context.Context) error {
				_, err := r.InsertEvents(ctx, append(history(uuid.New(), 1, 1), history(uuid.New(), 1, 1)...))
				return err
			})
			if !errors.Is(err, persistence.ErrIntegrity) || !strings.Contains(err.Error(), "setval") {
				t.Errorf("got %v, want an ErrIntegrity that names setval", err)
			}
		})
	}
}

// A transaction of SQLite that read before another one wrote cannot write any
// more, and must be repeated as well.
func TestSaveAfterAnOldReadOfSQLite(t *testing.T) {
	t.Parallel()
	db := migrated(t, testdb.SQLiteFile(t))
	deferred := testdb.Open(t, dialector("sqlite", strings.Replace(dsn(t, db), "_txlock=immediate", "_txlock=deferred", 1)))
	for way, events := range map[string]func(dog uuid.UUID) []persistence.StoredEvent{
		"one event": func(dog uuid.UUID) []persistence.StoredEvent { return history(dog, 2, 1) },
		"two aggregates": func(dog uuid.UUID) []persistence.StoredEvent {
			return append(history(uuid.New(), 1, 1), history(dog, 2, 1)...)
		},
	} {
		t.Run(way, func(t *testing.T) {
			r, own, dog := recorder(t, db, schoolName), recorder(t, deferred, schoolName), uuid.New()
			insert(t, r, history(dog, 1, 1)...)
			err := deferred.Transaction(func(tx *gorm.DB) error {
				wantVersions(t, readingIn{own, gormstore.WithTx(t.Context(), tx)}, dog, 1)
				insert(t, r, history(dog, 2, 1)...)
				_, err := own.InsertEvents(gormstore.WithTx(t.Context(), tx), events(dog))
				return err
			})
			if !errors.Is(err, persistence.ErrRetryTransaction) || persistence.IsConflict(err) {
				t.Errorf("got %v, want an ErrRetryTransaction that is no conflict", err)
			}
			wantVersions(t, r, dog, 1, 2)
		})
	}
}

// readingIn reads in the transaction of a context.
type readingIn struct {
	persistence.AggregateRecorder
	ctx context.Context
}

func (r readingIn) SelectEvents(_ context.Context, id uuid.UUID, wanted persistence.EventRange) iter.Seq2[persistence.StoredEvent, error] {
	return r.AggregateRecorder.SelectEvents(r.ctx, id, wanted)
}
