package groupcommit

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/timing"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Op names a write in errors.
const Op = "save events"

// Batched is a write. A pointer to a struct that embeds Entry is one.
type Batched interface {
	comparable
	entry() *Entry
}

// Entry is what a Queue knows of a write. It may be submitted once.
type Entry struct {
	Key      uuid.UUID // two writes with one key are never in one batch
	Alone    bool      // no other write is in its batch
	Rows     int
	Bytes    int
	Arrived  time.Time // when its caller came
	Deadline time.Time // of the caller's context, or zero

	Timing *timing.Timing // gets its times; may be nil

	// Err is the outcome. Who writes a batch sets it.
	Err error

	wake  chan struct{} // closed when the write is done, or is to lead
	lead  bool          // protected by the queue's mu until wake is closed
	again bool          // it was not written, and is to go back to the queue
}

func (e *Entry) entry() *Entry { return e }

// Fits reports whether a write can be part of a batch at all.
func (e *Entry) Fits() bool { return e.Rows <= maxRows && e.Bytes <= maxBytes }

// errInterrupted is the outcome of writes whose batch ended in a panic.
var errInterrupted = &persistence.Error{Class: persistence.ErrOutcomeUnknown, Op: Op,
	Hint: "the write was interrupted by a panic; saving the same events again is safe"}

// abandoned is the outcome for a caller who does not wait for it.
func abandoned(ctx context.Context) error {
	return &persistence.Error{Class: persistence.ErrOutcomeUnknown, Op: Op, Err: ctx.Err(),
		Hint: "the context ended while the events were being written; they are stored or will not be; " +
			"saving the same events again is safe"}
}

// outcome is the error of a write, joined with that of its caller's context if
// the context bounded the wait.
func (e *Entry) outcome(ctx context.Context) error {
	if !errors.Is(e.Err, persistence.ErrLockTimeout) {
		return e.Err
	}
	cause := ctx.Err()
	if cause == nil && !e.Deadline.IsZero() && time.Until(e.Deadline) <= 0 {
		cause = context.DeadlineExceeded // the context is about to end
	}
	if cause == nil || errors.Is(e.Err, cause) {
		return e.Err
	}
	return errors.Join(e.Err, cause)
}

// ShortestWait is how long a write at least may wait for a lock, also if the
// batch before it has used up its time: the lock may be free now.
const ShortestWait = 100 * time.Millisecond

// Patience returns how long a batch may wait for a lock: until one of its
// writes has waited for limit since it came, and no longer than the last
// deadline of the callers. What is sent is awaited whatever happens.
func Patience[W Batched](batch []W, limit time.Duration) time.Duration {
	now, last := time.Now(), time.Millisecond
	wait := limit
	for _, w := range batch {
		e := w.entry()
		wait = min(wait, max(e.left(now, limit), ShortestWait))
		if e.Deadline.IsZero() {
			last = limit
		} else {
			last = max(last, e.Deadline.Sub(now))
		}
	}
	return min(wait, last)
}

// TakeBack has writes of a batch go back to the queue if the wait for a lock
// took the time of the first one, which has waited longest, and they have time
// left.
func TakeBack[W Batched](batch []W, limit time.Duration) {
	now := time.Now()
	first := batch[0].entry()
	if !errors.Is(first.Err, persistence.ErrLockTimeout) || first.hasTime(now, limit) {
		return // there was no wait, or another time limit has ended it
	}
	for _, w := range batch[1:] {
		e := w.entry()
		e.again = errors.Is(e.Err, persistence.ErrLockTimeout) && e.hasTime(now, limit)
	}
}

// left returns for how long a write may still wait for locks.
func (e *Entry) left(now time.Time, limit time.Duration) time.Duration {
	return limit - now.Sub(e.Arrived)
}

// hasTime reports whether a write may wait for locks once more.
func (e *Entry) hasTime(now time.Time, limit time.Duration) bool {
	return e.left(now, limit) > ShortestWait && (e.Deadline.IsZero() || e.Deadline.Sub(now) > ShortestWait)
}
