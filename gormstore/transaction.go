package gormstore

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/internal/txscope"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// commitTimeout is how long a commit may take once it has begun, whatever
// becomes of the caller's context.
const commitTimeout = 10 * time.Second

// errDifferentDatabase says that the context carries a transaction of another
// database than the one that was to be written to: the two could not commit
// together.
var errDifferentDatabase = errors.New("the transaction in the context belongs to another database; " +
	"give WithoutTx what is not part of the transaction")

// txScope is a transaction that a context carries.
type txScope struct {
	tx    *gorm.DB
	pool  *sql.DB
	turns *turns

	positions sync.Map // the keys of the locks of positions that it has
}

type sharedKey struct{}

// Transaction runs fn in a transaction that saves take part in: every recorder
// of the same database that is used with the ctx that fn gets reads and writes
// in it, and so does tx, for the user's own tables. All of it commits when fn
// returns nil; all of it is rolled back when fn returns an error or panics.
//
// Keep it short: on PostgreSQL followers of the application wait for its end
// from the first save on, and in strict order (see WithStrictOrder) other
// writers do as well; on SQLite all writers wait for each other. A save that
// fails with a conflict undoes only itself; return its error to undo
// everything. After any other error of a save PostgreSQL has given the
// transaction up, and it cannot commit. Pending events, caches and followers
// learn of the saves after the commit.
//
// In a ctx that carries a transaction of the same database already, fn runs in
// a savepoint of it. Transaction waits for locks as long as the saves in it; see
// WithLockTimeout.
func Transaction(ctx context.Context, db *gorm.DB, fn func(ctx context.Context, tx *gorm.DB) error) error {
	return transactor(db).transaction(ctx, fn)
}

// transactor is a Store for transactions alone. It looks up the tables' names
// only if the database is not prepared, because that costs a short transaction
// much.
func transactor(db *gorm.DB) *Store {
	s := &Store{lockTimeout: defaultLockTimeout}
	if s.initErr = s.adopt(db); s.initErr == nil && !s.poolState.prepared.Load() {
		s = New(db)
	}
	if s.initErr == nil {
		s.lockTimeout = cmp.Or(time.Duration(s.poolState.lockTimeout.Load()), defaultLockTimeout)
	}
	return s
}

func (s *Store) transaction(ctx context.Context, fn func(ctx context.Context, tx *gorm.DB) error) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	outer, err := s.txScopeOf(ctx)
	if err != nil {
		return err
	}
	if outer != nil {
		if err := outer.turns.enter(ctx, s.lockTimeout); err != nil {
			return withCause(ctx, s.translate(ctx, "transaction", err))
		}
		defer outer.turns.leave()
	}
	scoped, scope := txscope.New(ctx)
	ended := false
	defer func() {
		if !ended { // an error or a panic of fn
			scope.RolledBack(ctx)
		}
	}()
	if outer != nil {
		err = s.nested(ctx, outer, func() error {
			return s.share(scoped, outer.connection(), outer.turns.nested(), scope, fn)
		})
	} else {
		err = s.inTransaction(ctx, txscope.OperationFrom(ctx, "transaction"), func(_ context.Context, pool openTx) error {
			return s.share(scoped, pool, newTurns(), scope, fn)
		})
	}
	if err != nil {
		return withCause(ctx, s.unknownIfLost(err))
	}
	ended = true
	scope.Committed(ctx)
	return nil
}

// withCause adds the end of a context to an error. A wait that is as long as
// the context's deadline may end a moment before it.
func withCause(ctx context.Context, err error) error {
	cause := ctx.Err()
	if deadline, ok := ctx.Deadline(); ok && cause == nil && time.Until(deadline) < 2*time.Millisecond && errors.Is(err, persistence.ErrLockTimeout) {
		cause = context.DeadlineExceeded
	}
	if cause == nil || errors.Is(err, cause) {
		return err
	}
	return errors.Join(err, cause)
}

