package gormstore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/faultdb/pgproxy"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// What an error of a statement says about the event that a handler processes.
type verdict struct{ trouble, retryable bool }

var (
	event    = verdict{}              // Park is asked about the event
	database = verdict{trouble: true} // nothing; the event is tried again
	passing  = verdict{trouble: true, retryable: true}
)

// fault is one code of a database.
type fault struct {
	code    string
	message string
	class   error
	verdict verdict
}

var postgresFaults = []fault{
	{"03000", "", persistence.ErrDatabase, database},
	{"08000", "", persistence.ErrOperational, database},
	{"08003", "", persistence.ErrOperational, database},
	{"08001", "", persistence.ErrUnavailable, database},
	{"08004", "", persistence.ErrUnavailable, database},
	{"08006", "", persistence.ErrOperational, database},
	{"08007", "", persistence.ErrOutcomeUnknown, database},
	{"08P01", "bind message supplies 2 parameters, but prepared statement requires 1", persistence.ErrOperational, database},
	{"0A000", "cannot insert into a materialized view", persistence.ErrNotSupported, event},
	{"0A000", "cached plan must not change result type", persistence.ErrNotSupported, passing},
	{"21000", "more than one row returned by a subquery", persistence.ErrDatabase, event},
	{"22001", "value too long", persistence.ErrData, event},
	{"22003", "out of range", persistence.ErrData, event},
	{"22021", "invalid byte sequence", persistence.ErrData, event},
	{"2200H", "reached maximum value of sequence", persistence.ErrOperational, database},
	{"22P02", "invalid input syntax", persistence.ErrData, event},
	{"23502", "not null", persistence.ErrIntegrity, event},
	{"23503", "foreign key", persistence.ErrIntegrity, event},
	{"23505", "unique", persistence.ErrIntegrity, event},
	{"23514", "check", persistence.ErrIntegrity, event},
	{"24000", "", persistence.ErrDatabase, database},
	{"25001", "", persistence.ErrInternal, database},
	{"25P01", "", persistence.ErrProgramming, database},
	{"25006", "", persistence.ErrReadOnly, database},
	{"25P02", "", persistence.ErrInternal, database},
	{"25P03", "", persistence.ErrOperational, database},
	{"25P04", "", persistence.ErrOperational, database},
	{"26000", "prepared statement does not exist", persistence.ErrProgramming, passing},
	{"28000", "", persistence.ErrOperational, database},
	{"28P01", "", persistence.ErrOperational, database},
	{"2D000", "", persistence.ErrDatabase, database},
	{"34000", "portal does not exist", persistence.ErrDatabase, passing},
	{"3B001", "", persistence.ErrDatabase, database},
	{"3D000", "", persistence.ErrOperational, database},
	{"3F000", "", persistence.ErrOperational, database},
	{"40001", "", persistence.ErrRetryTransaction, passing},
	{"40003", "", persistence.ErrOutcomeUnknown, database},
	{"40P01", "", persistence.ErrRetryTransaction, passing},
	{"42501", "", persistence.ErrOperational, database},
	{"42601", "syntax error", persistence.ErrProgramming, event},
	{"42703", "", persistence.ErrOperational, database},
	{"42804", "datatype mismatch", persistence.ErrProgramming, event},
	{"42P01", "", persistence.ErrOperational, database},
	{"42P05", "prepared statement already exists", persistence.ErrProgramming, passing},
	{"42P18", "could not determine data type of parameter $1", persistence.ErrProgramming, passing},
	{"44000", "with check option", persistence.ErrDatabase, event},
	{"53100", "", persistence.ErrDiskFull, database},
	{"53200", "", persistence.ErrOperational, database},
	{"53300", "", persistence.ErrUnavailable, database},
	{"54000", "index row size 8016 exceeds btree version 4 maximum 2704", persistence.ErrData, event},
	{"54001", "stack depth limit exceeded", persistence.ErrData, event},
	{"55000", "", persistence.ErrOperational, database},
	{"55006", "", persistence.ErrOperational, database},
	{"55P03", "", persistence.ErrLockTimeout, passing},
	{"57014", "", persistence.ErrOperational, database},
	{"57P01", "", persistence.ErrUnavailable, database},
	{"57P02", "", persistence.ErrUnavailable, database},
	{"57P03", "", persistence.ErrUnavailable, database},
	{"57P05", "", persistence.ErrOperational, database},
	{"58030", "", persistence.ErrOperational, database},
	{"72000", "", persistence.ErrDatabase, passing},
	{"F0000", "", persistence.ErrDatabase, database},
	{"HV000", "", persistence.ErrDatabase, database},
	{"P0001", "raised by a trigger", persistence.ErrDatabase, event},
	{"XX000", "", persistence.ErrInternal, database},
	{"XX001", "", persistence.ErrInternal, database},
	{"ZZ999", "unknown", persistence.ErrDatabase, event},
}

