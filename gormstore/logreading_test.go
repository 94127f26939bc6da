package gormstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// readLog are the ways to read a log.
func readLog(ctx context.Context, r persistence.ProcessRecorder) map[string]error {
	_, page := r.SelectNotifications(ctx, persistence.NotificationRange{Limit: 10})
	_, head := r.MaxNotificationID(ctx)
	return map[string]error{"SelectNotifications": page, "MaxNotificationID": head}
}

// A transaction that keeps one snapshot cannot read the log: it would not see
// what was committed between two statements.
func TestLogInAnOldSnapshot(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.OpenPostgres(t))
	r := recorder(t, db, schoolName)
	insert(t, r, history(uuid.New(), 1, 1)...)
	for name, level := range oldSnapshots {
		err := inOldSnapshot(t, db, level, func() {}, func(ctx context.Context) error {
			for what, err := range readLog(ctx, r) {
				if !errors.Is(err, persistence.ErrNotSupported) || !strings.Contains(err.Error(), name) {
					t.Errorf("%s, %s: %v, want an ErrNotSupported", name, what, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// A role that may not see the locks of the server cannot find the bound of a
// log. It gets an error that says what to grant, and no event is passed over.
func TestLogWithoutTheRightToSeeLocks(t *testing.T) {
	t.Parallel()
	for revoked, grant := range map[string]string{
		"SELECT ON pg_locks":                   "GRANT SELECT ON TABLE pg_locks",
		"EXECUTE ON FUNCTION pg_lock_status()": "GRANT EXECUTE ON FUNCTION pg_lock_status",
	} {
		t.Run(revoked, func(t *testing.T) {
			t.Parallel()
			admin := created(t, testdb.OpenPostgres(t))
			role, db := roleOf(t, admin)
			grantTables(t, admin, role, "stored_events", "snapshots", "notification_tracking")
			dog, r := uuid.New(), recorder(t, db, schoolName)
			insert(t, r, history(dog, 1, 1)...)
			run(t, admin, "REVOKE "+revoked+" FROM PUBLIC")
			for what, err := range readLog(t.Context(), r) {
				if !errors.Is(err, persistence.ErrOperational) || !strings.Contains(err.Error(), grant) {
					t.Errorf("%s: %v, want an ErrOperational that says %s", what, err, grant)
				}
			}
			insert(t, r, history(dog, 2, 1)...)
			wantVersions(t, r, dog, 1, 2)
		})
	}
}

// A table of a session that has the name of the server's view hides no writer.
func TestLogBesideATableOfLocks(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.OpenPostgres(t))
	reader := again(t, db)
	limit(t, reader, 1)
	run(t, reader, "CREATE TEMP TABLE pg_locks AS SELECT * FROM pg_catalog.pg_locks LIMIT 0")
	transaction(t, db, func(ctx context.Context, _ *gorm.DB) error {
		r := recorder(t, db, schoolName)
		if _, err := r.InsertEvents(ctx, history(uuid.New(), 1, 1)); err != nil {
			return err
		}
		insert(t, r, history(uuid.New(), 1, 1)...)
		if log := wholeLog(t, recorder(t, reader, schoolName)); len(log) != 0 {
			t.Errorf("a reader finds %d events above a running writer, want none", len(log))
		}
		return nil
	})
}

// Readers need SELECT on the table alone, and writers USAGE on the sequence.
func TestRightsOfReadersAndWriters(t *testing.T) {
	t.Parallel()
	admin := created(t, testdb.OpenPostgres(t))
	reading, reader := roleOf(t, admin)
	run(t, admin, "GRANT SELECT ON stored_events, snapshots, notification_tracking TO "+reading)
	writing, writer := roleOf(t, admin)
	run(t, admin, "GRANT SELECT, INSERT ON stored_events TO "+writing)
	run(t, admin, "GRANT SELECT ON snapshots, notification_tracking TO "+writing)
	run(t, admin, "GRANT USAGE ON SEQUENCE stored_events_id_seq TO "+writing)
	w, dog := recorder(t, writer, schoolName), uuid.New()
	insert(t, w, history(dog, 1, 2)...)
	transaction(t, writer, func(ctx context.Context, _ *gorm.DB) error {
		_, err := w.InsertEvents(ctx, history(dog, 3, 1))
		return err
	})
	if _, err := w.InsertEvents(t.Context(), history(dog, 3, 1)); !persistence.IsConflict(err) {
		t.Errorf("got %v, want a conflict", err)
	}
	r := recorder(t, reader, schoolName)
	if log := wholeLog(t, r); len(log) != 3 {
		t.Errorf("the reader finds %d events, want 3", len(log))
	}
	wantVersions(t, r, dog, 1, 2, 3)
	run(t, admin, "SELECT setval('stored_events_id_seq', 1)")
	run(t, admin, "DELETE FROM stored_events WHERE id = 2")
	_, err := w.InsertEvents(t.Context(), history(uuid.New(), 1, 1))
	expect.ErrorAs[*gormstore.SequenceError](t, err)
}

// switching opens connections to one of two servers, as a proxy that changes
// its mind.
type switching struct {
	servers [2]driver.Connector
	second  atomic.Bool
}

func (s *switching) Connect(ctx context.Context) (driver.Conn, error) {
	if s.second.Load() {
		return s.servers[1].Connect(ctx)
	}
	return s.servers[0].Connect(ctx)
}

func (s *switching) Driver() driver.Driver { return s.servers[0].Driver() }

// A standby is no place to read the log, also for a reader that knows from the
// primary how far it may read: the standby may not have all of that yet.
func TestLogOnAStandby(t *testing.T) {
	t.Parallel()
	cluster := testdb.NewCluster(t, "fsync=off")
	primary := migrated(t, testdb.Open(t, postgres.Open(cluster.DSN("postgres"))))
	w, dog := recorder(t, primary, schoolName), uuid.New()
	insert(t, w, history(dog, 1, 3)...)
	address := cluster.NewStandby(t).DSN("postgres")
	standby := testdb.Open(t, postgres.Open(address))
	r := recorder(t, standby, schoolName)
	for what, err := range readLog(t.Context(), r) {
		if !errors.Is(err, persistence.ErrReadOnly) {
			t.Errorf("%s: %v, want an ErrReadOnly", what, err)
		}
	}
	if _, err := r.InsertEvents(t.Context(), history(dog, 4, 1)); !errors.Is(err, persistence.ErrReadOnly) {
		t.Errorf("a save: %v, want an ErrReadOnly", err)
	}
	wantVersions(t, r, dog, 1, 2, 3)

	run(t, standby, "SELECT pg_wal_replay_pause()")
	connector := &switching{servers: [2]driver.Connector{connectorOf(t, cluster.DSN("postgres")), connectorOf(t, address)}}
	pool := sql.OpenDB(connector)
	pool.SetMaxIdleConns(-1) // each statement has its own connection
	reader := recorder(t, testdb.Open(t, postgres.New(postgres.Config{Conn: pool})), schoolName)
	insert(t, w, history(dog, 4, 2)...)
	if log := wholeLog(t, reader); len(log) != 5 {
		t.Errorf("the reader finds %d events on the primary, want 5", len(log))
	}
	connector.second.Store(true)
	for _, stop := range []int64{0, 5} {
		page, err := reader.SelectNotifications(t.Context(), persistence.NotificationRange{Stop: stop, Limit: 10})
		if !errors.Is(err, persistence.ErrReadOnly) {
			t.Errorf("up to %d on the standby: %d events, %v; want an ErrReadOnly", stop, len(page), err)
		}
	}
	wantVersions(t, reader, dog, 1, 2, 3)
}

func connectorOf(t testing.TB, dsn string) driver.Connector {
	t.Helper()
	connector, err := stdlib.GetDefaultDriver().(*stdlib.Driver).OpenConnector(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return connector
}
