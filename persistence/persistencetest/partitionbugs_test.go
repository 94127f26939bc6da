package persistencetest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

// memoryRecorder is what the memory store's recorder can do.
type memoryRecorder interface {
	persistence.ProcessRecorder
	capability.PartitionRecorder
	capability.OriginatorDeleter
}

// spoiltPartitions is a recorder with a bug of partitions.
type spoiltPartitions struct {
	memoryRecorder
	bug partitionBug
}

// partitionBug is a mistake in one method.
type partitionBug struct {
	name   string
	divide func(r memoryRecorder, ctx context.Context, upstream, key string, count int) error
	renew  func(r memoryRecorder, ctx context.Context, upstream, process string, numbers []int, d time.Duration) (persistence.PartitionSet, error)
	change func(r memoryRecorder, ctx context.Context, upstream, process string, changes []capability.LeaseChange, d time.Duration) (persistence.PartitionSet, error)
	move   func(r memoryRecorder, ctx context.Context, upstream, process string, leases []capability.PartitionLease, to int64) error
	note   func(r memoryRecorder, ctx context.Context, upstream, process string, failure persistence.Partition) error
	max    func(r memoryRecorder, ctx context.Context, upstream string) (int64, error)
}

func (r *spoiltPartitions) Divide(ctx context.Context, upstream, key string, count int) error {
	if r.bug.divide != nil {
		return r.bug.divide(r.memoryRecorder, ctx, upstream, key, count)
	}
	return r.memoryRecorder.Divide(ctx, upstream, key, count)
}

func (r *spoiltPartitions) RenewLeases(
	ctx context.Context, upstream, process string, numbers []int, d time.Duration,
) (persistence.PartitionSet, error) {
	if r.bug.renew != nil {
		return r.bug.renew(r.memoryRecorder, ctx, upstream, process, numbers, d)
	}
	return r.memoryRecorder.RenewLeases(ctx, upstream, process, numbers, d)
}

func (r *spoiltPartitions) ChangeLeases(
	ctx context.Context, upstream, process string, changes []capability.LeaseChange, d time.Duration,
) (persistence.PartitionSet, error) {
	if r.bug.change != nil {
		return r.bug.change(r.memoryRecorder, ctx, upstream, process, changes, d)
	}
	return r.memoryRecorder.ChangeLeases(ctx, upstream, process, changes, d)
}

func (r *spoiltPartitions) MovePartitions(
	ctx context.Context, upstream, process string, leases []capability.PartitionLease, to int64,
) error {
	if r.bug.move != nil {
		return r.bug.move(r.memoryRecorder, ctx, upstream, process, leases, to)
	}
	return r.memoryRecorder.MovePartitions(ctx, upstream, process, leases, to)
}

func (r *spoiltPartitions) NotePartition(ctx context.Context, upstream, process string, failure persistence.Partition) error {
	if r.bug.note != nil {
		return r.bug.note(r.memoryRecorder, ctx, upstream, process, failure)
	}
	return r.memoryRecorder.NotePartition(ctx, upstream, process, failure)
}

func (r *spoiltPartitions) MaxTrackingID(ctx context.Context, upstream string) (int64, error) {
	if r.bug.max != nil {
		return r.bug.max(r.memoryRecorder, ctx, upstream)
	}
	return r.memoryRecorder.MaxTrackingID(ctx, upstream)
}

// refreshed gives leases the fences and positions that are stored, so that
// nothing is compared.
func refreshed(r memoryRecorder, ctx context.Context, upstream string, leases []capability.PartitionLease, fence, position bool) []capability.PartitionLease {
	set, err := r.Partitions(ctx, upstream)
	if err != nil {
		return leases
	}
	fresh := append([]capability.PartitionLease(nil), leases...)
	for i := range fresh {
		stored := set.Partitions[fresh[i].Number]
		if fence {
			fresh[i].Fence = stored.Fence
		}
		if position {
			fresh[i].Position = stored.Position
		}
	}
	return fresh
}

