package operations

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/inventory"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// PauseOptions say what Pause, Resume and AcceptTopics are about.
type PauseOptions struct {
	Follower string
	// UpstreamApps are the applications whose events it is about; none means
	// all that the follower follows.
	UpstreamApps []string
	// By says who pauses the follower, for others to see.
	By string
}

// Pause keeps a follower from processing events, in every process, until
// Resume. It waits for a batch that is being processed: after Pause has
// returned, no event has an effect any more. The follower need not run, and
// need not have run before: in a copy of a database, pause what must not happen
// again before anything is started.
//
// Programs that do not know of pauses, such as Django projects, go on. A
// follower that is paused already stays as it is. The errors are
// *UnknownFollowersError, a *MigrationError of a database without the table of
// settings, and those of stores: a persistence.ErrLockTimeout says that a batch
// did not end in time, and the follower is not paused.
func Pause(ctx context.Context, runner Runner, options PauseOptions) error {
	return changeSettings(ctx, runner, options, "pause", func(s *capability.FollowerSettings) {
		if !s.Paused() {
			s.PausedAt, s.PausedBy = time.Now().UTC(), options.By
		}
	})
}

// Resume ends a pause: the follower goes on from its position. Its errors are
// those of Pause.
func Resume(ctx context.Context, runner Runner, options PauseOptions) error {
	return changeSettings(ctx, runner, options, "resume", func(s *capability.FollowerSettings) {
		s.PausedAt, s.PausedBy = time.Time{}, ""
	})
}

// AcceptTopics ends the note of a follower whose topics have changed: what it
// has missed it will not process. Its errors are those of Pause.
func AcceptTopics(ctx context.Context, runner Runner, options PauseOptions) error {
	return changeSettings(ctx, runner, options, "accept the topics of", func(s *capability.FollowerSettings) {
		// What the follower processes next counts as processed from the
		// beginning.
		s.Topics, s.TopicChanges = "", 0
	})
}

func changeSettings(
	ctx context.Context, runner Runner, options PauseOptions, what string, change func(*capability.FollowerSettings),
) error {
	upstreams, err := Followed(runner, options.Follower, options.UpstreamApps)
	if err != nil {
		return err
	}
	app, _ := ApplicationOf(runner, options.Follower)
	recorder := app.RecorderCapabilities().Settings
	if recorder == nil {
		return fmt.Errorf("management: cannot %s %s: its store keeps no settings of followers, and is %s",
			what, options.Follower, bridge.StoreOf(app))
	}
	err = bridge.ChangeSettings(ctx, app, recorder, upstreams, change)
	if errors.Is(err, persistence.ErrLockTimeout) {
		return fmt.Errorf("management: cannot %s %s: a batch of it has not ended; try again: %w", what, options.Follower, err)
	}
	return located(ctx, app.Factory(), err)
}

// Followed returns those of the applications that a follower follows which are
// wanted; none means all. They are sorted, which is the order in which
// positions are locked everywhere.
func Followed(runner Runner, follower string, wanted []string) ([]string, error) {
	if _, err := knownFollowers(runner, []string{follower}); err != nil {
		return nil, err
	}
	all := slices.Sorted(slices.Values(graphOf(runner).Follows(follower)))
	if len(wanted) == 0 {
		return all, nil
	}
	wanted = slices.Compact(slices.Sorted(slices.Values(wanted)))
	unknown := slices.DeleteFunc(slices.Clone(wanted), func(name string) bool { return slices.Contains(all, name) })
	if len(unknown) > 0 {
		return nil, &persistence.Error{Class: persistence.ErrProgramming, Op: fmt.Sprintf("system: application %q", follower),
			Hint: fmt.Sprintf("it does not follow %s; it follows %s", strings.Join(unknown, ", "), strings.Join(all, ", "))}
	}
	return wanted, nil
}

// SkipOptions say what SkipToHead does.
type SkipOptions struct {
	Follower string
	// UpstreamApps are the applications whose events are passed over; none
	// means all that the follower follows.
	UpstreamApps []string
	// DryRun only finds what would be done.
	DryRun bool
}

// Skipped is how far a follower has moved in the log of one application.
type Skipped struct {
	Leader string `json:"leader"`
	From   int64  `json:"from"`
	To     int64  `json:"to"`
	// isAhead reports whether a partition of the follower was beyond To when
	// the move was planned: it is ahead of the log, and is moved back.
	isAhead bool
}

// SkipToHead moves a follower to the end of the logs that it follows, whether
// or not it has a position in them: it never processes what is recorded
// already. Nothing that it has made is cleared, and events that it has parked
// stay parked.
//
// It returns a *ResetError for a follower whose position has moved meanwhile.
// Other errors are *UnknownFollowersError, *MigrationError and those of stores.
// Then nothing has changed.
func SkipToHead(ctx context.Context, runner Runner, options SkipOptions) ([]Skipped, error) {
	upstreams, err := Followed(runner, options.Follower, options.UpstreamApps)
	if err != nil {
		return nil, err
	}
	own, ok := StoreOf(runner, options.Follower)
	if !ok {
		return nil, fmt.Errorf("management: cannot move %s: it is not stored by gormstore", options.Follower)
	}
	statuses, err := runner.Statuses(ctx)
	if err != nil {
		err = firstMigration(ctx, runner, err)
	}
	var all []Skipped
	for _, s := range statuses {
		if s.Follower != options.Follower || !slices.Contains(upstreams, s.Leader) {
			continue
		}
		if s.ReadErr != nil {
			return nil, err
		}
		isAhead := s.Partitions != nil &&
			slices.ContainsFunc(s.Partitions.Partitions, func(p persistence.Partition) bool { return p.Position > s.Head })
		all = append(all, Skipped{Leader: s.Leader, From: s.Position, To: s.Head, isAhead: isAhead})
	}
	return all, moveAll(ctx, own, options, all, skip)
}

