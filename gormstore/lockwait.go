package gormstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// A statement sets lock_timeout only when it runs, and PostgreSQL takes the
// lock of a table before that, when it plans the statement. A statement that is
// alone in its round trip can therefore not bound its wait for a table that
// another session has locked, with LOCK TABLE, ALTER TABLE or CREATE INDEX.
// lockWatch bounds it from outside: once the wait has taken too long it asks
// the server, over another connection, whether the statement's session waits
// for a lock, and if so to cancel the statement. The server answers that it
// did, so that nothing is stored is known. A statement that takes long for
// another reason goes on.

const (
	// lockGrace is how much later than the server the watch acts: for a lock
	// that lock_timeout bounds, the server's own answer comes first.
	lockGrace = 50 * time.Millisecond
	// defaultLookTime bounds the query for who holds a lock, and the cancel
	// request.
	defaultLookTime = time.Second
	// lockLookAgain is when the watch looks again at a statement that was not
	// waiting for such a lock.
	lockLookAgain = 250 * time.Millisecond
)

// lockWatch watches the statements of one connection.
type lockWatch struct {
	look     func(raw any) (waiting bool, hint string)
	cancel   func() // ends the statement if it cannot be canceled by request
	deadline *deadline
	lookTime time.Duration // bounds the cancel request

	mu         sync.Mutex // protects what follows; held while a request is sent
	raw        any        // the driver's connection while a statement runs, or nil
	statement  int        // counts the statements
	lookOnly   bool       // the statement's context ends it; who holds the lock is looked for
	canceled   bool
	waits      bool // it was found to wait, for what lookOnly leaves to run
	unanswered bool // a request may still reach a later statement
	released   bool
	hint       string // what was found when it was looked at
}

// begin is called with the driver's connection before each statement. A nil
// watch watches nothing.
func (w *lockWatch) begin(raw any) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.raw = raw
	w.statement++
}

// end is called after each statement. A request that is being sent belongs to
// the statement, so end waits for it.
func (w *lockWatch) end() { w.begin(nil) }

