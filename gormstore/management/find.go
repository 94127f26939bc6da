package management

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// RunnerSetting is the setting that names the runner to use.
const RunnerSetting = "EVENTSOURCING_RUNNER"

// RunnerError says why there is no runner to work with.
type RunnerError struct{ Problem string }

func (e *RunnerError) Error() string { return e.Problem }

// FindRunner makes the runner that a setting names, or the only one where the
// setting is "". It returns a *RunnerError where there is none, where there are
// several, and where the setting names none of them; and the errors of making
// the runner.
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
	if err == nil && isNil(runner) {
		err = improperlySet(names, fmt.Sprintf("The function of %q returned no runner.", name))
	}
	return runner, err
}

// listed are names with commas between, or a word where there are none.
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

// isNil also recognises a nil pointer in the interface.
func isNil(runner Runner) bool {
	if runner == nil {
		return true
	}
	v := reflect.ValueOf(runner)
	return v.Kind() == reflect.Pointer && v.IsNil()
}