// Transaction implements persistence.Transactor.
func (s *Store) Transaction(ctx context.Context, fn func(ctx context.Context) error) error {
	return s.transaction(ctx, func(ctx context.Context, _ *gorm.DB) error { return fn(ctx) })
}

// usable reports why the store cannot be used, and prepares it.
func (s *Store) usable(ctx context.Context) error {
	if s.initErr != nil {
		return &persistence.Error{Class: persistence.ErrInterface, Op: "transaction", Err: s.initErr}
	}
	return s.ready(ctx)
}

// share runs fn with a context that carries the transaction. GORM may nest
// transactions in it, whose ends the scope must know of.
func (s *Store) share(ctx context.Context, pool gorm.ConnPool, turns *turns, scope *txscope.Scope, fn func(context.Context, *gorm.DB) error) error {
	tx := s.session(ctx, hook(outsideOf(ctx), pool, scope, turns, poolOf{s.pool}, s.db.Name()))
	tx.Logger = s.db.Logger // the session is the user's
	ctx = context.WithValue(ctx, sharedKey{}, &txScope{tx: tx, pool: s.pool, turns: turns})
	if err := fn(ctx, tx.WithContext(ctx)); err != nil {
		return err
	}
	return turns.usable()
}

// connection is what the transaction sends its statements to.
func (t *txScope) connection() gorm.ConnPool { return t.tx.Statement.ConnPool }

// unknownIfLost turns the error of a commit into what it means to the caller.
func (s *Store) unknownIfLost(err error) error {
	if lost, ok := errors.AsType[*unknownOutcome](err); ok {
		return &persistence.Error{Class: persistence.ErrOutcomeUnknown, Op: "transaction", Err: lost,
			Hint: "the connection was lost during the commit; read before trying again"}
	}
	return err
}

// poolOf is a pool as GORM asks for it.
type poolOf struct{ pool *sql.DB }

// GetDBConn implements gorm.GetDBConnector.
func (p poolOf) GetDBConn() (*sql.DB, error) { return p.pool, nil }

// WithTx returns a context that carries a transaction which the caller has
// begun, with db.Begin or in db.Transaction, so that saves take part in it. A
// tx that is no transaction makes them fail.
//
// Pending events, caches and followers should learn of the saves when the
// transaction ends. With the Plugin they do. Without it nothing tells them:
// call Ended when it has ended, or do not use the saved aggregates any further.
func WithTx(ctx context.Context, tx *gorm.DB) context.Context {
	carried := &txScope{tx: tx, turns: turnsOf(tx)}
	pool, ok := transactionPool(tx)
	if ok {
		carried.pool, _ = tx.DB() // nil is the pool of no store
	}
	ctx = context.WithValue(ctx, sharedKey{}, carried)
	if hooked, ok := hooksOf(pool); ok {
		return txscope.With(ctx, hooked.scope)
	}
	ctx, _ = txscope.New(ctx)
	return ctx
}

// Ended reports the end of a transaction to all that waits for it: committed if
// err is nil, rolled back otherwise. It is for contexts of WithTx whose
// database does not have the Plugin.
func Ended(ctx context.Context, err error) {
	scope := txscope.From(ctx)
	if scope == nil {
		return
	}
	if err == nil {
		scope.Committed(outsideOf(ctx))
	} else {
		scope.RolledBack(outsideOf(ctx))
	}
}

// outsideOf is the context for what follows a transaction: it does not carry
// it, and does not end with it.
func outsideOf(ctx context.Context) context.Context {
	return WithoutTx(context.WithoutCancel(ctx))
}

// transactionPool is what a transaction sends its statements to. It returns
// false for handles that are none.
func transactionPool(tx *gorm.DB) (gorm.ConnPool, bool) {
	if tx == nil || tx.Statement == nil {
		return nil, false
	}
	committer, ok := tx.Statement.ConnPool.(gorm.TxCommitter)
	return tx.Statement.ConnPool, ok && committer != nil
}