// overdue cancels the statement that runs if it waits for a lock of those that
// look looks for: of tables, or of all kinds. It does not cancel one that has
// begun since it looked.
func (w *lockWatch) overdue() {
	w.mu.Lock()
	raw, statement := w.raw, w.statement
	w.mu.Unlock()
	waiting, hint := false, ""
	if raw != nil {
		waiting, hint = w.look(raw)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.statement == statement && w.lookOnly {
		w.waits, w.hint = waiting, hint
	} else if w.statement == statement && waiting {
		w.canceled, w.hint = true, hint
		sent, answered := requestCancel(raw, w.lookTime)
		w.unanswered = sent && !answered
		if !answered {
			w.cancel()
		}
		return
	}
	if !w.released {
		w.deadline.extend(lockLookAgain)
	}
}

// explain turns the answer of a statement that was canceled into the timeout
// that it is. Other errors stay as they are.
func (w *lockWatch) explain(op string, err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.canceled || !isCanceled(err) {
		return err
	}
	return w.timedOut(op, err)
}

// isCanceled recognises the answer of a statement that was canceled.
func isCanceled(err error) bool {
	coded, ok := errors.AsType[sqlState](err)
	return ok && coded.SQLState() == "57014"
}

// explainJoined is explain for a statement in a transaction of the user's. If
// the statement was ended with its connection, nothing of the transaction is
// stored.
func (w *lockWatch) explainJoined(op string, err error) error {
	if _, coded := errors.AsType[sqlState](err); err == nil || coded || !w.isCanceled() {
		return w.explain(op, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.timedOut(op, err)
}

func (w *lockWatch) timedOut(op string, err error) error {
	return &persistence.Error{Class: persistence.ErrLockTimeout, Op: op, Err: withoutOwnEnd(err),
		Hint: w.hint}
}

// isCanceled reports whether a statement was canceled.
func (w *lockWatch) isCanceled() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.canceled
}

// isUnanswered reports whether a cancel request was sent of which it is not
// known whether the server has done it. It may reach the server at any later
// time, so no other statement may use the connection.
func (w *lockWatch) isUnanswered() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.unanswered
}

// boundWaits bounds the waits for tables in a transaction of the store's own
// that takes no other lock. In one of the caller's the savepoint has done that.
func (s *Store) boundWaits(ctx context.Context, c connection, joined bool) error {
	if joined {
		return nil
	}
	return s.dialect.lock(ctx, c, locking{timeout: s.lockTimeout})
}

// pgConn returns the connection of pgx that is inside of one of database/sql,
// or nil. This package does not import drivers, so it finds the methods by
// their names.
func pgConn(raw any) any {
	for _, name := range []string{"Conn", "PgConn"} {
		method := reflect.ValueOf(raw).MethodByName(name)
		if !method.IsValid() || method.Type().NumIn() != 0 || method.Type().NumOut() != 1 {
			return nil
		}
		raw = method.Call(nil)[0].Interface()
	}
	return raw
}

// requestCancel asks the server to cancel what a connection of pgx does, as pgx
// closes the connection when its context ends, which leaves the outcome open.
// It returns whether a request was sent, which is false for other drivers, and
// whether the server has answered that it did it. From then on the request
// cannot reach another statement. pgx does not return the error of a wait for
// the answer that took too long.
func requestCancel(raw any, wait time.Duration) (sent, answered bool) {
	requester, ok := pgConn(raw).(cancelRequester)
	if !ok {
		return false, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	err := requester.CancelRequest(ctx)
	return true, err == nil && ctx.Err() == nil
}

// cancelRequester is a connection of pgx.
type cancelRequester interface {
	CancelRequest(ctx context.Context) error
}

// errUnanswered is what is known of a statement after a request to cancel it
// that the server did not answer.
var errUnanswered = errors.New("the server did not answer a request to cancel the statement, so its connection was closed")

// backendOf returns the number of the server's process that serves a connection
// or transaction of pgx, as the driver was told it, or 0. A pooler tells
// another one.
func backendOf(raw any) int64 {
	if tx, ok := raw.(*sql.Tx); ok {
		return txBackend(tx)
	}
	if known, ok := pgConn(raw).(interface{ PID() uint32 }); ok {
		return int64(known.PID())
	}
	return 0
}

// watchedWaits are the waits that a watch ends.
type watchedWaits struct {
	anyLock bool   // those for locks of all kinds, and not only for tables
	hint    string // what a timeout then means
}

// watch watches a connection for waits until the watch is released, once its
// deadline is set. stop ends a statement whose driver has no cancel requests.
func (p postgres) watch(l *eventLog, key int64, waits watchedWaits, stop func()) *lockWatch {
	w := &lockWatch{cancel: stop, lookTime: l.store.poolState.lookTime}
	w.look = func(raw any) (bool, string) {
		return p.lockWait(l.store, waits, backendOf(raw), key, l.table)
	}
	w.deadline = l.store.poolState.deadlines.prepared(w.overdue)
	return w
}

// close ends the watch.
func (w *lockWatch) close() {
	w.mu.Lock()
	w.released = true // a deadline that has fired already must not be set again
	w.mu.Unlock()
	w.deadline.stop()
}

// release ends the watch and gives the connection back, or discards it.
func (w *lockWatch) release(conn *sql.Conn) {
	w.close()
	if w.isCanceled() {
		discard(conn)
	}
}

// discard closes a connection instead of giving it back to the pool.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
}

// lockWait reports whether the session of a backend is in one of the waits, and
// what a timeout then means, with who holds the lock. Of a backend that the
// server does not know, because a pooler is between, it reports whether any
// session waits like this for one of the tables that are given, or has the lock
// of one that a save takes first. If it cannot be found out, the wait counts as
// one: it is over time. A timeout then means the hint.
func (p postgres) lockWait(s *Store, of watchedWaits, backend, key int64, tables ...table) (waiting bool, explained string) {
	hint := of.hint
	if s.pool.Stats().MaxOpenConnections == 1 {
		return true, hint + notLooked
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.poolState.lookTime)
	defer cancel()
	conn, err := s.pool.Conn(ctx)
	if err != nil {
		return true, hint + notLooked
	}
	defer conn.Close() // an error of giving back a connection has no consequence
	var known, waits bool
	var own, other sql.NullString
	query := "WITH w AS (SELECT pid, relation, locktype FROM pg_locks WHERE NOT granted" +
		" AND (database IS NULL OR database = (SELECT oid FROM pg_database WHERE datname = current_database())))," +
		" k AS (SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND datname = current_database() AND usename = session_user) AS known)," +
		" s AS (SELECT pid FROM pg_locks WHERE granted AND locktype = 'relation' AND mode = 'RowExclusiveLock'" +
		" AND database = (SELECT oid FROM pg_database WHERE datname = current_database())" +
		" AND relation IN (SELECT to_regclass(t) FROM unnest($2::text[]) AS t))" +
		" SELECT known, EXISTS (SELECT FROM w WHERE locktype <> 'relation' AND CASE WHEN known THEN pid = $1 ELSE pid IN (SELECT pid FROM s) END)," +
		" (SELECT relation::regclass::text FROM w WHERE locktype = 'relation' AND pid = $1 LIMIT 1)," +
		" (SELECT relation::regclass::text FROM w WHERE locktype = 'relation' AND" +
		" relation IN (SELECT to_regclass(t) FROM unnest($2::text[]) AS t) LIMIT 1) FROM k"
	if err := conn.QueryRowContext(ctx, query, backend, quotedNames(tables)).Scan(&known, &waits, &own, &other); err != nil {
		return true, hint + notLooked
	}
	relation := other
	if known {
		relation = own
	}
	// A panic of a logger would end the process: no caller is in this goroutine.
	c := connection{pool: conn, store: s}.quiet()
	switch {
	case relation.Valid:
		if of.anyLock {
			hint = hintTable
		}
		_, holder := p.holderOf(ctx, c, key, []string{relation.String})
		return true, hint + holder
	case of.anyLock && waits && known:
		return true, hint + p.blocker(ctx, c, backend)
	case of.anyLock && waits:
		return true, hint
	}
	return false, ""
}

// blocker says which session a backend waits for.
func (postgres) blocker(ctx context.Context, c connection, backend int64) string {
	query := "SELECT a.pid, COALESCE(a.application_name, ''), NOT EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND NOT l.granted), " +
		"COALESCE(EXTRACT(EPOCH FROM clock_timestamp() - a.xact_start), -1)::float8 " +
		"FROM pg_stat_activity a WHERE a.pid = ANY (pg_blocking_pids($1::int4)) ORDER BY a.xact_start LIMIT 1"
	var h lockingSession
	if err := c.row(ctx, query, backend).Scan(&h.pid, &h.application, &h.granted, &h.seconds); err != nil {
		return ""
	}
	return h.String()
}

// notLooked follows the hint that a table is locked if that is not certain.
const notLooked = ", or the statement takes too long: there was no connection to look with"

func quotedNames(tables []table) []string {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.quoted
	}
	return names
}

