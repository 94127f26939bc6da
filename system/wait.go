package system

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// waitInterval is how often WaitFor looks.
const waitInterval = 5 * time.Millisecond

// WaitFor returns when a follower has processed the log of a leader up to a notification id, so that a caller finds in the
// follower's view what it has saved. If the follower of this runner has failed it returns that error at once, although
// the follower will try again; persistence.WaitFor waits for that, and for followers that other processes run.
//
// Wait after the commit: in the transaction of the save WaitFor can never succeed, because the follower sees nothing of what
// is not committed, and it waits until ctx ends.
//
// An event that was put aside (see Parker) counts as processed. It returns a *persistence.WaitError when ctx ends first, and
// ErrNotStarted or ErrStopped where the runner does not run, and ErrPaused if the follower is paused.
func (m *members) WaitFor(ctx context.Context, follower, leader string, notificationID int64) error {
	edges := m.edgesOf(follower)
	if len(edges) == 0 {
		return m.unknown(follower)
	}
	leaders := make([]string, len(edges))
	for i, edge := range edges {
		if leaders[i] = edge.leader.Name(); leaders[i] == leader {
			return edge.waitFor(ctx, notificationID)
		}
	}
	return &Error{Name: follower, Problem: fmt.Sprintf("follower %s does not follow %s; it follows %s",
		follower, leader, strings.Join(leaders, ", "))}
}

func (f *following) waitFor(ctx context.Context, notificationID int64) error {
	ticker := time.NewTicker(waitInterval)
	defer ticker.Stop()
	for {
		done, err := persistence.HasTracked(ctx, f.app().Recorder(), f.leader.Name(), notificationID)
		if done || err != nil && ctx.Err() == nil {
			return err
		}
		if err := f.standstill(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return &persistence.WaitError{Upstream: f.leader.Name(), NotificationID: notificationID, Err: context.Cause(ctx)}
		case <-ticker.C:
		}
	}
}

// standstill is why the follower does not go on, or nil.
func (f *following) standstill() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.status.Err != nil {
		return f.status.Err
	}
	switch {
	case f.over:
		return ErrStopped
	case f.status.State == Paused:
		return f.paused()
	case f.status.State == Stopped:
		return ErrNotStarted
	}
	return nil
}
