package persistence

import (
	"context"
	"time"
)

// Partition is a part of what a follower processes of the log of one upstream
// application: the events whose originators, or whose keys, have the same hash.
// One process at a time has its lease, and moves its position.
type Partition struct {
	// Number is its number, from 0.
	Number int
	// Position is up to which id its events are processed.
	Position int64
	// Fence is the token of the present lease. Each lease of the partition has
	// a higher one than those before.
	Fence int64
	// Owner names the process that has the lease, or is "". Successor names the
	// process that has asked for it, or is "".
	Owner     string
	Successor string
	// Leased reports whether the lease is in force by the store's clock: it
	// ends in the future, and not later than in LongestLease. One that ends
	// later was taken before the clock was set back, and its owner may be dead.
	// Until is when it ends or has ended, by the clock of the process that
	// reads it, and zero if the partition was never leased.
	Leased bool
	Until  time.Time
	// Error is what the partition has failed with and not recovered from, or
	// "". NotificationID is the event at which it failed, and Since when it
	// began to, in UTC.
	Error          string
	NotificationID int64
	Since          time.Time
}

// PartitionSet says how a follower's work in one log is divided.
type PartitionSet struct {
	// Key names what events are divided by. "" is their originator.
	Key string
	// Partitions are all partitions in the order of their numbers, or none if
	// the work is not divided.
	Partitions []Partition
}

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
	Partitions(ctx context.Context, upstream string) (PartitionSet, error)

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
	) (PartitionSet, error)

	// ChangeLeases changes leases for a process, and returns the set as it is
	// afterwards. What it takes or hands over ends after duration, which is at
	// most LongestLease.
	ChangeLeases(
		ctx context.Context, upstream, process string, changes []LeaseChange, duration time.Duration,
	) (PartitionSet, error)

	// NotePartition keeps what a partition that the process has leased has
	// failed with; Error is "" if it has recovered. It uses the fields Number,
	// Fence, Error, NotificationID and Since of failure.
	NotePartition(ctx context.Context, upstream, process string, failure Partition) error

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
