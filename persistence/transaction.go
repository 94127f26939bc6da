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

// NewTransaction returns a context for the code that runs inside a transaction
// of a store, and a function that tells other layers of its end, such as the
// functions of OnCommit. A store calls it once, after the commit or rollback.
// If ctx carries a transaction already, the new one is nested in it: what waits
// for its commit waits for the outer one. A transaction that is rolled back
// drops that, and what this module keeps in memory, such as cached aggregates,
// is as it was.
func NewTransaction(ctx context.Context) (inside context.Context, end func(committed bool)) {
	inside, scope := txscope.New(ctx)
	return inside, func(committed bool) {
		if committed {
			scope.Committed(ctx)
		} else {
			scope.RolledBack(ctx)
		}
	}
}
