package gormstore_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// twoSchemas has the tables in the schemas north and south. Its only connection
// finds those in north.
func twoSchemas(t *testing.T) (db *gorm.DB, south *gorm.DB) {
	t.Helper()
	admin := testdb.OpenPostgres(t)
	db, south = inSchema(t, admin, "north"), inSchema(t, admin, "south")
	limit(t, db, 1)
	return db, south
}

// inSchema makes a schema with the tables. It returns a pool that finds them.
func inSchema(t *testing.T, admin *gorm.DB, name string) *gorm.DB {
	t.Helper()
	run(t, admin, "CREATE SCHEMA "+name)
	return migrated(t, testdb.Open(t, dialector("postgres", withParameter(t, dsn(t, admin), "search_path", name))))
}

// A connection whose search path is changed after the first use writes to
// another log. It takes the lock of that log, in every kind of write.
func TestSearchPathOfASessionChanges(t *testing.T) {
	t.Parallel()
	writes := map[string]func(ctx context.Context, db *gorm.DB, r persistence.ProcessRecorder) error{
		"merged": func(ctx context.Context, _ *gorm.DB, r persistence.ProcessRecorder) error {
			_, err := r.InsertEvents(ctx, history(uuid.New(), 1, 1))
			return err
		},
		"joined": func(ctx context.Context, db *gorm.DB, r persistence.ProcessRecorder) error {
			return gormstore.Transaction(ctx, db, func(ctx context.Context, _ *gorm.DB) error {
				_, err := r.InsertEvents(ctx, history(uuid.New(), 1, 1))
				return err
			})
		},
		"two originators": func(ctx context.Context, _ *gorm.DB, r persistence.ProcessRecorder) error {
			_, err := r.InsertEvents(ctx, slices.Concat(history(uuid.New(), 1, 1), history(uuid.New(), 1, 1)))
			return err
		},
		"processed": func(ctx context.Context, _ *gorm.DB, r persistence.ProcessRecorder) error {
			_, err := r.InsertProcessed(ctx, history(uuid.New(), 1, 1), persistence.Tracking{ApplicationName: "Leader", NotificationID: 7})
			return err
		},
	}
	for name, write := range writes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, south := twoSchemas(t)
			options := []gormstore.Option{gormstore.WithLockTimeout(shortLockTimeout), gormstore.WithStrictOrder()}
			r := recorder(t, db, schoolName, options...)
			insert(t, r, history(uuid.New(), 1, 1)...)
			run(t, db, "SET search_path = south")
			err := gormstore.Transaction(t.Context(), south, func(ctx context.Context, _ *gorm.DB) error {
				_, err := recorder(t, south, schoolName, options...).InsertEvents(ctx, history(uuid.New(), 1, 1))
				if err == nil {
					if err := write(t.Context(), db, r); !errors.Is(err, persistence.ErrLockTimeout) {
						t.Errorf("got %v beside a transaction that has the log, want a lock timeout", err)
					}
				}
				return err
			})
			if err == nil {
				err = write(t.Context(), db, r)
			}
			if err != nil {
				t.Fatal(err)
			}
			stored, err := r.SelectNotifications(t.Context(), persistence.NotificationRange{Limit: 10})
			if err != nil || len(stored) < 2 {
				t.Errorf("found %d events, %v: want those of the schema south", len(stored), err)
			}
		})
	}
}

// A reader whose search path has changed does not use the bound of the log that
// it read before.
func TestSearchPathOfAReaderChanges(t *testing.T) {
	t.Parallel()
	db, south := twoSchemas(t)
	r := recorder(t, db, schoolName)
	insert(t, r, history(uuid.New(), 1, 30)...)
	if _, err := r.SelectNotifications(t.Context(), persistence.NotificationRange{Limit: 100}); err != nil {
		t.Fatal(err)
	}
	run(t, db, "SET search_path = south")
	other := recorder(t, south, schoolName)
	read := func() []persistence.Notification {
		page, err := r.SelectNotifications(t.Context(), persistence.NotificationRange{Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		return page
	}
	err := gormstore.Transaction(t.Context(), south, func(ctx context.Context, _ *gorm.DB) error {
		_, err := other.InsertEvents(ctx, history(uuid.New(), 1, 1))
		insert(t, other, history(uuid.New(), 1, 1)...)
		if got := read(); len(got) > 0 {
			t.Errorf("read %d events above one that is not committed, want 0", len(got))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := read(); len(got) != 2 {
		t.Errorf("read %d events, want the 2 of the schema south", len(got))
	}
}
