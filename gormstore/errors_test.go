package gormstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// methods are all the ways to use recorders, by name.
func methods(r persistence.ProcessRecorder, snapshots persistence.AggregateRecorder, dog uuid.UUID) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"InsertEvents": func(ctx context.Context) error {
			_, err := r.InsertEvents(ctx, history(dog, 1, 1))
			return err
		},
		"InsertEvents, several": func(ctx context.Context) error {
			_, err := r.InsertEvents(ctx, history(dog, 1, 3))
			return err
		},
		"InsertEvents, many": func(ctx context.Context) error {
			_, err := r.InsertEvents(ctx, history(dog, 1, 2500))
			return err
		},
		"InsertProcessed": func(ctx context.Context) error {
			_, err := r.InsertProcessed(ctx, history(dog, 1, 1), persistence.Tracking{ApplicationName: kennels, NotificationID: 1})
			return err
		},
		"InsertTracking": func(ctx context.Context) error {
			return r.InsertTracking(ctx, persistence.Tracking{ApplicationName: kennels, NotificationID: 1})
		},
		"SelectEvents": func(ctx context.Context) error { return drained(ctx, r, dog) },
		"snapshots, SelectHistory": func(ctx context.Context) error {
			_, _, err := r.(capability.HistoryReader).SelectHistory(ctx, dog, 0)
			return err
		},
		"SelectNotifications": func(ctx context.Context) error {
			_, err := r.SelectNotifications(ctx, persistence.NotificationRange{Limit: 1})
			return err
		},
		"MaxNotificationID": func(ctx context.Context) error {
			_, err := r.MaxNotificationID(ctx)
			return err
		},
		"MaxTrackingID": func(ctx context.Context) error {
			_, err := r.MaxTrackingID(ctx, kennels)
			return err
		},
		"snapshots, InsertEvents": func(ctx context.Context) error {
			_, err := snapshots.InsertEvents(ctx, history(dog, 1, 1))
			return err
		},
		"snapshots, SelectEvents": func(ctx context.Context) error { return drained(ctx, snapshots, dog) },
	}
}

// drained reads an originator's events and returns the first error.
func drained(ctx context.Context, r persistence.AggregateRecorder, dog uuid.UUID) error {
	for _, err := range r.SelectEvents(ctx, dog, persistence.EventRange{}) {
		if err != nil {
			return err
		}
	}
	return nil
}

// Recorders can be made before the tables exist. Using one then says which
// table is missing and how to create it; and works once it is there.
func TestNotMigrated(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		t.Parallel()
		db := open(t)
		r, s := recorder(t, db, schoolName), snapshots(t, db, schoolName)
		for name, use := range methods(r, s, uuid.New()) {
			table := "stored_events"
			switch {
			case strings.HasPrefix(name, "snapshots"):
				table = "snapshots"
			case strings.Contains(name, "Tracking") || name == "InsertProcessed":
				table = "notification_tracking"
			}
			wantNotMigrated(t, name, use(t.Context()), table)
			err := gormstore.Transaction(t.Context(), db, func(ctx context.Context, _ *gorm.DB) error { return use(ctx) })
			wantNotMigrated(t, name+" in a transaction", err, table)
		}
		migrated(t, db)
		insert(t, r, history(uuid.New(), 1, 1)...)
		insert(t, s, history(uuid.New(), 1, 1)...)
		wantIdle(t, db)
	}, testdb.OneConnection()...)
}

func wantNotMigrated(t *testing.T, name string, err error, table string) {
	t.Helper()
	if !errors.Is(err, persistence.ErrNotMigrated) || !strings.Contains(err.Error(), table) || !strings.Contains(err.Error(), "AutoMigrate") {
		t.Errorf("%s: %v, want ErrNotMigrated with %s and AutoMigrate in its text", name, err, table)
	}
}

