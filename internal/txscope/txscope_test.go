package txscope_test

import (
	"context"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/internal/txscope"
)

// effects writes down which effects were run, in their order.
type effects struct{ run []string }

// commit has name written down after the commit, and whether the effect's
// context carries a transaction.
func (e *effects) commit(ctx context.Context, name string) {
	txscope.OnCommit(ctx, func(ctx context.Context) { e.note(ctx, name) })
}

func (e *effects) rollback(ctx context.Context, name string) {
	txscope.OnRollback(ctx, func(ctx context.Context) { e.note(ctx, "undo "+name) })
}

func (e *effects) both(ctx context.Context, names ...string) {
	for _, name := range names {
		e.commit(ctx, name)
		e.rollback(ctx, name)
	}
}

func (e *effects) note(ctx context.Context, what string) {
	if txscope.From(ctx) != nil {
		what += " inside"
	}
	e.run = append(e.run, what)
}

// want requires the effects that were run since it was asked last.
func (e *effects) want(t *testing.T, want ...string) {
	t.Helper()
	if got := strings.Join(e.run, ", "); got != strings.Join(want, ", ") {
		t.Errorf("got effects %q, want %q", got, want)
	}
	e.run = nil
}

func TestEffectsWithoutTransaction(t *testing.T) {
	t.Parallel()
	var e effects
	if txscope.From(t.Context()) != nil {
		t.Fatal("a context has a transaction from nowhere")
	}
	e.both(t.Context(), "a")
	e.want(t, "a")
}

func TestEffectsOfCommit(t *testing.T) {
	t.Parallel()
	var e effects
	inside, tx := txscope.New(t.Context())
	if txscope.From(inside) != tx {
		t.Fatal("the context does not carry the transaction")
	}
	e.both(inside, "a", "b")
	e.both(context.WithoutCancel(inside), "c")
	e.want(t)
	tx.Committed(t.Context())
	e.want(t, "a", "b", "c")
	tx.Committed(t.Context())
	tx.RolledBack(t.Context())
	e.want(t) // each effect once
}

func TestEffectsOfRollback(t *testing.T) {
	t.Parallel()
	var e effects
	inside, tx := txscope.New(t.Context())
	e.both(inside, "a", "b", "c")
	tx.RolledBack(t.Context())
	e.want(t, "undo c", "undo b", "undo a")
	tx.Committed(t.Context())
	e.want(t)
}

// An effect may register another one with the context that it gets, which is
// outside of the transaction.
func TestEffectsOfEffects(t *testing.T) {
	t.Parallel()
	var e effects
	inside, tx := txscope.New(t.Context())
	txscope.OnCommit(inside, func(ctx context.Context) { e.both(ctx, "later") })
	tx.Committed(t.Context())
	e.want(t, "later")
}

func TestEffectsOfNestedTransactions(t *testing.T) {
	t.Parallel()
	begin := func(t *testing.T) (e *effects, inner context.Context, tx, nested *txscope.Scope) {
		e = &effects{}
		outer, tx := txscope.New(t.Context())
		e.both(outer, "a")
		inner, nested = txscope.New(outer)
		e.both(inner, "b", "c")
		return e, inner, tx, nested
	}
	t.Run("both committed", func(t *testing.T) {
		t.Parallel()
		e, inner, tx, nested := begin(t)
		nested.Committed(inner)
		e.want(t)
		tx.Committed(t.Context())
		e.want(t, "a", "b", "c")
	})
	t.Run("only the inner one committed", func(t *testing.T) {
		t.Parallel()
		e, inner, tx, nested := begin(t)
		nested.Committed(inner)
		tx.RolledBack(t.Context())
		e.want(t, "undo c", "undo b", "undo a")
	})
	t.Run("only the outer one committed", func(t *testing.T) {
		t.Parallel()
		e, _, tx, nested := begin(t)
		nested.RolledBack(t.Context())
		e.want(t, "undo c", "undo b")
		tx.Committed(t.Context())
		e.want(t, "a")
	})
}

