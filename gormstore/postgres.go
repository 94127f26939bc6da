package gormstore

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// postgres is the dialect of PostgreSQL.
type postgres struct{}

func (postgres) placeholders(query string) string { return numbered(query) }

// uuid is text, which PostgreSQL understands in every execution mode of its
// driver.
func (postgres) uuid(id uuid.UUID) any { return id.String() }

// locate finds the table's real location, which is not always the connection's
// first schema: processes that find one table by different ways must agree on
// the keys of its locks.
func (p postgres) locate(ctx context.Context, c connection, t table) (at location, err error) {
	query := "SELECT n.nspname, c.oid::bigint, COALESCE((SELECT q.seqrelid::bigint FROM pg_attribute a " + sequenceOf + " WHERE a.attrelid = c.oid " +
		"AND a.attname = 'id' AND has_sequence_privilege(q.seqrelid, 'USAGE, SELECT')), 0) " +
		"FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)"
	err = c.row(ctx, query, t.quoted).Scan(&at.schema, &at.oid, &at.sequence)
	if errors.Is(err, sql.ErrNoRows) {
		err = notMigrated("find the tables", "table "+t.quoted, nil)
	}
	return at, err
}

// now is not the function now(), which is when the transaction began.
func (postgres) now(ctx context.Context, c connection) (now time.Time, err error) {
	err = c.row(ctx, "SELECT clock_timestamp()").Scan(&now)
	return now.UTC(), err
}

// begin asks for READ COMMITTED whatever the server's default: after a wait for
// the lock, statements must see what was committed in the meantime.
func (p postgres) begin(ctx context.Context, s *Store, wait time.Duration) (openTx, error) {
	for attempt := 1; ; attempt++ {
		conn, err := s.connect(ctx, wait)
		if err != nil {
			return nil, err
		}
		tx, err := conn.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
		if err == nil {
			u := &postgresUnit{Tx: tx, conn: conn, pool: s.pool, dialect: p}
			_ = conn.Raw(func(raw any) error { // if it is closed, the first statement says so
				u.takesRequests = s.poolState.takesRequests(raw)
				return nil
			})
			return u, nil
		}
		_ = conn.Close() // an error of giving back a connection has no consequence
		if !errors.Is(err, driver.ErrBadConn) || attempt == beginAttempts {
			return nil, err
		}
	}
}

// beginAttempts is how many connections that turn out to be dead are passed
// over, as database/sql does it.
const beginAttempts = 3

// postgresUnit is a transaction that gives its connection back when it ends.
type postgresUnit struct {
	*sql.Tx
	conn    *sql.Conn
	pool    *sql.DB
	dialect postgres

	takesRequests bool // its statements can be canceled by request

	stale  atomic.Bool           // the connection cannot write any more
	broken atomic.Pointer[error] // why the connection was lost before the commit
	locked map[int64]string      // channels by key of the order locks it has; see appendOwn
}

// ExecContext implements gorm.ConnPool.
func (u *postgresUnit) ExecContext(ctx context.Context, query string, arguments ...any) (sql.Result, error) {
	result, err := u.Tx.ExecContext(ctx, query, arguments...)
	u.note(err)
	return result, err
}

// QueryContext implements gorm.ConnPool.
func (u *postgresUnit) QueryContext(ctx context.Context, query string, arguments ...any) (*sql.Rows, error) {
	rows, err := u.Tx.QueryContext(ctx, query, arguments...)
	u.note(err)
	return rows, err
}

// note remembers the loss of the connection: a commit after it is never sent,
// so that it is known to have failed.
func (u *postgresUnit) note(err error) {
	if err != nil && deadConnection(err) {
		u.stale.Store(true)
	}
	if err != nil && u.dialect.isOutcomeUnknown(err) {
		u.broken.CompareAndSwap(nil, &err)
	}
}

// sever closes the connection, because a cancel request is on its way that
// could reach a later statement. Nothing of the transaction is stored then. It
// returns an error that says so.
func (u *postgresUnit) sever() error {
	_ = u.conn.Raw(func(raw any) error { // a connection that was given back is closed
		if c, ok := raw.(driver.Conn); ok {
			_ = c.Close() // the server rolls back without being told
		}
		return nil
	})
	return errUnanswered
}

// sessionState is what a connection of pgx knows of its session without asking
// the server.
type sessionState struct{ closed, idle bool }