// owner is who has the lease of a partition.
func owner(r memoryRecorder, ctx context.Context, upstream string, number int) string {
	set, err := r.Partitions(ctx, upstream)
	if err != nil || len(set.Partitions) == 0 {
		return ""
	}
	return set.Partitions[number].Owner
}

var partitionBugs = []partitionBug{
	{name: "the fence is not compared", move: func(
		r memoryRecorder, ctx context.Context, upstream, _ string, leases []capability.PartitionLease, to int64,
	) error {
		for _, lease := range refreshed(r, ctx, upstream, leases, true, false) {
			err := r.MovePartitions(ctx, upstream, owner(r, ctx, upstream, lease.Number), []capability.PartitionLease{lease}, to)
			if err != nil {
				return err
			}
		}
		return nil
	}},
	{name: "the position is not compared", move: func(
		r memoryRecorder, ctx context.Context, upstream, process string, leases []capability.PartitionLease, to int64,
	) error {
		return r.MovePartitions(ctx, upstream, process, refreshed(r, ctx, upstream, leases, false, true), to)
	}},
	{name: "the owner is not compared", move: func(
		r memoryRecorder, ctx context.Context, upstream, process string, leases []capability.PartitionLease, to int64,
	) error {
		return r.MovePartitions(ctx, upstream, owner(r, ctx, upstream, leases[0].Number), leases, to)
	}},
	{name: "a lease that was lost is left out", move: func(
		r memoryRecorder, ctx context.Context, upstream, process string, leases []capability.PartitionLease, to int64,
	) error {
		for _, lease := range leases {
			err := r.MovePartitions(ctx, upstream, process, []capability.PartitionLease{lease}, to)
			if err != nil && !errors.Is(err, capability.ErrLeaseLost) {
				return err
			}
		}
		return nil
	}},
	{name: "a lease that has ended does not move", move: func(
		r memoryRecorder, ctx context.Context, upstream, process string, leases []capability.PartitionLease, to int64,
	) error {
		set, err := r.Partitions(ctx, upstream)
		if err == nil && !set.Partitions[leases[0].Number].Leased {
			return capability.ErrLeaseLost
		}
		return r.MovePartitions(ctx, upstream, process, leases, to)
	}},
	{name: "a lease in force is taken", change: func(
		r memoryRecorder, ctx context.Context, upstream, process string, changes []capability.LeaseChange, d time.Duration,
	) (persistence.PartitionSet, error) {
		for _, c := range changes {
			if c.Action == capability.TakeLease {
				set, _ := r.ChangeLeases(ctx, upstream, owner(r, ctx, upstream, c.Number),
					[]capability.LeaseChange{{Number: c.Number, Fence: c.Fence, Action: capability.ReleaseLease}}, d)
				c.Fence = set.Partitions[c.Number].Fence
			}
			if set, err := r.ChangeLeases(ctx, upstream, process, []capability.LeaseChange{c}, d); err != nil {
				return set, err
			}
		}
		return r.Partitions(ctx, upstream)
	}},
	{name: "a fence that is out of date changes a lease", change: func(
		r memoryRecorder, ctx context.Context, upstream, process string, changes []capability.LeaseChange, d time.Duration,
	) (persistence.PartitionSet, error) {
		set, err := r.Partitions(ctx, upstream)
		if err != nil {
			return set, err
		}
		for _, c := range changes {
			c.Fence = set.Partitions[c.Number].Fence
			if c.Action == capability.ReleaseLease {
				process = set.Partitions[c.Number].Owner
			}
			if _, err := r.ChangeLeases(ctx, upstream, process, []capability.LeaseChange{c}, d); err != nil {
				return set, err
			}
		}
		return r.Partitions(ctx, upstream)
	}},
	{name: "a lease that ends too late is in force", change: func(
		r memoryRecorder, ctx context.Context, upstream, process string, changes []capability.LeaseChange, d time.Duration,
	) (persistence.PartitionSet, error) {
		return r.ChangeLeases(ctx, upstream, process, changes, min(d, capability.LongestLease))
	}},
	{name: "a lease is released instead of handed over", change: func(
		r memoryRecorder, ctx context.Context, upstream, process string, changes []capability.LeaseChange, d time.Duration,
	) (persistence.PartitionSet, error) {
		for i := range changes {
			if changes[i].Action == capability.HandOverLease {
				changes[i].Action = capability.ReleaseLease
			}
		}
		return r.ChangeLeases(ctx, upstream, process, changes, d)
	}},
	{name: "all leases of a process are renewed", renew: func(
		r memoryRecorder, ctx context.Context, upstream, process string, _ []int, d time.Duration,
	) (persistence.PartitionSet, error) {
		set, err := r.Partitions(ctx, upstream)
		if err != nil {
			return set, err
		}
		var all []int
		for _, p := range set.Partitions {
			all = append(all, p.Number)
		}
		return r.RenewLeases(ctx, upstream, process, all, d)
	}},
	{name: "leases of others are renewed", renew: func(
		r memoryRecorder, ctx context.Context, upstream, _ string, numbers []int, d time.Duration,
	) (persistence.PartitionSet, error) {
		for _, number := range numbers {
			if set, err := r.RenewLeases(ctx, upstream, owner(r, ctx, upstream, number), []int{number}, d); err != nil {
				return set, err
			}
		}
		return r.Partitions(ctx, upstream)
	}},
	{name: "partitions at different positions are divided", divide: func(
		r memoryRecorder, ctx context.Context, upstream, key string, count int,
	) error {
		err := r.Divide(ctx, upstream, key, count)
		if errors.Is(err, persistence.ErrProgramming) && !errors.Is(err, persistence.ErrNoTransaction) {
			return nil
		}
		return err
	}},
	{name: "the key is forgotten", divide: func(r memoryRecorder, ctx context.Context, upstream, _ string, count int) error {
		return r.Divide(ctx, upstream, "", count)
	}},
	{name: "a follower is divided in all logs", divide: func(r memoryRecorder, ctx context.Context, upstream, key string, count int) error {
		return errors.Join(r.Divide(ctx, upstream, key, count), r.Divide(ctx, shelters, key, count))
	}},
	{name: "any process notes a failure", note: func(
		r memoryRecorder, ctx context.Context, upstream, _ string, failure persistence.Partition,
	) error {
		return r.NotePartition(ctx, upstream, owner(r, ctx, upstream, failure.Number), failure)
	}},
	{name: "a failure is not kept", note: func(memoryRecorder, context.Context, string, string, persistence.Partition) error {
		return nil
	}},
	{name: "the position is the highest of all partitions", max: func(r memoryRecorder, ctx context.Context, upstream string) (int64, error) {
		position, err := r.MaxTrackingID(ctx, upstream)
		set, failed := r.Partitions(ctx, upstream)
		for _, p := range set.Partitions {
			position = max(position, p.Position)
		}
		return position, errors.Join(err, failed)
	}},
}