func TestEffectsOfSavepoints(t *testing.T) {
	t.Parallel()
	var e effects
	inside, tx := txscope.New(t.Context())
	start := tx.Savepoint()
	e.both(inside, "a")
	middle := tx.Savepoint()
	e.both(inside, "b", "c")
	e.rollback(inside, "d")

	tx.RolledBackTo(t.Context(), middle)
	e.want(t, "undo d", "undo c", "undo b")
	tx.RolledBackTo(t.Context(), middle)
	e.want(t)
	e.both(inside, "e")
	tx.RolledBackTo(t.Context(), start)
	e.want(t, "undo e", "undo a")
	tx.RolledBackTo(t.Context(), middle) // after the end
	e.both(inside, "f")
	tx.Committed(t.Context())
	e.want(t, "f")
}

// What undoes an effect may register other effects, in place of those that were
// forgotten.
func TestEffectsOfUndoing(t *testing.T) {
	t.Parallel()
	var e effects
	inside, tx := txscope.New(t.Context())
	e.both(inside, "a", "b", "c")
	point := tx.Savepoint()
	txscope.OnRollback(inside, func(ctx context.Context) { e.both(inside, "again") })
	e.rollback(inside, "d")
	tx.RolledBackTo(t.Context(), point)
	e.want(t, "undo d")
	tx.Committed(t.Context())
	e.want(t, "a", "b", "c", "again")
}

// An effect that comes after the end, as from a goroutine that was started
// within, does not wait for ever: it waits for the outer transaction if that
// goes on, and for nothing otherwise.
func TestEffectsAfterTheEnd(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*txscope.Scope, context.Context){
		"committed":   (*txscope.Scope).Committed,
		"rolled back": (*txscope.Scope).RolledBack,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var e effects
			outer, tx := txscope.New(t.Context())
			inner, nested := txscope.New(outer)
			end(nested, outer)
			e.commit(inner, "late in the inner one")
			e.want(t)
			tx.Committed(t.Context())
			e.want(t, "late in the inner one")
			e.both(outer, "late in the outer one")
			e.both(inner, "later")
			e.want(t, "late in the outer one", "later")
		})
	}
}

// A store may carry the transaction of another one into a context.
func TestWithTransaction(t *testing.T) {
	t.Parallel()
	var e effects
	_, tx := txscope.New(t.Context())
	e.both(txscope.With(t.Context(), tx), "a")
	e.both(txscope.With(t.Context(), nil), "b")
	e.want(t, "b")
	tx.Committed(t.Context())
	e.want(t, "a")
}

func TestTransactionConcurrentUse(t *testing.T) {
	t.Parallel()
	inside, tx := txscope.New(t.Context())
	var group sync.WaitGroup
	var mu sync.Mutex // protects seen
	seen := map[string]int{}
	for i := range 50 {
		group.Go(func() {
			ctx, nested := txscope.New(inside)
			txscope.OnCommit(ctx, func(context.Context) {
				mu.Lock()
				defer mu.Unlock()
				seen[strconv.Itoa(i)]++
			})
			tx.Savepoint()
			nested.Committed(inside)
		})
	}
	group.Wait()
	tx.Committed(t.Context())
	if len(seen) != 50 {
		t.Errorf("got %d effects, want 50", len(seen))
	}
}

// An effect that panics, or ends its goroutine, keeps no other one from its
// turn.
func TestEffectsThatBreakOff(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(){"panic": func() { panic("on purpose") }, "goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var e effects
			inside, tx := txscope.New(t.Context())
			for _, effect := range []string{"a", "b"} {
				e.commit(inside, effect)
				txscope.OnCommit(inside, func(context.Context) { leave() })
			}
			e.commit(inside, "c")
			done := make(chan any)
			go func() {
				defer func() { done <- recover() }()
				tx.Committed(t.Context())
			}()
			if panicked := <-done != nil; panicked != (name == "panic") {
				t.Errorf("it panicked: %v", panicked)
			}
			e.want(t, "a", "b", "c")
		})
	}
}
