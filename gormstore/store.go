package gormstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// defaultLockTimeout is how long a save waits for the order lock of its
// application.
const defaultLockTimeout = 10 * time.Second

// Store is a persistence.Factory over a database that GORM has open. It is safe
// for concurrent use. Applications that use the same database may share a Store
// or have one each.
type Store struct {
	capabilities

	db          *gorm.DB
	dialect     dialect
	tables      tables
	lockTimeout time.Duration
	setsTimeout bool     // by WithLockTimeout
	notify      bool     // saves tell listeners of them
	listener    Listener // may be nil
	order       writerOrder
	pool        *sql.DB
	poolState   *poolState
	initErr     error // why this database cannot be used; reported when a recorder is made
	closed      atomic.Bool
	// statements has *sql.Stmt, by their text. It is not in poolState, because
	// statements keep the pool alive.
	statements sync.Map
}

// Option is a setting of a Store.
type Option func(*Store)

// WithLockTimeout sets how long a save waits for the order lock of its
// application, and a read for a table, before it gives up with
// persistence.ErrLockTimeout. The default is 10 seconds. It also holds for
// Transaction and Retry with the same database, for which the Store that was
// made last with this option decides.
func WithLockTimeout(timeout time.Duration) Option {
	return func(s *Store) { s.lockTimeout, s.setsTimeout = timeout, true }
}

// New makes a Store over a database. The handle is the user's: New does not
// change its settings, and Close does not close it. A handle that cannot be
// used (nil, a dry run, a transaction, an unknown database) is reported when an
// application is made with the Store.
func New(db *gorm.DB, options ...Option) *Store {
	s := &Store{lockTimeout: defaultLockTimeout}
	s.provide()
	if s.initErr = s.adopt(db); s.initErr == nil {
		s.tables = tablesOf(s.db)
		s.initErr = s.tables.check()
	}
	for _, option := range options {
		option(s)
	}
	s.notify = s.notify && s.initErr == nil && s.db.Name() == postgresName
	if s.lockTimeout <= 0 && s.initErr == nil {
		s.initErr = errors.New("the lock timeout must be above zero: waiting without a limit is not supported")
	}
	if s.setsTimeout && s.initErr == nil {
		s.poolState.lockTimeout.Store(int64(s.lockTimeout))
	}
	return s
}

// adopt keeps a session of the user's handle that no condition of theirs clings
// to.
func (s *Store) adopt(db *gorm.DB) error {
	switch {
	case db == nil || db.Config == nil || db.Statement == nil:
		return errors.New("the database handle is nil; give New what gorm.Open returned")
	case db.Error != nil:
		return fmt.Errorf("the database handle has an error: %w", db.Error)
	case db.DryRun:
		return errors.New("the database handle is a dry run, which would report events as stored that are not")
	}
	if tx, ok := db.Statement.ConnPool.(gorm.TxCommitter); ok && tx != nil {
		return errors.New("the database handle is a transaction; give New the database itself, " +
			"and pass transactions with the context (see Transaction)")
	}
	var known bool
	if s.dialect, known = dialectOf(db); !known {
		return fmt.Errorf("the database %q is not supported; supported are %s and %s",
			db.Dialector.Name(), postgresName, sqliteName)
	}
	s.db = db.Session(&gorm.Session{NewDB: true, Context: context.Background()})
	var err error
	if s.pool, err = s.db.DB(); err != nil {
		return fmt.Errorf("the database handle has no pool of connections: %w", err)
	}
	if err := refusedDriver(packageOf(s.pool.Driver())); err != nil {
		return err
	}
	s.poolState = poolStateOf(s.pool)
	return nil
}

// refusedDriver returns why a driver cannot be used, by its package.
func refusedDriver(path string) error {
	if path != "github.com/lib/pq" {
		return nil
	}
	return errors.New("the driver lib/pq cannot send the arrays that saves consist of; open the database with " +
		"gorm.io/driver/postgres and its own driver, pgx")
}

// packageOf returns the path of a driver's package. A connector may have no
// driver, of which the path is "".
func packageOf(driver any) string {
	t := reflect.TypeOf(driver)
	if t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil {
		return ""
	}
	return t.PkgPath()
}

