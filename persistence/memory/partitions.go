package memory

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// divisionOf returns the partitions of a follower, which the caller does not
// change, or nil if it is whole.
func (d *data) divisionOf(key position) *persistence.PartitionSet {
	for ; d != nil; d = d.base {
		if set, ok := d.divisions[key]; ok {
			return set
		}
	}
	return nil
}

// divisionsIn returns the partitions of all followers of a log that are
// divided.
func (d *data) divisionsIn(upstream string) map[position]*persistence.PartitionSet {
	found := map[position]*persistence.PartitionSet{}
	for ; d != nil; d = d.base {
		for key, set := range d.divisions {
			if _, known := found[key]; !known && key.upstream == upstream {
				found[key] = set
			}
		}
	}
	maps.DeleteFunc(found, func(_ position, set *persistence.PartitionSet) bool { return set == nil })
	return found
}

// ownSet returns a copy of a set at this time, or the empty set.
func ownSet(set *persistence.PartitionSet) (own persistence.PartitionSet) {
	if set == nil {
		return own
	}
	own = persistence.PartitionSet{Key: set.Key, Partitions: slices.Clone(set.Partitions)}
	for i := range own.Partitions {
		p := &own.Partitions[i]
		now := time.Now()
		p.Leased = p.Owner != "" && now.Before(p.Until) && !p.Until.After(now.Add(capability.LongestLease))
	}
	return own
}

// Partitions implements capability.PartitionRecorder.
func (r *processRecorder) Partitions(ctx context.Context, upstream string) (set persistence.PartitionSet, err error) {
	err = r.store.read(ctx, r.application, "read partitions", func(d *data) {
		set = ownSet(d.divisionOf(position{r.application, upstream}))
	})
	return set, err
}

// Divide implements capability.PartitionRecorder. A fence is the time in
// nanoseconds at first, so that it is above those of partitions that were
// deleted.
func (r *processRecorder) Divide(ctx context.Context, upstream, key string, count int) error {
	const op = "divide a follower"
	if err := r.needTransaction(ctx, op); err != nil {
		return err
	}
	return r.store.write(ctx, r.application, op, func(d *data) error {
		at := position{r.application, upstream}
		before := ownSet(d.divisionOf(at)).Partitions
		fence := time.Now().UnixNano()
		for _, p := range before {
			fence = max(fence, p.Fence+1)
			if p.Position != before[0].Position {
				return &persistence.Error{Class: persistence.ErrProgramming, Op: r.application + ": " + op,
					Err: fmt.Errorf("its partitions of %s have the positions %d and %d, and must all have the same one",
						upstream, before[0].Position, p.Position)}
			}
		}
		current := d.positionOf(at)
		d.divisions[at] = nil
		if count == 0 {
			d.positions[at] = current
			return nil
		}
		set := &persistence.PartitionSet{Key: key}
		for number := range count {
			set.Partitions = append(set.Partitions, persistence.Partition{Number: number, Position: current, Fence: fence})
		}
		d.divisions[at] = set
		return nil
	})
}

// change changes the partitions of a follower, and returns them.
func (r *processRecorder) change(
	ctx context.Context, op, upstream string, change func(set persistence.PartitionSet) error,
) (set persistence.PartitionSet, err error) {
	err = r.store.write(ctx, r.application, op, func(d *data) error {
		at := position{r.application, upstream}
		set = ownSet(d.divisionOf(at))
		if err := change(set); err != nil || len(set.Partitions) == 0 {
			return err
		}
		d.divisions[at] = &persistence.PartitionSet{Key: set.Key, Partitions: slices.Clone(set.Partitions)}
		set = ownSet(d.divisions[at])
		return nil
	})
	return set, err
}

