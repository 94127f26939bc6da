package system

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/txscope"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Processed is what a follower has processed of one leader's log.
type Processed struct {
	Leader string
	// Events is how many events were processed. Those that the follower passes
	// over because of their topics are not among them, nor are those that were
	// parked, which are Parked.
	Events int
	Parked int
	// Position is the follower's position, and Head the end of the log when it
	// began.
	Position int64
	Head     int64
	// Note is that of Status.
	Note string
}

// CatchUp processes the events that one follower has not processed, up to the
// present end of its leaders' logs. It returns what was processed of each
// leader, in the order in which the pipes name them. If the follower fails, the
// events before the one at fault are processed, and in the result. report, which
// may be nil, is called after every batch.
//
// A follower that is paused is an ErrPaused. If another process of the follower
// is at work for longer than the store waits for a lock, that is a
// persistence.ErrPositionLocked. So is, at once, a follower with an Effect that
// a Runner runs, this one or another, even if that has nothing to do.
//
// It is for commands: the runner need not be started, and may have ended, and
// nothing else is processed. In a ctx with a transaction of the follower's store everything is
// part of that, so that a rollback makes it a dry run. It is safe for
// concurrent use with other runners of the same follower, also in other
// processes.
func (c *core) CatchUp(ctx context.Context, follower Member, report func(Processed)) ([]Processed, error) {
	edges, err := c.edgesOf(follower)
	if err != nil {
		return nil, err
	}
	var all []Processed
	var failed []error
	for _, edge := range edges {
		// The runner's own loop is left alone: it may be at work.
		own := edge.again(leaderOutside(ctx, edge.leader))
		own.claims = true
		err := own.catchUpAndRelease(ctx, report)
		own.saveOutcome(ctx, err)
		failed = append(failed, err)
		all = append(all, own.progress)
	}
	return all, errors.Join(failed...)
}

// outsideLeader is a leader that is read with another context.
type outsideLeader struct {
	Leader
	ctx context.Context // as long as one CatchUp
}

func leaderOutside(ctx context.Context, leader Leader) Leader {
	if outer := bridge.OutsideOf(ctx, leader.Name()); outer != nil {
		return outsideLeader{leader, outer}
	}
	return leader
}

// Head implements Leader.
func (l outsideLeader) Head(context.Context) (int64, error) { return l.Leader.Head(l.ctx) }

// Notifications implements Leader.
func (l outsideLeader) Notifications(_ context.Context, r persistence.NotificationRange) ([]persistence.Notification, error) {
	return l.Leader.Notifications(l.ctx, r)
}

// knownTopics implements knowing.
func (l outsideLeader) knownTopics() []string {
	if k, ok := l.Leader.(topicLister); ok {
		return k.knownTopics()
	}
	return nil
}

// catchUpAndRelease is catchUpOrExit, and gives up what keeps others from the
// work, also if report panics or a handler ends the goroutine.
func (f *followerLoop) catchUpAndRelease(ctx context.Context, report func(Processed)) error {
	defer f.release(ctx)
	defer f.releasePartitions(ctx)
	return f.catchUpOrExit(ctx, report)
}

// catchUpOrExit is catchUp, and keeps that a handler has ended the goroutine,
// after which CatchUp does not return.
func (f *followerLoop) catchUpOrExit(ctx context.Context, report func(Processed)) error {
	defer func() {
		if f.exit != nil {
			f.saveOutcome(ctx, f.failed(f.exit.event, errGoexit))
		}
	}()
	return f.catchUp(ctx, report)
}

// saveOutcome keeps what CatchUp has failed with, for other processes to see,
// as a runner does that failed and was stopped. A success ends an error that is
// kept and is not about an event. In a transaction of the caller's, such as
// that of a dry run, it keeps nothing.
func (f *followerLoop) saveOutcome(ctx context.Context, err error) {
	recorder := f.app.Capabilities().Statuses
	if recorder == nil || ctx.Err() != nil || txscope.From(ctx) != nil || errors.Is(err, ErrPaused) || isLocked(err) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	f.setStatus(err, time.Time{})
	failed := err != nil
	if !failed {
		var statuses []capability.FollowerStatus
		statuses, err = recorder.FollowerStatuses(ctx)
		failed = slices.ContainsFunc(statuses, func(s capability.FollowerStatus) bool {
			return f.isOwn(s) && s.Error != "" && s.NotificationID == 0
		})
	} else {
		err = nil
	}
	if failed && err == nil {
		status := f.statusToKeep(f.identity)
		err = f.transaction(ctx, func(ctx context.Context) error {
			status.Heartbeat = time.Now().UTC()
			if err := recorder.RecordStatus(ctx, status); err != nil {
				return err
			}
			status.State = string(Stopped) // the runner of another process goes on
			return recorder.RecordStatus(ctx, status)
		})
	}
	if err != nil && !isNotMigrated(err) {
		f.app.Logger().WarnContext(ctx, "the status of a follower cannot be kept", "follower", f.app.Name(), "error", err)
	}
}

// catchUp pulls up to the end that the log has now. What is recorded meanwhile
// may keep on coming.
func (f *followerLoop) catchUp(ctx context.Context, report func(Processed)) error {
	head, err := f.leader.Head(ctx)
	f.progress = Processed{Leader: f.leader.Name(), Head: head}
	if err != nil {
		return fmt.Errorf("%s: read the log of %s: %w", f.app.Name(), f.leader.Name(), err)
	}
	for {
		did, err := f.pull(ctx)
		f.progress.Note = f.topicNote
		if did == paused {
			err = f.paused()
		}
		if did == onStandby || err == nil && did == nothingMore && !f.holdsAll() {
			err = f.locked()
		}
		if report != nil {
			report(f.progress)
		}
		if err != nil || did == nothingMore || f.progress.Position >= head {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}
