package operations

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// SyncOptions say what SyncFollowers does.
type SyncOptions struct {
	// Followers are the names of those to synchronize, each of which counts
	// once; none means all.
	Followers []string
	// With DryRun everything is processed and then rolled back: database,
	// caches and followers stay as they were.
	DryRun bool
	// Grace is for how long the batch at hand may go on after ctx has ended; then
	// the context of its handlers ends. 0 is for as long as it takes.
	Grace time.Duration
}

// SyncReport is what SyncFollowers has done.
type SyncReport struct {
	// All reports whether all followers of the system were selected, and
	// Selected how many that were.
	All      bool
	Selected int
	DryRun   bool
	// Followers are those that had their turn.
	Followers []FollowerSync
}

// Failed reports whether a follower failed. One that is paused has not, nor one
// that another process is at work for.
func (r SyncReport) Failed() bool {
	return slices.ContainsFunc(r.Followers, func(f FollowerSync) bool { return f.Err != nil && !f.Paused() && !f.AtWork() })
}

// FollowerSync is what became of one follower.
type FollowerSync struct {
	Name string
	// Number is its place in the selection, from 1.
	Number int
	// Processed is what it has processed, by leader, in the order of the
	// system. If it failed, that is what came before the event at fault.
	Processed []system.Processed
	// Err is why it stopped, or nil. If it is that of the context, the follower
	// was interrupted and has not failed; if it is a system.ErrPaused, it is
	// paused.
	Err error
}

// AtWork reports whether nothing but another process of the follower, which is
// at work, or a pause, has kept it from all there is to process.
func (f FollowerSync) AtWork() bool {
	return errors.Is(f.Err, persistence.ErrPositionLocked) && !slices.ContainsFunc(Joined(f.Err), func(err error) bool {
		return !errors.Is(err, system.ErrPaused) && !errors.Is(err, persistence.ErrPositionLocked)
	})
}

// Paused reports whether nothing but a pause has kept the follower from all
// there is to process.
func (f FollowerSync) Paused() bool {
	return f.Err != nil && !slices.ContainsFunc(Joined(f.Err), func(err error) bool { return !errors.Is(err, system.ErrPaused) })
}

// SyncObserver is told what SyncFollowers is doing. Its functions may be nil.
type SyncObserver struct {
	// Selected is called once, before anything is processed.
	Selected func(SyncReport)
	// Begin is called before a follower, and End after it.
	Begin func(FollowerSync)
	End   func(FollowerSync)
	// Progress is called after every batch.
	Progress func(FollowerSync, system.Processed)
}

// UnknownFollowersError says that followers were asked for which the system
// does not have.
type UnknownFollowersError struct {
	// Names are the unknown ones, sorted, and Known those of the system in its
	// order.
	Names, Known []string
}

func (e *UnknownFollowersError) Error() string {
	return fmt.Sprintf("Unknown followers selected: %s. The known followers are: %s.",
		strings.Join(e.Names, ", "), listed(e.Known))
}

// SyncFollowers processes the events that followers have not processed, up to
// the present end of their leaders' logs, one follower after the other in the
// order that is given. If one fails, by an error or a panic, the others have
// their turn all the same: the failure is in the report, not in the error.
//
// Followers process in batches, each in its own transaction, so that no save
// waits for long. A dry run is one transaction for each database, and keeps
// others from writing until its end. When ctx ends, the batch at hand is
// finished first, for as long as options.Grace; the error is then that of ctx,
// and what was processed is kept.
//
// Other errors are *UnknownFollowersError, *MigrationError, and that the store
// of a follower has no transactions, which a dry run needs. Then nothing was
// processed. It is safe for concurrent use, and while the followers run
// elsewhere.
func SyncFollowers(ctx context.Context, runner Runner, options SyncOptions, observer SyncObserver) (SyncReport, error) {
	s := &synchronization{runner: runner, grace: options.Grace, observer: observer}
	selected, err := s.choose(options)
	if err != nil {
		return s.report, err
	}
	if err := s.migrated(ctx, selected); err != nil {
		return s.report, err
	}
	if !options.DryRun {
		s.selected()
		return s.report, s.each(ctx, ctx, selected)
	}
	s.selected()
	for _, group := range s.byDatabase(selected) {
		if err := s.dryRun(ctx, group); err != nil {
			return s.report, err
		}
	}
	return s.report, nil
}

// synchronization is one call of SyncFollowers.
type synchronization struct {
	runner   Runner
	grace    time.Duration
	observer SyncObserver
	report   SyncReport
}

// choose finds the followers that are meant.
func (s *synchronization) choose(options SyncOptions) (selected []FollowerSync, err error) {
	names, err := knownFollowers(s.runner, options.Followers)
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		selected = append(selected, FollowerSync{Name: name, Number: i + 1})
	}
	s.report = SyncReport{All: len(selected) == len(FollowerNames(s.runner)), Selected: len(selected), DryRun: options.DryRun}
	return selected, nil
}

// migrated finds databases without tables, which would otherwise be a failure
// of every follower.
func (s *synchronization) migrated(ctx context.Context, selected []FollowerSync) error {
	for _, f := range selected {
		for _, name := range append(graphOf(s.runner).Follows(f.Name), f.Name) {
			app, ok := ApplicationOf(s.runner, name)
			if !ok {
				continue
			}
			_, log := app.Recorder().MaxNotificationID(ctx)
			_, position := app.Recorder().MaxTrackingID(ctx, f.Name)
			if err := located(ctx, app.Factory(), errors.Join(log, position)); isMigration(err) {
				return err
			}
		}
	}
	return nil
}

