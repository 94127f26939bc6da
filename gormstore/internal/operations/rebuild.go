package operations

import (
	"context"
	"errors"

	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
)

// RebuildPlan is what Rebuild will do.
type RebuildPlan struct {
	Leaders []string
	// Events is how many events will be processed again at most: the sum of the
	// positions. It is not counted, because a log may be large.
	Events int64
	// Clears reports whether the follower clears what it has made; otherwise
	// its events may be processed again as they are.
	Clears bool
}

// PlanRebuild finds what Rebuild will do, for a caller that asks before it goes
// on. It changes nothing. It returns a *ResetError for a follower that has no
// position, or that is neither system.Replayable nor system.Resettable; its
// other errors are those of Parked.
func PlanRebuild(ctx context.Context, runner Runner, follower string) (RebuildPlan, error) {
	leaders, err := Followed(runner, follower, nil)
	if err != nil {
		return RebuildPlan{}, err
	}
	plan := RebuildPlan{Leaders: leaders}
	app, _ := ApplicationOf(runner, follower)
	for _, leader := range leaders {
		position, err := app.Recorder().MaxTrackingID(ctx, leader)
		if errors.Is(err, capability.ErrPartitionsDamaged) { // which a reset mends
			position, err = headOf(ctx, runner, leader)
		}
		if err != nil {
			return plan, located(ctx, app.Factory(), err)
		}
		plan.Events += position
	}
	if plan.Events == 0 {
		return plan, Refuse("%s has no position to reset.", follower)
	}
	member := memberOf(runner, follower)
	replayable, clear := bridge.HowToReset(member)
	if plan.Clears = clear != nil; !replayable && !plan.Clears {
		return plan, Refuse("%s does not say that its events may be processed again: what it has made of them would be made twice. "+
			"Give it system.Replayable or system.Resettable.", follower)
	}
	return plan, nil
}

// Rebuild resets a follower, whether it runs or not: it processes all events
// again. Its errors are those of PlanRebuild, and those of the reset; then
// nothing has changed.
func Rebuild(ctx context.Context, runner Runner, follower string) error {
	if _, err := PlanRebuild(ctx, runner, follower); err != nil {
		return err
	}
	member := memberOf(runner, follower)
	return guarded(func() error { return locatedOf(ctx, runner, follower, runner.Rebuild(ctx, member)) })
}

// headOf is the end of a leader's log, which must be one of this process.
func headOf(ctx context.Context, runner Runner, leader string) (int64, error) {
	for _, head := range Heads(ctx, runner) {
		if head.Application == leader {
			return head.Head, head.Err
		}
	}
	return 0, &ApplicationsError{Names: []string{leader}, Known: MemberNames(runner)}
}
