package capability

import (
	"context"
	"time"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Store is what a store can do beside what persistence.Factory asks of it. A
// field is nil or false if it cannot. Recorder has what its recorders can do.
type Store struct {
	Statuses   StatusRecorder
	Classifier ErrorClassifier
	Listener   Listener
	Yielder    WriterYielder
	Positions  PositionDeleter
	Python     PythonFactory
	Volatile   Volatile
}

// Provider is what a store embeds so that Of finds what it can do. An alias
// with an unexported name keeps that from the store's users:
//
//	type capabilities = capability.Provider
//
//	type Store struct {
//		capabilities
//		…
//	}
type Provider struct{ store Store }

// Provide makes the Provider of a store.
func Provide(store Store) Provider { return Provider{store} }

func (p Provider) capabilities() Store { return p.store }

// Of returns what a store can do, also one that embeds another one. It is
// nothing for stores of other modules.
func Of(store any) Store {
	if p, ok := store.(interface{ capabilities() Store }); ok {
		return p.capabilities()
	}
	return Store{}
}

// Volatile says of a store that its events are lost when the process ends.
type Volatile bool

// ErrorClassifier recognises failures of a store's database in errors of
// others, such as those of statements that a handler sends through its
// transaction: they say nothing about the event that was processed.
type ErrorClassifier interface {
	// Classify returns the class of an error of the database, such as
	// ErrRetryTransaction, or nil for other errors, and whether the same
	// transaction may succeed if it is tried again.
	Classify(err error) (class error, retryable bool)
}

// WriterYielder is for a store that has one writer at a time and no queue of
// those that wait, so that a caller that writes again and again can keep others
// out for ever.
type WriterYielder interface {
	// YieldTime is how long to wait between two long transactions, so that
	// other writers can begin theirs, or 0 if the store queues writers.
	YieldTime() time.Duration
}

// Listener learns at once of events which other processes record. Without one
// followers find them by polling, which they do all the same: a signal may be
// lost, and is never more than a reason to look. Listeners are comparable: two
// that are equal hear the same.
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

// PositionDeleter resets positions of followers.
type PositionDeleter interface {
	// DeleteTracking deletes the position of a follower in the log of an
	// upstream application, and returns how many rows that were. ctx must carry
	// a transaction of a store that has such; otherwise it returns
	// ErrNoTransaction. It takes the lock of the position: a follower that is
	// at a batch finishes it first, and the next batch begins at the start of
	// the log. The status of the follower with regard to this log is deleted,
	// too, and what is known of the topics that it has processed. A follower
	// that is paused stays so.
	DeleteTracking(ctx context.Context, follower, upstream string) (rows int64, err error)
}

// PythonFactory is for a store whose database the Python library can use at the
// same time.
type PythonFactory interface {
	// PythonProcessRecorder makes a recorder as ProcessRecorder does, for an
	// application that the Python library runs as well. Its writes exclude
	// those of all applications in the database, because that library reads
	// events by their ids alone, and it keeps positions as that library does.
	PythonProcessRecorder(application string) (persistence.ProcessRecorder, error)
}
