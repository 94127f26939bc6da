package gormstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/faultdb/pgproxy"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// A cancel request that the server gets to late, after the statement that it
// was for has ended, reaches no later statement: the connection is closed, and
// the transaction on it is rolled back.
func TestLateCancelReachesNoOtherStatement(t *testing.T) {
	t.Parallel()
	truth := migrated(t, testdb.OpenPostgres(t))
	proxy := pgproxy.New(t, dsn(t, truth))
	db := testdb.Open(t, postgres.Open(proxy.DSN()))
	r := recorder(t, db, "Dogs", gormstore.WithLockTimeout(shortLockTimeout))
	insert(t, r, history(uuid.New(), 0, 1)...)
	held, forward := proxy.HoldCancels()
	defer forward()
	release := lockedTable(t, truth, "stored_events", "EXCLUSIVE")
	err := gormstore.Transaction(t.Context(), db, func(ctx context.Context, _ *gorm.DB) error {
		saved := make(chan error)
		go func() { _, err := r.InsertEvents(ctx, history(uuid.New(), 0, 1)); saved <- err }()
		<-held
		release()
		if err := <-saved; !errors.Is(err, persistence.ErrLockTimeout) {
			t.Errorf("got %v; want a lock timeout", err)
		}
		return nil
	})
	if err == nil {
		t.Error("the transaction was committed while a request to cancel its statement was on its way")
	}
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	later(t, truth, pool, forward)
	if stored := wholeLog(t, r); len(stored) != 1 {
		t.Errorf("%d events are stored; want 1", len(stored))
	}
}

// A save whose server does not answer, nor does what it is asked, ends soon after
// its caller's context, and the next save uses another connection.
func TestSaveEndsWithCallersContextWithoutAnswer(t *testing.T) {
	t.Parallel()
	truth := migrated(t, testdb.OpenPostgres(t))
	proxy := pgproxy.New(t, dsn(t, truth))
	r := recorder(t, testdb.Open(t, postgres.Open(proxy.DSN())), "Dogs", unhurried)
	insert(t, r, history(uuid.New(), 0, 1)...)
	ctx, cancel := context.WithCancel(t.Context())
	hang := make(chan struct{})
	proxy.Use(func(statement string) pgproxy.Action {
		if strings.Contains(statement, "INSERT INTO") {
			cancel()
			<-hang
		}
		return pgproxy.CutBefore
	})
	saved := make(chan error)
	go func() { _, err := r.InsertEvents(ctx, history(uuid.New(), 0, 1)); saved <- err }()
	select {
	case err := <-saved:
		if !errors.Is(err, persistence.ErrOutcomeUnknown) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v; want an unknown outcome because the context was canceled", err)
		}
	case <-time.After(patience):
		t.Error("the save waits for its answer although its context has ended")
	}
	close(hang)
	proxy.Use(nil)
	insert(t, r, history(uuid.New(), 0, 1)...)
	if stored := wholeLog(t, r); len(stored) != 2 {
		t.Errorf("%d events are stored; want 2", len(stored))
	}
}

// later runs a statement on every idle connection of a pool, and checks that
// none of them is canceled by requests that arrive meanwhile.
func later(t *testing.T, truth *gorm.DB, pool *sql.DB, forward func()) {
	t.Helper()
	const lock = 4713
	holder := truth.Begin()
	expect.NoError(t, holder.Exec("SELECT pg_advisory_xact_lock(?)", lock).Error)
	idle := pool.Stats().Idle
	var wg sync.WaitGroup
	for range idle {
		wg.Go(func() {
			if _, err := pool.ExecContext(t.Context(), "SELECT pg_advisory_lock_shared($1), pg_sleep(2) AS later", lock); err != nil {
				t.Errorf("a later statement failed: %v", err)
			}
		})
	}
	expect.Until(t, "the later statements run", func() bool { return sessionsWaiting(t, truth) == idle })
	forward()
	expect.NoError(t, holder.Rollback().Error)
	wg.Wait()
}

