package gormstore

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"time"

	"gorm.io/gorm"
)

// connection sends statements to a pool or to a transaction, past GORM's builder and callbacks, and shows them to
// GORM's logger without their arguments: arguments are the users' data.
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
	c.trace(ctx, begin, query, -1, err)
	return result, err
}

func (c connection) query(ctx context.Context, query string, arguments ...any) (*sql.Rows, error) {
	begin := time.Now()
	rows, err := c.pool.QueryContext(ctx, query, arguments...)
	c.trace(ctx, begin, query, -1, err)
	return rows, err
}

// row reads a result of one row, and not by QueryRowContext: where a statement cannot be prepared, GORM's pool of prepared
// statements returns a row that panics.
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
	defer r.rows.Close() // also done below, where its error counts
	if !r.rows.Next() {
		return cmp.Or(r.rows.Err(), sql.ErrNoRows)
	}
	return errors.Join(r.rows.Scan(into...), r.rows.Close())
}

// eachRow is called with every row of a result. It must not keep the slice.
type eachRow func(row []driver.Value) error

// direct sends a query to the driver of a single connection, past the machinery of database/sql, which starts a goroutine
// for every result. That would cost a lone writer a tenth of its speed. Connections whose driver does not offer this are
// used in the usual way.
func (c connection) direct(ctx context.Context, watch *lockWatch, each eachRow, query string, arguments ...any) error {
	begin := time.Now()
	err := c.pool.(*sql.Conn).Raw(func(raw any) error {
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
	})
	if errors.Is(err, driver.ErrSkip) {
		err = c.indirect(ctx, each, query, arguments)
	}
	c.trace(ctx, begin, query, -1, err)
	return err
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

// trace tells GORM's logger of a statement. A violated unique key is no error to report there: it is an ordinary
// conflict, and the caller learns of it.
func (c connection) trace(ctx context.Context, begin time.Time, query string, affected int64, err error) {
	if err != nil && c.store.faultOf(err).unique {
		err = nil
	}
	c.store.db.Logger.Trace(ctx, begin, func() (string, int64) { return query, affected }, err)
}
