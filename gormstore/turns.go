package gormstore

import (
	"context"
	"database/sql"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// turns order what goroutines do in one transaction, which has one connection.
// A nested transaction is a savepoint: what is written while it is open is
// undone with it. So whatever else writes in the transaction waits until it has
// ended.
type turns struct {
	*connectionTurns
	// write holds a value while a write is done or a nested transaction is
	// open.
	write chan struct{}
	// depth counts the transactions around this one, for the names of
	// savepoints.
	depth int
}

// connectionTurns are shared by a transaction and all that are nested in it.
type connectionTurns struct {
	statement sync.Mutex  // held while a recorder uses the connection
	divided   atomic.Bool // the user has set a savepoint

	mu      sync.Mutex // protects spoiled
	spoiled error
}

func newTurns() *turns {
	return &turns{connectionTurns: &connectionTurns{}, write: make(chan struct{}, 1)}
}

// nested returns the turns of a transaction that is nested in this one.
func (t *turns) nested() *turns {
	return &turns{connectionTurns: t.connectionTurns, write: make(chan struct{}, 1), depth: t.depth + 1}
}

const hintNested = "another goroutine's nested transaction is still open, or this call is inside a nested transaction " +
	"whose context it lacks: pass on the context that gormstore.Transaction gives"

// enter waits until no nested transaction is open and nothing else writes, but
// not longer than limit.
func (t *turns) enter(ctx context.Context, limit time.Duration) error {
	select {
	case t.write <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case t.write <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return &persistence.Error{Class: persistence.ErrLockTimeout, Op: "write in a transaction", Hint: hintNested}
	}
}

func (t *turns) leave() { <-t.write }

// spoil has every later use of the transaction and its commit fail, and returns
// the error that they fail with.
func (t *connectionTurns) spoil(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.spoiled == nil {
		t.spoiled = err
	}
	return t.spoiled
}

// usable returns why the transaction must not be used, or nil.
func (t *connectionTurns) usable() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.spoiled
}

// turnToWrite waits for the turn of a write in a transaction. The function that
// it returns ends it.
func (s *Store) turnToWrite(ctx context.Context, in *txScope) (done func(), err error) {
	if err := in.turns.enter(ctx, s.lockTimeout); err != nil {
		return nil, withCause(ctx, s.translate(ctx, "transaction", err))
	}
	in.turns.statement.Lock()
	return func() {
		in.turns.statement.Unlock()
		in.turns.leave()
	}, nil
}

// turnsOf returns the turns of a transaction that the user has begun, the same
// ones each time if they belong to the transaction itself, as with the plugin,
// or if GORM's transaction is one of database/sql.
func turnsOf(tx *gorm.DB) *turns {
	pool, ok := transactionPool(tx)
	if !ok {
		return newTurns()
	}
	if hooked, ok := hooksOf(pool); ok {
		return hooked.turns
	}
	plain, isPlain := unprepared(pool).(*sql.Tx)
	database, err := tx.DB()
	if !isPlain || err != nil {
		return newTurns()
	}
	return poolStateOf(database).turnsOf(plain)
}

// turnsOf finds the turns of a transaction. It does not keep the transaction
// alive.
func (h *poolState) turnsOf(tx *sql.Tx) *turns {
	key := weak.Make(tx)
	h.mu.Lock()
	defer h.mu.Unlock()
	if known, ok := h.turns[key]; ok {
		return known
	}
	if h.turns == nil {
		h.turns = map[weak.Pointer[sql.Tx]]*turns{}
	}
	made := newTurns()
	h.turns[key] = made
	runtime.AddCleanup(tx, h.forgetTurns, key)
	return made
}

func (h *poolState) forgetTurns(key weak.Pointer[sql.Tx]) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.turns, key)
}
