// Package telemetry lets a program see what applications, stores and followers
// do: how long a save took and waited, how many events a load replayed, how far
// a follower is.
//
// An Observer is a struct of functions, each of which may be nil. Give it to an
// application with application.WithObserver. A follower reports to the observer
// of the application that it belongs to. The modules contrib/otel and contrib/prometheus make
// observers for OpenTelemetry and Prometheus; an application can have several.
//
//	observer := &telemetry.Observer{
//		SaveDone: func(ctx context.Context, s telemetry.Save) {
//			saveSeconds.Observe(s.Duration.Seconds())
//		},
//	}
//	app, err := application.New("Bank", application.WithObserver(observer))
package telemetry

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Observer is told what an application and its followers do. Every function may
// be nil, and a nil function costs nothing: no time is taken for it and nothing
// is allocated. The functions must be safe for concurrent use and return soon,
// because the caller waits for them. They must not save or load. If one panics,
// the application logs that and goes on as if the function was nil.
//
// No value that an Observer gets has a payload or a key. Errors have the texts
// that callers get.
type Observer struct {
	// SaveStart is called before events are saved. It returns the context for
	// the rest of the save, such as one with a span. Duration and Err of the
	// Save are zero.
	SaveStart func(ctx context.Context, s Save) context.Context
	// Metadata returns what to add to the metadata of every event of a save. It
	// gets the context that SaveStart has returned. Metadata of the event
	// itself and of application.WithMetadata are not replaced. The Python
	// library's layout has no metadata, and does not keep these either.
	Metadata func(ctx context.Context) domain.Metadata
	// SaveDone is called after a save, with the context that SaveStart has
	// returned. A save of nothing is not reported.
	SaveDone func(ctx context.Context, s Save)

	// LoadStart is called before Repository.Get and GetAt load an aggregate,
	// and LoadDone after it. Both work as those of saves do.
	LoadStart func(ctx context.Context, l Load) context.Context
	LoadDone  func(ctx context.Context, l Load)

	// SnapshotDone is called after a snapshot was taken or could not be taken.
	SnapshotDone func(ctx context.Context, s Snapshot)

	// BatchStart is called after a follower has read a batch and before it
	// processes it, and BatchDone after that. A poll that finds nothing is
	// reported, as an empty batch, only if the batch before has left a lag:
	// another process has processed the rest.
	BatchStart func(ctx context.Context, b Batch) context.Context
	BatchDone  func(ctx context.Context, b Batch)

	// HandleStart is called before a follower's handlers get an event, with the
	// context of the batch, or of the caller if a parked event is retried.
	// HandleDone is called after they have returned. Handlers get the context
	// that HandleStart returns. A batch that fails is rolled back, and its
	// events are handled again.
	HandleStart func(ctx context.Context, h Handle) context.Context
	HandleDone  func(ctx context.Context, h Handle)

	// CallStart is called before the call of a system.Effect is made, with the
	// context of the batch, and CallDone after it. The call gets the context
	// that CallStart returns. That its result is recorded is reported as the
	// handling of the event.
	CallStart func(ctx context.Context, h Handle) context.Context
	CallDone  func(ctx context.Context, h Handle)

	// FollowerChanged is called if a follower of a runner fails, recovers, is
	// paused or resumed, stands by or takes over, starts or stops.
	FollowerChanged func(ctx context.Context, c Change)
	// EventParked is called after a follower has parked an event because it
	// failed. Later events of the same originator, which are parked with it,
	// count in Batch.Parked.
	EventParked func(ctx context.Context, p Parked)
}

