package gormstore

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/telemetry"
)

// Limits of a batch. A save that is larger than a batch is written alone.
const (
	maxBatchSaves  = 512
	maxBatchEvents = 2000
	maxBatchBytes  = 1 << 20
)

// queue is where concurrent saves to one log meet. The first caller writes its
// save at once, and is the leader while it does; those who come in the meantime
// wait, and the first of them leads the next batch, in which all that have
// waited are written together. No caller waits for a timer, and a lone caller
// does not wait at all.
type queue struct {
	mu      sync.Mutex    // protects what follows
	waiting []*save       // in the order of arrival
	led     bool          // a caller is leading
	last    int           // how many saves the last batch had
	took    time.Duration // by the last batch
	wary    int           // for how many batches to expect conflicts
	calm    int           // for how many batches not to yield
}

// errNotWritten is the outcome of saves whose batch ended in a panic.
var errNotWritten = &persistence.Error{Class: persistence.ErrOutcomeUnknown, Op: "save events",
	Hint: "the write was interrupted by a panic; saving the same events again is safe"}

// save is one caller's events in a queue.
type save struct {
	events []persistence.StoredEvent
	bytes  int
	single bool // all events are of one originator

	arrived  time.Time
	deadline time.Time // of the caller's context, or zero

	wake chan struct{} // closed when the save is done, or is to lead
	lead bool          // protected by the queue's mu until wake is closed
	ids  []int64
	err  error

	timing *telemetry.Timing // nil if it is not measured

	again bool // it was not stored, and is to go back to the queue
}

func newSave(events []persistence.StoredEvent) *save {
	s := &save{events: events, single: true, wake: make(chan struct{})}
	for i := range events {
		s.bytes += len(events[i].State) + len(events[i].Topic)
		s.single = s.single && events[i].OriginatorID == events[0].OriginatorID
	}
	return s
}

// shortestWait is how long a save at least may wait for a lock, also if the
// batch before it has used up its time: the lock may be free now.
const shortestWait = 100 * time.Millisecond

// patienceOf returns how long a batch may wait for a lock: until one of its
// saves has waited for limit since it came, and no longer than the last
// deadline of the callers. What is sent is awaited whatever happens.
func patienceOf(batch []*save, limit time.Duration) time.Duration {
	now, last := time.Now(), time.Millisecond
	wait := limit
	for _, s := range batch {
		wait = min(wait, max(s.left(now, limit), shortestWait))
		if s.deadline.IsZero() {
			last = limit
		} else {
			last = max(last, s.deadline.Sub(now))
		}
	}
	return min(wait, last)
}

// takeBackTimely has saves of a batch go back to the queue if the wait for a
// lock took the time of the first one, which has waited longest, and they have
// time left.
func takeBackTimely(batch []*save, limit time.Duration) {
	now := time.Now()
	if !errors.Is(batch[0].err, persistence.ErrLockTimeout) || batch[0].hasTime(now, limit) {
		return // there was no wait, or another time limit has ended it
	}
	for _, s := range batch[1:] {
		s.again = errors.Is(s.err, persistence.ErrLockTimeout) && s.hasTime(now, limit)
	}
}

// left returns for how long a save may still wait for locks.
func (s *save) left(now time.Time, limit time.Duration) time.Duration {
	return limit - now.Sub(s.arrived)
}

// hasTime reports whether a save may wait for locks once more.
func (s *save) hasTime(now time.Time, limit time.Duration) bool {
	return s.left(now, limit) > shortestWait && (s.deadline.IsZero() || s.deadline.Sub(now) > shortestWait)
}

func (s *save) originator() uuid.UUID { return s.events[0].OriginatorID }

// first is the version that the save begins with.
func (s *save) first() int64 { return s.events[0].OriginatorVersion }

// fits reports whether the save can be part of a batch at all.
func (s *save) fits() bool { return len(s.events) <= maxBatchEvents && s.bytes <= maxBatchBytes }

// answerGrace is how long a caller whose context has ended waits for the
// outcome of a save that is being written: the database may answer at the same
// moment.
const answerGrace = 100 * time.Millisecond

// submit writes a save, alone or together with others, and returns when its
// outcome is known. If ctx ends while the save still waits, it leaves the
// queue, and nothing is stored. If ctx ends while the save is being written,
// the outcome is unknown: the events belong to the batch until it is done and
// must not be changed.
func (q *queue) submit(ctx context.Context, s *save, write func(ctx context.Context, batch []*save)) ([]int64, error) {
	q.mu.Lock()
	q.waiting = append(q.waiting, s)
	lead := !q.led
	q.led = true
	q.mu.Unlock()
	if !lead {
		select {
		case <-s.wake:
		case <-ctx.Done():
			if q.leave(s) {
				return nil, ctx.Err()
			}
			if !within(answerGrace, s.wake) {
				return nil, abandoned(ctx)
			}
		}
		lead = s.lead
	}
	switch {
	case !lead:
	case ctx.Done() == nil:
		q.lead(ctx, s, write)
	case !q.leadUntil(ctx, s, write):
		return nil, abandoned(ctx)
	}
	return s.ids, s.ended(ctx)
}

// leadUntil leads in a new goroutine, so that the caller can leave when ctx
// ends. It returns false if the batch is not done then. A panic of the batch is
// the caller's; without a caller, the others of the batch learn that it was
// interrupted.
func (q *queue) leadUntil(ctx context.Context, s *save, write func(ctx context.Context, batch []*save)) bool {
	done := make(chan struct{})
	var panicked any
	go func() {
		defer close(done)
		defer func() { panicked = recover() }()
		q.lead(context.WithoutCancel(ctx), s, write)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		if !within(answerGrace, done) {
			return false
		}
	}
	if panicked != nil {
		panic(panicked)
	}
	return true
}