var sqliteFaults = []fault{
	{"1", "near FROM: syntax error", persistence.ErrDatabase, event},
	{"2", "", persistence.ErrInternal, database},
	{"3", "", persistence.ErrOperational, database},
	{"4", "", persistence.ErrOperational, database},
	{"516", "abort by a rollback", persistence.ErrOperational, database},
	{"5", "", persistence.ErrLockTimeout, passing},
	{"261", "busy in recovery", persistence.ErrLockTimeout, passing},
	{"517", "busy with an old snapshot", persistence.ErrRetryTransaction, passing},
	{"6", "", persistence.ErrLockTimeout, passing},
	{"262", "locked in a shared cache", persistence.ErrLockTimeout, passing},
	{"7", "", persistence.ErrOperational, database},
	{"8", "", persistence.ErrReadOnly, database},
	{"1032", "read-only: the file was moved", persistence.ErrReadOnly, database},
	{"9", "", persistence.ErrOperational, database},
	{"10", "", persistence.ErrOperational, database},
	{"778", "input or output: write", persistence.ErrOperational, database},
	{"11", "", persistence.ErrDatabase, database},
	{"13", "", persistence.ErrDiskFull, database},
	{"14", "", persistence.ErrOperational, database},
	{"15", "", persistence.ErrOperational, database},
	{"17", "", persistence.ErrOperational, passing},
	{"18", "", persistence.ErrData, event},
	{"19", "", persistence.ErrIntegrity, event},
	{"275", "check", persistence.ErrIntegrity, event},
	{"787", "foreign key", persistence.ErrIntegrity, event},
	{"1299", "not null", persistence.ErrIntegrity, event},
	{"1555", "primary key", persistence.ErrIntegrity, event},
	{"1811", "raised by a trigger", persistence.ErrIntegrity, event},
	{"2067", "unique", persistence.ErrIntegrity, event},
	{"20", "", persistence.ErrData, event},
	{"21", "", persistence.ErrInterface, database},
	{"22", "", persistence.ErrOperational, database},
	{"23", "", persistence.ErrOperational, database},
	{"25", "", persistence.ErrProgramming, event},
	{"26", "", persistence.ErrDatabase, database},
	{"99", "unknown", persistence.ErrDatabase, event},
}

// sqliteError is an error of a driver of SQLite.
type sqliteError struct{ fault }

func (e sqliteError) Error() string { return e.message }

func (e sqliteError) Code() int {
	code, err := strconv.Atoi(e.code)
	if err != nil {
		panic(err)
	}
	return code
}

