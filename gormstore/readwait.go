package gormstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"reflect"
	"time"

	"gorm.io/gorm"
)

// A read waits for a table that another session has locked in ACCESS EXCLUSIVE
// mode, with ALTER TABLE or VACUUM FULL. To set lock_timeout with each read
// would cost a round trip, or the time of a statement, and to set it once for
// each connection would bound the caller's own statements, which share the
// pool. So reads are watched as saves are: a read sets a deadline, and only one
// that takes longer than the lock timeout is looked at.

// watchedPool sends statements over one connection, and watches each until its
// answer begins. By then a statement has the locks of all its tables, so it is
// not canceled while a long result is read.
type watchedPool struct {
	gorm.ConnPool // the connection, or the caller's transaction on it
	watch         lockWatch
	store         *Store
	op            string
	conn          *sql.Conn // nil in the caller's transaction
	raw           any       // what the watch takes for the driver's connection, once asked for
	byContext     bool      // the end of a statement's context cancels it, as requests cannot
	stops         []func()  // end the contexts of the statements
}

// read implements dialect.
func (p postgres) read(ctx context.Context, s *Store, op string) (c connection, done func(), err error) {
	w := &watchedPool{store: s, op: op}
	if err := w.connect(ctx); err != nil {
		return connection{}, nil, s.translate(ctx, op, err)
	}
	w.prepare(p, hintRead)
	return connection{w, s}, w.release, nil
}

// watchJoined implements dialect.
func (p postgres) watchJoined(s *Store, outer *txScope, op string) (c connection, done func()) {
	w := &watchedPool{ConnPool: outer.connection(), store: s, op: op}
	inner := unhooked(w.ConnPool)
	if u, ok := inner.(*postgresUnit); ok {
		w.take(u.conn)
	} else {
		w.raw, w.byContext = inner, true
	}
	w.prepare(p, hintRead+"; nothing of the transaction is stored")
	return connection{w, s}, func() {
		w.end()
		if w.watch.isUnanswered() {
			_ = outer.turns.spoil(w.watch.timedOut(op, errUnanswered))
		}
	}
}

// watchReads returns a connection that is the caller's, for reads that are
// bounded like those of read, until done is called.
func (p postgres) watchReads(s *Store, conn *sql.Conn, op string) (c connection, done func()) {
	w := &watchedPool{ConnPool: conn, store: s, op: op}
	w.take(conn)
	w.prepare(p, hintRead)
	return connection{w, s}, func() {
		w.end()
		if w.watch.isUnanswered() {
			discard(conn)
		}
	}
}

// prepare makes the watch ready for the first statement.
func (w *watchedPool) prepare(p postgres, hint string) {
	w.watch.look = func(raw any) (bool, string) {
		return p.lockWait(w.store, watchedWaits{hint: hint}, backendOf(raw), 0, w.store.tables.all()...)
	}
	w.watch.cancel, w.watch.lookTime = w.stop, w.store.poolState.lookTime
	w.watch.deadline = w.store.poolState.deadlines.prepared(w.watch.overdue)
}

// connect takes a connection out of the pool. If the pool has none to spare, it
// waits for one no longer than the lock timeout: the transaction around this
// read may have it.
func (w *watchedPool) connect(ctx context.Context) (err error) {
	var conn *sql.Conn
	if exhausted(w.store.pool) {
		conn, err = w.store.connect(ctx, w.store.lockTimeout)
	} else {
		conn, err = w.store.pool.Conn(ctx)
	}
	if err == nil { // otherwise the one that was lost stays, to be released
		w.conn, w.ConnPool, w.raw = conn, conn, nil
	}
	return err
}

// take finds the driver's connection.
func (w *watchedPool) take(conn *sql.Conn) {
	_ = conn.Raw(func(raw any) error { // if it is closed, the statement says so
		w.found(raw)
		return nil
	})
}

func (w *watchedPool) found(raw any) {
	w.raw, w.byContext = raw, !w.store.poolState.takesRequests(raw)
}

// takesRequests reports whether the statements of a connection of the pool can
// be canceled by request. It asks the driver once, as that takes long.
func (h *poolState) takesRequests(raw any) bool {
	kind := reflect.TypeOf(raw)
	if known, ok := h.requests.Load(kind); ok {
		return known.(bool)
	}
	_, takes := pgConn(raw).(cancelRequester)
	h.requests.Store(kind, takes)
	return takes
}

// release ends the watch and gives the connection back, or discards it.
func (w *watchedPool) release() {
	w.end()
	if w.watch.isUnanswered() {
		discard(w.conn)
	}
	_ = w.conn.Close() // an error of giving back a connection has no consequence
}

// end ends the watch.
func (w *watchedPool) end() {
	w.watch.close()
	w.stop()
}

