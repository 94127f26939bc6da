package operations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/inventory"
	"github.com/eventsourcing-go/eventsourcing/internal/checker"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// CheckReport is what Check has found.
type CheckReport struct {
	// Applications are those that were checked.
	Applications []string
	// Problems are violations of what stores guarantee.
	Problems []checker.Problem
	// Logs say of each of the Applications how its log is written and read now.
	Logs []LogState
	// Unknown are names, sorted, under which the databases have events or
	// positions, and which the runner's system does not have. They are looked
	// for if no applications are named. An application that was renamed has
	// left them, or another service uses the same database.
	Unknown []string
}

// LogState is how the log of an application is written and read now.
type LogState struct {
	Application string `json:"application"`
	// Writers are ConcurrentWriters, StrictWriters or "", as FollowerState has
	// it.
	Writers string `json:"writers,omitempty"`
	// Held is a transaction that has kept readers from newer events for more
	// than five seconds, or nil.
	Held *persistence.LogHold `json:"held,omitempty"`
}

// problemsOfAKind is how many problems of one kind are shown: one cause, such
// as a wrong key, may make a problem of every event.
const problemsOfAKind = 5

// OmittedProblems says how many problems of a kind are not shown, and what the
// first of them is.
type OmittedProblems struct {
	Application string `json:"application"`
	Problem     string `json:"problem"`
	Count       int64  `json:"count"`
}

// numbersAndIDs are what the texts of problems of one kind differ in.
var numbersAndIDs = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9]+`)

// FirstProblems returns the first problems of each kind, and how many more there
// are. Two are of a kind if they are of the same application and their texts
// differ in nothing but numbers and ids.
func (r CheckReport) FirstProblems() (first []checker.Problem, omitted []OmittedProblems) {
	type kind struct{ application, text string }
	count, at := map[kind]int{}, map[kind]int{}
	for _, p := range r.Problems {
		k := kind{p.Application, numbersAndIDs.ReplaceAllString(p.Text, "N")}
		count[k]++
		switch i, known := at[k]; {
		case count[k] <= problemsOfAKind:
			first = append(first, p)
		case known:
			omitted[i].Count++
		default:
			at[k] = len(omitted)
			omitted = append(omitted, OmittedProblems{Application: p.Application, Problem: p.Text, Count: 1})
		}
	}
	return first, omitted
}

// ApplicationsError says that applications were asked for which the system does
// not have.
type ApplicationsError struct{ Names, Known []string }

func (e *ApplicationsError) Error() string {
	return fmt.Sprintf("Unknown applications selected: %s. The known applications are: %s.",
		strings.Join(e.Names, ", "), listed(e.Known))
}

// tablesOf are the differences of the tables of an application's database,
// unless it is one of those that were looked at already. Tables that are absent
// are found by the first read.
func tablesOf(ctx context.Context, name string, factory persistence.Factory, seen map[*sql.DB]bool) ([]checker.Problem, error) {
	s, ok := asStore(factory)
	if !ok || seen[poolOf(s)] {
		return nil, nil
	}
	seen[poolOf(s)] = true
	_, err := inventory.Missing(ctx, s.DB())
	if !errors.Is(err, gormstore.ErrSchema) {
		return nil, err
	}
	var problems []checker.Problem
	for _, difference := range inventory.Differences(err) {
		problems = append(problems, checker.Problem{Application: name, Text: difference})
	}
	return problems, nil
}

// Check compares the stored events, snapshots and positions of applications
// with what stores guarantee (see GUARANTEES.md), those of all applications of
// the runner if none are named. It compares the tables with what the recorders
// need as well, and the sequence of the ids with the log; see
// gormstore.Validate. An application whose tables hide rows is not checked any
// further. It reads every event, and may run while the applications are in use.
// The error is an *ApplicationsError, a *MigrationError or that of a store;
// what was found so far is returned with it.
func Check(ctx context.Context, runner Runner, applications ...string) (report CheckReport, err error) {
	known := MemberNames(runner)
	unknown := slices.DeleteFunc(slices.Clone(applications), func(name string) bool { return slices.Contains(known, name) })
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return report, &ApplicationsError{Names: slices.Compact(unknown), Known: known}
	}
	all := len(applications) == 0
	if all {
		applications = known
	}
	done, seen := map[string]bool{}, map[*sql.DB]bool{}
	for _, name := range applications {
		if done[name] {
			continue
		}
		done[name] = true
		app, _ := ApplicationOf(runner, name)
		snapshots, err := app.Factory().SnapshotRecorder(name)
		if err != nil {
			return report, err
		}
		differences, err := tablesOf(ctx, name, app.Factory(), seen)
		report.Problems = append(report.Problems, differences...)
		if err != nil {
			return report, err
		}
		problems, err := checker.Check(ctx, checker.Target{Application: name, Recorder: app.Recorder(),
			Snapshots: snapshots, Mapper: app.Mapper(), Upstreams: upstreams(runner, name)})
		report.Problems = append(report.Problems, problems...)
		if errors.Is(err, gormstore.ErrSchema) {
			continue // its differences are among the problems
		}
		if err != nil {
			return report, located(ctx, app.Factory(), err)
		}
		report.Applications = append(report.Applications, name)
		state, err := logStateOf(ctx, runner, name)
		report.Logs = append(report.Logs, state)
		if err != nil {
			return report, err
		}
	}
	if all {
		report.Unknown, err = unknownNames(ctx, runner)
	}
	return report, err
}

// longHold is how long a transaction may keep readers from newer events before
// it is reported.
const longHold = 5 * time.Second

func logStateOf(ctx context.Context, runner Runner, name string) (LogState, error) {
	state := LogState{Application: name, Writers: writersOf(runner, name)}
	app, _ := ApplicationOf(runner, name)
	reader := app.RecorderCapabilities().Hold
	if reader == nil {
		return state, nil
	}
	hold, err := reader.LogHold(ctx, 0)
	if hold != nil && time.Since(hold.Since) >= longHold {
		state.Held = hold
	}
	return state, err
}

// unknownNames are the applications in the databases that the system does not
// have.
func unknownNames(ctx context.Context, runner Runner) ([]string, error) {
	known := graphOf(runner).Names()
	var unknown []string
	for _, s := range storesOf(runner) {
		names, err := inventory.Of(s).ApplicationNames(ctx)
		if err = located(ctx, s, err); err != nil && !isMigration(err) {
			return unknown, err
		}
		for _, name := range names {
			if !slices.Contains(known, name) {
				unknown = append(unknown, name)
			}
		}
	}
	slices.Sort(unknown)
	return slices.Compact(unknown), nil
}

// MemberNames returns the applications of this process.
func MemberNames(runner Runner) []string {
	return slices.DeleteFunc(graphOf(runner).Names(), func(name string) bool {
		_, ok := ApplicationOf(runner, name)
		return !ok
	})
}

// upstreams are the logs that an application follows in this process.
func upstreams(runner Runner, follower string) map[string]persistence.ApplicationRecorder {
	logs := map[string]persistence.ApplicationRecorder{}
	for _, leader := range graphOf(runner).Follows(follower) {
		if app, ok := ApplicationOf(runner, leader); ok {
			logs[leader] = app.Recorder()
		}
	}
	return logs
}