// within reports whether done is closed in time.
func within(wait time.Duration, done <-chan struct{}) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// abandoned is the outcome for a caller who does not wait for it.
func abandoned(ctx context.Context) error {
	return &persistence.Error{Class: persistence.ErrOutcomeUnknown, Op: opSave, Err: ctx.Err(),
		Hint: "the context ended while the events were being written; they are stored or will not be; " +
			"saving the same events again is safe"}
}

// ended is the error of a save, joined with that of its caller's context if the
// context bounded the wait.
func (s *save) ended(ctx context.Context) error {
	if !errors.Is(s.err, persistence.ErrLockTimeout) {
		return s.err
	}
	cause := ctx.Err()
	if cause == nil && !s.deadline.IsZero() && time.Until(s.deadline) <= 0 {
		cause = context.DeadlineExceeded // the context is about to end
	}
	if cause == nil || errors.Is(s.err, cause) {
		return s.err
	}
	return errors.Join(s.err, cause)
}

// leave takes a save out of the queue. It returns false if the save is in a
// batch already, or is to lead.
func (q *queue) leave(s *save) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, s)
	if i < 0 || s.lead {
		return false
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
	return true
}

// lead writes a batch that begins with the leader's own save, and then hands
// the lead on.
func (q *queue) lead(ctx context.Context, own *save, write func(ctx context.Context, batch []*save)) {
	q.yield()
	q.mu.Lock()
	batch := q.take()
	q.mu.Unlock()
	for _, s := range batch {
		s.err = errNotWritten // until write says what became of it
	}
	// Also if write panics, or all others would wait for ever.
	begin := time.Now()
	defer q.finish(own, batch, begin)
	write(ctx, batch)
	for _, s := range batch {
		if s.timing != nil {
			s.timing.Record(begin.Sub(s.arrived), time.Since(begin), len(batch))
		}
	}
}

// finish hands the lead to the caller that waits longest, and wakes the others
// of the batch except for those that go back to the queue.
func (q *queue) finish(own *save, batch []*save, begin time.Time) {
	q.mu.Lock()
	q.last, q.took = len(batch), time.Since(begin)
	batch = q.takeBack(batch)
	q.led = len(q.waiting) > 0
	if q.led {
		next := q.waiting[0]
		next.lead = true
		close(next.wake)
	}
	q.mu.Unlock()
	for _, s := range batch {
		if s != own {
			close(s.wake)
		}
	}
}

// takeBack puts the saves that are to be written again before those that wait,
// and returns the others. Its caller holds mu.
func (q *queue) takeBack(batch []*save) (others []*save) {
	if !slices.ContainsFunc(batch, func(s *save) bool { return s.again }) {
		return batch
	}
	var back []*save
	for _, s := range batch {
		if s.again {
			s.again = false
			back = append(back, s)
		} else {
			others = append(others, s)
		}
	}
	q.waiting = append(back, q.waiting...)
	return others
}

// take removes the saves of the next batch: the one that waits longest, and
// those after it that fit in and do not touch the same originators.
func (q *queue) take() []*save {
	first := q.waiting[0]
	batch := []*save{first}
	if len(q.waiting) == 1 {
		q.waiting = q.waiting[:0]
		return batch
	}
	rest := q.waiting[:0:0]
	events, bytes := len(first.events), first.bytes
	taken := map[uuid.UUID]bool{first.originator(): true}
	for _, s := range q.waiting[1:] {
		full := len(batch) == maxBatchSaves || events+len(s.events) > maxBatchEvents || bytes+s.bytes > maxBatchBytes
		if !first.single || !s.single || full || taken[s.originator()] {
			rest = append(rest, s)
			continue
		}
		taken[s.originator()] = true
		events, bytes = events+len(s.events), bytes+s.bytes
		batch = append(batch, s)
	}
	q.waiting = rest
	return batch
}

// yield lets the callers that the last batch has just woken come back with
// their next saves, so that they go together instead of in two halves, each of
// which waits for its own sync. It is worth that only under load, for a small
// part of the time that the last batch took, and while it brings in anything.
func (q *queue) yield() {
	q.mu.Lock()
	wanted, budget, before := q.last, min(q.took/yieldShare, longestYield), len(q.waiting)
	worthwhile := wanted > 1 && q.calm == 0
	q.calm = max(q.calm-1, 0)
	q.mu.Unlock()
	if !worthwhile {
		return
	}
	begin := time.Now()
	for range 2 {
		runtime.Gosched()
	}
	there := q.length()
	for ; there < wanted && time.Since(begin) < budget; there = q.length() {
		runtime.Gosched()
	}
	// No caller comes back, or others need the processor.
	if there == before || time.Since(begin) > 2*longestYield {
		q.mu.Lock()
		q.calm = calmBatches
		q.mu.Unlock()
	}
}

// beWary has the next batches expect saves that conflict.
func (q *queue) beWary() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.wary = waryBatches
}

// isWary reports whether a batch is to expect saves that conflict.
func (q *queue) isWary() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	wary := q.wary > 0
	q.wary = max(q.wary-1, 0)
	return wary
}

const waryBatches = 64

func (q *queue) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

const (
	yieldShare   = 12 // of the time of a batch
	longestYield = 200 * time.Microsecond
	calmBatches  = 16
)
