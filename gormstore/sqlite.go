package gormstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/groupcommit"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// sqlite is the dialect of SQLite, with whatever driver.
type sqlite struct{}

func (sqlite) placeholders(query string) string { return query }

// uuid is 32 hex digits, as Django has it.
func (sqlite) uuid(id uuid.UUID) any { return hexadecimal(id) }

// prepare gives a database in memory one connection, because a second one would
// be another, empty database; and puts a file into WAL mode, so that readers
// and the writer do not wait for each other.
func (s sqlite) prepare(ctx context.Context, store *Store, joined *txScope) (bool, error) {
	if joined != nil {
		// A transaction cannot change the mode, and was begun on the one
		// connection that matters to it.
		return false, nil
	}
	if err := store.waitForConnection(ctx, store.lockTimeout); err != nil {
		return false, err
	}
	if err := s.prepareAll(ctx, store); err != nil {
		return false, err
	}
	return s.examine(ctx, store)
}

// examine looks at the table of events once, for what would have followers miss
// some without an error: a database that was never validated must not do that
// either.
func (s sqlite) examine(ctx context.Context, store *Store) (bool, error) {
	var events description
	if err := s.describeTable(ctx, connection{store.pool, store}.quiet(), store.tables.events.name, &events); err != nil {
		return false, err
	}
	if events.exists && events.unreliable != "" {
		return false, schemaError([]string{"table " + store.tables.events.name + " " + events.unreliable})
	}
	return events.exists, nil
}

func (s sqlite) prepareAll(ctx context.Context, store *Store) error {
	db := store.pool
	path, err := mainFile(ctx, db)
	if err != nil {
		return err
	}
	if path == "" {
		db.SetMaxOpenConns(1)
		db.SetConnMaxLifetime(0)
		db.SetConnMaxIdleTime(0)
		return nil
	}
	if store.poolState.synced, err = syncs(ctx, db); err != nil {
		return err
	}
	if store.poolState.busy, err = busyTimeout(ctx, db); err != nil {
		return err
	}
	err = s.patiently(ctx, time.Now().Add(store.lockTimeout), func() error {
		var mode string
		return db.QueryRowContext(ctx, "PRAGMA journal_mode=WAL").Scan(&mode)
	})
	if err != nil && s.errorInfo(err).class == persistence.ErrReadOnly {
		return nil // it can still be read
	}
	return err
}

// appendsWhole is false: a savepoint of SQLite costs no round trip.
func (sqlite) appendsWhole(*save) bool { return false }

func (sqlite) appendWhole(context.Context, connection, *eventLog, []persistence.StoredEvent) ([]int64, error) {
	panic("gormstore: SQLite stores whole saves with a savepoint")
}

// locate has nothing to tell: a file has one schema.
func (sqlite) locate(context.Context, connection, table) (location, error) { return location{}, nil }

// now is the time of the process: SQLite has no server, and all processes that
// share a file are on one host.
func (sqlite) now(context.Context, connection) (time.Time, error) { return time.Now().UTC(), nil }

// isOutcomeUnknown recognises errors that SQLite itself has not reported: it
// may have done what it was asked. It may also have done it before, if it finds
// no transaction to commit.
func (s sqlite) isOutcomeUnknown(err error) bool {
	_, coded := sqliteCode(err)
	return (!coded || noTransaction(err)) && !errors.Is(err, persistence.ErrPersistence)
}

// syncs reports whether connections sync every commit as they are opened (FULL
// is 2, EXTRA is 3).
func syncs(ctx context.Context, db *sql.DB) (bool, error) {
	var level int
	err := db.QueryRowContext(ctx, "PRAGMA synchronous").Scan(&level)
	return level >= 2, err
}

// busyTimeout returns how long a statement waits for the lock of the file by
// itself.
func busyTimeout(ctx context.Context, q queryer) (time.Duration, error) {
	var wait int64
	err := q.QueryRowContext(ctx, "PRAGMA busy_timeout").Scan(&wait)
	return time.Duration(wait) * time.Millisecond, err
}

// queryer is a *sql.DB or a *sql.Conn.
type queryer interface {
	QueryRowContext(ctx context.Context, query string, arguments ...any) *sql.Row
}

// mainFile is the path of the database's file, or "" if it is in memory.
func mainFile(ctx context.Context, db *sql.DB) (path string, err error) {
	var number int
	var name string
	row := db.QueryRowContext(ctx, "SELECT seq, name, file FROM pragma_database_list WHERE name = 'main'")
	return path, row.Scan(&number, &name, &path)
}

