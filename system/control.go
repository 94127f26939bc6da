package system

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Pause keeps a follower from processing events, in every process, until
// Resume. It waits for a batch that is being processed: after Pause has
// returned, no event has an effect any more, except a call of Effect that has
// begun. The follower need not run. by says who pauses it, for others to see.
//
// It returns persistence.ErrLockTimeout if a batch did not end in time, and
// persistence.ErrProgramming if the system has no such follower or its store
// keeps no settings of followers; then the follower is not paused. Programs that
// do not know of pauses, such as Django projects, go on.
func (c *core) Pause(ctx context.Context, follower Member, by string) error {
	return c.changeSettings(ctx, follower, func(s *capability.FollowerSettings) {
		if !s.Paused() {
			s.PausedAt, s.PausedBy = time.Now().UTC(), by
		}
	})
}

// Resume ends a pause: the follower goes on from its position. Its errors are
// those of Pause.
func (c *core) Resume(ctx context.Context, follower Member) error {
	err := c.changeSettings(ctx, follower, func(s *capability.FollowerSettings) {
		s.PausedAt, s.PausedBy = time.Time{}, ""
	})
	if err != nil {
		return err
	}
	return c.wake(follower)
}

// Rebuild processes all events again, from the first: in one transaction it
// clears what the follower has made (Resettable), forgets what it has parked,
// and resets its positions. The follower may be running, in this process or
// another; a batch that is being processed ends first. Until the follower has
// caught up, readers of what it makes find it incomplete; WaitFor tells when it
// is complete again.
//
// It returns persistence.ErrProgramming if the follower is neither Resettable
// nor Replayable, if the system has no such follower, or if its store cannot
// reset positions, and persistence.ErrLockTimeout if a batch did not end in
// time. Then nothing has changed.
func (c *core) Rebuild(ctx context.Context, follower Member) error {
	edges, err := c.sortedEdges(follower)
	if err != nil {
		return err
	}
	f := edges[0].follower
	deleter := f.app.Capabilities().Positions
	switch {
	case f.reset == nil && !f.replayable:
		return &mistake{f.Name(), "it does not say that its events may be processed again: what it has made of them " +
			"would be made twice; give it system.Resettable or system.Replayable"}
	case deleter == nil:
		return &mistake{f.Name(), "its store cannot reset positions, and is " + bridge.StoreOf(f.app)}
	}
	leaders := make([]string, len(edges))
	err = edges[0].repeatedly(ctx, func(ctx context.Context) error {
		for i, edge := range edges {
			leaders[i] = edge.leader.Name()
			recorder := edge.app.Recorder()
			if err := bridge.LockToForget(ctx, recorder, leaders[i]); err != nil {
				return err
			}
			_, err := bridge.ForgetUpstream(ctx, deleter, recorder, f.Name(), leaders[i], edge.hasParked())
			if err != nil {
				return err
			}
		}
		if f.reset == nil {
			return nil
		}
		if err := f.reset(ctx, leaders); err != nil {
			return fmt.Errorf("system: %s cannot clear what it has made: %w", f.Name(), err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.wake(follower)
}

// hasParked reports whether events of the leader may be parked.
func (f *followerLoop) hasParked() bool { return f.mayHaveParked || f.follower.park != nil }

// changeSettings changes the settings of a follower for all its leaders.
func (c *core) changeSettings(ctx context.Context, follower Member, change func(*capability.FollowerSettings)) error {
	edges, err := c.sortedEdges(follower)
	if err != nil {
		return err
	}
	recorder := edges[0].settingsRecorder()
	if recorder == nil {
		return &mistake{follower.Name(), "its store keeps no settings of followers, and is " + bridge.StoreOf(edges[0].app)}
	}
	upstreams := make([]string, len(edges))
	for i, edge := range edges {
		upstreams[i] = edge.leader.Name()
	}
	err = bridge.ChangeSettings(ctx, edges[0].app, recorder, upstreams, change)
	if errors.Is(err, persistence.ErrLockTimeout) {
		return fmt.Errorf("system: a batch of %s has not ended; try again: %w", follower.Name(), err)
	}
	return err
}

// sortedEdges returns the followings of a follower by the names of the leaders,
// which is the order in which positions are locked everywhere.
func (c *core) sortedEdges(follower Member) ([]*followerLoop, error) {
	edges, err := c.edgesOf(follower)
	slices.SortFunc(edges, func(a, b *followerLoop) int { return strings.Compare(a.leader.Name(), b.leader.Name()) })
	return edges, err
}

// wake lets the follower look for something to do at once, if it runs in this
// process: what it failed with before may be over.
func (c *core) wake(follower Member) error {
	edges, err := c.edgesOf(follower)
	for _, edge := range edges {
		edge.mu.Lock()
		edge.retryNow = true
		if edge.status.Err != nil && !edge.stopped {
			edge.status = Status{Follower: edge.status.Follower, Leader: edge.status.Leader, State: Running}
		}
		wake := edge.wake
		edge.mu.Unlock()
		if wake != nil {
			wake()
		}
	}
	return err
}