// group is followers of one database.
type group struct {
	store     persistence.Transactor
	followers []FollowerSync
}

// byDatabase sorts followers into groups, in the order of each group's first.
func (s *synchronization) byDatabase(selected []FollowerSync) (groups []*group) {
	for _, f := range selected {
		app, _ := ApplicationOf(s.runner, f.Name)
		transactor := app.Factory().(persistence.Transactor) // as every follower's is
		i := slices.IndexFunc(groups, func(g *group) bool { return together(g.store, transactor) })
		if i < 0 {
			i, groups = len(groups), append(groups, &group{store: transactor})
		}
		groups[i].followers = append(groups[i].followers, f)
	}
	return groups
}

func together(a, b persistence.Transactor) bool {
	first, ok := asStore(a)
	second, okToo := asStore(b)
	return ok && okToo && sameDatabase(first, second)
}

// errRehearsal rolls a dry run back.
var errRehearsal = errors.New("a dry run is rolled back")

// dryRun is a dry run of followers in one transaction. It is not cancelled
// with ctx but ends between batches.
func (s *synchronization) dryRun(ctx context.Context, g *group) error {
	began := false
	err := g.store.Transaction(context.WithoutCancel(ctx), func(inner context.Context) error {
		began = true
		inner = bridge.WithLeadersOutside(inner, context.WithoutCancel(ctx), s.elsewhere(g)...)
		return errors.Join(errRehearsal, s.each(ctx, inner, g.followers))
	})
	if !began {
		if ctx.Err() != nil {
			err = ctx.Err() // it was interrupted
		} else if own, ok := asStore(g.store); ok && yieldTime(own) > 0 && errors.Is(err, persistence.ErrLockTimeout) {
			err = &persistence.Error{Class: persistence.ErrPositionLocked, Op: "dry run", Err: err}
		}
		for _, f := range g.followers {
			s.begin(f)
			f.Err = err
			s.end(f)
		}
	}
	return ctx.Err()
}

// elsewhere are the applications that are in other databases than a group.
func (s *synchronization) elsewhere(g *group) []string {
	return slices.DeleteFunc(graphOf(s.runner).Names(), func(name string) bool {
		own, ok := StoreOf(s.runner, name)
		return ok && together(own, g.store)
	})
}

// each synchronizes followers in turn until ctx ends. They work with another
// context, which may carry a transaction.
func (s *synchronization) each(ctx, working context.Context, followers []FollowerSync) error {
	for _, f := range followers {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.begin(f)
		f.Processed, f.Err = s.one(ctx, working, f)
		s.end(f)
	}
	return ctx.Err()
}

// one synchronizes one follower. It is cancelled between its batches, or in one
// that is not finished in time.
func (s *synchronization) one(ctx, working context.Context, f FollowerSync) (processed []system.Processed, err error) {
	working, stop := context.WithCancel(context.WithoutCancel(working))
	defer stop()
	if s.grace > 0 {
		defer context.AfterFunc(ctx, func() {
			select {
			case <-time.After(s.grace):
				stop()
			case <-working.Done():
			}
		})()
	}
	err = guarded(func() (err error) {
		member := memberOf(s.runner, f.Name)
		processed, err = s.runner.CatchUp(working, member, func(p system.Processed) {
			if s.observer.Progress != nil {
				s.observer.Progress(f, p)
			}
			if p.Position < p.Head {
				s.giveWay(ctx, f)
			}
			if ctx.Err() != nil {
				stop()
			}
		})
		return err
	})
	if err != nil && working.Err() != nil {
		err = ctx.Err() // it was interrupted
	}
	return processed, err
}

// giveWay lets others write between two batches.
func (s *synchronization) giveWay(ctx context.Context, f FollowerSync) {
	own, ok := StoreOf(s.runner, f.Name)
	if s.report.DryRun || !ok || yieldTime(own) == 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(yieldTime(own)):
	}
}

// PanicError is a panic outside of a handler, whose panics system reports.
type PanicError struct{ Value any }

func (e *PanicError) Error() string { return fmt.Sprintf("panicked: %v", e.Value) }

// Unwrap returns the panic's value if it was an error, and nil otherwise.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// guarded turns a panic into a *PanicError.
func guarded(fn func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &PanicError{value}
		}
	}()
	return fn()
}

func (s *synchronization) selected() {
	if s.observer.Selected != nil {
		s.observer.Selected(s.report)
	}
}

func (s *synchronization) begin(f FollowerSync) {
	if s.observer.Begin != nil {
		s.observer.Begin(f)
	}
}

func (s *synchronization) end(f FollowerSync) {
	s.report.Followers = append(s.report.Followers, f)
	if s.observer.End != nil {
		s.observer.End(f)
	}
}

// Joined returns the errors of a follower that has failed with several leaders
// or events, each by itself.
func Joined(err error) (all []error) {
	if reflect.TypeOf(err) != reflect.TypeOf(errors.Join(err)) {
		return []error{err}
	}
	for _, one := range err.(interface{ Unwrap() []error }).Unwrap() {
		all = append(all, Joined(one)...)
	}
	return all
}