// A column that is missing is named as well.
func TestNotMigratedColumn(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		// Nothing is read of an empty log.
		insert(t, recorder(t, db, schoolName), history(uuid.New(), 1, 1)...)
		run(t, db, "ALTER TABLE stored_events DROP COLUMN topic")
		r := recorder(t, db, schoolName)
		for name, use := range methods(r, snapshots(t, db, schoolName), uuid.New()) {
			if strings.HasPrefix(name, "InsertEvents") || strings.HasPrefix(name, "Select") {
				wantNotMigrated(t, name, use(t.Context()), "topic")
			}
		}
	})
}

// After the database was closed everything is an ErrClosed.
func TestClosedDatabase(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		r, s := recorder(t, db, schoolName), snapshots(t, db, schoolName)
		insert(t, r, history(uuid.New(), 1, 1)...)
		pool, err := db.DB()
		if err != nil {
			t.Fatal(err)
		}
		if err := pool.Close(); err != nil {
			t.Fatal(err)
		}
		uses := methods(r, s, uuid.New())
		uses["AutoMigrate"] = func(context.Context) error { return gormstore.AutoMigrate(db) }
		uses["Validate"] = func(ctx context.Context) error { return gormstore.Validate(ctx, db) }
		uses["Transaction"] = func(ctx context.Context) error {
			return gormstore.Transaction(ctx, db, func(context.Context, *gorm.DB) error { return nil })
		}
		for name, use := range uses {
			if err := use(t.Context()); !errors.Is(err, persistence.ErrClosed) {
				t.Errorf("%s: %v, want ErrClosed", name, err)
			}
		}
	})
}

// A context that has ended stores nothing, reads nothing and says so.
func TestEndedContext(t *testing.T) {
	for name, end := range map[string]struct {
		ctx  func(context.Context) (context.Context, context.CancelFunc)
		want error
	}{
		"cancelled": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return ctx, cancel
		}, context.Canceled},
		"expired": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithDeadline(ctx, time.Now().Add(-time.Second))
		}, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, db *gorm.DB) {
				ctx, cancel := end.ctx(t.Context())
				defer cancel()
				r, s, dog := recorder(t, db, schoolName), snapshots(t, db, schoolName), uuid.New()
				uses := methods(r, s, dog)
				uses["Transaction"] = func(ctx context.Context) error {
					return gormstore.Transaction(ctx, db, func(context.Context, *gorm.DB) error { return nil })
				}
				for name, use := range uses {
					if err := use(ctx); !errors.Is(err, end.want) || !errors.Is(err, persistence.ErrPersistence) {
						t.Errorf("%s: %v, want %v", name, err, end.want)
					}
				}
				wantVersions(t, r, dog)
				wantVersions(t, s, dog)
				if _, err := r.InsertEvents(ctx, nil); !errors.Is(err, end.want) {
					t.Errorf("InsertEvents of nothing: %v, want %v", err, end.want)
				}
				wantIdle(t, db)
			})
		})
	}
}

// shortBusy opens a database again whose driver does not wait for locks by
// itself.
func shortBusy(t *testing.T, db *gorm.DB) *gorm.DB {
	t.Helper()
	return testdb.Open(t, dialector(db.Name(), strings.Replace(dsn(t, db), "_busy_timeout=10000", "_busy_timeout=1", 1)))
}

// A writer that is kept waiting for the order lock gives up in time, with an
// error that says why.
func TestLockTimeout(t *testing.T) {
	eachShared(t, func(t *testing.T, db *gorm.DB) {
		holder, waiter := recorder(t, db, schoolName, gormstore.WithStrictOrder()), shortBusy(t, db)
		openConnections(t, waiter, 3)
		gormstore.LookLong(waiter)
		r := recorder(t, waiter, schoolName, gormstore.WithLockTimeout(100*time.Millisecond))
		uses := methods(r, snapshots(t, waiter, schoolName), uuid.New())
		transaction(t, db, func(ctx context.Context, _ *gorm.DB) error {
			if _, err := holder.InsertProcessed(ctx, history(uuid.New(), 1, 1), persistence.Tracking{ApplicationName: kennels, NotificationID: 1}); err != nil {
				return err
			}
			for _, name := range []string{"InsertEvents", "InsertEvents, several", "InsertEvents, many", "InsertProcessed", "InsertTracking"} {
				watch := measure(t)
				err := uses[name](t.Context())
				wantLockTimeout(t, name, err, watch.took())
			}
			return nil
		})
		wantIdle(t, waiter)
		insert(t, recorder(t, waiter, schoolName, unhurried), history(uuid.New(), 1, 1)...)
	})
}

