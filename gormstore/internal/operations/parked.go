package operations

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/inventory"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Parked returns the events that a follower has parked, or all followers of the
// runner if none is named, in the order of the followers and of notification
// ids. The error is an *UnknownFollowersError, a *MigrationError or that of a
// store.
func Parked(ctx context.Context, runner Runner, followers ...string) (events []persistence.ParkedEvent, err error) {
	followers, err = knownFollowers(runner, followers)
	if err != nil {
		return nil, err
	}
	for _, name := range followers {
		parked, err := runner.Parked(ctx, memberOf(runner, name))
		if err != nil {
			return events, locatedOf(ctx, runner, name, err)
		}
		events = append(events, parked...)
	}
	return events, nil
}

// ParkedAfter is the event of a leader after which a page of parked events
// begins. The zero value is the beginning.
type ParkedAfter struct {
	Leader         string
	NotificationID int64
}

// ParkedPage returns what a follower has parked, in the order of leaders and
// notification ids, at most limit events. next is where to go on, and nil at
// the end. Its errors are those of Parked.
func ParkedPage(
	ctx context.Context, runner Runner, follower string, after ParkedAfter, limit int,
) (events []persistence.ParkedEvent, next *ParkedAfter, err error) {
	if _, err := knownFollowers(runner, []string{follower}); err != nil {
		return nil, nil, err
	}
	if own, ok := StoreOf(runner, follower); ok {
		events, err = inventory.Of(own).ParkedPage(ctx, follower, after.Leader, after.NotificationID, limit+1)
		err = located(ctx, own, err)
	} else {
		events, err = Parked(ctx, runner, follower)
		slices.SortFunc(events, compareParked)
		first := persistence.ParkedEvent{UpstreamApplicationName: after.Leader, NotificationID: after.NotificationID}
		events = slices.DeleteFunc(events, func(e persistence.ParkedEvent) bool { return compareParked(e, first) <= 0 })
	}
	if len(events) > limit {
		events = events[:limit]
		next = &ParkedAfter{events[limit-1].UpstreamApplicationName, events[limit-1].NotificationID}
	}
	return events, next, err
}

func compareParked(a, b persistence.ParkedEvent) int {
	return cmp.Or(strings.Compare(a.UpstreamApplicationName, b.UpstreamApplicationName), cmp.Compare(a.NotificationID, b.NotificationID))
}

// DiscardOptions say which parked event to discard.
type DiscardOptions struct {
	Follower       string
	Leader         string
	NotificationID int64
	// By says who discards it, for the log.
	By string
}

// PlanDiscard finds the parked event that is to be discarded, for a caller that
// asks before it goes on. It returns a *ResetError for an event that is not
// parked; its other errors are those of Parked, and one for a leader that the
// follower does not follow.
func PlanDiscard(ctx context.Context, runner Runner, options DiscardOptions) (persistence.ParkedEvent, error) {
	if _, err := Followed(runner, options.Follower, []string{options.Leader}); err != nil {
		return persistence.ParkedEvent{}, err
	}
	found, _, err := ParkedPage(ctx, runner, options.Follower, ParkedAfter{options.Leader, options.NotificationID - 1}, 1)
	if err != nil {
		return persistence.ParkedEvent{}, err
	}
	if len(found) == 0 || found[0].UpstreamApplicationName != options.Leader || found[0].NotificationID != options.NotificationID {
		return persistence.ParkedEvent{}, notParked(options)
	}
	return found[0], nil
}

func notParked(options DiscardOptions) error {
	return Refuse("%s has not parked event %d of %s, or it was retried or discarded meanwhile.",
		options.Follower, options.NotificationID, options.Leader)
}

// DiscardParked forgets an event that a follower has parked: it will never be
// processed. Later events of the same originator stay parked until they are
// retried. A line in the log of the follower's application says who has
// discarded it. Its errors are those of PlanDiscard.
func DiscardParked(ctx context.Context, runner Runner, options DiscardOptions) error {
	event, err := PlanDiscard(ctx, runner, options)
	if err != nil {
		return err
	}
	app, _ := ApplicationOf(runner, options.Follower)
	parking := app.RecorderCapabilities().Parking
	store, transacts := app.Factory().(persistence.Transactor)
	if parking == nil || !transacts {
		return fmt.Errorf("management: cannot discard an event of %s: its store keeps no parked events, and is %s",
			options.Follower, bridge.StoreOf(app))
	}
	err = bridge.Repeatedly(ctx, store, func(ctx context.Context) error {
		if _, err := app.Recorder().LockPosition(ctx, options.Leader); err != nil {
			return err
		}
		return parking.UnparkEvent(ctx, options.Leader, options.NotificationID)
	})
	if errors.Is(err, persistence.ErrProgramming) {
		return notParked(options)
	}
	if err != nil {
		return located(ctx, app.Factory(), err)
	}
	app.Logger().WarnContext(ctx, "parked event was discarded", "follower", options.Follower, "leader", options.Leader,
		"notification", event.NotificationID, "topic", event.Topic, "originator", event.OriginatorID, "by", options.By)
	return nil
}

// RetryReport is what RetryParked has done.
type RetryReport struct {
	Follower string
	// Processed is how many events were processed, and Parked how many are
	// left.
	Processed, Parked int
}

// RetryParked has a follower process what it has parked, oldest events
// first. One that fails again stays, and so do the later ones of its
// originator; the error is then those of all that failed, and the report tells
// all the same. The follower may be running. Other errors are
// *UnknownFollowersError and *MigrationError.
func RetryParked(ctx context.Context, runner Runner, follower string) (RetryReport, error) {
	report := RetryReport{Follower: follower}
	if _, err := Parked(ctx, runner, follower); err != nil {
		return report, err
	}
	var failed error
	if err := guarded(func() error {
		member := memberOf(runner, follower)
		report.Processed, failed = runner.RetryParked(ctx, member)
		return nil
	}); err != nil {
		return report, err
	}
	left, err := Parked(context.WithoutCancel(ctx), runner, follower)
	report.Parked = len(left)
	if failed == nil {
		failed = err
	}
	return report, failed
}

// knownFollowers are the followers that are named, each once, or all.
func knownFollowers(runner Runner, names []string) ([]string, error) {
	known := FollowerNames(runner)
	if len(names) == 0 {
		return known, nil
	}
	unknown := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(known, name) })
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return nil, &UnknownFollowersError{Names: slices.Compact(unknown), Known: known}
	}
	var unique []string
	for _, name := range names {
		if !slices.Contains(unique, name) {
			unique = append(unique, name)
		}
	}
	return unique, nil
}

// locatedOf is located for the database of an application.
func locatedOf(ctx context.Context, runner Runner, name string, err error) error {
	app, ok := ApplicationOf(runner, name)
	if !ok {
		return err
	}
	return located(ctx, app.Factory(), err)
}