// Save describes a save of an application, to SaveStart and SaveDone.
type Save struct {
	Application string
	// Originators are the aggregates whose events are saved, each once, in the
	// order of the save.
	Originators []uuid.UUID
	// Events is how many events are saved.
	Events int
	// InTransaction reports whether the save is part of the caller's
	// transaction. Its events then commit, or do not, with the transaction,
	// which is not reported.
	InTransaction bool

	Start    time.Time
	Duration time.Duration
	// Wait is how long the save waited for other saves of this process to the
	// same log, and Write how long its statement then took, with the wait for
	// locks in the database and the commit. Together is how many saves the
	// statement has written. All are 0 if the save is part of a transaction, or
	// if the store does not measure them.
	Wait     time.Duration
	Write    time.Duration
	Together int
	// Position is that of the last event, and 0 if the save failed.
	Position int64
	// Err is what Save returns.
	Err error
}

// Outcome returns "ok", "conflict" or "error".
func (s Save) Outcome() string {
	switch {
	case s.Err == nil:
		return "ok"
	case persistence.IsConflict(s.Err):
		return "conflict"
	}
	return "error"
}

// Load describes a load of an aggregate, to LoadStart and LoadDone.
type Load struct {
	Application string
	// Definition is the stored name of the aggregate's definition.
	Definition   string
	OriginatorID uuid.UUID

	Start    time.Time
	Duration time.Duration
	// Source is what the aggregate was loaded from: "events", "snapshot" or
	// "cache". It is "" if the load failed.
	Source string
	// Version is the version that was loaded, and Replayed how many events were
	// applied to what Source had.
	Version  int64
	Replayed int64
	// Err is what the load returns. An aggregate that does not exist is an
	// application.ErrAggregateNotFound.
	Err error
}

// Snapshot describes a snapshot that was taken, or was to be taken.
type Snapshot struct {
	Application  string
	Definition   string
	OriginatorID uuid.UUID
	// Version is the version of the aggregate that the snapshot is of, or was
	// to be of; 0 if the aggregate could not be loaded.
	Version int64
	// Outcome is "stored", "present" if a snapshot of that version exists, or
	// "replaced" if this program could not use the one that existed. It is ""
	// if Err is set.
	Outcome string
	// Err is why no snapshot was taken.
	Err error
}

// Batch describes a batch of a follower, to BatchStart and BatchDone.
type Batch struct {
	Follower string
	Leader   string
	// Read is how many events were read for the batch.
	Read int
	// Processed is how many events were processed and committed, and Parked how
	// many of them were parked instead.
	Processed int
	Parked    int
	// Position is the follower's position after the batch, and Head the end of
	// the leader's log when the batch was read. Of a follower that is divided
	// into partitions, Position is the lowest of those that the process has.
	Position int64
	Head     int64

	Start    time.Time
	Duration time.Duration
	// Err is why the batch has failed and was rolled back, or nil. A batch that
	// another process of the follower has overtaken, or that has found the
	// follower paused, has processed nothing and has no error.
	Err error
}

// Lag is how many ids of the log are after the position.
func (b Batch) Lag() int64 { return max(b.Head-b.Position, 0) }

// Handle is the handling of one event by the handlers of a follower, or the
// call that an effect makes for it.
type Handle struct {
	Follower string
	Leader   string
	// Event is the event without its payload: Data is nil.
	Event domain.Event

	Start    time.Time
	Duration time.Duration
	// Err is what the handler or the call has returned, or says that it did not
	// return.
	Err error
}

// Change describes a change of a follower's state in this process.
type Change struct {
	Follower string
	Leader   string
	// From and To are states as package system names them: "running",
	// "retrying", "outdated", "standing by", "paused" or "stopped". They are
	// equal if a follower fails again.
	From string
	To   string
	// Failures is how often the follower has failed in a row, and NextRetry
	// when it tries again.
	Failures  int
	NextRetry time.Time
	// Err is what it failed with, or nil.
	Err error
}

// Parked is an event that a follower has parked.
type Parked struct {
	Follower          string
	Leader            string
	NotificationID    int64
	OriginatorID      uuid.UUID
	OriginatorVersion int64
	Topic             string
	// Err is what the event failed with.
	Err error
}
