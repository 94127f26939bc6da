package capability

import (
	"context"
	"time"
)

// WriterYielder is a Factory whose store has one writer at a time and no queue
// of those that wait, so that a caller that writes again and again can keep
// others out for ever.
type WriterYielder interface {
	// YieldTime is how long to wait between two long transactions, so that
	// others find the moment. It is 0 if they queue.
	YieldTime() time.Duration
}

// Listener is a Factory that learns at once of events which other processes
// record. Without one followers find them by polling, which they do all the
// same: a signal may be lost, and is never more than a reason to look.
type Listener interface {
	// Listen calls wake with the name of an application whenever events of it
	// may have been recorded, by this process or by another, until ctx ends;
	// with "" it means all applications, as after a connection was lost and
	// made again. It connects again by itself, and returns only when ctx has
	// ended or listening is not possible at all, with an ErrNotSupported if the
	// store has no way to listen. wake must return at once; it may be called
	// from several goroutines.
	Listen(ctx context.Context, wake func(application string)) error
}
