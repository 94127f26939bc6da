package capability

import (
	"context"
	"iter"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// HistoryReader is an ApplicationRecorder whose store reads an originator's
// newest snapshot and its events at once, so that a load is one round trip.
type HistoryReader interface {
	// SelectHistory returns an originator's newest snapshot, or nil if it has
	// none, and a stream of its events from the version of that snapshot on, or
	// from the first one. Before is the version before which both end; 0 means
	// no end. A snapshot whose event is not stored is returned all the same:
	// the caller finds another event at the beginning of the stream, or none.
	//
	// The snapshot and the first events of the stream are already read when
	// SelectHistory returns. The stream is otherwise like that of SelectEvents.
	SelectHistory(ctx context.Context, originatorID uuid.UUID, before int64) (
		snapshot *persistence.StoredEvent, events iter.Seq2[persistence.StoredEvent, error], err error)
}

// LogHoldReader is an ApplicationRecorder whose writers run at the same time,
// so that a transaction which stays open keeps readers from newer events.
type LogHoldReader interface {
	// LogHold returns what keeps readers from the newest events of the log, or
	// nil. Under load that is usually a transaction which ends soon; see its Since.
	// If this process has found the whole log readable within the time recent,
	// LogHold returns nil without a query.
	LogHold(ctx context.Context, recent time.Duration) (*persistence.LogHold, error)
}

// LogLocker is an ApplicationRecorder that can keep other writers from its log.
// A follower that has met a save of another writer uses it before it reads what
// it will change, so that no other save comes between.
type LogLocker interface {
	// LockLog waits until no other transaction writes to the log, and keeps
	// other writers out until the transaction in ctx ends. They can still read.
	// It returns ErrLockTimeout if the wait takes too long, and
	// ErrNoTransaction if ctx carries no transaction of the store.
	//
	// Locks are taken in the same order everywhere, positions before logs.
	LockLog(ctx context.Context) error
}

// OrderReporter is an ApplicationRecorder that knows in which order the events
// of its transactions become visible.
type OrderReporter interface {
	// StrictOrder reports whether transactions in which this recorder saves
	// exclude other writers of the log, so that ids become visible in ascending
	// order to every program. It says nothing of the writers of other programs.
	StrictOrder() bool
}

// OriginatorDeleter is a ProcessRecorder that can delete one originator, such
// as for a person who has the right to be forgotten. Nothing else deletes
// events.
type OriginatorDeleter interface {
	// DeleteOriginator deletes the events and snapshots of an originator of the
	// recorder's application, and what followers have parked of its events. It
	// does all of that or nothing, and takes part in the transaction that ctx
	// carries. Deleting an unknown originator is a success that counts nothing.
	//
	// Notification ids are not used again, so the log has gaps. A follower in
	// the same store whose position would be ahead of the log afterwards gets
	// the log's end as its position. The originator may be saved again,
	// beginning with its first version.
	DeleteOriginator(ctx context.Context, originatorID uuid.UUID) (persistence.DeletedOriginator, error)
}