func wantLockTimeout(t *testing.T, what string, err error, took time.Duration) {
	t.Helper()
	if !errors.Is(err, persistence.ErrLockTimeout) || !persistence.IsRetryable(err) || !strings.Contains(err.Error(), "gormstore.Transaction") {
		t.Errorf("%s: %v, want ErrLockTimeout with a hint", what, err)
	}
	if errors.Is(err, context.Canceled) {
		t.Errorf("%s: %v is context.Canceled, which is the caller's", what, err)
	}
	if took > longestWait {
		t.Errorf("%s took %v with a lock timeout of 100 ms, want at most %v", what, took, longestWait)
	}
}

// A context that ends while a writer waits for the lock ends the waiting, and
// nothing is stored.
func TestEndedContextWhileWaiting(t *testing.T) {
	eachShared(t, func(t *testing.T, db *gorm.DB) {
		holder, waiter, dog := recorder(t, db, schoolName, gormstore.WithStrictOrder()), shortBusy(t, db), uuid.New()
		uses := methods(recorder(t, waiter, schoolName), snapshots(t, waiter, schoolName), dog)
		transaction(t, db, func(ctx context.Context, _ *gorm.DB) error {
			if _, err := holder.InsertProcessed(ctx, history(uuid.New(), 1, 1), persistence.Tracking{ApplicationName: kennels, NotificationID: 1}); err != nil {
				return err
			}
			for _, name := range []string{"InsertEvents, many", "InsertProcessed", "InsertTracking"} {
				waiting, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				if err := uses[name](waiting); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s: %v, want context.DeadlineExceeded", name, err)
				}
				cancel()
			}
			return nil
		})
		wantVersions(t, holder, dog)
		wantIdle(t, waiter)
	})
}

// If rows were imported with their ids, the sequence of PostgreSQL is below
// them. That is no version conflict, and the error says what to do.
func TestSequenceBehind(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.OpenPostgresSchema(t))
	run(t, db, `INSERT INTO stored_events VALUES (1, 'TrainingSchool', gen_random_uuid(), 1, 'Dog.Registered', '{}'),
		(2, 'TrainingSchool', gen_random_uuid(), 1, 'Dog.Registered', '{}')`)
	r := recorder(t, db, schoolName)
	for _, events := range []int{1, 2} {
		_, err := r.InsertEvents(t.Context(), history(uuid.New(), 1, events))
		if !errors.Is(err, persistence.ErrIntegrity) || persistence.IsConflict(err) || !strings.Contains(err.Error(), "setval") {
			t.Errorf("%d events: %v, want an ErrIntegrity that is no conflict and names setval", events, err)
		}
		run(t, db, "SELECT setval('stored_events_id_seq', 1, false)")
	}
	run(t, db, "SELECT setval('stored_events_id_seq', (SELECT max(id) FROM stored_events))")
	insert(t, r, history(uuid.New(), 1, 1)...)
}