// ContinueAfterDeletion moves a follower that is ahead of a log back to the
// last event at or before its position, for one in another database than its
// leader, of which the newest events were deleted with delete_originator. The
// follower misses nothing and processes no event again, because there are no
// events in between. After a restore of the leader from a backup it would miss
// events: reset the follower then. Of a divided follower only the partitions
// move that are ahead.
//
// It returns only the logs in which the position has to move. Its errors are
// those of SkipToHead, and that the leader is not stored by gormstore in this
// program.
func ContinueAfterDeletion(ctx context.Context, runner Runner, options SkipOptions) ([]Skipped, error) {
	upstreams, err := Followed(runner, options.Follower, options.UpstreamApps)
	if err != nil {
		return nil, err
	}
	own, ok := StoreOf(runner, options.Follower)
	if !ok {
		return nil, fmt.Errorf("management: cannot move %s: it is not stored by gormstore", options.Follower)
	}
	recorder, err := own.ProcessRecorder(options.Follower)
	if err != nil {
		return nil, err
	}
	var all []Skipped
	for _, upstream := range upstreams {
		leader, ok := StoreOf(runner, upstream)
		if !ok {
			return nil, fmt.Errorf("management: cannot move %s in the log of %s: this program does not have it in a database",
				options.Follower, upstream)
		}
		position, err := highestPosition(ctx, recorder, upstream)
		if err != nil {
			return nil, located(ctx, own, err)
		}
		last, err := inventory.Of(leader).LastNotificationID(ctx, upstream, position)
		if err != nil {
			return nil, located(ctx, leader, err)
		}
		if last != position {
			all = append(all, Skipped{Leader: upstream, From: position, To: last})
		}
	}
	return all, moveAll(ctx, own, options, all, moveBack)
}

// moveAll moves the positions of a follower, unless it is a dry run.
func moveAll(
	ctx context.Context, own store, options SkipOptions, all []Skipped,
	move func(ctx context.Context, own store, follower string, one Skipped) error,
) error {
	if options.DryRun {
		return nil
	}
	return own.Transaction(ctx, func(ctx context.Context) error {
		for _, one := range all {
			if err := move(ctx, own, options.Follower, one); err != nil {
				return err
			}
		}
		return nil
	})
}

// skip moves a position, forward or, from one that is ahead of its log, back.
func skip(ctx context.Context, own store, follower string, one Skipped) error {
	recorder, err := own.ProcessRecorder(follower)
	if err != nil {
		return err
	}
	position, err := recorder.LockPosition(ctx, one.Leader)
	if err != nil {
		return err
	}
	highest, err := highestPosition(ctx, recorder, one.Leader)
	if err != nil {
		return err
	}
	if position != one.From || highest > position && highest > one.To && !one.isAhead {
		return movedMeanwhile(follower, one)
	}
	if _, err := capability.Of(own).Positions.DeleteTracking(ctx, follower, one.Leader); err != nil || one.To == 0 {
		return err
	}
	return recorder.InsertTracking(ctx, persistence.Tracking{ApplicationName: one.Leader, NotificationID: one.To})
}

func movedMeanwhile(follower string, one Skipped) error {
	return Refuse("%s has processed events of %s meanwhile, and nothing was changed. Stop or pause it, and try again.",
		follower, one.Leader)
}

// highestPosition is the position of a follower, or the highest one of its
// partitions.
func highestPosition(ctx context.Context, recorder persistence.ProcessRecorder, upstream string) (int64, error) {
	position, err := recorder.MaxTrackingID(ctx, upstream)
	if err != nil {
		return 0, err
	}
	set, err := partitionsOf(ctx, recorder, upstream)
	for _, p := range set.Partitions {
		position = max(position, p.Position)
	}
	return position, err
}

// partitionsOf are the partitions of a follower, or none.
func partitionsOf(ctx context.Context, recorder persistence.ProcessRecorder, upstream string) (set persistence.PartitionSet, err error) {
	partitions := capability.OfRecorder(recorder).Partitions
	if partitions == nil {
		return set, nil
	}
	return partitions.Partitions(ctx, upstream)
}

// moveBack moves a position that is ahead of its log back, or the partitions
// that are, and forgets that they were ahead.
func moveBack(ctx context.Context, own store, follower string, one Skipped) error {
	recorder, err := own.ProcessRecorder(follower)
	if err != nil {
		return err
	}
	if _, err := recorder.LockPosition(ctx, one.Leader); err != nil {
		return err
	}
	set, err := partitionsOf(ctx, recorder, one.Leader)
	if err != nil {
		return err
	}
	if len(set.Partitions) == 0 {
		return skip(ctx, own, follower, one)
	}
	if highest, err := highestPosition(ctx, recorder, one.Leader); err != nil || highest != one.From {
		return errors.Join(err, movedMeanwhile(follower, one))
	}
	return inventory.Of(own).MovePartitionsBack(ctx, follower, one.Leader, one.To)
}