// Tx returns the transaction that ctx carries, for the user's own statements
// that belong to it. It returns persistence.ErrNoTransaction if there is none.
func Tx(ctx context.Context) (*gorm.DB, error) {
	if s, ok := ctx.Value(sharedKey{}).(*txScope); ok && s != nil {
		return s.tx.WithContext(ctx), nil
	}
	return nil, persistence.ErrNoTransaction
}

// session is a GORM session whose statements go to a transaction.
func (s *Store) session(ctx context.Context, pool gorm.ConnPool) *gorm.DB {
	if quiet, ok := pool.(quietPool); ok {
		pool = quiet.ConnPool
	}
	if whole, ok := pool.(*sql.DB); ok {
		pool = primaryOnly{whole}
	}
	tx := s.db.Session(&gorm.Session{Context: ctx, NewDB: true, Logger: expectingLogger{s.db.Logger, s}})
	tx.Statement.ConnPool = pool
	return tx
}

// txScopeOf returns the transaction that ctx carries, or nil.
func (s *Store) txScopeOf(ctx context.Context) (*txScope, error) {
	carried, _ := ctx.Value(sharedKey{}).(*txScope)
	if carried == nil {
		return nil, nil
	}
	if _, ok := transactionPool(carried.tx); !ok {
		return nil, &persistence.Error{Class: persistence.ErrProgramming, Op: "gormstore",
			Err: errors.New("the handle given to WithTx is not a transaction; give what db.Begin or db.Transaction gives")}
	}
	if carried.pool != s.pool {
		return nil, &persistence.Error{Class: persistence.ErrProgramming, Op: "gormstore", Err: errDifferentDatabase}
	}
	if err := carried.turns.usable(); err != nil {
		return nil, err
	}
	return carried, nil
}

// savepoint runs fn so that its failure undoes only what it did, as PostgreSQL
// would otherwise give up the whole transaction. GORM's own nested transactions
// cannot be used, because they can be switched off.
func (s *Store) savepoint(ctx context.Context, c connection, fn func() error) error {
	set, release := s.dialect.savepoint(waitOf(ctx, s.lockTimeout))
	return s.withSavepoint(ctx, c, savepoint{"eventsourcing", set, release}, new(sync.Mutex), fn)
}

// savepoint is the name of a savepoint, with what is sent after it is set and
// before it is released, in the same round trips.
type savepoint struct{ name, set, release string }

// waitOf is how long a lock may be waited for: limit, or less if ctx has a
// deadline before that.
func waitOf(ctx context.Context, limit time.Duration) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(limit, max(time.Until(deadline), time.Millisecond))
	}
	return limit
}

// nested runs fn in a savepoint of a transaction that other goroutines may use
// as well.
func (s *Store) nested(ctx context.Context, outer *txScope, fn func() error) error {
	name := fmt.Sprintf("eventsourcing_%d", outer.turns.depth+1)
	return s.withSavepoint(ctx, connection{outer.connection(), s}, savepoint{name: name}, &outer.turns.statement, fn)
}

// withSavepoint sets a savepoint, runs fn, and keeps or undoes what it did.
// Each statement waits for its turn. An error of the savepoint itself is an
// ErrOperational, because it is then unknown what the transaction holds: it
// must not commit.
func (s *Store) withSavepoint(ctx context.Context, c connection, point savepoint, turn *sync.Mutex, fn func() error) (err error) {
	// The savepoint is not the user's, and may be sent with other commands.
	c.pool = unhooked(c.pool)
	execute := func(ctx context.Context, statement string) error {
		turn.Lock()
		defer turn.Unlock()
		_, err := c.exec(ctx, statement)
		return err
	}
	turn.Lock()
	err = s.dialect.stillOpen(ctx, c)
	turn.Unlock()
	if err != nil {
		return s.translate(ctx, "savepoint", err)
	}
	if err := execute(ctx, "SAVEPOINT "+point.name+point.set); err != nil {
		return s.translate(ctx, "savepoint", err)
	}
	broken := func(err error) error {
		return &persistence.Error{Class: persistence.ErrOperational, Op: "savepoint", Err: err}
	}
	kept := false
	defer func() {
		if kept {
			return
		}
		undo := context.WithoutCancel(ctx)
		failed := execute(undo, "ROLLBACK TO SAVEPOINT "+point.name)
		if failed == nil {
			failed = execute(undo, "RELEASE SAVEPOINT "+point.name)
		}
		if failed == nil || transactionGone(failed) {
			return
		}
		err = errors.Join(broken(failed), err)
		if outer, _ := s.txScopeOf(ctx); outer != nil { // no caller has the error if a logger has panicked
			_ = outer.turns.spoil(err)
		}
	}()
	if err := fn(); err != nil {
		return err
	}
	if err := execute(ctx, point.release+"RELEASE SAVEPOINT "+point.name); err != nil {
		if transactionGone(err) {
			return s.translate(ctx, "savepoint", err)
		}
		return broken(err)
	}
	kept = true
	return nil
}

