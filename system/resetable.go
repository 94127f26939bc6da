package system

import "context"

// A follower that is reset forgets which events it has processed, and processes all of them again. Whether that is right
// only its author can say, by one of these two interfaces. A follower with neither can only be reset by force.

// StatelessFollower is a Follower whose policy may be called again with events that it was called with before, because it
// keeps nothing that would change by it.
type StatelessFollower interface {
	Follower

	// StatelessPolicy does nothing. To have the method is the declaration.
	StatelessPolicy()
}

// ResetableFollower is a Follower that can forget what it has made of the events of its leaders, so that processing them
// again makes the same of them.
type ResetableFollower interface {
	Follower

	// ResetState clears what was made of the events of these leaders. It is called in the transaction in which their
	// positions are reset: rows of its own tables it deletes through gormstore.Tx(ctx), its own events through
	// DeleteEvents of its gormstore.Store. Where it returns an error nothing is reset; a follower that cannot tell the
	// leaders apart refuses so to be reset for some of them only.
	ResetState(ctx context.Context, leaders []string) error
}
