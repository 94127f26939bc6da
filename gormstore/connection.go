package gormstore

import (
	"context"
	"database/sql"
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

func (c connection) row(ctx context.Context, query string, arguments ...any) *sql.Row {
	begin := time.Now()
	row := c.pool.QueryRowContext(ctx, query, arguments...)
	c.trace(ctx, begin, query, -1, row.Err())
	return row
}

// trace tells GORM's logger of a statement. A violated unique key is no error to report there: it is an ordinary
// conflict, and the caller learns of it.
func (c connection) trace(ctx context.Context, begin time.Time, query string, affected int64, err error) {
	if err != nil && c.store.faultOf(err).unique {
		err = nil
	}
	c.store.db.Logger.Trace(ctx, begin, func() (string, int64) { return query, affected }, err)
}
