package persistence

import "context"

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