// partitionStore is the memory store with a bug.
type partitionStore struct {
	*memory.Store
	bug partitionBug
}

func (s partitionStore) ProcessRecorder(application string) (persistence.ProcessRecorder, error) {
	r, err := s.Store.ProcessRecorder(application)
	if err != nil {
		return nil, err
	}
	return &spoiltPartitions{r.(memoryRecorder), s.bug}, nil
}

// Each bug of partitions fails a row, and without one none fails.
func TestSeededBugsOfPartitions(t *testing.T) {
	for _, b := range append(partitionBugs, partitionBug{name: "none"}) {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			h := Harness{
				New: func(testing.TB) persistence.Factory { return partitionStore{memory.New(), b} },
				Transaction: func(ctx context.Context, f persistence.Factory, fn func(context.Context) error) error {
					return f.(partitionStore).Transaction(ctx, fn)
				},
			}
			var caught []string
			rows, _ := divide(h)
			for _, r := range rows {
				if r.group == "partitions" && record(t, func(t testing.TB) { r.exercise(t, h) }).Failed() {
					caught = append(caught, r.fullName())
				}
			}
			if (len(caught) > 0) != (b.name != "none") {
				t.Fatalf("caught by %q, want some exactly if there is a bug", caught)
			}
			t.Logf("caught by:\n\t%s", strings.Join(caught, "\n\t"))
		})
	}
}