// Each class of errors, and each code unlike its class, has one meaning: for
// callers, and for followers whose handlers send their own statements.
func TestFaults(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		db     *gorm.DB
		faults []fault
		err    func(fault) error
	}{
		"postgres": {testdb.OpenPostgresSchema(t), postgresFaults, func(f fault) error { return &pgconn.PgError{Code: f.code, Message: f.message} }},
		"sqlite":   {testdb.SQLiteMemory(t), sqliteFaults, func(f fault) error { return sqliteError{f} }},
	} {
		store := gormstore.New(test.db)
		rows := gormstore.FaultsOf(store)
		for _, f := range test.faults {
			rows = slices.DeleteFunc(rows, func(row string) bool { return f.code == row || name == "postgres" && f.code[:2] == row })
			err := fmt.Errorf("policy: %w", test.err(f))
			if class := gormstore.ClassOf(store, err); class != f.class {
				t.Errorf("%s, %s %s: class %v, want %v", name, f.code, f.message, class, f.class)
			}
			class, retryable := capability.Of(store).Classifier.Classify(err)
			if got := (verdict{class != nil, retryable}); got != f.verdict || class != nil && class != f.class {
				t.Errorf("%s, %s %s: trouble %v, retryable %t, want %+v", name, f.code, f.message, class, retryable, f.verdict)
			}
		}
		if len(rows) > 0 {
			t.Errorf("%s: the test has no case for %v, want 0 rows", name, rows)
		}
		for _, err := range []error{nil, errors.New("no credit")} {
			if class, retryable := capability.Of(store).Classifier.Classify(err); class != nil || retryable {
				t.Errorf("%s: %v counts as trouble with the database", name, err)
			}
		}
	}
}

// A statement that was prepared before a migration changed its columns fails
// once, and works at the next attempt, with every way of preparing statements.
func TestCachedPlan(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]gorm.Config{"driver": {}, "PrepareStmt": {PrepareStmt: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			truth := created(t, testdb.OpenPostgresSchema(t))
			run(t, truth, "CREATE TABLE names (name text)")
			db := configured(t, truth.Dialector, config)
			store := gormstore.New(db)
			read := func() error {
				return store.Transaction(t.Context(), func(ctx context.Context) error {
					tx, err := gormstore.Tx(ctx)
					if err != nil {
						return err
					}
					var rows []map[string]any
					return tx.Raw("SELECT * FROM names").Scan(&rows).Error
				})
			}
			for range 3 { // whatever the connection: all of them have prepared it
				if err := read(); err != nil {
					t.Fatal(err)
				}
			}
			run(t, truth, "ALTER TABLE names ADD COLUMN breed text")
			err := read()
			if class, retryable := capability.Of(store).Classifier.Classify(err); class == nil || !retryable {
				t.Fatalf("%v: trouble %v, retryable %t, want a cached plan, which passes", err, class, retryable)
			}
			if err := read(); err != nil {
				t.Errorf("the next attempt: %v", err)
			}
		})
	}
}

// A connection that is lost during a caller's own statement is trouble with the
// database, although the driver's error has no code; an argument that the
// driver cannot send is not.
func TestLostConnectionInATransaction(t *testing.T) {
	t.Parallel()
	truth := created(t, testdb.OpenPostgresSchema(t))
	proxy := pgproxy.New(t, dsn(t, truth))
	db := testdb.Open(t, dialector("postgres", proxy.DSN()))
	send := func(arguments ...any) error {
		return gormstore.New(db).Transaction(t.Context(), func(ctx context.Context) error {
			tx, err := gormstore.Tx(ctx)
			if err != nil {
				return err
			}
			return tx.Exec("SELECT 'of the caller', ?::int", arguments...).Error
		})
	}
	if err := send(make(chan int)); err == nil || errors.Is(err, persistence.ErrOperational) {
		t.Errorf("%v, want an error that is not operational", err)
	}
	proxy.Use(func(statement string) pgproxy.Action {
		if strings.Contains(statement, "of the caller") {
			return pgproxy.CutBefore
		}
		return pgproxy.Forward
	})
	if err := send(1); !errors.Is(err, persistence.ErrOperational) {
		t.Errorf("%v, want an ErrOperational", err)
	}
	proxy.Use(nil)
	if err := send(1); err != nil {
		t.Errorf("the next attempt: %v", err)
	}
	wantIdle(t, db)
}