// RenewLeases implements capability.PartitionRecorder.
func (r *processRecorder) RenewLeases(
	ctx context.Context, upstream, process string, numbers []int, duration time.Duration,
) (persistence.PartitionSet, error) {
	return r.change(ctx, "renew the leases of partitions", upstream, func(set persistence.PartitionSet) error {
		for i := range set.Partitions {
			if p := &set.Partitions[i]; p.Owner == process && slices.Contains(numbers, p.Number) {
				p.Until = time.Now().UTC().Add(duration)
			}
		}
		return nil
	})
}

// ChangeLeases implements capability.PartitionRecorder.
func (r *processRecorder) ChangeLeases(
	ctx context.Context, upstream, process string, changes []capability.LeaseChange, duration time.Duration,
) (persistence.PartitionSet, error) {
	const op = "change the leases of partitions"
	return r.change(ctx, op, upstream, func(set persistence.PartitionSet) error {
		for _, change := range changes {
			i := slices.IndexFunc(set.Partitions, func(p persistence.Partition) bool {
				return p.Number == change.Number && p.Fence == change.Fence
			})
			if change.Action < capability.TakeLease || change.Action > capability.ReleaseLease {
				return &persistence.Error{Class: persistence.ErrProgramming, Op: r.application + ": " + op,
					Err: fmt.Errorf("there is no action %d", change.Action)}
			}
			if i >= 0 {
				changeLease(&set.Partitions[i], process, change.Action, time.Now().UTC(), duration)
			}
		}
		return nil
	})
}

// changeLease changes a lease if it is as the action needs it.
func changeLease(p *persistence.Partition, process string, action capability.LeaseAction, now time.Time, duration time.Duration) {
	isOwn := p.Owner == process
	switch {
	case action == capability.TakeLease && !p.Leased:
		p.Owner, p.Successor, p.Until = process, "", now.Add(duration)
	case action == capability.RequestLease && p.Leased && !isOwn:
		p.Successor = process
		return
	case action == capability.HandOverLease && isOwn && p.Successor != "":
		p.Owner, p.Successor, p.Until = p.Successor, "", now.Add(duration)
	case action == capability.ReleaseLease && isOwn:
		p.Owner, p.Successor, p.Until = "", "", now
	default:
		return
	}
	p.Fence++
	p.Leased = p.Owner != ""
}

// NotePartition implements capability.PartitionRecorder.
func (r *processRecorder) NotePartition(ctx context.Context, upstream, process string, failure persistence.Partition) error {
	_, err := r.change(ctx, "note the failure of a partition", upstream, func(set persistence.PartitionSet) error {
		for i := range set.Partitions {
			if p := &set.Partitions[i]; p.Number == failure.Number && p.Fence == failure.Fence && p.Owner == process {
				p.Error, p.NotificationID, p.Since = failure.Error, failure.NotificationID, failure.Since
			}
		}
		return nil
	})
	return err
}

// LockPartitions implements capability.PartitionRecorder. A transaction is the
// only writer, so nothing is shared.
func (r *processRecorder) LockPartitions(
	ctx context.Context, upstream string, wait time.Duration,
) (settings *capability.FollowerSettings, revision int64, err error) {
	_, settings, revision, err = r.LockSettingsRevision(ctx, upstream, wait)
	return settings, revision, err
}

// MovePartitions implements capability.PartitionRecorder.
func (r *processRecorder) MovePartitions(
	ctx context.Context, upstream, process string, leases []capability.PartitionLease, to int64,
) error {
	const op = "move partitions"
	if err := r.needTransaction(ctx, op); err != nil {
		return err
	}
	_, err := r.change(ctx, op, upstream, func(set persistence.PartitionSet) error {
		for _, lease := range leases {
			i := slices.IndexFunc(set.Partitions, func(p persistence.Partition) bool {
				return p.Number == lease.Number && p.Fence == lease.Fence && p.Position == lease.Position && p.Owner == process
			})
			if i < 0 {
				return &persistence.Error{Class: capability.ErrLeaseLost, Op: r.application + ": " + op + " in " + upstream,
					Err: errors.New("nothing was moved")}
			}
			set.Partitions[i].Position = to
		}
		return nil
	})
	return err
}
