// Package txscope is the part of a store's transaction that other layers
// know: that there is one, what it is for, and what is to happen after it has
// ended. Package persistence shows its users OnCommit, and authors of stores how
// to make and end one.
package txscope

import (
	"context"
	"slices"
	"sync"
)

// Scope is the part of a store's transaction that other layers may know:
// what is to happen after it has ended. A store puts one into the context of
// the code that runs inside a transaction, and ends it.
//
// It is safe for concurrent use.
type Scope struct {
	parent *Scope

	mu         sync.Mutex // protects what follows
	onCommit   []func(context.Context)
	onRollback []func(context.Context)
	ended      bool // nothing is run any more
}

type transactionKey struct{}

// New returns a context that carries a new Scope. If ctx already carries one,
// the new one is nested in it: its effects wait for the outer commit.
func New(ctx context.Context) (context.Context, *Scope) {
	t := &Scope{parent: From(ctx)}
	return With(ctx, t), t
}

// With returns a context that carries a Scope that is ended elsewhere.
func With(ctx context.Context, t *Scope) context.Context {
	return context.WithValue(ctx, transactionKey{}, t)
}

// From returns the transaction that ctx carries, or nil.
func From(ctx context.Context) *Scope {
	t, _ := ctx.Value(transactionKey{}).(*Scope)
	return t
}

// OnCommit runs effect after the transaction that ctx carries is committed, and
// at once if there is none or it has ended already. The effect gets a context
// that carries no transaction.
func OnCommit(ctx context.Context, effect func(context.Context)) {
	switch t := From(ctx); {
	case t == nil:
		effect(ctx)
	case !t.deferEffect(effect):
		effect(With(ctx, nil))
	}
}

// deferEffect keeps an effect for the commit, which is that of the outer
// transaction if a nested one has ended. It returns false if there is none to
// come: nothing would run the effect.
func (t *Scope) deferEffect(effect func(context.Context)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return t.parent != nil && t.parent.deferEffect(effect)
	}
	t.onCommit = append(t.onCommit, effect)
	return true
}

// OnRollback runs undo after the transaction that ctx carries is rolled back,
// the last one first. If there is no transaction, nothing can be rolled back,
// and undo is dropped.
func OnRollback(ctx context.Context, undo func(context.Context)) {
	t := From(ctx)
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.onRollback = append(t.onRollback, undo)
}

// Committed ends the transaction: a nested one hands its effects to the outer
// one, the outermost one runs them. The context is the one outside the
// transaction.
func (t *Scope) Committed(ctx context.Context) {
	commits, rollbacks := t.take()
	if t.parent != nil {
		t.parent.adopt(commits, rollbacks)
		return
	}
	run(ctx, commits)
}

// run runs all effects, also after one that panics or ends its goroutine: they
// have nothing to do with each other.
func run(ctx context.Context, effects []func(context.Context)) {
	begun := 0
	defer func() {
		if begun < len(effects) {
			run(ctx, effects[begun:])
		}
	}()
	for _, effect := range effects {
		begun++
		effect(ctx)
	}
}

// RolledBack ends the transaction and runs what undoes its effects.
func (t *Scope) RolledBack(ctx context.Context) {
	_, rollbacks := t.take()
	for _, f := range slices.Backward(rollbacks) {
		f(ctx)
	}
}

func (t *Scope) take() (commits, rollbacks []func(context.Context)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	commits, rollbacks = t.onCommit, t.onRollback
	t.onCommit, t.onRollback, t.ended = nil, nil, true
	return commits, rollbacks
}

func (t *Scope) adopt(commits, rollbacks []func(context.Context)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.onCommit = append(t.onCommit, commits...)
	t.onRollback = append(t.onRollback, rollbacks...)
}

// Savepoint is a place in a transaction that it can be rolled back to.
type Savepoint struct{ commits, rollbacks int }

// Savepoint returns the present place of the transaction.
func (t *Scope) Savepoint() Savepoint {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Savepoint{commits: len(t.onCommit), rollbacks: len(t.onRollback)}
}

// RolledBackTo forgets the effects of what was done after the savepoint, and
// runs what undoes it.
func (t *Scope) RolledBackTo(ctx context.Context, to Savepoint) {
	t.mu.Lock()
	undo := slices.Clone(t.onRollback[min(to.rollbacks, len(t.onRollback)):])
	t.onCommit = t.onCommit[:min(to.commits, len(t.onCommit))]
	t.onRollback = t.onRollback[:min(to.rollbacks, len(t.onRollback))]
	t.mu.Unlock()
	for _, f := range slices.Backward(undo) {
		f(ctx)
	}
}

type operationKey struct{}

// WithOperation names what a transaction is for, such as "batch of follower
// Mails", so that others who wait for it can be told. Stores show it in errors.
func WithOperation(ctx context.Context, operation string) context.Context {
	return context.WithValue(ctx, operationKey{}, operation)
}

// OperationFrom returns the name that WithOperation gave, or otherwise.
func OperationFrom(ctx context.Context, otherwise string) string {
	if operation, ok := ctx.Value(operationKey{}).(string); ok {
		return operation
	}
	return otherwise
}
