package persistencetest

import (
	"context"
	"errors"
	"sync"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// snapshotBugs are bugs of snapshots that are replaced and deleted.
var snapshotBugs = []bug{
	{name: "all snapshots are kept", spoil: eachKeep(func(int) int { return 0 })},
	{name: "one snapshot too few is kept", spoil: eachKeep(func(n int) int { return max(n-1, min(n, 1)) })},
	{name: "one snapshot too many is kept", spoil: eachKeep(func(n int) int {
		if n > 0 {
			n++
		}
		return n
	})},
	{name: "keep 0 keeps one", spoil: eachKeep(func(n int) int { return max(n, 1) })},
	{name: "a snapshot that conflicts is stored", spoil: func(r *spoilt) {
		keep, replace := r.keep, r.replace
		r.keep = func(ctx context.Context, snapshot storedEvent, n int) error {
			err := keep(ctx, snapshot, n)
			if conflict, ok := errors.AsType[*conflictError](err); ok {
				_, err = replace(ctx, conflict.Stored[0].StoredEvent, snapshot)
			}
			return err
		}
	}},
	{name: "a snapshot is replaced whatever it is", spoil: func(r *spoilt) {
		selects, replace := r.selects, r.replace
		r.replace = func(ctx context.Context, old, snapshot storedEvent) (bool, error) {
			there := eventRange{From: old.OriginatorVersion, Before: old.OriginatorVersion + 1}
			if found, err := collect(selects(ctx, old.OriginatorID, there)); err == nil && len(found) == 1 {
				old = found[0]
			}
			return replace(ctx, old, snapshot)
		}
	}},
	{name: "a replacement says that it was done", spoil: func(r *spoilt) {
		replace := r.replace
		r.replace = func(ctx context.Context, old, snapshot storedEvent) (bool, error) {
			_, err := replace(ctx, old, snapshot)
			return err == nil, err
		}
	}},
}

// deletionBugs are bugs of originators that are deleted.
var deletionBugs = []bug{
	{name: "a deletion does nothing", spoil: func(r *spoilt) {
		r.remove = func(context.Context, uuid.UUID) (persistence.DeletedOriginator, error) {
			return persistence.DeletedOriginator{}, nil
		}
	}},
	{name: "a deletion counts nothing", spoil: func(r *spoilt) {
		remove := r.remove
		r.remove = func(ctx context.Context, id uuid.UUID) (persistence.DeletedOriginator, error) {
			_, err := remove(ctx, id)
			return persistence.DeletedOriginator{}, err
		}
	}},
	{name: "a deletion leaves the revision of settings", spoil: func(r *spoilt) {
		revision := r.revision
		r.revision = func(ctx context.Context, upstream string) (int64, *capability.FollowerSettings, int64, error) {
			position, settings, _, err := revision(ctx, upstream)
			return position, settings, 0, err
		}
	}},
	{name: "a deletion ignores the transaction", spoil: func(r *spoilt) {
		remove := r.remove
		r.remove = func(ctx context.Context, id uuid.UUID) (persistence.DeletedOriginator, error) {
			if ctx.Value(transactionKey{}) != nil {
				return persistence.DeletedOriginator{}, nil
			}
			return remove(ctx, id)
		}
	}},
	{name: "a deletion leaves positions ahead of the log", spoil: func(r *spoilt) {
		var highest sync.Map
		move, position := r.move, r.position
		r.move = func(ctx context.Context, to destination) error {
			err := move(ctx, to)
			if err == nil {
				highest.Store(to.ApplicationName, to.NotificationID)
			}
			return err
		}
		r.position = func(ctx context.Context, upstream string) (int64, error) {
			got, err := position(ctx, upstream)
			if was, ok := highest.Load(upstream); ok && err == nil {
				got = max(got, was.(int64))
			}
			return got, err
		}
	}},
}
