package persistence

import "time"

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
	// ends in the future, and not later than a lease can be long. One that ends
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
