package application

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// DeleteOriginator deletes one aggregate or log for good: its events, its
// snapshots, what followers in the same database have parked of its events, and
// what this application caches of it. It returns how many rows that were; an
// unknown id is a success that counts none. It is for data that must not be
// kept, such as those of a person who has asked to be forgotten. There is no
// way back.
//
// All of it happens or none of it. If ctx carries a transaction, the deletion
// is part of it. It waits for followers that are processing events of this
// application; if they take longer than the store's lock timeout, it returns
// persistence.ErrLockTimeout and nothing is deleted. A store that cannot delete
// originators is a persistence.ErrNotSupported.
//
// Followers that have processed the events keep what they made of them: delete
// that too. Other processes notice the deletion when they next load the
// aggregate, unless AGGREGATE_CACHE_FASTFORWARD is off; those have to be
// started again. Notification ids are not used again. A follower in another
// database whose position is ahead of the log afterwards stops, and has to be
// reset. An aggregate saved under the same id later is a new one.
func (l *Log) DeleteOriginator(ctx context.Context, id uuid.UUID) (persistence.DeletedOriginator, error) {
	a := l.app
	if err := a.ready(ctx); err != nil {
		return persistence.DeletedOriginator{}, err
	}
	deleter := a.recorderCapabilities.Deleter
	if deleter == nil {
		return persistence.DeletedOriginator{}, &persistence.Error{Class: persistence.ErrNotSupported,
			Op: a.name + ": delete an originator", Err: fmt.Errorf("the store cannot delete originator %s", id)}
	}
	deleted, err := deleter.DeleteOriginator(ctx, id)
	if err != nil {
		return persistence.DeletedOriginator{}, err
	}
	a.forgetOriginator(id)
	persistence.OnCommit(ctx, func(context.Context) { a.forgetOriginator(id) })
	return deleted, nil
}

// forgetOriginator drops what all repositories cache of an originator.
func (a *Application) forgetOriginator(id uuid.UUID) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	for _, repositories := range a.repositories {
		for _, r := range repositories {
			r.forget(id)
		}
	}
}
