package gormstore

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Plugin makes every transaction of a database tell what waits for its end: with it, contexts of WithTx need no Ended,
// in db.Transaction, db.Begin and nested transactions alike. GORM itself has no hooks for the end of a transaction.
//
//	err := db.Use(gormstore.Plugin())
//
// Use it right after opening the database, and before dbresolver, which otherwise keeps the transactions to itself.
func Plugin() gorm.Plugin { return plugin{} }

type plugin struct{}

// Name implements gorm.Plugin.
func (plugin) Name() string { return "eventsourcing" }

// Initialize implements gorm.Plugin. It puts a pool around the database's own whose transactions have hooks.
func (plugin) Initialize(db *gorm.DB) error {
	if _, late := db.Plugins["gorm:db_resolver"]; late {
		return errors.New("gormstore: use gormstore.Plugin before dbresolver, which has taken over the transactions")
	}
	pool := &hookedPool{db.ConnPool}
	db.ConnPool = pool
	db.Statement.ConnPool = pool
	return nil
}

// hookedPool is a pool whose transactions have hooks.
type hookedPool struct{ gorm.ConnPool }

// GetDBConn implements gorm.GetDBConnector.
func (p *hookedPool) GetDBConn() (*sql.DB, error) { return databaseOf(p.ConnPool) }

// BeginTx implements gorm.ConnPoolBeginner.
func (p *hookedPool) BeginTx(ctx context.Context, options *sql.TxOptions) (gorm.ConnPool, error) {
	var pool gorm.ConnPool
	var err error
	switch beginner := p.ConnPool.(type) {
	case gorm.TxBeginner:
		pool, err = beginner.BeginTx(ctx, options)
	case gorm.ConnPoolBeginner:
		pool, err = beginner.BeginTx(ctx, options)
	default:
		err = gorm.ErrInvalidTransaction
	}
	if err != nil {
		return nil, err
	}
	_, scope := persistence.NewTransaction(context.Background())
	return hook(context.WithoutCancel(ctx), pool, scope, p), nil
}

// hook puts hooks around a transaction.
func hook(outside context.Context, pool gorm.ConnPool, scope *persistence.Transaction, owner gorm.GetDBConnector) gorm.ConnPool {
	tx := &hookedTx{ConnPool: pool, outside: outside, scope: scope, owner: owner, savepoints: map[string]persistence.Savepoint{}}
	if prepares, ok := pool.(gorm.Tx); ok {
		return &preparingTx{tx, prepares}
	}
	return tx
}

// hooked is a transaction with hooks of either kind.
type hooked interface{ hooks() *hookedTx }

// hooksOf finds the hooks of a transaction. They may be below GORM's prepared statements.
func hooksOf(pool gorm.ConnPool) (*hookedTx, bool) {
	if prepared, ok := pool.(*gorm.PreparedStmtTX); ok {
		pool = prepared.Tx
	}
	if h, ok := pool.(hooked); ok {
		return h.hooks(), true
	}
	return nil, false
}

// preparingTx is a hookedTx that can use statements of the pool, which GORM asks for in a session with PrepareStmt: with
// any other it would leave the transaction.
type preparingTx struct {
	*hookedTx
	tx gorm.Tx
}

// StmtContext implements gorm.Tx.
func (t *preparingTx) StmtContext(ctx context.Context, statement *sql.Stmt) *sql.Stmt {
	return t.tx.StmtContext(ctx, statement)
}

// hookedTx is a transaction with hooks for its end.
type hookedTx struct {
	gorm.ConnPool
	outside context.Context // for what runs after the end
	scope   *persistence.Transaction
	owner   gorm.GetDBConnector
	turn    sync.Mutex // see shared

	mu         sync.Mutex // protects savepoints
	savepoints map[string]persistence.Savepoint
}

func (t *hookedTx) hooks() *hookedTx { return t }

// GetDBConn implements gorm.GetDBConnector.
func (t *hookedTx) GetDBConn() (*sql.DB, error) { return t.owner.GetDBConn() }

// Commit implements gorm.TxCommitter.
func (t *hookedTx) Commit() error {
	if err := t.ConnPool.(gorm.TxCommitter).Commit(); err != nil {
		t.scope.RolledBack(t.outside)
		return err
	}
	t.scope.Committed(t.outside)
	return nil
}

// Rollback implements gorm.TxCommitter.
func (t *hookedTx) Rollback() error {
	err := t.ConnPool.(gorm.TxCommitter).Rollback()
	t.scope.RolledBack(t.outside)
	return err
}

// ExecContext also watches the savepoints, which are how GORM nests transactions: what was done behind one that is rolled
// back must not have its effects.
func (t *hookedTx) ExecContext(ctx context.Context, query string, arguments ...any) (sql.Result, error) {
	pool := t.ConnPool
	if len(arguments) == 0 {
		pool = unprepared(pool)
	}
	result, err := pool.ExecContext(ctx, query, arguments...)
	if err != nil {
		return result, err
	}
	if name, ok := strings.CutPrefix(query, "SAVEPOINT "); ok {
		name, _, _ = strings.Cut(name, ";") // our own may have more statements after it
		t.mu.Lock()
		t.savepoints[name] = t.scope.Savepoint()
		t.mu.Unlock()
	}
	if name, ok := strings.CutPrefix(query, "ROLLBACK TO SAVEPOINT "); ok {
		t.mu.Lock()
		to, known := t.savepoints[name]
		t.mu.Unlock()
		if known {
			t.scope.RolledBackTo(t.outside, to)
		}
	}
	return result, nil
}

// unprepared is the transaction below GORM's prepared statements, which take
// one command each.
func unprepared(pool gorm.ConnPool) gorm.ConnPool {
	if prepared, ok := pool.(*gorm.PreparedStmtTX); ok {
		return prepared.Tx
	}
	return pool
}

func databaseOf(pool gorm.ConnPool) (*sql.DB, error) {
	switch p := pool.(type) {
	case *sql.DB:
		return p, nil
	case gorm.GetDBConnector:
		return p.GetDBConn()
	}
	return nil, gorm.ErrInvalidDB
}
