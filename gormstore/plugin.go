package gormstore

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"sync"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/internal/txscope"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Plugin lets every transaction of a database signal its end to what waits for
// it: with it, contexts of WithTx need no Ended, in db.Transaction, db.Begin
// and nested transactions alike. GORM itself has no hooks for the end of a
// transaction.
//
//	err := db.Use(gormstore.Plugin())
//
// Use it right after opening the database, and before dbresolver, which
// otherwise keeps the transactions to itself.
func Plugin() gorm.Plugin { return plugin{} }

type plugin struct{}

// Name implements gorm.Plugin.
func (plugin) Name() string { return "eventsourcing" }

// Initialize implements gorm.Plugin. It puts a pool around the database's own
// whose transactions have hooks.
func (plugin) Initialize(db *gorm.DB) error {
	if _, late := db.Plugins["gorm:db_resolver"]; late {
		return errors.New("gormstore: use gormstore.Plugin before dbresolver, which has taken over the transactions")
	}
	pool := &hookedPool{db.ConnPool, db.Name()}
	db.ConnPool = pool
	db.Statement.ConnPool = pool
	return nil
}

// hookedPool is a pool whose transactions have hooks.
type hookedPool struct {
	gorm.ConnPool
	dialector string
}

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
	_, scope := txscope.New(context.Background())
	return hook(context.WithoutCancel(ctx), pool, scope, newTurns(), p, p.dialector), nil
}

// hook puts hooks around a transaction, in place of those of the transaction
// that it is nested in.
func hook(outside context.Context, pool gorm.ConnPool, scope *txscope.Scope, turns *turns, owner gorm.GetDBConnector, dialector string) gorm.ConnPool {
	if outer, ok := pool.(hooked); ok {
		pool = outer.hooks().ConnPool
	}
	tx := &hookedTx{ConnPool: pool, outside: outside, scope: scope, turns: turns, owner: owner, sqlite: dialector == sqliteName}
	if prepares, ok := pool.(gorm.Tx); ok {
		return &preparingTx{tx, prepares}
	}
	return tx
}

// hooked is a transaction with hooks of either kind.
type hooked interface{ hooks() *hookedTx }

// hooksOf finds the hooks of a transaction. They may be below GORM's prepared
// statements.
func hooksOf(pool gorm.ConnPool) (*hookedTx, bool) {
	if h, ok := unprepared(pool).(hooked); ok {
		return h.hooks(), true
	}
	return nil, false
}

// preparingTx is a hookedTx that can use statements of the pool, which GORM
// asks for in a session with PrepareStmt: with any other it would leave the
// transaction.
type preparingTx struct {
	*hookedTx
	tx gorm.Tx
}

// StmtContext implements gorm.Tx.
func (t *preparingTx) StmtContext(ctx context.Context, statement *sql.Stmt) *sql.Stmt {
	return t.tx.StmtContext(ctx, statement)
}

// hookedTx is a transaction with hooks for its end. It looks at the statements
// of the user for savepoints, which are how GORM nests transactions: what was
// done after one that is rolled back must not have its effects. It refuses
// statements that end the transaction, of which GORM and database/sql would
// know nothing.
type hookedTx struct {
	gorm.ConnPool
	outside context.Context // for what runs after the end
	scope   *txscope.Scope
	owner   gorm.GetDBConnector
	turns   *turns
	sqlite  bool

	mu         sync.Mutex // protects savepoints
	savepoints []namedSavepoint
}

// namedSavepoint is one that is set and not released. Several may have one
// name.
type namedSavepoint struct {
	name  string
	place txscope.Savepoint
}

func (t *hookedTx) hooks() *hookedTx { return t }

// GetDBConn implements gorm.GetDBConnector.
func (t *hookedTx) GetDBConn() (*sql.DB, error) { return t.owner.GetDBConn() }

