package capability

import (
	"context"
	"time"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// LongestLease is how long a lease of a partition can be.
const LongestLease = 10 * time.Minute

// LeaseAction is what becomes of a lease.
type LeaseAction int

// The actions of a LeaseChange.
const (
	// TakeLease takes a lease that is not in force.
	TakeLease LeaseAction = iota
	// RequestLease asks the owner for a lease that is in force.
	RequestLease
	// HandOverLease gives an own lease to the process that has asked for it.
	HandOverLease
	// ReleaseLease ends an own lease.
	ReleaseLease
)

// LeaseChange changes the lease of a partition. It is left out without an error
// if the lease has another fence by now, or is not as the action needs it.
type LeaseChange struct {
	Number int
	Fence  int64
	Action LeaseAction
}

// PartitionLease is a lease that a process has, and the position from which it
// has processed events.
type PartitionLease struct {
	Number   int
	Fence    int64
	Position int64
}

// PartitionRecorder is a RevisionRecorder that keeps positions of the
// partitions of its application as a follower, so that several processes can
// process one log at the same time.
//
// While a log is divided, MaxTrackingID, LockPosition and the methods for
// settings return the lowest position of all partitions, and FollowerSettings
// the number of partitions. A program that does not know of partitions finds a
// position that is above every event, and cannot move it.
type PartitionRecorder interface {
	RevisionRecorder

	// Partitions returns how the log of an upstream application is divided. The
	// set is empty if it is not. It returns ErrPartitionsDamaged, as all methods
	// do that read partitions or the position, if partitions are missing.
	Partitions(ctx context.Context, upstream string) (persistence.PartitionSet, error)

	// Divide divides the log into a number of partitions, each of which begins
	// at the present position, or for a count of 0 makes it whole. Partitions
	// that exist are replaced, and their leases end; they must all have the
	// same position, or else it returns an ErrProgramming. It needs a
	// transaction in ctx, and takes the lock of LockPosition.
	Divide(ctx context.Context, upstream, key string, count int) error

	// RenewLeases has those leases of a process which are among numbers end
	// after duration from now, by the store's clock, and returns the set.
	RenewLeases(
		ctx context.Context, upstream, process string, numbers []int, duration time.Duration,
	) (persistence.PartitionSet, error)

	// ChangeLeases changes leases for a process, and returns the set as it is
	// afterwards. What it takes or hands over ends after duration, which is at
	// most LongestLease.
	ChangeLeases(
		ctx context.Context, upstream, process string, changes []LeaseChange, duration time.Duration,
	) (persistence.PartitionSet, error)

	// NotePartition keeps what a partition that the process has leased has
	// failed with; Error is "" if it has recovered. It uses the fields Number,
	// Fence, Error, NotificationID and Since of failure.
	NotePartition(ctx context.Context, upstream, process string, failure persistence.Partition) error

	// LockPartitions is LockSettingsRevision for a process that processes some
	// of the partitions. It shares the lock with others of its kind, and
	// excludes all other users of the lock.
	LockPartitions(
		ctx context.Context, upstream string, wait time.Duration,
	) (settings *FollowerSettings, revision int64, err error)

	// MovePartitions moves the partitions that a process has leased from their
	// positions to a later one, all or none. It returns ErrLeaseLost if one of
	// the leases has another fence by now, or its partition another position;
	// that a lease is not in force any more does not matter. It needs a
	// transaction in ctx.
	MovePartitions(ctx context.Context, upstream, process string, leases []PartitionLease, to int64) error
}