// stop ends the contexts of the statements.
func (w *watchedPool) stop() {
	for _, stop := range w.stops {
		stop()
	}
}

// QueryContext implements gorm.ConnPool. Like database/sql, it tries other
// connections if this one has turned out to be dead before anything was sent.
func (w *watchedPool) QueryContext(ctx context.Context, query string, arguments ...any) (rows *sql.Rows, err error) {
	err = w.onLive(ctx, func() (err error) {
		sent := w.begin(ctx)
		defer w.watch.end()
		rows, err = w.ConnPool.QueryContext(sent, query, arguments...)
		return err
	})
	return rows, err
}

// each hands each row of a result over, past the machinery of database/sql; see
// connection.direct. It needs conn, which is nil in the caller's transaction.
func (w *watchedPool) each(ctx context.Context, each eachRow, query string, arguments []any) error {
	err := w.onLive(ctx, func() error {
		return w.conn.Raw(func(raw any) error {
			queryer, ok := raw.(driver.QueryerContext)
			if !ok {
				return driver.ErrSkip
			}
			values, err := namedValues(raw, arguments)
			if err != nil {
				return err
			}
			w.found(raw)
			sent := w.begin(ctx)
			rows, err := queryer.QueryContext(sent, query, values)
			w.watch.end()
			if err != nil {
				return err
			}
			return errors.Join(eachOf(rows, each), rows.Close())
		})
	})
	if errors.Is(err, driver.ErrSkip) {
		return connection{w, w.store}.indirect(ctx, each, query, arguments)
	}
	return err
}

// onLive tries to send a statement until it finds a connection that is not
// dead.
func (w *watchedPool) onLive(ctx context.Context, send func() error) error {
	err := send()
	for dead := 1; errors.Is(err, driver.ErrBadConn) && w.conn != nil && dead <= deadConnections; dead++ {
		_ = w.conn.Close() // it is closed already
		if err = w.connect(ctx); err == nil {
			err = send()
		}
	}
	return w.explain(ctx, err)
}

// deadConnections is how many connections that turn out to be dead a read
// passes over. Each is closed, so the pool has fewer of them afterwards.
const deadConnections = 100

// ExecContext implements gorm.ConnPool.
func (w *watchedPool) ExecContext(ctx context.Context, query string, arguments ...any) (sql.Result, error) {
	sent := w.begin(ctx)
	defer w.watch.end()
	result, err := w.ConnPool.ExecContext(sent, query, arguments...)
	return result, w.explain(ctx, err)
}

// begin begins to watch a statement, and returns its context.
func (w *watchedPool) begin(ctx context.Context) context.Context {
	if w.raw == nil && w.conn != nil {
		w.take(w.conn)
	}
	if w.byContext {
		sent, stop := context.WithCancel(ctx)
		w.stops = append(w.stops, stop) // not before the rows are read
		ctx = sent
	}
	wait, lookOnly := w.store.lockTimeout+lockGrace, false
	if deadline, ok := ctx.Deadline(); ok {
		if left := time.Until(deadline); left < wait {
			// There must be time left to look what the statement waits for.
			wait, lookOnly = max(left-w.store.poolState.lookTime, left/2), true
		}
	}
	w.watch.mu.Lock()
	defer w.watch.mu.Unlock()
	w.watch.raw, w.watch.lookOnly = w.raw, lookOnly
	w.watch.statement++
	w.watch.canceled, w.watch.waits = false, false
	w.watch.deadline.extend(wait)
	return ctx
}

// explain turns the error of a statement that has waited for a table too long
// into the timeout that it is. Other errors stay as they are.
func (w *watchedPool) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	w.watch.mu.Lock()
	defer w.watch.mu.Unlock()
	switch ended := ctx.Err(); {
	case ended == nil && w.watch.canceled && (isCanceled(err) || w.byContext || w.watch.unanswered):
		return w.watch.timedOut(w.op, err)
	case errors.Is(ended, context.DeadlineExceeded) && w.watch.waits:
		return w.watch.timedOut(w.op, errors.Join(ended, err))
	}
	return err
}

// Commit implements gorm.TxCommitter, as primaryOnly does.
func (*watchedPool) Commit() error { return gorm.ErrInvalidTransaction }

// Rollback implements gorm.TxCommitter.
func (*watchedPool) Rollback() error { return gorm.ErrInvalidTransaction }

// read needs no watch: what another connection writes does not keep a reader of
// SQLite waiting.
func (sqlite) read(ctx context.Context, s *Store, _ string) (c connection, done func(), err error) {
	return connection{s.readers(), s}, func() {}, s.waitToRead(ctx)
}

// watchJoined watches nothing, like read.
func (sqlite) watchJoined(s *Store, outer *txScope, _ string) (c connection, done func()) {
	return connection{outer.connection(), s}, func() {}
}