// begin takes the write lock at once. A transaction that begins by reading
// would fail with a stale snapshot as soon as another one had written; no
// waiting helps then. The statements go to one connection of the pool, because
// database/sql cannot say BEGIN IMMEDIATE.
func (s sqlite) begin(ctx context.Context, store *Store, wait time.Duration) (openTx, error) {
	deadline := time.Now().Add(wait)
	conn, err := s.connect(ctx, store, wait)
	if err != nil {
		return nil, err
	}
	u := &sqliteUnit{ConnPool: conn, conn: conn, ctx: ctx, pool: store.pool}
	err = s.patientlyOn(ctx, store, conn, deadline, func() error {
		_, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE")
		return err
	})
	if err != nil {
		// It may have begun all the same, if ctx ended at that moment; a lock
		// would stay.
		_ = u.Rollback()
		return nil, err
	}
	return u, nil
}

// connect takes a connection that syncs every commit to disk: the usual driver
// asks for less, unless the database was opened otherwise.
func (s sqlite) connect(ctx context.Context, store *Store, wait time.Duration) (*sql.Conn, error) {
	conn, err := store.connect(ctx, wait)
	if err != nil || store.poolState.synced {
		return conn, err
	}
	if _, err := conn.ExecContext(ctx, "PRAGMA synchronous=FULL"); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// patiently tries again while another process holds the lock, until the
// deadline. SQLite's own waiting is not fair and may be off.
func (s sqlite) patiently(ctx context.Context, deadline time.Time, try func() error) error {
	for {
		err := try()
		if err == nil || s.errorInfo(err).class != persistence.ErrLockTimeout || time.Now().After(deadline) {
			return err
		}
		timer := time.NewTimer(time.Millisecond + rand.N(9*time.Millisecond))
		select {
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(err, ctx.Err())
		case <-timer.C:
		}
	}
}

// patientlyOn is patiently for statements on one connection. No try waits
// beyond the deadline by itself.
func (s sqlite) patientlyOn(
	ctx context.Context, store *Store, conn *sql.Conn, deadline time.Time, try func() error,
) error {
	return s.patiently(ctx, deadline, func() (err error) {
		if !store.poolState.outlasts(deadline) {
			return try()
		}
		restore, err := limitBusy(ctx, conn, time.Until(deadline))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, restore()) }() // also if a logger panics in try
		return try()
	})
}

// outlasts reports whether a statement may wait for the lock of the file well
// beyond a deadline. To keep it from that costs two statements more.
func (h *poolState) outlasts(deadline time.Time) bool {
	return h.busy > time.Until(deadline)+groupcommit.ShortestWait
}

// limitBusy has statements of a connection wait no longer than wait for the
// lock of the file, until restore is called. A connection that cannot be
// restored is discarded.
func limitBusy(ctx context.Context, conn *sql.Conn, wait time.Duration) (restore func() error, err error) {
	before, err := busyTimeout(ctx, conn)
	if err != nil {
		return nil, err
	}
	set := func(ctx context.Context, wait time.Duration) error {
		_, err := conn.ExecContext(ctx, fmt.Sprintf("PRAGMA busy_timeout=%d", wait.Milliseconds()))
		return err
	}
	if err := set(ctx, min(before, max(wait, 0))); err != nil {
		return nil, err
	}
	return func() error {
		err := set(context.WithoutCancel(ctx), before)
		if err != nil {
			discard(conn)
		}
		return err
	}, nil
}

// lock has nothing to do: who has begun to write is alone.
func (sqlite) lock(context.Context, connection, locking, ...int64) error { return nil }

// lockIn has nothing to do either.
func (sqlite) lockIn(context.Context, connection, locking, table, location, ...int64) (bool, error) {
	return true, nil
}

// updateBriefly does not wait: the transaction has the lock of the file.
func (sqlite) updateBriefly(
	ctx context.Context, c connection, _ time.Duration, set, condition string, arguments ...any,
) (int64, error) {
	return c.exec(ctx, set+" WHERE "+condition, arguments...)
}

// hidesRows is false: a transaction that writes sees all that is committed.
func (sqlite) hidesRows(context.Context, connection, table, string, error) (bool, error) {
	return false, nil
}

// stillOpen asks SQLite, which rolls a transaction back by itself after some
// errors: a savepoint would then begin a new one, and commit it alone. BEGIN
// fails in a transaction. A transaction of the store's own asks before each
// statement.
func (sqlite) stillOpen(ctx context.Context, c connection) error {
	pool := unhooked(c.pool)
	if _, own := pool.(*sqliteUnit); own {
		return nil
	}
	_, err := pool.ExecContext(ctx, "BEGIN")
	if err != nil {
		if strings.Contains(err.Error(), "within a transaction") {
			return nil
		}
		return err
	}
	_, err = pool.ExecContext(context.WithoutCancel(ctx), "ROLLBACK") // of the empty transaction
	return &persistence.Error{Class: persistence.ErrOperational, Op: "savepoint", Err: err,
		Hint: "SQLite has rolled the transaction back, because a statement in it failed or was interrupted; " +
			"nothing of it is stored; run the whole transaction again"}
}

