package persistence

import (
	"context"

	"github.com/eventsourcing-go/eventsourcing/internal/txscope"
)

// OnCommit runs effect after the transaction that ctx carries is committed, and
// at once if there is none or it has ended already. The effect gets a context
// that carries no transaction. With gormstore.WithTx it needs gormstore.Plugin,
// or a call of gormstore.Ended: otherwise nothing tells of the end, and the
// effect never runs.
func OnCommit(ctx context.Context, effect func(context.Context)) {
	txscope.OnCommit(ctx, effect)
}

// Transaction is the part of a store's transaction that other layers may know:
// what is to happen after it has ended. A store puts one into the context of
// the code that runs inside a transaction, and ends it.
//
// It is safe for concurrent use.
type Transaction struct{ inner *txscope.Scope }

// NewTransaction returns a context that carries a new Transaction. If ctx
// already carries one, the new one is nested in it: its effects wait for the
// outer commit.
func NewTransaction(ctx context.Context) (context.Context, *Transaction) {
	ctx, inner := txscope.New(ctx)
	return ctx, &Transaction{inner: inner}
}

// Committed ends the transaction: a nested one hands its effects to the outer
// one, the outermost one runs them. The context is the one outside the
// transaction.
func (t *Transaction) Committed(ctx context.Context) { t.inner.Committed(ctx) }

// RolledBack ends the transaction: the effects are dropped, and what this module
// keeps in memory, such as cached aggregates, is as it was.
func (t *Transaction) RolledBack(ctx context.Context) { t.inner.RolledBack(ctx) }
