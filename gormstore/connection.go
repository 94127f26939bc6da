package gormstore

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// connection sends statements to a pool or to a transaction, past GORM's
// builder and callbacks, and shows them to GORM's logger without their
// arguments: arguments are the users' data.
type connection struct {
	pool  gorm.ConnPool
	store *Store
}

func (c connection) exec(ctx context.Context, query string, arguments ...any) (affected int64, err error) {
	result, err := c.result(ctx, query, arguments...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (c connection) result(ctx context.Context, query string, arguments ...any) (sql.Result, error) {
	begin := time.Now()
	result, err := c.pool.ExecContext(ctx, query, arguments...)
	c.trace(ctx, begin, query, err)
	return result, err
}

func (c connection) query(ctx context.Context, query string, arguments ...any) (*sql.Rows, error) {
	begin := time.Now()
	rows, err := c.pool.QueryContext(ctx, query, arguments...)
	traced := false
	defer func() {
		if !traced && rows != nil { // the logger has panicked: the caller gets no rows to close
			_ = rows.Close()
		}
	}()
	c.trace(ctx, begin, query, err)
	traced = true
	return rows, err
}

// row reads a result of one row, and not by QueryRowContext: if a statement
// cannot be prepared, GORM's pool of prepared statements returns a row that
// panics.
func (c connection) row(ctx context.Context, query string, arguments ...any) row {
	rows, err := c.query(ctx, query, arguments...)
	return row{rows, err}
}

type row struct {
	rows *sql.Rows
	err  error
}

// Scan is that of sql.Row.
func (r row) Scan(into ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close() // the Close below is the one that reports an error
	if !r.rows.Next() {
		return cmp.Or(r.rows.Err(), sql.ErrNoRows)
	}
	return errors.Join(r.rows.Scan(into...), r.rows.Close())
}

// eachRow is called with every row of a result. It must not keep the slice.
type eachRow func(row []driver.Value) error

// direct sends a query to the driver of a single connection, past the machinery
// of database/sql, which starts a goroutine for every result. That would cost a
// lone writer a tenth of its speed. Connections whose driver does not offer
// this are used in the usual way.
func (c connection) direct(ctx context.Context, watch *lockWatch, each eachRow, query string, arguments ...any) error {
	begin := time.Now()
	unit, inTransaction := c.pool.(*postgresUnit)
	conn, _ := c.pool.(*sql.Conn)
	if inTransaction {
		conn = unit.conn
	}
	var sent error
	err := conn.Raw(func(raw any) error {
		sent = send(ctx, raw, watch, each, query, arguments)
		if inTransaction {
			// database/sql would close a bad connection, for which it waits
			// until the transaction has ended.
			return nil
		}
		return sent
	})
	if err == nil {
		err = sent
	}
	if errors.Is(err, driver.ErrSkip) {
		err = c.indirect(ctx, each, query, arguments)
	}
	c.trace(ctx, begin, query, err)
	return err
}

// each hands each row of a result over if the connection is one that reads past
// database/sql. Otherwise it returns false, and has done nothing.
func (c connection) each(ctx context.Context, each eachRow, query string, arguments ...any) (done bool, err error) {
	w, ok := c.pool.(*watchedPool)
	if !ok || w.conn == nil {
		return false, nil
	}
	begin := time.Now()
	err = w.each(ctx, each, query, arguments)
	c.trace(ctx, begin, query, err)
	return true, err
}

// asEvent takes the version, the topic and the state of an event from a row.
func asEvent(row []driver.Value) (version int64, topic string, state []byte, err error) {
	version, err = asInt(row[0])
	topic, isString := row[1].(string)
	bytes, isBytes := row[2].([]byte)
	if err == nil && (!isString || !isBytes) {
		err = fmt.Errorf("the driver returned %T and %T where a string and bytes were expected", row[1], row[2])
	}
	return version, topic, slices.Clone(bytes), err // bytes may be the driver's
}

// send sends a query to a driver, or returns driver.ErrSkip.
func send(ctx context.Context, raw any, watch *lockWatch, each eachRow, query string, arguments []any) error {
	queryer, ok := raw.(driver.QueryerContext)
	if !ok {
		return driver.ErrSkip
	}
	values, err := namedValues(raw, arguments)
	if err != nil {
		return err
	}
	watch.begin(raw)
	defer watch.end()
	rows, err := queryer.QueryContext(ctx, query, values)
	if err != nil {
		return err
	}
	return errors.Join(eachOf(rows, each), rows.Close())
}

// namedValues turns arguments into what the driver takes, as database/sql does.
func namedValues(raw any, arguments []any) ([]driver.NamedValue, error) {
	checker, checks := raw.(driver.NamedValueChecker)
	values := make([]driver.NamedValue, len(arguments))
	for i, argument := range arguments {
		values[i] = driver.NamedValue{Ordinal: i + 1, Value: argument}
		err := driver.ErrSkip
		if checks {
			err = checker.CheckNamedValue(&values[i])
		}
		if errors.Is(err, driver.ErrSkip) {
			values[i].Value, err = driver.DefaultParameterConverter.ConvertValue(argument)
		}
		if err != nil {
			return nil, err
		}
	}
	return values, nil
}

func eachOf(rows driver.Rows, each eachRow) error {
	row := make([]driver.Value, len(rows.Columns()))
	for {
		switch err := rows.Next(row); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := each(row); err != nil {
			return err
		}
	}
}

// indirect is direct by way of database/sql.
func (c connection) indirect(ctx context.Context, each eachRow, query string, arguments []any) error {
	rows, err := c.pool.QueryContext(ctx, query, arguments...)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	row, targets := make([]driver.Value, len(columns)), make([]any, len(columns))
	for i := range row {
		targets[i] = &row[i]
	}
	for rows.Next() {
		if err := errors.Join(rows.Scan(targets...), each(row)); err != nil {
			return err
		}
	}
	return rows.Err()
}

// quiet returns a connection whose statements GORM's logger is not told of. It
// is for those that ask what the tables are like, which no caller has asked
// for.
func (c connection) quiet() connection {
	c.pool = quietPool{c.pool}
	return c
}

type quietPool struct{ gorm.ConnPool }

// trace tells GORM's logger of a statement. A violated unique key is no error
// to report there: it is an ordinary conflict, and the caller learns of it. So
// is the mismatch of insertRow, and a table that does not exist.
func (c connection) trace(ctx context.Context, begin time.Time, query string, err error) {
	if _, ok := c.pool.(quietPool); ok {
		return
	}
	if err != nil && c.store.isExpected(ctx, err) {
		err = nil
	}
	c.store.db.Logger.Trace(ctx, begin, func() (string, int64) { return query, -1 /* rows: unknown */ }, err)
}

// isExpected reports whether an error is one that callers handle, so that
// GORM's logger need not report it. So is the end of a statement whose caller
// has canceled it: that says nothing about the database. A deadline that has
// passed may, and is reported.
func (s *Store) isExpected(ctx context.Context, err error) bool {
	f := s.infoOf(err)
	if f.unique || f.missing != "" || errors.Is(ctx.Err(), context.Canceled) && endedByCancel(err) {
		return true
	}
	_, isSQLite := s.dialect.(sqlite)
	if isSQLite && isSQLiteMismatch(err) {
		return true
	}
	triesAgain := isSQLite // while another connection has the file's lock
	return f.class == persistence.ErrLockTimeout && (triesAgain || ctx.Value(expectsLockKey{}) != nil)
}

// endedByCancel reports whether an error may be what a canceled context has made
// of a statement. The statement itself may not have been sent: as the context
// ends, database/sql rolls the transaction back, and drivers close the
// connection.
func endedByCancel(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, sql.ErrTxDone) || errors.Is(err, sql.ErrConnDone)
}

// expectsLockKey marks a context for statements that wait for a lock which
// another process may well have for longer.
type expectsLockKey struct{}

func expectingLock(ctx context.Context) context.Context {
	return context.WithValue(ctx, expectsLockKey{}, true)
}

// expectingLogger is the logger of the user's handle for statements of this
// package. It reports no errors that callers handle.
type expectingLogger struct {
	logger.Interface
	store *Store
}

// Trace implements logger.Interface.
func (l expectingLogger) Trace(ctx context.Context, begin time.Time, statement func() (string, int64), err error) {
	if err != nil && l.store.isExpected(ctx, err) {
		err = nil
	}
	l.Interface.Trace(ctx, begin, statement, err)
}

// ParamsFilter implements gorm.ParamsFilter: arguments are shown as the user's
// logger shows them.
func (l expectingLogger) ParamsFilter(ctx context.Context, statement string, arguments ...any) (string, []any) {
	if filter, ok := l.Interface.(gorm.ParamsFilter); ok {
		return filter.ParamsFilter(ctx, statement, arguments...)
	}
	return statement, arguments
}

// reader is the transaction that ctx carries, for the time until done is
// called, or else the pool.
func (s *Store) reader(ctx context.Context, op string) (c connection, done func(), err error) {
	if err := s.ready(ctx); err != nil {
		return c, nil, err
	}
	outer, err := s.txScopeOf(ctx)
	if err != nil {
		return c, nil, err
	}
	if outer == nil {
		return s.dialect.read(ctx, s, op)
	}
	outer.turns.statement.Lock()
	c, watched := s.dialect.watchJoined(s, outer, op)
	return c, func() { watched(); outer.turns.statement.Unlock() }, nil
}

// readers is the pool for reads outside of transactions.
func (s *Store) readers() gorm.ConnPool {
	if s.poolState.readers != nil {
		return s.poolState.readers
	}
	return s.pool
}