// transactionGone recognises the error of a statement that was not sent,
// because the transaction or its connection has ended: nothing of it is stored.
func transactionGone(err error) bool {
	return errors.Is(err, sql.ErrTxDone) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, driver.ErrBadConn) || unsent(err)
}

// unsent recognises the error of pgx for a statement that was not sent.
func unsent(err error) bool {
	e, ok := errors.AsType[interface {
		error
		SafeToRetry() bool
	}](err)
	return ok && e.SafeToRetry()
}

// unknownOutcome is an error that leaves open whether the database did what it
// was asked.
type unknownOutcome struct {
	err error
	// locked says that the transaction held the order lock already, so that the
	// next holder of the lock knows it to have ended. Otherwise the statement
	// may still be on its way to the lock.
	locked bool
}

func (e *unknownOutcome) Error() string { return "no answer: " + e.err.Error() }
func (e *unknownOutcome) Unwrap() error { return e.err }

// inTransaction runs fn in a new transaction. An end of ctx rolls it back,
// until the commit begins: from then on it is awaited. A commit that was not
// answered is an *unknownOutcome.
func (s *Store) inTransaction(ctx context.Context, op string, fn func(context.Context, openTx) error) error {
	return s.inTransactionWithin(ctx, op, s.lockTimeout, fn)
}

// inTransactionWithin is inTransaction for a transaction that begins after no
// longer wait than that.
func (s *Store) inTransactionWithin(ctx context.Context, op string, wait time.Duration, fn func(context.Context, openTx) error) error {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	detach := context.AfterFunc(ctx, cancel)
	defer detach()
	pool, err := s.dialect.begin(inner, s, wait)
	if err != nil {
		return s.translate(ctx, op, err)
	}
	defer s.poolState.holding.add(op)()
	committed := false
	defer func() {
		if !committed {
			// The caller needs the error that led here; an open transaction
			// cannot commit.
			_ = pool.Rollback()
		}
	}()
	if err := fn(ctx, pool); err != nil {
		return withLoss(ctx, pool, op, err)
	}
	if !detach() {
		return s.translate(ctx, op, ctx.Err())
	}
	committed = true
	defer s.poolState.deadlines.after(commitTimeout, cancel).stop()
	err = pool.Commit()
	if err != nil && !errors.Is(err, persistence.ErrPersistence) && s.dialect.isOutcomeUnknown(err) {
		return &unknownOutcome{err: err, locked: true}
	}
	return s.translate(ctx, op, err)
}

// withLoss adds to the error of a transaction that its connection was lost
// meanwhile. A caller's own statement may have failed with it, by an error of
// the network that nothing else tells from one of the caller's.
func withLoss(ctx context.Context, pool openTx, op string, err error) error {
	u, ok := pool.(*postgresUnit)
	if !ok || persistence.IsRetryable(err) || !u.isLost(ctx) {
		return err
	}
	return &persistence.Error{Class: persistence.ErrUnavailable, Op: op, Err: err,
		Hint: "a statement in the transaction lost its connection; nothing of the transaction is stored"}
}
