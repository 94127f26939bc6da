package operations

import (
	"context"
	"errors"
	"slices"

	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/inventory"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// tracking is the positions that a database has.
type tracking struct {
	store  store
	states []inventory.TrackingState
	// withoutStatuses is known of databases that Django made: no process can
	// have recorded there that it runs a follower.
	withoutStatuses bool
}

// Trackings reads the positions of all databases. Those without tables are
// left out, unless there is no other.
func Trackings(ctx context.Context, runner Runner) (all []tracking, err error) {
	var absent error
	for _, s := range storesOf(runner) {
		states, err := inventory.Of(s).TrackingStates(ctx)
		if err = located(ctx, s, err); isMigration(err) {
			absent = err
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, tracking{store: s, states: states})
	}
	if len(all) == 0 {
		return nil, absent
	}
	return all, nil
}

// of are the positions of one follower.
func (t tracking) of(follower string) tracking {
	return t.where(func(s inventory.TrackingState) bool { return s.ApplicationName == follower })
}

// from are the positions in some upstream applications.
func (t tracking) from(upstreams []string) tracking {
	return t.where(func(s inventory.TrackingState) bool { return slices.Contains(upstreams, s.UpstreamApplicationName) })
}

func (t tracking) where(wanted func(inventory.TrackingState) bool) tracking {
	states := slices.DeleteFunc(slices.Clone(t.states), func(s inventory.TrackingState) bool { return !wanted(s) })
	return tracking{store: t.store, states: states}
}

// UpstreamsOf returns the upstream applications of positions, sorted.
func UpstreamsOf(trackings []tracking) (names []string) {
	for _, t := range trackings {
		for _, state := range t.states {
			names = append(names, state.UpstreamApplicationName)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Unreachable says that the number of events in a log is unknown.
const Unreachable = -1

// count is how many events will be replayed, or Unreachable.
func (r *Reset) count(ctx context.Context) (total int64, err error) {
	for _, target := range r.targets {
		for _, state := range target.states {
			n, err := r.countOne(ctx, target.store, state)
			if err != nil || n == Unreachable {
				return Unreachable, err
			}
			total += n
		}
	}
	return total, nil
}

// countOne asks the upstream application if it can be reached. Otherwise it
// looks whether its events are in the follower's database, or counts the rows,
// of which Django made one for each notification.
func (r *Reset) countOne(ctx context.Context, own store, state inventory.TrackingState) (int64, error) {
	if n, err := r.countLeader(ctx, state); n != Unreachable && err == nil {
		return n, nil
	}
	n, err := inventory.Of(own).CountNotifications(ctx, state.UpstreamApplicationName, state.Position)
	switch {
	case err != nil || n > 0:
		return n, err
	case state.Rows > 1:
		return state.Rows, nil
	}
	return Unreachable, nil
}

// countLeader counts in the log of the upstream application, or is Unreachable
// if that is not in this program.
func (r *Reset) countLeader(ctx context.Context, state inventory.TrackingState) (int64, error) {
	upstream := state.UpstreamApplicationName
	if leader, ok := StoreOf(r.runner, upstream); ok {
		return inventory.Of(leader).CountNotifications(ctx, upstream, state.Position)
	}
	if r.runner != nil {
		if app, ok := ApplicationOf(r.runner, upstream); ok {
			return countPages(ctx, app.Recorder(), state.Position)
		}
	}
	return Unreachable, nil
}

// countPages counts by reading, for stores that cannot count.
func countPages(ctx context.Context, r persistence.ApplicationRecorder, upTo int64) (total int64, err error) {
	wanted := persistence.NotificationRange{Stop: upTo, Limit: persistence.MaxPage}
	for upTo > 0 {
		page, err := r.SelectNotifications(ctx, wanted)
		total += int64(len(page))
		if err != nil || len(page) < wanted.Limit {
			return total, errors.Join(err, ctx.Err())
		}
		wanted.After = page[len(page)-1].ID
	}
	return total, nil
}
