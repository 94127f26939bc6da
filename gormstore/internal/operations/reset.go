package operations

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
	"github.com/eventsourcing-go/eventsourcing/system"
)

// Tracked is a follower that has positions in a database, whether or not its
// code is in this program.
type Tracked struct {
	Name string
	// UpstreamApps are the applications that it has positions in, sorted.
	UpstreamApps []string
	// NeedsForce reports whether only ResetOptions.Force resets it: it is
	// neither system.Replayable nor system.Resettable, or has no code in this
	// program.
	NeedsForce bool
}

// TrackedFollowers lists the followers that have positions in any of the
// service's databases, sorted by name. The runner may be nil. Databases without
// tables are left out; if no database has them, the error is a *MigrationError.
func TrackedFollowers(ctx context.Context, runner Runner) ([]Tracked, error) {
	trackings, err := Trackings(ctx, runner)
	if err != nil {
		return nil, err
	}
	upstreams := map[string][]string{}
	for _, t := range trackings {
		for _, state := range t.states {
			upstreams[state.ApplicationName] = append(upstreams[state.ApplicationName], state.UpstreamApplicationName)
		}
	}
	var all []Tracked
	for name, apps := range upstreams {
		slices.Sort(apps)
		all = append(all, Tracked{Name: name, UpstreamApps: slices.Compact(apps), NeedsForce: !mayReplay(memberOf(runner, name))})
	}
	slices.SortFunc(all, func(a, b Tracked) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// ResetOptions say what to reset.
type ResetOptions struct {
	Follower string
	// UpstreamApps are the applications whose events the follower is to forget;
	// none means all.
	UpstreamApps []string
	// With DryRun everything is done and then rolled back.
	DryRun bool
	// Force resets also a follower that does not declare that it can be reset.
	// What it made of the events stays, and is made again.
	Force bool
}

// ResetReport is what is to be reset, or was.
type ResetReport struct {
	Follower string
	// UpstreamApps are sorted.
	UpstreamApps []string
	// Notifications is how many events will be replayed: those of the upstream
	// applications up to the positions. It is -1 if that is unknown: an
	// upstream application cannot be reached, or another process has reset some
	// of them meanwhile.
	Notifications int64
	DryRun        bool
}

// ResetError says why a follower is not reset.
type ResetError struct{ Problem string }

func (e *ResetError) Error() string { return e.Problem }

// Refuse returns the reason why a follower is not reset, or why an operation like
// that is not done.
func Refuse(format string, arguments ...any) error {
	return &ResetError{fmt.Sprintf(format, arguments...)}
}

// Reset is a reset of a follower that can be done, and was not done yet.
type Reset struct {
	report  ResetReport
	options ResetOptions
	runner  Runner
	targets []tracking
	// untracked are the upstream applications whose positions were deleted.
	untracked []string
}

// Report says what Do will reset.
func (r *Reset) Report() ResetReport { return r.report }

// ResetFollower has a follower forget which events of its upstream applications
// it has processed: it will process them again. In the same transaction a
// follower that is system.Resettable clears what it has made of them, and what
// it has parked is forgotten. It is PlanReset and Do in one.
func ResetFollower(ctx context.Context, runner Runner, options ResetOptions) (ResetReport, error) {
	reset, err := PlanReset(ctx, runner, options)
	if err != nil {
		return ResetReport{}, err
	}
	return reset.Do(ctx)
}

// PlanReset finds what is to be reset, for a caller that asks before it goes
// on. The runner may be nil; then no follower has code. It changes nothing.
//
// It returns a *ResetError for a follower without positions; for upstream
// applications that it has none in; for a follower that runs in this or another
// process (capability.FollowerStatus.Alive), whatever the options; and,
// without Force, for one that is neither system.Replayable nor
// system.Resettable, or has no code in this program. Other errors are those of
// the database.
func PlanReset(ctx context.Context, runner Runner, options ResetOptions) (*Reset, error) {
	trackings, err := Trackings(ctx, runner)
	if err != nil {
		return nil, err
	}
	r := &Reset{options: options, runner: runner, report: ResetReport{Follower: options.Follower, DryRun: options.DryRun}}
	if err := r.choose(ctx, trackings); err != nil {
		return nil, err
	}
	if err := r.possible(ctx); err != nil {
		return nil, err
	}
	r.report.Notifications, err = r.count(ctx)
	return r, err
}

// possible is the first reason not to reset.
func (r *Reset) possible(ctx context.Context) error {
	if err := r.restricted(); err != nil {
		return err
	}
	for i := range r.targets {
		if err := r.runsElsewhere(ctx, &r.targets[i]); err != nil {
			return err
		}
	}
	return r.allowed()
}

// choose finds the databases: that of the follower's code, or all if there is
// no code for it.
func (r *Reset) choose(ctx context.Context, trackings []tracking) error {
	for _, t := range trackings {
		if t = t.of(r.options.Follower); len(t.states) == 0 {
			continue
		}
		if own, ok := StoreOf(r.runner, r.options.Follower); ok && sameDatabase(own, t.store) {
			r.targets = []tracking{t}
			return nil
		}
		r.targets = append(r.targets, t)
	}
	if len(r.targets) > 0 {
		return nil
	}
	if r.runner != nil && slices.Contains(FollowerNames(r.runner), r.options.Follower) {
		return Refuse("%s has no tracking states to reset.", r.options.Follower)
	}
	tracked, err := TrackedFollowers(ctx, r.runner)
	if err != nil {
		return err
	}
	names := make([]string, len(tracked))
	for i, t := range tracked {
		names[i] = t.Name
	}
	return Refuse("Unknown follower: %s. The known followers are: %s.", r.options.Follower, listed(names))
}

// restricted leaves the upstream applications that are wanted.
func (r *Reset) restricted() error {
	known, wanted := UpstreamsOf(r.targets), slices.Clone(r.options.UpstreamApps)
	if len(wanted) == 0 {
		wanted = known
	}
	slices.Sort(wanted)
	wanted = slices.Compact(wanted)
	r.report.UpstreamApps = wanted
	unknown := slices.DeleteFunc(slices.Clone(wanted), func(name string) bool { return slices.Contains(known, name) })
	if len(unknown) > 0 {
		colon := ""
		if len(unknown) > 1 {
			colon = ":"
		}
		return Refuse("%s does not (currently) track%s %s. Its known upstream apps are: %s.",
			r.options.Follower, colon, strings.Join(unknown, ", "), strings.Join(known, ", "))
	}
	for i := range r.targets {
		r.targets[i] = r.targets[i].from(wanted)
	}
	return nil
}

// runsElsewhere refuses a follower that is at work: what it does while its
// state is cleared would stay. That the table is absent is found outside of the
// transaction of the reset, which a statement that fails would end.
func (r *Reset) runsElsewhere(ctx context.Context, t *tracking) error {
	if t.withoutStatuses {
		return nil
	}
	statuses, err := capability.Of(t.store).Statuses.FollowerStatuses(ctx)
	if errors.Is(err, persistence.ErrNotMigrated) {
		t.withoutStatuses = true
		return nil
	}
	if err != nil {
		return err
	}
	for _, status := range statuses {
		if status.ApplicationName == r.options.Follower && status.Alive(time.Now()) {
			instead := ""
			if r.mayReplay() {
				instead = ", or reset it while it runs, with runner.Rebuild or on the pages of gormstore/admin"
			}
			return Refuse("%s is running (%s, %s). Stop it first%s; one that was killed counts as running for half a minute.",
				r.options.Follower, status.Process, status.State, instead)
		}
	}
	return nil
}

// mayReplay reports whether the follower's code says that its events may be
// processed again.
func (r *Reset) mayReplay() bool { return mayReplay(r.member()) }

// mayReplay reports whether a follower is system.Replayable or
// system.Resettable.
func mayReplay(member system.Member) bool {
	if member == nil {
		return false
	}
	replayable, clear := bridge.HowToReset(member)
	return replayable || clear != nil
}

// allowed refuses what would have its effects twice.
func (r *Reset) allowed() error {
	if r.options.Force {
		return nil
	}
	name := r.options.Follower
	if r.member() == nil {
		return Refuse("%s has no code in this program, so it is unknown whether its events may be processed again. "+
			"Use the program that runs it, or --force.", name)
	}
	if r.mayReplay() {
		return nil
	}
	return Refuse("%s does not say that its events may be processed again: what it has made of them would be made twice. "+
		"Give it system.Replayable or system.Resettable, or use --force.", name)
}

// member is the code of the follower if it uses one of the databases, or nil.
func (r *Reset) member() system.Member {
	own, ok := StoreOf(r.runner, r.options.Follower)
	if !ok || !slices.ContainsFunc(r.targets, func(t tracking) bool { return sameDatabase(own, t.store) }) {
		return nil
	}
	return memberOf(r.runner, r.options.Follower)
}

// errUndone rolls a dry run back.
var errUndone = errors.New("a dry run is rolled back")

// Do resets the follower, in one transaction for each database. If it returns
// an error, the database concerned is as it was. A follower that is at a batch
// in another process finishes it first.
func (r *Reset) Do(ctx context.Context) (ResetReport, error) {
	r.untracked = nil
	for _, target := range r.targets {
		err := guarded(func() error {
			return target.store.Transaction(ctx, func(ctx context.Context) error { return r.do(ctx, target) })
		})
		if err != nil && !errors.Is(err, errUndone) {
			return r.report, err
		}
	}
	return r.done(), nil
}

// done is the report of what was deleted, which is less than was planned if
// another process was faster.
func (r *Reset) done() ResetReport {
	report := r.report
	slices.Sort(r.untracked)
	report.UpstreamApps = slices.Compact(r.untracked)
	if len(report.UpstreamApps) < len(r.report.UpstreamApps) {
		report.Notifications = Unreachable
	}
	return report
}

func (r *Reset) do(ctx context.Context, target tracking) error {
	if err := r.forget(ctx, target); err != nil {
		return err
	}
	if _, clear := bridge.HowToReset(r.member()); clear != nil {
		if err := clear(ctx, r.report.UpstreamApps); err != nil {
			return fmt.Errorf("%s cannot clear its state: %w", r.options.Follower, err)
		}
	}
	if r.options.DryRun {
		return errUndone
	}
	return nil
}

// forget takes the locks of the positions, looks again for a process that runs
// the follower, which may have been started during the question or during the
// wait for a batch, and deletes the positions. It remembers those that were
// still there.
func (r *Reset) forget(ctx context.Context, target tracking) error {
	recorder, err := target.store.ProcessRecorder(r.options.Follower)
	if err != nil {
		return err
	}
	for _, state := range target.states {
		if err := bridge.LockToForget(ctx, recorder, state.UpstreamApplicationName); err != nil {
			return err
		}
	}
	if err := r.runsElsewhere(ctx, &target); err != nil {
		return err
	}
	for _, state := range target.states {
		upstream := state.UpstreamApplicationName
		rows, err := bridge.ForgetUpstream(ctx, capability.Of(target.store).Positions, recorder, r.options.Follower, upstream, true)
		if err != nil {
			return err
		}
		if rows > 0 {
			r.untracked = append(r.untracked, upstream)
		}
	}
	return nil
}
