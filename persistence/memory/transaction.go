package memory

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// lockTimeout is how long a writer waits for others.
const lockTimeout = 10 * time.Second

// yieldTime is how long a follower leaves the store to other writers after a
// batch that took long. They queue for their turn, so it can be short.
const yieldTime = time.Millisecond

// transaction is one of a store. It sees the committed data, and keeps what it
// changes to itself until it commits.
type transaction struct {
	store *Store

	mu    sync.Mutex // protects what follows
	data  *data
	ended bool
}

type transactionKey struct{ store *Store }

// transaction returns the transaction of this store that ctx carries, or nil.
func (s *Store) transaction(ctx context.Context) *transaction {
	tx, _ := ctx.Value(transactionKey{s}).(*transaction)
	return tx
}

// Transaction implements persistence.Transactor. Store says what waits for it.
func (s *Store) Transaction(ctx context.Context, fn func(ctx context.Context) error) error {
	const op = "begin a transaction"
	if outer := s.transaction(ctx); outer != nil {
		return outer.nested(ctx, fn)
	}
	if err := s.takeTurn(ctx, "memory", op); err != nil {
		return err
	}
	hasTurn := true
	endTurn := func() {
		if hasTurn {
			hasTurn = false
			s.endTurn()
		}
	}
	defer endTurn()
	s.mu.RLock()
	err := s.usable(ctx, "memory", op)
	s.mu.RUnlock()
	if err != nil {
		return err
	}
	tx := &transaction{store: s, data: newData(s.committed)}
	return run(ctx, tx, fn, func() error {
		defer endTurn()
		s.mu.Lock()
		defer s.mu.Unlock()
		if err := s.usable(ctx, "memory", "commit a transaction"); err != nil {
			return err
		}
		tx.data.commit()
		return nil
	}, endTurn)
}

// nested runs fn in a transaction within this one.
func (tx *transaction) nested(ctx context.Context, fn func(ctx context.Context) error) error {
	tx.mu.Lock()
	defer tx.mu.Unlock() // the outer one waits for the inner one
	if tx.ended {
		return endedError("begin a transaction")
	}
	inner := &transaction{store: tx.store, data: newData(tx.data)}
	return run(ctx, inner, fn, func() error {
		inner.data.commit()
		return nil
	}, func() {})
}

// run runs fn in a transaction. It calls commit if fn returns nil, and
// otherwise, or if fn does not return, rollBack. Then it runs what waits for
// the end.
func run(
	ctx context.Context, tx *transaction, fn func(context.Context) error, commit func() error, rollBack func(),
) (err error) {
	inside, ended := persistence.NewTransaction(ctx)
	committed := false
	defer func() {
		tx.end()
		if !committed {
			rollBack()
		}
		ended(committed)
	}()
	if err := fn(context.WithValue(inside, transactionKey{tx.store}, tx)); err != nil {
		return err
	}
	tx.end()
	if err := commit(); err != nil {
		return err
	}
	committed = true
	return nil
}

func (tx *transaction) end() {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	tx.ended = true
}

// do calls f with the data of the transaction.
func (tx *transaction) do(ctx context.Context, application, op string, f func(*data) error) error {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	tx.store.mu.Lock() // ids are drawn, and base tables are read
	defer tx.store.mu.Unlock()
	if err := tx.store.usable(ctx, application, op); err != nil {
		return err
	}
	if tx.ended {
		return endedError(application + ": " + op)
	}
	return f(tx.data)
}

func endedError(op string) error {
	return &persistence.Error{Class: persistence.ErrProgramming, Op: op, Err: errors.New("the transaction in ctx has ended")}
}

// takeTurn waits until no other writer is at work.
func (s *Store) takeTurn(ctx context.Context, application, op string) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(lockTimeout)
	defer timer.Stop()
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return contextError(application, op, ctx.Err())
	case <-timer.C:
		return &persistence.Error{Class: persistence.ErrLockTimeout, Op: application + ": " + op,
			Hint: "a transaction is at work; code that runs in it must use the ctx that carries it"}
	}
}

func (s *Store) endTurn() { <-s.turn }