// A save that takes long, but does not wait for a table itself, is not canceled
// although another session waits for the table.
func TestSlowSaveIsNotCanceled(t *testing.T) {
	t.Parallel()
	db := migrated(t, testdb.OpenPostgres(t))
	for _, statement := range []string{
		"CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3); RETURN NEW; END $$",
		"CREATE TRIGGER slow BEFORE INSERT ON stored_events FOR EACH ROW EXECUTE FUNCTION slow()",
	} {
		if err := db.Exec(statement).Error; err != nil {
			t.Fatal(err)
		}
	}
	r := recorder(t, db, "Dogs", gormstore.WithLockTimeout(shortLockTimeout))
	for name, save := range map[string]func() error{
		"merged": func() error { return last(r.InsertEvents(t.Context(), history(uuid.New(), 0, 1))) },
		"joined": func() error {
			return gormstore.Transaction(t.Context(), db, func(ctx context.Context, _ *gorm.DB) error {
				return last(r.InsertEvents(ctx, history(uuid.New(), 0, 1)))
			})
		},
	} {
		other := again(t, db) // before the save, as connecting may take long
		saved := make(chan error, 1)
		go func() { saved <- save() }()
		writes := func() bool {
			var n int
			err := other.Raw("SELECT count(*) FROM pg_locks WHERE mode = 'RowExclusiveLock'" +
				" AND relation = 'stored_events'::regclass").Scan(&n).Error
			return err == nil && n > 0
		}
		if !expect.Eventually(writes) {
			t.Fatalf("%s: the save does not write", name)
		}
		waiter := make(chan error)
		go func() {
			waiter <- other.Transaction(func(tx *gorm.DB) error {
				return tx.Exec("LOCK TABLE stored_events IN ACCESS EXCLUSIVE MODE").Error
			})
		}()
		if err := errors.Join(<-saved, <-waiter); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if stored := wholeLog(t, r); len(stored) != 2 {
		t.Errorf("%d events are stored; want 2", len(stored))
	}
}

// errorLog is a logger of GORM that keeps the errors it is told of.
type errorLog struct {
	logger.Interface
	errors []error
}

func (l *errorLog) LogMode(logger.LogLevel) logger.Interface { return l }

func (l *errorLog) Trace(_ context.Context, _ time.Time, _ func() (string, int64), err error) {
	if err != nil {
		l.errors = append(l.errors, err)
	}
}

// A statement whose caller has canceled it is no error to log, and one whose
// deadline has passed is. On PostgreSQL the statement waits for a lock
// meanwhile.
func TestCanceledStatementIsNotLogged(t *testing.T) {
	eachAlone(t, func(t *testing.T, db *gorm.DB) {
		isPostgres := db.Dialector.Name() == "postgres"
		seen := &errorLog{Interface: logger.Discard}
		store := gormstore.New(db.Session(&gorm.Session{Logger: seen}), unhurried)
		made, err := store.ProcessRecorder("Counters")
		if err != nil {
			t.Fatal(err)
		}
		recorder := made.(capability.SettingsRecorder)
		isWaiting := func() bool {
			var n int
			err := db.Raw("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory' AND database = " +
				"(SELECT oid FROM pg_database WHERE datname = current_database())").Scan(&n).Error
			return err == nil && n > 0
		}
		for _, want := range []error{context.Canceled, context.DeadlineExceeded} {
			seen.errors = nil
			err := store.Transaction(t.Context(), func(holding context.Context) error {
				if !isPostgres {
					ended, cancel := context.WithCancel(holding)
					if want == context.DeadlineExceeded {
						ended, cancel = context.WithDeadline(holding, time.Now())
					}
					cancel()
					_, err := made.MaxNotificationID(ended)
					return err
				}
				if _, _, err := recorder.LockSettings(holding, "School"); err != nil {
					return err
				}
				ending, cancel := context.WithCancel(t.Context())
				if want == context.DeadlineExceeded {
					deadline := newDeadline(t.Context(), time.Hour)
					ending, cancel = deadline, deadline.end
				}
				go func() {
					expect.Eventually(isWaiting)
					cancel()
				}()
				return store.Transaction(gormstore.WithoutTx(ending), func(ctx context.Context) error {
					_, _, err := recorder.LockSettings(ctx, "School")
					return err
				})
			})
			if !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
			if logged := len(seen.errors) > 0; logged != (want == context.DeadlineExceeded) {
				t.Errorf("%v: logged %v, want an error only of a deadline", want, seen.errors)
			}
		}
	})
}

// A conflict is an answer to the caller, and no error of a statement that an
// operator should see, however the events are written.
func TestConflictIsNotLogged(t *testing.T) {
	eachAlone(t, func(t *testing.T, db *gorm.DB) {
		seen := &errorLog{Interface: logger.Discard}
		db = db.Session(&gorm.Session{Logger: seen})
		r := recorder(t, db, schoolName, unhurried)
		id := uuid.New()
		insert(t, r, history(id, 1, 3)...)
		position := persistence.Tracking{ApplicationName: "Up", NotificationID: 1}
		for name, write := range map[string]func(ctx context.Context) error{
			"one event":  func(ctx context.Context) error { return last(r.InsertEvents(ctx, history(id, 3, 1))) },
			"a gap":      func(ctx context.Context) error { return last(r.InsertEvents(ctx, history(id, 9, 1))) },
			"two events": func(ctx context.Context) error { return last(r.InsertEvents(ctx, history(id, 2, 2))) },
			"a position": func(ctx context.Context) error { return last(r.InsertProcessed(ctx, history(id, 3, 1), position)) },
		} {
			inTransaction := func(ctx context.Context) error {
				return gormstore.Transaction(ctx, db, func(ctx context.Context, _ *gorm.DB) error { return write(ctx) })
			}
			for where, write := range map[string]func(context.Context) error{"alone": write, "in a transaction": inTransaction} {
				seen.errors = nil
				if err := write(t.Context()); !persistence.IsConflict(err) && !errors.Is(err, persistence.ErrIntegrity) {
					t.Errorf("%s, %s: got %v, want a conflict", name, where, err)
				}
				if len(seen.errors) > 0 {
					t.Errorf("%s, %s: GORM's logger was told of %v", name, where, seen.errors)
				}
			}
		}
	})
}

// A lost connection or transaction is logged unless the caller has canceled the
// statement, which loses them by itself.
func TestLossAfterACancelIsNotLogged(t *testing.T) {
	t.Parallel()
	store := gormstore.New(created(t, testdb.OpenPostgresSchema(t)))
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, stop := context.WithDeadline(t.Context(), time.Now())
	defer stop()
	for _, err := range []error{driver.ErrBadConn, sql.ErrTxDone, sql.ErrConnDone, context.Canceled} {
		for name, test := range map[string]struct {
			ctx    context.Context
			logged bool
		}{"canceled": {canceled, false}, "a deadline": {late, true}, "not ended": {t.Context(), true}} {
			if logged := !gormstore.IsExpected(test.ctx, store, fmt.Errorf("save: %w", err)); logged != test.logged {
				t.Errorf("%s, %v: logged %t, want %t", name, err, logged, test.logged)
			}
		}
	}
	if gormstore.IsExpected(canceled, store, errors.New("disk full")) {
		t.Error("another error of a canceled statement is not logged, want it logged")
	}
}