// What the database's administrator may do to a connection is an ordinary
// failure, and the next save works.
func TestTerminatedConnection(t *testing.T) {
	t.Parallel()
	truth := created(t, testdb.OpenPostgresSchema(t))
	db := again(t, truth)
	r, dog := recorder(t, db, schoolName), uuid.New()
	insert(t, r, history(dog, 1, 1)...)
	transactionErr := gormstore.Transaction(t.Context(), db, func(ctx context.Context, tx *gorm.DB) error {
		var pid int
		if err := tx.Raw("SELECT pg_backend_pid()").Scan(&pid).Error; err != nil {
			return err
		}
		run(t, truth, fmt.Sprintf("SELECT pg_terminate_backend(%d)", pid))
		_, err := r.InsertEvents(ctx, history(dog, 2, 1))
		return err
	})
	if !errors.Is(transactionErr, persistence.ErrOperational) {
		t.Errorf("Transaction: %v, want an ErrOperational", transactionErr)
	}
	insert(t, r, history(dog, 2, 1)...)
	wantVersions(t, r, dog, 1, 2)
	wantIdle(t, db)
}

// The password in a DSN is in no error, also if the connection fails.
func TestErrorsHaveNoPassword(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-correct-horse"
	server, err := pgconn.ParseConfig(testdb.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	address := func(user string, port uint16, database string) string {
		u := url.URL{Scheme: "postgres", User: url.UserPassword(user, secret), Path: "/" + database,
			RawQuery: url.Values{"host": {server.Host}, "port": {strconv.Itoa(int(port))}, "sslmode": {"disable"}}.Encode()}
		return u.String()
	}
	wrong := map[string]string{
		"unknown user": address("nobody_of_this_name", server.Port, server.Database),
		"no server":    address(server.User, 1, server.Database),
		"no database":  address(server.User, server.Port, "no_such_database"),
	}
	for name, address := range wrong {
		db := openWith(t, postgres.Open(address), &gorm.Config{Logger: logger.Discard, DisableAutomaticPing: true})
		for method, use := range methods(recorder(t, db, schoolName), snapshots(t, db, schoolName), uuid.New()) {
			err := use(t.Context())
			if !errors.Is(err, persistence.ErrOperational) {
				t.Errorf("%s, %s: %v, want an ErrOperational", name, method, err)
			}
			if text := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(text, secret) {
				t.Errorf("%s, %s: the error has the password: %s", name, method, text)
			}
		}
	}
}

// What is stored never reaches GORM's log, at any level, in whatever way a save
// ends.
func TestLogHasNoPayload(t *testing.T) {
	const secret = "canary-4711"
	each(t, func(t *testing.T, db *gorm.DB) {
		var log bytes.Buffer
		all := logger.New(stdlog.New(&log, "", 0), logger.Config{LogLevel: logger.Info})
		r := recorder(t, db.Session(&gorm.Session{Logger: all}), schoolName)
		s := snapshots(t, db.Session(&gorm.Session{Logger: all}), schoolName)
		secretly := func(id uuid.UUID, n int) []persistence.StoredEvent {
			events := history(id, 1, n)
			for i := range events {
				events[i].State = []byte(secret)
			}
			return events
		}
		ctx := t.Context()
		for _, events := range []int{1, 3, 2500} {
			dog := uuid.New()
			insert(t, r, secretly(dog, events)...)
			if _, err := r.InsertEvents(ctx, secretly(dog, events)); !persistence.IsConflict(err) || strings.Contains(err.Error(), secret) {
				t.Errorf("InsertEvents of stored events: %v, want a conflict without their states", err)
			}
			insert(t, s, secretly(dog, events)...)
			_ = drained(ctx, r, dog)
		}
		_, _ = r.InsertProcessed(ctx, secretly(uuid.New(), 1), persistence.Tracking{ApplicationName: kennels, NotificationID: 1})
		_, _ = r.InsertProcessed(ctx, secretly(uuid.New(), 1), persistence.Tracking{ApplicationName: kennels, NotificationID: 1})
		run(t, db, "DROP TABLE stored_events")
		if _, err := r.InsertEvents(ctx, secretly(uuid.New(), 1)); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("InsertEvents without a table: %v, want an error without the payload", err)
		}
		if !strings.Contains(log.String(), "INSERT INTO") {
			t.Error("no statement was logged: the test proves nothing")
		}
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log has a payload: %s", log.String())
		}
	})
}