// Commit implements gorm.TxCommitter.
func (t *hookedTx) Commit() error {
	if err := t.turns.usable(); err != nil {
		_ = t.Rollback() // err is why nothing is stored
		return err
	}
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

// ExecContext implements gorm.ConnPool.
func (t *hookedTx) ExecContext(ctx context.Context, query string, arguments ...any) (sql.Result, error) {
	done, err := t.inspect(query)
	if err != nil {
		return nil, err
	}
	pool := t.ConnPool
	if len(arguments) == 0 {
		pool = unprepared(pool)
	}
	result, err := pool.ExecContext(ctx, query, arguments...)
	done(err)
	return result, err
}

// QueryContext implements gorm.ConnPool.
func (t *hookedTx) QueryContext(ctx context.Context, query string, arguments ...any) (*sql.Rows, error) {
	done, err := t.inspect(query)
	if err != nil {
		return nil, err
	}
	rows, err := t.ConnPool.QueryContext(ctx, query, arguments...)
	done(err)
	return rows, err
}

// QueryRowContext implements gorm.ConnPool. A row cannot be given an error of
// ours, so that of a statement that is refused says that its context was
// canceled.
func (t *hookedTx) QueryRowContext(ctx context.Context, query string, arguments ...any) *sql.Row {
	done, err := t.inspect(query)
	if err != nil {
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		return t.ConnPool.QueryRowContext(canceled, query, arguments...)
	}
	row := t.ConnPool.QueryRowContext(ctx, query, arguments...)
	done(row.Err())
	return row
}

// PrepareContext implements gorm.ConnPool. A prepared statement is executed
// past the hooks, so none may be a command of the transaction.
func (t *hookedTx) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	if err := t.turns.usable(); err != nil {
		return nil, err
	}
	if commands, _ := transactionCommands(query, t.sqlite); len(commands) > 0 {
		return nil, t.refuse("a savepoint or the end of a transaction in a prepared statement",
			"use SavePoint, RollbackTo and Transaction of *gorm.DB, or a session without PrepareStmt")
	}
	return t.ConnPool.PrepareContext(ctx, query)
}

// inspect refuses a query that would end the transaction, or undo more than it
// can see. The function that it returns is called with the outcome of the
// query.
func (t *hookedTx) inspect(query string) (done func(error), err error) {
	if err := t.turns.usable(); err != nil {
		return nil, err
	}
	commands, statements := transactionCommands(query, t.sqlite)
	if len(commands) == 0 {
		return func(error) {}, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	known := slices.Clone(t.savepoints)
	for _, c := range commands {
		switch at := lastNamed(known, c.name); {
		case c.kind == endTransaction:
			return nil, t.refuse(c.verb, "return an error to roll the transaction back, or nil to commit it")
		case c.kind == setSavepoint:
			known = append(known, namedSavepoint{name: c.name})
			t.turns.divided.Store(true) // before it is sent
		case at < 0:
			return nil, t.refuse("a return to a savepoint that was not set in this transaction", "return an error to undo all of it")
		case c.kind == releaseSavepoint:
			known = known[:at]
		default:
			known = known[:at+1]
		}
	}
	return func(err error) { t.executed(commands, err != nil, statements) }, nil
}

// executed takes note of commands. If one of several statements failed, those
// before it may have been executed.
func (t *hookedTx) executed(commands []transactionCommand, failed bool, statements int) {
	if failed && statements == 1 {
		return
	}
	for _, c := range commands {
		t.mu.Lock()
		at := lastNamed(t.savepoints, c.name)
		place := t.scope.Savepoint()
		if at >= 0 && (failed || c.kind == returnToSavepoint) {
			place = t.savepoints[at].place
		}
		switch c.kind {
		case setSavepoint:
			t.savepoints = append(t.savepoints, namedSavepoint{c.name, place})
		case releaseSavepoint:
			if at >= 0 && !failed {
				t.savepoints = t.savepoints[:at]
			}
		case returnToSavepoint:
			if at >= 0 {
				t.savepoints = t.savepoints[:at+1]
			}
		}
		t.mu.Unlock()
		if c.kind == returnToSavepoint && at >= 0 {
			t.scope.RolledBackTo(t.outside, place)
		}
	}
}

// isWhole reports whether what the transaction does is undone with all of it
// only: it is not nested, and no savepoint was set in it, nor by the handle of
// one that was nested in it.
func (t *hookedTx) isWhole() bool { return t.turns.depth == 0 && !t.turns.divided.Load() }

// lastNamed returns the index of the newest savepoint of a name, or -1.
func lastNamed(all []namedSavepoint, name string) int {
	for i, s := range slices.Backward(all) {
		if s.name == name {
			return i
		}
	}
	return -1
}

// refuse has the transaction fail: the caller may not look at the error.
func (t *hookedTx) refuse(what, instead string) error {
	return t.turns.spoil(&persistence.Error{Class: persistence.ErrProgramming, Op: "transaction",
		Hint: what + " was refused, and nothing of the transaction is stored; " + instead})
}

// unhooked is the transaction below GORM's prepared statements and our hooks.
func unhooked(pool gorm.ConnPool) gorm.ConnPool {
	for {
		switch p := pool.(type) {
		case *gorm.PreparedStmtTX:
			pool = p.Tx
		case hooked:
			pool = p.hooks().ConnPool
		default:
			return pool
		}
	}
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