// An id that does not fit its column is an error of the schema, which says
// nothing about the events that are saved: a follower must not park what it
// processes. The same error of a handler's own statement is about the event.
func TestIDsOfANarrowColumnRunOut(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.OpenPostgresSchema(t))
	run(t, db, "ALTER TABLE stored_events ALTER COLUMN id TYPE integer")
	run(t, db, "SELECT setval('stored_events_id_seq', 2147483647)")
	store := gormstore.New(db)
	recorder, err := store.ProcessRecorder("Kennels")
	if err != nil {
		t.Fatal(err)
	}
	save := func(ctx context.Context) error {
		_, err := recorder.InsertEvents(ctx, []persistence.StoredEvent{{OriginatorID: uuid.New(), OriginatorVersion: 1, Topic: "Dog.Named", State: []byte("{}")}})
		return err
	}
	want := func(kind string, err error) {
		t.Helper()
		if !errors.Is(err, persistence.ErrOperational) || !strings.Contains(err.Error(), "make the column a bigint") {
			t.Errorf("%s: %v, want an ErrOperational that says what to do", kind, err)
		}
	}
	want("alone", save(t.Context()))
	want("in a transaction", store.Transaction(t.Context(), save))
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() { want("merged", save(t.Context())) })
	}
	group.Wait()
	if class, _ := capability.Of(store).Classifier.Classify(&pgconn.PgError{Code: "22003"}); class != nil {
		t.Error("a number of a policy's own statement counts as trouble with the database")
	}
}

// losses are what a caller does in a transaction whose connection is lost: lose
// ends its session.
var losses = map[string]func(ctx context.Context, db, tx *gorm.DB, r persistence.ProcessRecorder, lose func()) error{
	"in a save": func(ctx context.Context, _, _ *gorm.DB, r persistence.ProcessRecorder, lose func()) error {
		lose()
		_, err := r.InsertEvents(ctx, history(uuid.New(), 1, 1))
		return err
	},
	"in a save of several": func(ctx context.Context, _, _ *gorm.DB, r persistence.ProcessRecorder, lose func()) error {
		lose()
		_, err := r.InsertEvents(ctx, append(history(uuid.New(), 1, 1), history(uuid.New(), 1, 1)...))
		return err
	},
	"after a save": func(ctx context.Context, db, tx *gorm.DB, r persistence.ProcessRecorder, lose func()) error {
		if _, err := r.InsertEvents(ctx, history(uuid.New(), 1, 1)); err != nil {
			return err
		}
		lose()
		return tx.Exec("SELECT 1").Error
	},
	"in a read": func(ctx context.Context, _, _ *gorm.DB, r persistence.ProcessRecorder, lose func()) error {
		lose()
		return drained(ctx, r, uuid.New())
	},
	"in a read of the log": func(ctx context.Context, _, _ *gorm.DB, r persistence.ProcessRecorder, lose func()) error {
		lose()
		_, err := r.SelectNotifications(ctx, persistence.NotificationRange{Limit: 1})
		return err
	},
	"in a position": func(ctx context.Context, _, _ *gorm.DB, r persistence.ProcessRecorder, lose func()) error {
		lose()
		return r.InsertTracking(ctx, persistence.Tracking{ApplicationName: kennels, NotificationID: 1})
	},
	"in a statement": func(_ context.Context, _, tx *gorm.DB, _ persistence.ProcessRecorder, lose func()) error {
		lose()
		return tx.Exec("SELECT ?::int", 1).Error
	},
	"in a query": func(_ context.Context, _, tx *gorm.DB, _ persistence.ProcessRecorder, lose func()) error {
		lose()
		var n int
		return tx.Raw("SELECT 1").Scan(&n).Error
	},
	"in a nested transaction": func(ctx context.Context, db, tx *gorm.DB, r persistence.ProcessRecorder, lose func()) error {
		return gormstore.Transaction(ctx, db, func(ctx context.Context, _ *gorm.DB) error {
			lose()
			_, err := r.InsertEvents(ctx, history(uuid.New(), 1, 1))
			return err
		})
	},
	"before a nested transaction": func(_ context.Context, _, tx *gorm.DB, _ persistence.ProcessRecorder, lose func()) error {
		lose()
		return tx.Transaction(func(*gorm.DB) error { return nil })
	},
	"before a save, and noticed": func(ctx context.Context, _, tx *gorm.DB, r persistence.ProcessRecorder, lose func()) error {
		// The recorder knows the table from now on.
		if _, err := r.InsertEvents(ctx, history(uuid.New(), 1, 1)); err != nil {
			return err
		}
		lose()
		_ = tx.Exec("SELECT 1").Error // as a caller who ignores it
		_, err := r.InsertEvents(ctx, history(uuid.New(), 1, 2))
		return err
	},
	"before a save of several, and noticed": func(ctx context.Context, _, tx *gorm.DB, r persistence.ProcessRecorder, lose func()) error {
		lose()
		_ = tx.Exec("SELECT 1").Error // the same
		_, err := r.InsertEvents(ctx, append(history(uuid.New(), 1, 1), history(uuid.New(), 1, 1)...))
		return err
	},
	"without a look at it": func(ctx context.Context, db, tx *gorm.DB, r persistence.ProcessRecorder, lose func()) error {
		if _, err := r.InsertEvents(ctx, history(uuid.New(), 1, 1)); err != nil {
			return err
		}
		lose()
		_ = tx.Exec("SELECT 1").Error // as a caller who ignores it
		return nil
	},
}