// withHolder adds to an error that says that a lock was waited for too long
// which session holds the lock, if that can be found out. Other errors stay as
// they are.
func (t *eventTable) withHolder(ctx context.Context, c connection, op string, err error) error {
	f := t.store.infoOf(err)
	if f.class != persistence.ErrLockTimeout || errors.Is(err, persistence.ErrPersistence) || ctx.Err() != nil {
		return err
	}
	if whole, ok := c.pool.(*sql.DB); ok {
		if exhausted(whole) {
			return err // no connection to look with
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.store.poolState.lookTime)
		defer cancel()
	}
	at, failed := t.logKey(ctx, c)
	if failed != nil {
		return err
	}
	tables := []table{t.table}
	switch t.table {
	case t.store.tables.events:
		tables = append(tables, t.store.tables.tracking)
	case t.store.tables.status:
		tables = append(tables, t.store.tables.runners)
	}
	hint := f.hint
	switch held, holder := t.store.dialect.lockHolder(ctx, c, t.orderKeys(at)[0], tables...); {
	case held == tableLock:
		hint = hintTable + holder
	case held == orderLock:
		hint += holder
	}
	return &persistence.Error{Class: f.class, Op: op, Hint: hint, Err: err}
}

// heldLock is what a session is found to hold.
type heldLock int

const (
	noLock heldLock = iota
	orderLock
	tableLock
)

// lockHolder says which session holds the order lock, or locks one of the
// tables or is about to. It returns noLock if that cannot be found out. It
// names no statement, as that may contain data.
func (p postgres) lockHolder(ctx context.Context, c connection, key int64, tables ...table) (held heldLock, text string) {
	return p.holderOf(ctx, c, key, quotedNames(tables))
}

// holderOf is lockHolder for the names of tables.
func (postgres) holderOf(ctx context.Context, c connection, key int64, tables []string) (held heldLock, text string) {
	query := "SELECT l.pid, l.locktype = 'relation', COALESCE(a.application_name, ''), l.granted, " +
		"COALESCE(EXTRACT(EPOCH FROM clock_timestamp() - a.xact_start), -1)::float8 " +
		"FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid " +
		"WHERE l.pid <> pg_backend_pid() AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) " +
		"AND (l.granted AND l.locktype = 'advisory' AND l.objsubid = 1 AND (l.classid::int8 << 32 | l.objid::int8) = $1 " +
		"OR l.locktype = 'relation' AND l.relation IN (SELECT to_regclass(t) FROM unnest($2::text[]) AS t) " +
		"AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')) " +
		"ORDER BY l.granted DESC, a.xact_start LIMIT 1"
	var h lockingSession
	var isTable bool
	if err := c.row(ctx, query, key, tables).Scan(&h.pid, &isTable, &h.application, &h.granted, &h.seconds); err != nil {
		return noLock, ""
	}
	held = orderLock
	if isTable {
		held = tableLock
	}
	return held, h.String()
}

// lockingSession is a session that holds a lock, or waits for one.
type lockingSession struct {
	pid         int64
	application string  // its application_name
	granted     bool    // it waits for no lock
	seconds     float64 // since its transaction began, or less than 0
}

// String follows a hint.
func (h lockingSession) String() string {
	holds := "holds"
	if !h.granted {
		holds = "waits for"
	}
	text := fmt.Sprintf("; PostgreSQL process %d %s the lock", h.pid, holds)
	if h.application != "" {
		text = fmt.Sprintf("; PostgreSQL process %d of application_name %q %s the lock", h.pid, h.application, holds)
	}
	if h.seconds >= 0 {
		text += fmt.Sprintf(", in a transaction that began %v ago", time.Duration(h.seconds*float64(time.Second)).Round(time.Millisecond))
	}
	return text
}

// lockHolder is not known: SQLite does not say which process has its lock.
func (sqlite) lockHolder(context.Context, connection, int64, ...table) (heldLock, string) {
	return noLock, ""
}
