package operations

import (
	"context"
	"slices"

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
		member, _ := runner.System().Member(name)
		parked, err := runner.Parked(ctx, member)
		if err != nil {
			return events, locatedOf(ctx, runner, name, err)
		}
		events = append(events, parked...)
	}
	return events, nil
}

// RetryReport is what RetryParked has done.
type RetryReport struct {
	Follower string
	// Processed is how many events were processed, and Parked how many are
	// left.
	Processed, Parked int
}

// RetryParked has a follower process what it has put aside, oldest events
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
		member, _ := runner.System().Member(follower)
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
	known := runner.System().Followers()
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
