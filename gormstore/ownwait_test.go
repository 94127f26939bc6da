package gormstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
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
				gormstore.LookLong(db)
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
				wait := measure(t)
				err := gormstore.Transaction(ctx, db, func(ctx context.Context, _ *gorm.DB) error {
					_, err := r.InsertEvents(ctx, history(dog, 0, 1))
					return err
				})
				switch took := wait.took(); {
				case limit == "lock timeout":
					wantTimelyLockTimeout(t, wait, err)
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

// slowly makes every event take longer to store than shortLockTimeout.
func slowly(t *testing.T, db *gorm.DB) {
	t.Helper()
	for _, statement := range []string{
		"CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1.2); RETURN NEW; END'",
		"CREATE TRIGGER slow BEFORE INSERT ON stored_events FOR EACH ROW EXECUTE FUNCTION slow()",
	} {
		if err := db.Exec(statement).Error; err != nil {
			t.Fatal(err)
		}
	}
}

// A save whose time limit passes while it waits for no lock goes on, although
// other sessions wait for locks: also with a driver that wraps that of pgx, and
// through a pooler, with which the session of the save is not known.
func TestSlowSaveInTransactionGoesOn(t *testing.T) {
	t.Parallel()
	for name, wrap := range drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := created(t, testdb.OpenPostgres(t))
			slowly(t, db)
			own := wrap(t, db)
			r := recorder(t, own, "Dogs", gormstore.WithLockTimeout(shortLockTimeout))
			const lock = "SELECT pg_advisory_xact_lock(4711)"
			holder, waiter := again(t, db).Begin(), again(t, db).Begin()
			if err := holder.Exec(lock).Error; err != nil {
				t.Fatal(err)
			}
			if name != throughPooler { // through it, the session might be the save's
				if err := waiter.Exec("LOCK TABLE stored_events IN ROW EXCLUSIVE MODE").Error; err != nil {
					t.Fatal(err)
				}
			}
			waited := make(chan error, 1)
			go func() { waited <- waiter.Exec(lock).Error }()
			if !expect.Eventually(func() bool { return waits(t, db, "advisory") }) {
				t.Fatal("no session waits")
			}
			transaction(t, own, func(ctx context.Context, _ *gorm.DB) error {
				_, err := r.InsertEvents(ctx, history(uuid.New(), 0, 1))
				return err
			})
			if !waits(t, db, "advisory") {
				t.Error("no session waits after the save")
			}
			if stored := wholeLog(t, r); len(stored) != 1 {
				t.Errorf("%d events are stored; want 1", len(stored))
			}
			if err := errors.Join(holder.Rollback().Error, <-waited, waiter.Rollback().Error); err != nil {
				t.Error(err)
			}
		})
	}
}

// With these drivers a wait is bounded as well.
func TestSaveInTransactionBoundsWaitsWithEveryDriver(t *testing.T) {
	t.Parallel()
	for name, wrap := range drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := created(t, testdb.OpenPostgres(t))
			own := wrap(t, db)
			gormstore.LookLong(own)
			r := recorder(t, own, "Dogs", gormstore.WithLockTimeout(shortLockTimeout))
			other := again(t, db).Begin()
			if err := other.Exec("SELECT pg_advisory_xact_lock(?)", gormstore.OrderKey("public", "stored_events", "Dogs")).Error; err != nil {
				t.Fatal(err)
			}
			wait := measure(t)
			err := gormstore.Transaction(t.Context(), own, func(ctx context.Context, _ *gorm.DB) error {
				_, err := r.InsertEvents(ctx, history(uuid.New(), 0, 1))
				return err
			})
			wantTimelyLockTimeout(t, wait, err)
			if err := other.Rollback().Error; err != nil {
				t.Fatal(err)
			}
		})
	}
}

const throughPooler = "pgx through a pooler"

// drivers open a database again with other drivers.
var drivers = map[string]func(t *testing.T, db *gorm.DB) *gorm.DB{
	"pgx":         func(_ *testing.T, db *gorm.DB) *gorm.DB { return db },
	"wrapped pgx": func(t *testing.T, db *gorm.DB) *gorm.DB { return newPatient(t, db).db },
	throughPooler: func(t *testing.T, db *gorm.DB) *gorm.DB {
		pool := sql.OpenDB(pooling{driverConnector(t, db)})
		return testdb.Open(t, postgres.New(postgres.Config{Conn: pool}))
	},
}

// pooling makes connections that know another process of the server than the
// one that serves them, as a pooler tells one.
type pooling struct{ driver.Connector }

func (p pooling) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := p.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return pooledConn{c.(*stdlib.Conn)}, nil
}

type driverConn = stdlib.Conn

type pooledConn struct{ *driverConn }

func (c pooledConn) Conn() pooledPgx { return pooledPgx{c.driverConn.Conn()} }

type pooledPgx struct{ *pgx.Conn }

func (c pooledPgx) PgConn() pooledPgConn { return pooledPgConn{c.Conn.PgConn()} }

type pooledPgConn struct{ *pgconn.PgConn }

func (c pooledPgConn) PID() uint32 { return 1 << 30 }

// waits reports whether a session waits for a lock of a type.
func waits(t *testing.T, db *gorm.DB, locktype string) (does bool) {
	t.Helper()
	query := "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = ?" +
		" AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
	if err := db.Raw(query, locktype).Scan(&does).Error; err != nil {
		t.Fatal(err)
	}
	return does
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
		wantOrderLock(t, tx)
		return nil
	})
}

// A nested transaction that has ended leaves a handle of the same transaction.
// A return to a savepoint that was set with it undoes the lock of the order as
// well.
func TestOrderLockAfterReturnToSavepointOfAnotherHandle(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.OpenPostgres(t))
	r := recorder(t, db, "Dogs")
	transaction(t, db, func(ctx context.Context, tx *gorm.DB) error {
		save := func() error {
			_, err := r.InsertEvents(ctx, history(uuid.New(), 0, 1))
			return err
		}
		var nested *gorm.DB
		err := gormstore.Transaction(ctx, db, func(_ context.Context, tx *gorm.DB) error { nested = tx; return nil })
		if err != nil {
			return err
		}
		for _, do := range []func() error{
			func() error { return nested.SavePoint("before").Error },
			save,
			func() error { return nested.RollbackTo("before").Error },
			save,
		} {
			if err := do(); err != nil {
				return err
			}
		}
		wantOrderLock(t, tx)
		return nil
	})
}

// wantOrderLock fails the test unless a transaction has the lock of the order,
// once, with its floor.
func wantOrderLock(t *testing.T, tx *gorm.DB) {
	t.Helper()
	var locks int
	query := "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
	if err := tx.Raw(query).Scan(&locks).Error; err != nil || locks != 2 {
		t.Errorf("the transaction has %d advisory locks (%v), want 2", locks, err)
	}
}