// savepoint has nothing to set: the transaction already has the write lock, or
// waits for it with the busy timeout of its connection.
func (sqlite) savepoint(time.Duration) (set, release string) { return "", "" }

// append needs no lock. Each statement stores its events if all of them
// continue their streams.
func (s sqlite) append(ctx context.Context, c connection, _ locking, l *eventLog, events []persistence.StoredEvent) ([]int64, error) {
	return inChunks(events, sqliteChunk, func(ids []int64, events []persistence.StoredEvent) ([]int64, error) {
		stored := len(ids)
		ids, err := s.insertChunk(ctx, c, l.table, l.key, l.application, ids, events, true)
		if err == nil && len(ids) == stored {
			err = errNotContinued
		}
		return ids, err
	})
}

// sqliteChunk is how many events one statement stores; SQLite allows 32,766
// arguments, and each event has seven at most.
const sqliteChunk = 500

func (s sqlite) insert(ctx context.Context, c connection, into table, key, application string, events []persistence.StoredEvent) ([]int64, error) {
	return inChunks(events, sqliteChunk, func(ids []int64, events []persistence.StoredEvent) ([]int64, error) {
		return s.insertChunk(ctx, c, into, key, application, ids, events, false)
	})
}

// insertChunk adds the ids of the events to ids. If they are to continue their
// streams, it stores all of them or none.
func (sqlite) insertChunk(ctx context.Context, c connection, into table, key, application string, ids []int64, events []persistence.StoredEvent, continuing bool) ([]int64, error) {
	query := "INSERT INTO " + into.quoted + " (application_name, originator_id, originator_version, topic, state) "
	rows := "VALUES " + strings.Repeat("(?,?,?,?,?),", len(events)-1) + "(?,?,?,?,?)"
	arguments := make([]any, 0, 7*len(events))
	for i := range events {
		e := &events[i]
		arguments = append(arguments, application, hexadecimal(e.OriginatorID), e.OriginatorVersion, e.Topic, e.State)
	}
	if continuing {
		var f firsts
		f.add(events)
		rows = "SELECT * FROM (" + rows + ") WHERE NOT EXISTS (SELECT 1 FROM (VALUES " + strings.Repeat("(?,?),", len(f.versions)-1) +
			// ?1 is the application of the first row.
			"(?,?)) AS f WHERE NOT " + continuesSQLite(into.quoted, "?1", "f.column1", "f.column2") + ")"
		for i, version := range f.versions {
			arguments = append(arguments, hexadecimal(f.originators[i]), version)
		}
	}
	result, err := c.query(ctx, query+rows+" RETURNING "+key, arguments...)
	if err != nil {
		return nil, err
	}
	return scanIDs(result, ids)
}

func (sqlite) isServerError(err error) bool {
	_, coded := sqliteCode(err)
	return coded || errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone)
}

func (sqlite) numbers(of []int64) (string, any) {
	list, _ := json.Marshal(of) // numbers always have a JSON form
	return "SELECT value FROM json_each(?)", string(list)
}

func (sqlite) topics(topics []string) (string, []any) {
	arguments := make([]any, len(topics))
	for i, topic := range topics {
		arguments[i] = topic
	}
	return "topic IN (?" + strings.Repeat(",?", len(topics)-1) + ")", arguments
}

// sqliteUnit is a transaction on its own connection. The connection is not
// simply embedded, because it can begin transactions, which GORM would then do
// for each of its statements.
type sqliteUnit struct {
	gorm.ConnPool
	conn *sql.Conn
	ctx  context.Context
	pool *sql.DB
	done atomic.Bool
	lost atomic.Bool // SQLite has rolled back by itself
	read atomic.Bool // the errors of the rows of a query are not known
}

// GetDBConn implements gorm.GetDBConnector.
func (u *sqliteUnit) GetDBConn() (*sql.DB, error) { return u.pool, nil }

// ExecContext implements gorm.ConnPool. Once the transaction has ended the
// connection does not belong to it any more.
func (u *sqliteUnit) ExecContext(ctx context.Context, query string, arguments ...any) (sql.Result, error) {
	if err := u.open(); err != nil {
		return nil, err
	}
	result, err := u.conn.ExecContext(ctx, query, arguments...)
	u.verify(err)
	return result, err
}

