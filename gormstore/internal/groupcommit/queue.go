package groupcommit

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Limits of a batch. A write that is larger than a batch does not fit into the
// queue.
const (
	maxWrites = 512
	maxRows   = 2000
	maxBytes  = 1 << 20
)

// Queue collects concurrent writes to one log. The first caller writes at once,
// and is the leader while it does. Callers that come in the meantime wait; the
// first of them leads the next batch, which writes all that have waited. No
// caller waits for a timer, and a lone caller does not wait at all. The zero
// Queue is ready.
type Queue[W Batched] struct {
	// Interruptible says that the write function of Do returns soon after its
	// context ends. Then a lone write runs in the goroutine of its caller: a
	// further goroutine would cost it a fifth of its time, for the threads.
	Interruptible bool

	mu      sync.Mutex    // protects what follows
	waiting []W           // in the order of arrival
	led     bool          // a caller is leading
	last    int           // how many writes the last batch had
	took    time.Duration // by the last batch
	calm    int           // for how many batches not to yield
}

// answerGrace is how long a caller whose context has ended waits for the
// outcome of a write that is going on: the database may answer at the same
// moment.
const answerGrace = 100 * time.Millisecond

// Do writes w, alone or together with others, and returns when its outcome is
// known, which it returns. Every batch is written by the write function of its
// leader, whose context does not end with that of the leader unless the write is
// alone. If ctx ends while w still waits, it leaves the queue, and nothing is
// written. If ctx ends while it is being written, the outcome is unknown: w
// belongs to the batch until it is done and must not be changed.
func (q *Queue[W]) Do(ctx context.Context, w W, write func(ctx context.Context, batch []W)) error {
	e := w.entry()
	q.mu.Lock()
	q.waiting = append(q.waiting, w)
	lead := !q.led
	q.led = true
	if !lead {
		e.wake = make(chan struct{})
	}
	q.mu.Unlock()
	if !lead {
		select {
		case <-e.wake:
		case <-ctx.Done():
			if q.leave(w) {
				return ctx.Err()
			}
			if !within(answerGrace, e.wake) {
				return abandoned(ctx)
			}
		}
		lead = e.lead
	}
	if lead && !q.lead(ctx, w, write) {
		return abandoned(ctx)
	}
	return e.outcome(ctx)
}

// lead writes a batch that begins with the leader's own write, and then hands
// the lead on. It returns false if ctx has ended before the outcome was known.
func (q *Queue[W]) lead(ctx context.Context, own W, write func(ctx context.Context, batch []W)) bool {
	q.yield()
	q.mu.Lock()
	batch := q.take()
	q.mu.Unlock()
	switch {
	case ctx.Done() == nil:
		q.write(ctx, own, batch, write)
		return true
	case q.Interruptible && len(batch) == 1:
		return q.writeAlone(ctx, own, batch, write)
	}
	return q.writeUntil(ctx, own, batch, write)
}

// errLeft ends the context of a write whose caller does not wait any more.
var errLeft = errors.New("the caller does not wait for the outcome")

// HasLeft reports whether the context of a write has ended because its caller
// does not wait any more, so that its outcome need not be found out.
func HasLeft(ctx context.Context) bool { return context.Cause(ctx) == errLeft }

// writeAlone writes a batch in which only the leader's own write is, and
// interrupts it when ctx has ended. It returns false if the outcome is not known
// then.
func (q *Queue[W]) writeAlone(ctx context.Context, own W, batch []W, write func(ctx context.Context, batch []W)) bool {
	writing, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	defer context.AfterFunc(ctx, func() {
		if !within(answerGrace, writing.Done()) {
			end(errLeft)
		}
	})()
	q.write(writing, own, batch, write)
	return own.entry().Err == nil || !HasLeft(writing)
}

