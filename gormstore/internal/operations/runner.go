package operations

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// Runner is what the commands work with: a *system.Runner or a
// *system.SingleThreadedRunner. It need not be started.
type Runner interface {
	// System returns what the runner runs.
	System() *system.System
	// CatchUp processes the events that one follower has not processed.
	CatchUp(ctx context.Context, follower system.Member, report func(system.Processed)) ([]system.Processed, error)
	// Statuses returns the status of each follower at each of its leaders.
	Statuses(ctx context.Context) ([]system.Status, error)
	// Parked are the events that a follower has parked.
	Parked(ctx context.Context, follower system.Member) ([]persistence.ParkedEvent, error)
	// RetryParked has a follower process what it has parked, and returns how
	// many events were processed.
	RetryParked(ctx context.Context, follower system.Member) (processed int, err error)
	// Rebuild resets a follower, which processes all events again.
	Rebuild(ctx context.Context, follower system.Member) error
	// Close stops the runner.
	Close() error
}

// graphOf returns the members of what a runner runs.
func graphOf(runner Runner) bridge.Graph { return bridge.GraphOf(runner.System()) }

// FollowerNames returns the names of a runner's followers, in the order of the
// system.
func FollowerNames(runner Runner) []string { return graphOf(runner).Followers() }

// memberOf returns a member of a runner's system, or nil. The runner may be nil.
func memberOf(runner Runner, name string) system.Member {
	if runner == nil {
		return nil
	}
	member, _ := graphOf(runner).Member(name).(system.Member)
	return member
}

// RunnerFunc makes a runner for one command, which closes it when it ends.
type RunnerFunc = func(ctx context.Context) (Runner, error)

// RunnerSetting is the setting that names the runner to use.
const RunnerSetting = "EVENTSOURCING_RUNNER"

// RunnerError says why there is no runner to work with.
type RunnerError struct{ Problem string }

func (e *RunnerError) Error() string { return e.Problem }

// FindRunner makes the runner that a setting names, or the only one if the
// setting is "". It returns a *RunnerError if there is none, if there are
// several, and if the setting names none of them; and the errors of making the
// runner.
func FindRunner(ctx context.Context, runners map[string]RunnerFunc, setting string) (Runner, error) {
	names := slices.Sorted(maps.Keys(runners))
	name := setting
	switch {
	case setting != "":
	case len(names) == 0:
		return nil, &RunnerError{"No runner found in management.Config."}
	case len(names) > 1:
		return nil, &RunnerError{fmt.Sprintf("Found more than one (%d) runner in management.Config. Set `%s` to one of: %s.",
			len(names), RunnerSetting, strings.Join(names, ", "))}
	default:
		name = names[0]
	}
	construct := runners[name]
	if construct == nil {
		return nil, improperlySet(names, fmt.Sprintf("There is no runner %q.", name))
	}
	runner, err := construct(ctx)
	if err == nil && IsNil(runner) {
		err = improperlySet(names, fmt.Sprintf("The function of %q returned no runner.", name))
	}
	return runner, err
}

// listed are names with commas between, or a word if there are none.
func listed(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func improperlySet(names []string, problem string) error {
	known := listed(names)
	return &RunnerError{fmt.Sprintf("The setting `%s` is improperly set. Use the name of a function in "+
		"management.Config.Runners which returns a runner instance (known are: %s). %s", RunnerSetting, known, problem)}
}

// IsNil also recognises a nil pointer in the interface.
func IsNil(runner Runner) bool {
	if runner == nil {
		return true
	}
	v := reflect.ValueOf(runner)
	return v.Kind() == reflect.Pointer && v.IsNil()
}