// state returns what the connection knows. It knows nothing with other drivers.
func (u *postgresUnit) state() (s sessionState) {
	_ = u.conn.Raw(func(raw any) error { // a connection that was given back knows nothing
		if c, ok := pgConn(raw).(interface {
			IsClosed() bool
			TxStatus() byte
		}); ok {
			s = sessionState{closed: c.IsClosed(), idle: c.TxStatus() == 'I'}
		}
		return nil
	})
	return s
}

// isLost reports whether the connection was lost. It asks the server only after
// an error that may be such a loss.
func (u *postgresUnit) isLost(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	if u.state().closed {
		return true
	}
	if u.broken.Load() == nil {
		return false
	}
	_, err := u.Tx.ExecContext(ctx, "SELECT 1")
	return err != nil && u.dialect.isOutcomeUnknown(err)
}

// GetDBConn implements gorm.GetDBConnector.
func (u *postgresUnit) GetDBConn() (*sql.DB, error) { return u.pool, nil }

// Commit implements gorm.TxCommitter.
func (u *postgresUnit) Commit() error {
	if broken := u.broken.Load(); broken != nil {
		_ = u.Rollback() // what was not committed with the connection is rolled back by the server
		return &persistence.Error{Class: persistence.ErrUnavailable, Op: "commit", Err: *broken,
			Hint: "the transaction was rolled back, because a statement in it lost its connection"}
	}
	switch s := u.state(); {
	case s.closed:
		_ = u.Rollback() // gives the connection back
		return &persistence.Error{Class: persistence.ErrUnavailable, Op: "commit",
			Hint: "the transaction was rolled back, because its connection was lost before the commit"}
	case s.idle:
		_ = u.Rollback() // as above
		return &persistence.Error{Class: persistence.ErrOutcomeUnknown, Op: "commit",
			Hint: "a statement has ended the transaction before its commit; read what is stored before trying again"}
	}
	err := u.Tx.Commit()
	if u.stale.Load() {
		discard(u.conn)
	}
	_ = u.conn.Close() // an error of giving back a connection has no consequence
	return err
}

// Rollback implements gorm.TxCommitter.
func (u *postgresUnit) Rollback() error {
	err := u.Tx.Rollback()
	if u.stale.Load() {
		discard(u.conn)
	}
	_ = u.conn.Close() // as above
	return err
}

// idleTimeout frees the order lock of a process that froze with its connection
// open.
const idleTimeout = 30 * time.Second

// lock sets the time limit in the statement that takes the locks of keys, so
// that none of them is waited for without one.
func (p postgres) lock(ctx context.Context, c connection, how locking, keys ...int64) error {
	_, err := p.lockIf(ctx, c, how, "true", nil, keys...)
	return err
}

// lockIn implements dialect.
func (p postgres) lockIn(ctx context.Context, c connection, how locking, t table, at location, keys ...int64) (there bool, err error) {
	rows, err := p.lockIf(ctx, c, how, here(t.quoted, "?"), []any{at.oid}, keys...)
	return rows > 0, err
}

// lockIf takes locks if a condition holds. It returns the number of rows of its
// statement, which has none otherwise.
func (p postgres) lockIf(
	ctx context.Context, c connection, how locking, condition string, of []any, keys ...int64,
) (rows int64, err error) {
	query := strings.Builder{}
	query.WriteString("SELECT set_config('lock_timeout', ?, true)")
	arguments := []any{milliseconds(how.timeout)}
	if !how.joined {
		query.WriteString(", set_config('idle_in_transaction_session_timeout', ?, true)")
		arguments = append(arguments, milliseconds(idleTimeout))
	}
	lock := ", pg_advisory_xact_lock(?)"
	if how.shared {
		lock = ", pg_advisory_xact_lock_shared(?)"
	}
	for _, key := range keys {
		query.WriteString(lock)
		arguments = append(arguments, key)
	}
	statement := query.String() + " WHERE " + condition
	if how.joined {
		statement = "WITH " + limitBefore + ", l AS MATERIALIZED (" + query.String() + " FROM b WHERE " + condition + ") SELECT " + restore + " FROM b, l"
	}
	return c.exec(ctx, p.placeholders(statement), append(arguments, of...)...)
}