// writeUntil writes a batch in a new goroutine, so that the caller can leave
// when ctx ends. It returns false if the batch is not done then. A panic of the
// batch is the caller's; without a caller, the others of the batch learn that it
// was interrupted.
func (q *Queue[W]) writeUntil(ctx context.Context, own W, batch []W, write func(ctx context.Context, batch []W)) bool {
	done := make(chan struct{})
	var panicked any
	go func() {
		defer close(done)
		defer func() { panicked = recover() }()
		q.write(context.WithoutCancel(ctx), own, batch, write)
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

// leave takes a write out of the queue. It returns false if the write is in a
// batch already, or is to lead.
func (q *Queue[W]) leave(w W) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, w)
	if i < 0 || w.entry().lead {
		return false
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
	return true
}

// write writes a batch, and then hands the lead on. If the write function
// panics, nothing that it has said of a write holds: what it had taken for
// stored may have been rolled back.
func (q *Queue[W]) write(ctx context.Context, own W, batch []W, write func(ctx context.Context, batch []W)) {
	interrupt := func() {
		for _, w := range batch {
			w.entry().Err, w.entry().again = errInterrupted, false
		}
	}
	interrupt() // until write says what became of them
	begin, returned := time.Now(), false
	defer func() {
		if !returned {
			interrupt()
		}
		q.finish(own, batch, begin) // or all others would wait for ever
	}()
	write(ctx, batch)
	returned = true
	for _, w := range batch {
		if e := w.entry(); e.Timing != nil {
			e.Timing.Record(begin.Sub(e.Arrived), time.Since(begin), len(batch))
		}
	}
}

// finish hands the lead to the caller that waits longest, and wakes the others
// of the batch except for those that go back to the queue.
func (q *Queue[W]) finish(own W, batch []W, begin time.Time) {
	q.mu.Lock()
	q.last, q.took = len(batch), time.Since(begin)
	batch = q.takeBack(batch)
	q.led = len(q.waiting) > 0
	if q.led {
		next := q.waiting[0].entry()
		next.lead = true
		close(next.wake)
	}
	q.mu.Unlock()
	for _, w := range batch {
		if w != own {
			close(w.entry().wake)
		}
	}
}

// takeBack puts the writes that are to be done again before those that wait,
// and returns the others. Its caller holds mu.
func (q *Queue[W]) takeBack(batch []W) (others []W) {
	if !slices.ContainsFunc(batch, func(w W) bool { return w.entry().again }) {
		return batch
	}
	var back []W
	for _, w := range batch {
		if e := w.entry(); e.again {
			e.again = false
			back = append(back, w)
		} else {
			others = append(others, w)
		}
	}
	q.waiting = append(back, q.waiting...)
	return others
}

// take removes the writes of the next batch: the one that waits longest, and
// those after it that fit in and do not have the same keys.
func (q *Queue[W]) take() []W {
	first := q.waiting[0].entry()
	batch := []W{q.waiting[0]}
	if len(q.waiting) == 1 {
		clear(q.waiting)
		q.waiting = q.waiting[:0]
		return batch
	}
	rest := q.waiting[:0:0]
	rows, bytes := first.Rows, first.Bytes
	taken := map[uuid.UUID]bool{first.Key: true}
	for _, w := range q.waiting[1:] {
		e := w.entry()
		full := len(batch) == maxWrites || rows+e.Rows > maxRows || bytes+e.Bytes > maxBytes
		if first.Alone || e.Alone || full || taken[e.Key] {
			rest = append(rest, w)
			continue
		}
		taken[e.Key] = true
		rows, bytes = rows+e.Rows, bytes+e.Bytes
		batch = append(batch, w)
	}
	q.waiting = rest
	return batch
}

// yield lets the callers that the last batch has just woken come back with
// their next writes, so that they go together instead of in two halves, each of
// which waits for its own sync. It is worth that only under load, for a small
// part of the time that the last batch took, and while it brings in anything.
func (q *Queue[W]) yield() {
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

func (q *Queue[W]) length() int {
	waiting, _ := q.State()
	return waiting
}

// State returns how many writes wait for their batch, and whether a caller is
// leading.
func (q *Queue[W]) State() (waiting int, led bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting), q.led
}

const (
	yieldShare   = 12 // of the time of a batch
	longestYield = 200 * time.Microsecond
	calmBatches  = 16
)
