package management

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// CheckReport is what Check has found.
type CheckReport struct {
	// Applications are those that were checked.
	Applications []string
	// Problems are violations of what stores guarantee.
	Problems []persistence.Problem
}

// ApplicationsError says that somebody asked for applications which the system does not have.
type ApplicationsError struct{ Names, Known []string }

func (e *ApplicationsError) Error() string {
	return fmt.Sprintf("Unknown applications selected: %s. The known applications are: %s.",
		strings.Join(e.Names, ", "), listed(e.Known))
}

// tablesOf are the differences of the tables of an application's database, unless
// it is one of those that were looked at already. Tables that are absent are
// found by the first read.
func tablesOf(ctx context.Context, name string, factory persistence.Factory, seen map[*sql.DB]bool) ([]persistence.Problem, error) {
	s, ok := factory.(store)
	if !ok || seen[poolOf(s)] {
		return nil, nil
	}
	seen[poolOf(s)] = true
	_, err := gormstore.Missing(ctx, s.DB())
	differing, ok := errors.AsType[*gormstore.SchemaError](err)
	if !ok {
		return nil, err
	}
	var problems []persistence.Problem
	for _, difference := range differing.Differences {
		problems = append(problems, persistence.Problem{Application: name, Text: difference})
	}
	return problems, nil
}

// Check holds the stored events, snapshots and positions of applications to what stores guarantee (see persistence.Check),
// those of all applications of the runner where none are named. It compares the tables with what the recorders need as well,
// and the sequence of the ids with the log; see gormstore.Validate. An application whose tables hide rows is not checked
// any further. It reads every event, and may run while the applications are in use. The error is an *ApplicationsError, a *MigrationError or that of a store; what was found so far is
// returned with it.
func Check(ctx context.Context, runner Runner, applications ...string) (report CheckReport, err error) {
	known := memberNames(runner)
	unknown := slices.DeleteFunc(slices.Clone(applications), func(name string) bool { return slices.Contains(known, name) })
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return report, &ApplicationsError{Names: slices.Compact(unknown), Known: known}
	}
	if len(applications) == 0 {
		applications = known
	}
	done, seen := map[string]bool{}, map[*sql.DB]bool{}
	for _, name := range applications {
		if done[name] {
			continue
		}
		done[name] = true
		member, _ := runner.Member(name)
		app := member.Base()
		snapshots, err := app.Factory().SnapshotRecorder(name)
		if err != nil {
			return report, err
		}
		differences, err := tablesOf(ctx, name, app.Factory(), seen)
		report.Problems = append(report.Problems, differences...)
		if err != nil {
			return report, err
		}
		problems, err := persistence.Check(ctx, persistence.Checked{Application: name, Recorder: app.Recorder(),
			Snapshots: snapshots, Mapper: app.Mapper(), Upstreams: upstreams(runner, name)})
		report.Problems = append(report.Problems, problems...)
		if _, differs := errors.AsType[*gormstore.SchemaError](err); differs {
			continue // its differences are among the problems
		}
		if err != nil {
			return report, located(ctx, app.Factory(), err)
		}
		report.Applications = append(report.Applications, name)
	}
	return report, nil
}

// memberNames are the applications of this process.
func memberNames(runner Runner) []string {
	return slices.DeleteFunc(runner.System().Names(), func(name string) bool {
		_, ok := runner.Member(name)
		return !ok
	})
}

// upstreams are the logs that an application follows in this process.
func upstreams(runner Runner, follower string) map[string]persistence.ApplicationRecorder {
	logs := map[string]persistence.ApplicationRecorder{}
	for _, leader := range runner.System().Follows(follower) {
		if member, ok := runner.Member(leader); ok {
			logs[leader] = member.Base().Recorder()
		}
	}
	return logs
}