// updateBriefly implements dialect. The rows of l come before those that are
// changed, so that no row is waited for without a limit.
func (p postgres) updateBriefly(
	ctx context.Context, c connection, wait time.Duration, set, condition string, arguments ...any,
) (changed int64, err error) {
	query := "WITH " + limitBefore + ", l AS MATERIALIZED (SELECT set_config('lock_timeout', '" + milliseconds(wait) + "', true) FROM b), " +
		"u AS (" + set + " FROM l WHERE " + condition + " RETURNING 1) " +
		"SELECT a.changed, " + restore + " FROM b, (SELECT count(*) AS changed FROM u OFFSET 0) a"
	var restored string
	err = c.row(ctx, p.placeholders(query), arguments...).Scan(&changed, &restored)
	return changed, err
}

// hidesRows implements dialect. From REPEATABLE READ on a transaction sees what
// was committed before its first statement, but unique keys know of all rows.
func (postgres) hidesRows(ctx context.Context, c connection, t table, key string, violation error) (hides bool, err error) {
	query := "SELECT current_setting('transaction_isolation') <> 'read committed' AND NOT EXISTS (SELECT FROM pg_index i " +
		"JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) " +
		"WHERE i.indrelid = to_regclass($1) AND c.relname = $2 AND a.attname = $3)"
	err = c.row(ctx, query, t.quoted, constraintOf(violation), key).Scan(&hides)
	return hides, err
}

// constraintOf is the name of the unique key that an error of pgx is about, or
// "". This package does not import drivers, so it finds the field by its name.
func constraintOf(err error) string {
	coded, ok := errors.AsType[sqlState](err)
	if !ok {
		return ""
	}
	v := reflect.Indirect(reflect.ValueOf(coded))
	if v.Kind() != reflect.Struct {
		return ""
	}
	if field := v.FieldByName("ConstraintName"); field.Kind() == reflect.String {
		return field.String()
	}
	return ""
}

// stillOpen has nothing to find out: a failed transaction refuses all
// statements.
func (postgres) stillOpen(context.Context, connection) error { return nil }

// savepoint sets the time limit before the statement that needs it, because the
// lock of a table is taken when a statement is planned, before any of it runs.
// The caller's value is kept in a setting of the transaction. A savepoint that
// is rolled back restores it by itself.
func (postgres) savepoint(wait time.Duration) (set, release string) {
	return "; SELECT set_config('eventsourcing.lock_timeout', current_setting('lock_timeout'), true)" +
			"; SET LOCAL lock_timeout = '" + milliseconds(wait) + "'",
		"SELECT set_config('lock_timeout', current_setting('eventsourcing.lock_timeout'), true); "
}

// A statement changes the time limit of a transaction of the user's for itself
// alone: limitBefore reads what it was before, and restore sets it again once
// everything else is done.
const limitBefore = "b AS MATERIALIZED (SELECT current_setting('lock_timeout') AS v)"

const restore = "set_config('lock_timeout', b.v, true)"

// append takes the lock and stores the events, in one round trip if it takes
// part in a transaction of the user's.
func (p postgres) append(ctx context.Context, c connection, how locking, l *eventLog, events []persistence.StoredEvent) (ids []int64, err error) {
	if how.joined && len(events) <= postgresChunk {
		err = l.whereItIs(ctx, c, func(at location) (bool, error) {
			ids, err = p.appendJoined(ctx, c, how, l, at, events)
			return len(ids) > 0, err
		})
		if errors.Is(err, errElsewhere) {
			err = errNotContinued // at both attempts
		}
		return ids, err
	}
	if err := l.lockTable(ctx, c, how.joined, "ROW EXCLUSIVE"); err != nil {
		return nil, err
	}
	var found location
	err = l.whereItIs(ctx, c, func(at location) (bool, error) {
		found = at
		return p.lockLog(ctx, c, how, l, at)
	})
	if err != nil {
		return nil, err
	}
	return inChunks(events, postgresChunk, func(ids []int64, events []persistence.StoredEvent) ([]int64, error) {
		var a columns
		a.add(events)
		var f firsts
		f.add(events)
		rows, err := c.query(ctx, l.statements.chunk, l.application, found.sequence, a.originators(), a.versions, a.topics, a.states,
			f.array(), f.versions)
		if err != nil {
			return nil, err
		}
		stored := len(ids)
		if ids, err = scanIDs(rows, ids); err == nil && len(ids) == stored {
			err = errNotContinued
		}
		return ids, err
	})
}

