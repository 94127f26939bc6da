package gormstore

import (
	"context"
	"database/sql"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/internal/txscope"
)

// Readers returns a handle for queries that do not write, such as those of a
// read model. For a database that OpenSQLite has opened, it is a pool of
// connections that can only read, so queries neither wait for the one
// connection that writes nor hold it. For any other database it is db itself.
// The handle sees what is committed, not what a transaction is about to commit.
func Readers(db *gorm.DB) *gorm.DB {
	pool, err := db.DB()
	if err != nil {
		return db // whose first query says why
	}
	readers := poolStateOf(pool).readersOf()
	if readers == nil {
		return db
	}
	// With a context the session has its own statement; that of db keeps its
	// pool.
	session := db.Session(&gorm.Session{NewDB: true, Context: db.Statement.Context})
	session.Statement.ConnPool = readers
	return session
}

func (h *poolState) readersOf() *sql.DB {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.readers
}

// WithoutTx returns a context that carries no transaction, for what is not part
// of the transaction in ctx: in a handler of a follower, a query of another
// database, or of what other transactions have committed. It ends when ctx
// does. Do not save in it: what is saved commits by itself, also if the
// transaction is rolled back.
func WithoutTx(ctx context.Context) context.Context {
	return txscope.With(context.WithValue(ctx, sharedKey{}, (*txScope)(nil)), nil)
}
