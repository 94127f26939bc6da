package persistencetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

// contextBugs are bugs of contexts and streams.
var contextBugs = []bug{
	{name: "a cancelled context is ignored by writes", spoil: ignoringContext},
	{name: "a cancelled context is ignored by pages", spoil: func(r *spoilt) {
		page := r.page
		r.page = func(ctx context.Context, want pageRange) ([]notification, error) {
			return page(context.WithoutCancel(ctx), want)
		}
	}},
	{name: "a cancelled context is ignored by positions", spoil: func(r *spoilt) {
		position := r.position
		r.position = func(ctx context.Context, upstream string) (int64, error) {
			return position(context.WithoutCancel(ctx), upstream)
		}
	}},
	{name: "a cancelled context is not known by its error", spoil: eachResult(func(_ *spoilt, ids []int64, err error) ([]int64, error) {
		if errors.Is(err, context.Canceled) {
			return nil, errors.New("interrupted (9)")
		}
		return ids, err
	})},
	{name: "a cancelled insert is stored and an error", spoil: func(r *spoilt) {
		insert := r.insert
		r.insert = func(ctx context.Context, events []storedEvent) ([]int64, error) {
			ids, err := insert(context.WithoutCancel(ctx), events)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return ids, err
		}
	}},
	{name: "a cancelled stream is empty", spoil: func(r *spoilt) {
		selects := r.selects
		r.selects = func(ctx context.Context, id uuid.UUID, want eventRange) eventStream {
			return func(yield func(storedEvent, error) bool) {
				for e, err := range selects(ctx, id, want) {
					if errors.Is(err, context.Canceled) || !yield(e, err) {
						return
					}
				}
			}
		}
	}},
	{name: "a stream goes on after its error", spoil: func(r *spoilt) {
		selects := r.selects
		r.selects = func(ctx context.Context, id uuid.UUID, want eventRange) eventStream {
			return func(yield func(storedEvent, error) bool) {
				for e, err := range selects(ctx, id, want) {
					if !yield(e, err) || err != nil && !yield(e, err) {
						return
					}
				}
			}
		}
	}},
	{name: "a stream can be read once", spoil: func(r *spoilt) {
		selects := r.selects
		r.selects = func(ctx context.Context, id uuid.UUID, want eventRange) eventStream {
			read := false
			return func(yield func(storedEvent, error) bool) {
				if !read {
					read = true
					selects(ctx, id, want)(yield)
				}
			}
		}
	}},
	{name: "a stream is read when it is made", spoil: func(r *spoilt) {
		selects := r.selects
		r.selects = func(ctx context.Context, id uuid.UUID, want eventRange) eventStream {
			events, err := collect(selects(ctx, id, want))
			return func(yield func(storedEvent, error) bool) {
				for _, e := range events {
					if !yield(e, nil) {
						return
					}
				}
				if err != nil {
					yield(storedEvent{}, err)
				}
			}
		}
	}},
	{name: "a stream holds the only connection", fresh: oneConnection(false)},
	{name: "a stream that is left keeps the only connection", fresh: oneConnection(true)},
}

// lifecycleBugs are bugs of opening and closing.
var lifecycleBugs = []bug{
	{name: "a closed store works", unclosed: true},
	{name: "reopening loses everything", reopen: func(persistence.Factory) persistence.Factory {
		return &journalStore{journal: &journal{store: memory.New()}}
	}},
	{name: "reopening loses the last write", reopen: func(f persistence.Factory) persistence.Factory {
		old := f.(*journalStore).journal
		old.mu.RLock()
		writes := slices.Clone(old.writes[:len(old.writes)-1])
		old.mu.RUnlock()
		lost := &journal{store: memory.New(), writes: writes}
		for _, w := range writes {
			if err := w(lost.store); err != nil {
				panic(err)
			}
		}
		return &journalStore{journal: lost}
	}},
}

// lockBugs are bugs of locks.
var lockBugs = []bug{
	{name: "LockLog locks nothing", spoil: func(r *spoilt) {
		lock := r.lockLog
		r.lockLog = func(ctx context.Context) error {
			if ctx.Value(transactionKey{}) != nil {
				return nil
			}
			return lock(ctx)
		}
	}},
	{name: "LockLog needs no transaction", spoil: func(r *spoilt) {
		lock := r.lockLog
		r.lockLog = func(ctx context.Context) error {
			if ctx.Value(transactionKey{}) != nil {
				return lock(ctx)
			}
			return nil
		}
	}},
	{name: "LockPosition needs no transaction", spoil: func(r *spoilt) { r.lockPosition = r.position }},
	{name: "LockSettingsRevision locks nothing", spoil: func(r *spoilt) {
		r.lockRevision = func(ctx context.Context, upstream string, _ time.Duration) (int64, *capability.FollowerSettings, int64, error) {
			return r.revision(ctx, upstream)
		}
	}},
}

// transactionBugs are bugs of transactions.
var transactionBugs = []bug{
	{name: "rollbacks are ignored", transaction: func(run transactionFunc) transactionFunc {
		return func(ctx context.Context, f persistence.Factory, fn func(ctx context.Context) error) error {
			var failed error
			return errors.Join(run(ctx, f, func(ctx context.Context) error {
				failed = fn(ctx)
				return nil
			}), failed)
		}
	}},
	{name: "commits are lost", transaction: func(run transactionFunc) transactionFunc {
		return func(ctx context.Context, f persistence.Factory, fn func(ctx context.Context) error) error {
			lost := errors.New("lost")
			err := run(ctx, f, func(ctx context.Context) error { return errors.Join(fn(ctx), lost) })
			if err.Error() == lost.Error() {
				return nil
			}
			return err
		}
	}},
	{name: "writes do not join the transaction", transaction: func(transactionFunc) transactionFunc {
		return func(ctx context.Context, _ persistence.Factory, fn func(ctx context.Context) error) error {
			return fn(ctx)
		}
	}},
	{name: "errors of transactions are swallowed", transaction: func(run transactionFunc) transactionFunc {
		return func(ctx context.Context, f persistence.Factory, fn func(ctx context.Context) error) error {
			run(ctx, f, fn)
			return nil
		}
	}},
	{name: "reads do not join the transaction", spoil: func(r *spoilt) {
		head := r.head
		r.head = func(ctx context.Context) (int64, error) {
			return head(context.WithValue(ctx, transactionKey{}, nil))
		}
	}},
	{name: "a conflict spoils the transaction", fresh: func() spoiler {
		var aborted sync.Map
		return func(r *spoilt) {
			insert := r.insert
			r.insert = func(ctx context.Context, events []storedEvent) ([]int64, error) {
				transaction, inside := ctx.Value(transactionKey{}).(*fork)
				if _, ok := aborted.Load(transaction); inside && ok {
					return nil, errors.New("current transaction is aborted (25P02)")
				}
				ids, err := insert(ctx, events)
				if inside && persistence.IsConflict(err) {
					aborted.Store(transaction, true)
				}
				return ids, err
			}
		}
	}},
}
