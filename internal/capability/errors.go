package capability

import (
	"fmt"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// class is an error that says more than its class.
type class struct {
	text   string
	parent error
}

func (c *class) Error() string { return c.text }

func (c *class) Unwrap() error { return c.parent }

// Errors of PartitionRecorder.
var (
	// ErrLeaseLost says that a process does not have the lease of a follower's
	// partition any more (ErrOperational): another process has taken it, or the
	// follower was reset or divided anew. Roll back what was done for it.
	ErrLeaseLost error = &class{"the lease of a partition was lost", persistence.ErrOperational}

	// ErrPartitionsDamaged says that the rows of a follower's partitions are
	// incomplete or do not fit together (ErrOperational): some were deleted or
	// edited, or a part of the database was restored. Restore them, or reset
	// the follower, which does not need them.
	ErrPartitionsDamaged error = &class{"the partitions of a follower are damaged", persistence.ErrOperational}
)

// PositionMoved is the error of a store if the position of a follower in the
// log of to.ApplicationName cannot move to this one, because it is at current.
func PositionMoved(follower string, to persistence.Tracking, current int64) error {
	hint := fmt.Sprintf("it is at %d already", current)
	if current < to.NotificationID {
		hint = fmt.Sprintf("another program has moved it to %d meanwhile", current)
	}
	op := fmt.Sprintf("%s: move the position in %s to %d", follower, to.ApplicationName, to.NotificationID)
	return &persistence.Error{Class: persistence.ErrPositionMoved, Op: op, Hint: hint}
}