// appendJoined takes the lock and stores events with one statement. Its caller
// undoes it by a savepoint if it fails. It returns no ids if the events do not
// continue their streams, or the table is elsewhere.
func (p postgres) appendJoined(ctx context.Context, c connection, how locking, l *eventLog, at location, events []persistence.StoredEvent) ([]int64, error) {
	var a columns
	a.add(events)
	var f firsts
	f.add(events)
	place := l.keyAt(at)
	arguments := []any{milliseconds(how.timeout), l.orderArgument(place), l.application, at.oid, at.sequence,
		a.originators(), a.versions, a.topics, a.states, f.array(), f.versions}
	if channel := l.store.notified(place); channel != "" {
		arguments = append(arguments, channel)
	}
	rows, err := c.query(ctx, l.statements.joined, arguments...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	ids := make([]int64, 0, len(events))
	for rows.Next() {
		var id int64
		var restored string
		if err := rows.Scan(&id, &restored); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// milliseconds rounds up: 0 would be no limit, and a wait that ends with the
// caller's deadline must not end before it.
func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%dms", (d + time.Millisecond - 1).Milliseconds())
}

// chunk is how many events one statement stores. Arrays have no limit; this
// bounds the statement's size.
const postgresChunk = 5000

// insert hands the events over as arrays, so that the statement's text is the
// same for any number of them. UUIDs go as text, which every execution mode of
// the driver can send.
func (p postgres) insert(ctx context.Context, c connection, into table, key, application string, events []persistence.StoredEvent) ([]int64, error) {
	query := "INSERT INTO " + into.quoted + " (application_name, originator_id, originator_version, topic, state) " +
		"SELECT $1::varchar, o, v, t, s FROM unnest($2::uuid[], $3::bigint[], $4::text[], $5::bytea[]) AS u(o, v, t, s) " +
		"RETURNING " + key
	return inChunks(events, postgresChunk, func(ids []int64, events []persistence.StoredEvent) ([]int64, error) {
		var a columns
		a.add(events)
		rows, err := c.query(ctx, query, application, a.originators(), a.versions, a.topics, a.states)
		if err != nil {
			return nil, err
		}
		return scanIDs(rows, ids)
	})
}

// columns are the columns of events as arrays.
type columns struct {
	ids      []byte // what originators returns, without its end
	versions []int64
	topics   []string
	states   [][]byte
}

func (a *columns) add(events []persistence.StoredEvent) {
	n := len(events)
	a.ids, a.versions = slices.Grow(a.ids, 37*n+1), slices.Grow(a.versions, n)
	a.topics, a.states = slices.Grow(a.topics, n), slices.Grow(a.states, n)
	for i := range events {
		e := &events[i]
		a.addOriginator(e.OriginatorID)
		a.versions = append(a.versions, e.OriginatorVersion)
		a.topics = append(a.topics, e.Topic)
		a.states = append(a.states, e.State)
	}
}

func (a *columns) addOriginator(id uuid.UUID) {
	separator := byte(',')
	if len(a.ids) == 0 {
		separator = '{'
	}
	a.ids = appendHyphenated(append(a.ids, separator), id)
}

// originators are the ids as PostgreSQL writes an array: every execution mode
// of the driver sends a string as it is.
func (a *columns) originators() string { return string(append(a.ids, '}')) }

func appendHyphenated(to []byte, id uuid.UUID) []byte {
	text, _ := id.MarshalText() // never fails
	return append(to, text...)
}

func (postgres) isServerError(err error) bool {
	_, coded := errors.AsType[sqlState](err)
	return coded || errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone)
}

func (postgres) numbers(of []int64) (string, any) { return "SELECT unnest(?::bigint[])", of }

func (postgres) topics(topics []string) (string, []any) { return "topic = ANY(?)", []any{topics} }

// lockKey is the number that stands for an application's log (or for a
// follower's position) in PostgreSQL's advisory locks: the first 64 bits of the
// SHA-256 hash over the parts, each with its length in front. All versions of
// this package must agree on it, or they would not wait for each other.
func lockKey(parts ...string) int64 {
	h := sha256.New()
	for _, part := range append([]string{"eventsourcing"}, parts...) {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:])
		h.Write([]byte(part))
	}
	return int64(binary.BigEndian.Uint64(h.Sum(nil)))
}
