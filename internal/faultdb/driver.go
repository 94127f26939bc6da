package faultdb

import (
	"context"
	"database/sql/driver"
	"io"
	"slices"
	"sync"
	"sync/atomic"
)

type connector struct {
	inner  driver.Connector
	faults *Injector
}

func (c *connector) Driver() driver.Driver { return c.inner.Driver() }

func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	fault := c.faults.decide(Connect, "")
	if fault.When == Before {
		return nil, fault.Err
	}
	inner, err := c.inner.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if fault.When == After {
		_ = inner.Close()
		return nil, fault.Err
	}
	return &conn{inner: inner, faults: c.faults}, nil
}

// conn is a connection whose calls may fail. It has all optional methods of a
// connection, and does what database/sql does itself if the driver below lacks
// one.
type conn struct {
	inner  driver.Conn
	faults *Injector
	broken atomic.Bool

	mu   sync.Mutex // protects open
	open map[io.Closer]struct{}
}

// remember keeps what is to be closed before the connection is: SQLite keeps a
// connection alive whose statements are not.
func (c *conn) remember(child io.Closer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = map[io.Closer]struct{}{}
	}
	c.open[child] = struct{}{}
}

func (c *conn) forget(child io.Closer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, child)
}

// destroy closes the connection under the feet of its user.
func (c *conn) destroy() {
	if c.broken.Swap(true) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for child := range c.open {
		_ = child.Close()
	}
	c.open = nil
	_ = c.inner.Close()
}

// do makes a call, or lets it fail. The discard function throws away the reply
// of a call whose effect counts.
func do[R any](c *conn, op Op, statement string, call func() (R, error), discard func(R)) (reply R, err error) {
	if c.broken.Load() {
		return reply, driver.ErrBadConn
	}
	fault := c.faults.decide(op, statement)
	if fault.When == Never {
		return call()
	}
	if fault.When != Before {
		first, err := call()
		if err == nil {
			discard(first)
		}
		if fault.When == Twice {
			return call()
		}
	}
	if fault.Broken {
		c.destroy()
	}
	return reply, fault.Err
}

func ignore[R any](R) {}

// drain reads a result to its end, as statements with RETURNING have their
// effect only then on some drivers.
func drain(rows driver.Rows) {
	values := make([]driver.Value, len(rows.Columns()))
	for rows.Next(values) == nil {
	}
	_ = rows.Close()
}

func (c *conn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	prepared, err := do(c, Prepare, query, func() (driver.Stmt, error) {
		if p, ok := c.inner.(driver.ConnPrepareContext); ok {
			return p.PrepareContext(ctx, query)
		}
		return c.inner.Prepare(query)
	}, func(s driver.Stmt) { _ = s.Close() })
	if err != nil {
		return nil, err
	}
	c.remember(prepared)
	return &stmt{Stmt: prepared, conn: c, query: query}, nil
}

func (c *conn) Close() error {
	if c.broken.Load() {
		return nil
	}
	return c.inner.Close()
}

func (c *conn) Begin() (driver.Tx, error) { return c.BeginTx(context.Background(), driver.TxOptions{}) }

func (c *conn) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	begun, err := do(c, Begin, "", func() (driver.Tx, error) {
		if b, ok := c.inner.(driver.ConnBeginTx); ok {
			return b.BeginTx(ctx, options)
		}
		//lint:ignore SA1019 a driver without BeginTx has no other way
		return c.inner.Begin()
	}, func(t driver.Tx) { _ = t.Rollback() })
	if err != nil {
		return nil, err
	}
	return &tx{inner: begun, conn: c}, nil
}

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	execer, ok := c.inner.(driver.ExecerContext)
	if !ok {
		return nil, driver.ErrSkip
	}
	return do(c, Exec, query, func() (driver.Result, error) { return execer.ExecContext(ctx, query, slices.Clone(args)) }, ignore)
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	queryer, ok := c.inner.(driver.QueryerContext)
	if !ok {
		return nil, driver.ErrSkip
	}
	result, err := do(c, Query, query, func() (driver.Rows, error) { return queryer.QueryContext(ctx, query, slices.Clone(args)) }, drain)
	if err != nil {
		return nil, err
	}
	c.remember(result)
	return &rows{Rows: result, conn: c}, nil
}

func (c *conn) Ping(ctx context.Context) error {
	if c.broken.Load() {
		return driver.ErrBadConn
	}
	if p, ok := c.inner.(driver.Pinger); ok {
		return p.Ping(ctx)
	}
	return nil
}

func (c *conn) ResetSession(ctx context.Context) error {
	if c.broken.Load() {
		return driver.ErrBadConn
	}
	if r, ok := c.inner.(driver.SessionResetter); ok {
		return r.ResetSession(ctx)
	}
	return nil
}

func (c *conn) IsValid() bool {
	if c.broken.Load() {
		return false
	}
	v, ok := c.inner.(driver.Validator)
	return !ok || v.IsValid()
}

func (c *conn) CheckNamedValue(value *driver.NamedValue) error {
	if checker, ok := c.inner.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(value)
	}
	return driver.ErrSkip
}

type tx struct {
	inner driver.Tx
	conn  *conn
}

func (t *tx) Commit() error   { return t.end(Commit, t.inner.Commit) }
func (t *tx) Rollback() error { return t.end(Rollback, t.inner.Rollback) }

func (t *tx) end(op Op, end func() error) error {
	_, err := do(t.conn, op, "", func() (struct{}, error) { return struct{}{}, end() }, ignore)
	return err
}

// stmt is a prepared statement.
type stmt struct {
	driver.Stmt
	conn  *conn
	query string
}

func (s *stmt) Close() error {
	if s.conn.broken.Load() {
		return nil
	}
	s.conn.forget(s.Stmt)
	return s.Stmt.Close()
}

func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return do(s.conn, Exec, s.query, func() (driver.Result, error) {
		return s.Stmt.(driver.StmtExecContext).ExecContext(ctx, slices.Clone(args))
	}, ignore)
}

func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	result, err := do(s.conn, Query, s.query, func() (driver.Rows, error) {
		return s.Stmt.(driver.StmtQueryContext).QueryContext(ctx, slices.Clone(args))
	}, drain)
	if err != nil {
		return nil, err
	}
	s.conn.remember(result)
	return &rows{Rows: result, conn: s.conn}, nil
}

// rows is a result whose rows may fail to arrive.
type rows struct {
	driver.Rows
	conn *conn
}

// Next fails at a row, or at the end. A reply cannot be fetched twice, so that
// fault does nothing here.
func (r *rows) Next(into []driver.Value) error {
	if r.conn.broken.Load() {
		return io.ErrUnexpectedEOF
	}
	fault := r.conn.faults.decide(Fetch, "")
	if fault.When == Never || fault.When == Twice {
		return r.Rows.Next(into)
	}
	if fault.When == After {
		for r.Rows.Next(into) == nil { // the effect of a statement with RETURNING
		}
	}
	if fault.Broken {
		r.conn.destroy()
	}
	return fault.Err
}

func (r *rows) Close() error {
	if r.conn.broken.Load() {
		return nil
	}
	r.conn.forget(r.Rows)
	return r.Rows.Close()
}