// terminate ends the session of a transaction, and returns when it has ended.
func terminate(t testing.TB, truth, tx *gorm.DB) {
	t.Helper()
	var pid int
	if err := tx.Raw("SELECT pg_backend_pid()").Scan(&pid).Error; err != nil {
		t.Fatal(err)
	}
	run(t, truth, fmt.Sprintf("SELECT pg_terminate_backend(%d, 10000)", pid))
}

// A connection that is lost in a transaction is retryable, wherever the loss is
// noticed before the commit is sent: nothing of the transaction is stored.
// After that the outcome is unknown.
func TestLostConnectionIsRetryable(t *testing.T) {
	t.Parallel()
	truth := created(t, testdb.OpenPostgresSchema(t))
	for name, lose := range losses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := again(t, truth)
			r := recorder(t, db, schoolName)
			before := count(t, truth, "stored_events")
			err := gormstore.Transaction(t.Context(), db, func(ctx context.Context, tx *gorm.DB) error {
				return lose(ctx, db, tx, r, func() { terminate(t, truth, tx) })
			})
			if !persistence.IsRetryable(err) || !errors.Is(err, persistence.ErrUnavailable) {
				t.Errorf("got %v, want an ErrUnavailable", err)
			}
			if after := count(t, truth, "stored_events"); after != before {
				t.Errorf("%d events were stored, want none", after-before)
			}
			wantIdle(t, db)
		})
	}
}

// While a server takes no connections, whatever is asked of it may succeed later.
func TestServerThatIsDownIsRetryable(t *testing.T) {
	t.Parallel()
	truth := created(t, testdb.OpenPostgresSchema(t))
	config := expect.Must(pgx.ParseConfig(truth.Dialector.(*postgres.Dialector).DSN))
	dial := config.DialFunc
	var down atomic.Bool
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if down.Load() {
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
		}
		return dial(ctx, network, address)
	}
	pool := stdlib.OpenDB(*config)
	pool.SetMaxIdleConns(-1) // none is left that was made before
	db := testdb.Open(t, postgres.New(postgres.Config{Conn: pool}))
	down.Store(true)
	r := recorder(t, db, schoolName)
	_, inserted := r.InsertEvents(t.Context(), history(uuid.New(), 0, 1))
	_, head := r.MaxNotificationID(t.Context())
	for what, err := range map[string]error{
		"a save": inserted,
		"a read": head,
		"a transaction": gormstore.Transaction(t.Context(), db, func(context.Context, *gorm.DB) error {
			t.Error("the transaction has begun")
			return nil
		}),
	} {
		if !persistence.IsRetryable(err) || !errors.Is(err, persistence.ErrUnavailable) || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: got %v, want an ErrUnavailable of a refused connection", what, err)
		}
	}
}