// QueryContext implements gorm.ConnPool.
func (u *sqliteUnit) QueryContext(ctx context.Context, query string, arguments ...any) (*sql.Rows, error) {
	if err := u.open(); err != nil {
		return nil, err
	}
	u.read.Store(true)
	rows, err := u.conn.QueryContext(ctx, query, arguments...)
	u.verify(err)
	return rows, err
}

// QueryRowContext implements gorm.ConnPool. If the transaction has ended, the
// connection is closed, and the row says so.
func (u *sqliteUnit) QueryRowContext(ctx context.Context, query string, arguments ...any) *sql.Row {
	_ = u.open()
	u.read.Store(true)
	return u.conn.QueryRowContext(ctx, query, arguments...)
}

// PrepareContext implements gorm.ConnPool.
func (u *sqliteUnit) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	if err := u.open(); err != nil {
		return nil, err
	}
	u.read.Store(true)
	return u.conn.PrepareContext(ctx, query)
}

// open returns an error if the transaction has ended. Rows may have ended it,
// whose errors only the caller sees.
func (u *sqliteUnit) open() error {
	if !u.done.Load() {
		u.look(u.read.Swap(false))
	}
	if u.done.Load() {
		return u.ended()
	}
	return nil
}

// verify finds out after an error whether the transaction is still open.
func (u *sqliteUnit) verify(err error) {
	if err != nil {
		u.look(true)
	}
}

// autoCommitter is a driver's connection that knows whether it is in a
// transaction, such as that of mattn/go-sqlite3.
type autoCommitter interface{ AutoCommit() bool }

// look finds out whether the transaction is still open: SQLite rolls back by
// itself when a statement that writes is interrupted, or finds no space, and
// with ON CONFLICT ROLLBACK. What came after would otherwise commit on its own.
// If the driver cannot tell, BEGIN does, which fails in a transaction; it is
// sent only after what may have ended the transaction.
func (u *sqliteUnit) look(mayHaveEnded bool) {
	open, known := false, false
	_ = u.conn.Raw(func(raw any) error { // a connection that is closed is not known
		var c autoCommitter
		if c, known = raw.(autoCommitter); known {
			open = !c.AutoCommit()
		}
		return nil
	})
	if !known && mayHaveEnded {
		ctx := context.WithoutCancel(u.ctx)
		if _, err := u.conn.ExecContext(ctx, "BEGIN"); err == nil {
			// This ends the empty transaction that was just begun.
			_, _ = u.conn.ExecContext(ctx, "ROLLBACK")
			known = true
		}
	}
	if known && !open {
		u.lose()
	}
}

// lose gives up a transaction that SQLite has rolled back.
func (u *sqliteUnit) lose() {
	if !u.done.Swap(true) {
		u.lost.Store(true)
		_ = u.conn.Close() // an error of giving back a connection has no consequence
	}
}

// ended is why the transaction cannot be used any more.
func (u *sqliteUnit) ended() error {
	if u.lost.Load() {
		return &persistence.Error{Class: persistence.ErrOperational, Op: "transaction",
			Hint: "SQLite has rolled the transaction back, because a statement in it failed or was interrupted; " +
				"nothing of it is stored; run the whole transaction again"}
	}
	return sql.ErrTxDone
}

// Commit ends the transaction. If it fails, the transaction is rolled back.
func (u *sqliteUnit) Commit() error {
	if err := u.open(); err != nil {
		return err
	}
	if _, err := u.conn.ExecContext(u.ctx, "COMMIT"); err != nil {
		return errors.Join(err, u.Rollback())
	}
	u.done.Store(true)
	return u.conn.Close()
}

// Rollback ends the transaction, whatever has become of its context. A
// connection that cannot roll back is thrown away.
func (u *sqliteUnit) Rollback() error {
	if u.done.Load() {
		return sql.ErrTxDone
	}
	u.done.Store(true)
	if _, err := u.conn.ExecContext(context.WithoutCancel(u.ctx), "ROLLBACK"); err != nil && !noTransaction(err) {
		_ = u.conn.Raw(func(any) error { return driver.ErrBadConn }) // which closes the connection
		return err
	}
	return u.conn.Close()
}

// noTransaction recognises that SQLite has rolled back by itself, as it does
// after some errors.
func noTransaction(err error) bool { return strings.Contains(err.Error(), "no transaction is active") }

// yieldTime is how long writers of SQLite, who have no queue, let others go
// first: those look again after at most 25 ms, as long as they have not waited
// for a fifth of a second.
const yieldTime = 25 * time.Millisecond

// YieldTime implements capability.WriterYielder.
func (s storeCapabilities) YieldTime() time.Duration {
	if _, ok := s.dialect.(sqlite); ok {
		return yieldTime
	}
	return 0
}