// ready reports why the store cannot be used, and prepares the database the
// first time that it can be reached.
func (s *Store) ready(ctx context.Context) error {
	if s.closed.Load() {
		return errClosed
	}
	return s.translate(ctx, "prepare the database", s.poolState.prepare(ctx, s))
}

// connect takes a connection out of the pool. The wait for one is bounded like
// that for the lock: a transaction whose own save waits here, because it was
// not given the transaction's context, would otherwise keep its connection for
// ever.
func (s *Store) connect(ctx context.Context, patience time.Duration) (*sql.Conn, error) {
	waiting, alarm := s.poolState.deadlines.withTimeout(ctx, patience)
	defer alarm.stop()
	return s.connectWithin(ctx, waiting)
}

// connectWithin is connect for a caller who has bounded a part of ctx, in which
// to wait, already.
func (s *Store) connectWithin(ctx, waiting context.Context) (*sql.Conn, error) {
	conn, err := s.pool.Conn(waiting)
	if err != nil && ctx.Err() == nil && waiting.Err() != nil {
		return nil, &persistence.Error{Class: persistence.ErrLockTimeout, Op: "take a connection",
			Hint: s.poolHint(), Err: withoutOwnEnd(err)}
	}
	return conn, err
}

// poolHint says why no connection was to be had: the pool was in use, or it
// could not open another one in time.
func (s *Store) poolHint() string {
	if exhausted(s.pool) {
		return fmt.Sprintf("all %d connections of the pool are in use; %s%s", s.pool.Stats().MaxOpenConnections,
			s.poolState.holding.String(), hintConnection)
	}
	return "the database did not accept a connection in time; check that it is reachable, or wait longer"
}

// exhausted reports whether all connections that a pool may open are in use.
func exhausted(pool *sql.DB) bool {
	stats := pool.Stats()
	return stats.MaxOpenConnections > 0 && stats.InUse >= stats.MaxOpenConnections
}

// waitToRead is room in the pool that is read from: a read without the context
// of the transaction around it would otherwise wait for a connection that this
// transaction has.
func (s *Store) waitToRead(ctx context.Context) error {
	if s.poolState.readers != nil {
		return nil // no caller writes on it
	}
	return s.waitForConnection(ctx, s.lockTimeout)
}

// waitForConnection waits until the pool has a connection to give, with the
// bound of connect.
func (s *Store) waitForConnection(ctx context.Context, wait time.Duration) error {
	if !exhausted(s.pool) {
		return nil
	}
	conn, err := s.connect(ctx, wait)
	if err != nil {
		return err
	}
	return conn.Close()
}

// statement prepares a statement once. It is closed with the pool.
func (s *Store) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	if known, ok := s.statements.Load(query); ok {
		return known.(*sql.Stmt), nil
	}
	made, err := s.pool.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	if known, raced := s.statements.LoadOrStore(query, made); raced {
		return known.(*sql.Stmt), made.Close()
	}
	return made, nil
}

// ProcessRecorder implements persistence.Factory.
func (s *Store) ProcessRecorder(application string) (persistence.ProcessRecorder, error) {
	if err := s.check(application); err != nil {
		return nil, err
	}
	return newProcessRecorder(s, application), nil
}

// SnapshotRecorder implements persistence.Factory.
func (s *Store) SnapshotRecorder(application string) (persistence.AggregateRecorder, error) {
	if err := s.check(application); err != nil {
		return nil, err
	}
	return &snapshotRecorder{newEventTable(s, application, s.tables.snapshots, "uid")}, nil
}

func (s *Store) check(application string) error {
	if s.initErr != nil {
		return &persistence.Error{Class: persistence.ErrInterface, Op: "gormstore", Err: s.initErr}
	}
	if s.closed.Load() {
		return errClosed
	}
	return persistence.ValidateName(application)
}

var errClosed = &persistence.Error{Class: persistence.ErrClosed, Op: "gormstore"}

// Close implements persistence.Factory: the store's recorders then fail with
// persistence.ErrClosed. The database belongs to the user and stays open.
func (s *Store) Close() error {
	s.closed.Store(true)
	return nil
}

// DB is the database that the store uses, for the user's own reads.
func (s *Store) DB() *gorm.DB { return s.db }
