package natsstore

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// A server that is frozen or was cut off is not known to be so at once. So a
// read that has no answer after firstHedge is sent again, to the server that
// leads then or to another replica, and the first answer counts. One that is
// only busy has longestTry to answer.
const (
	firstHedge = 150 * time.Millisecond
	longestTry = 4 * time.Second
	// mostHedges is how many requests of one read wait at the same time.
	mostHedges = 3
)

// hedging says when reads are sent again. If answers take long, as those with
// large states do, it is later: they would only take longer.
type hedging struct {
	first   time.Duration
	slowest atomic.Int64 // how long the slowest of the last answers took, in nanoseconds
}

// after returns how long to wait for an answer.
func (h *hedging) after() time.Duration {
	return max(h.first, min(2*time.Duration(h.slowest.Load()), longestTry/2))
}

// answered takes down how long an answer took. What was slow is forgotten by
// and by.
func (h *hedging) answered(took time.Duration) {
	known := h.slowest.Load()
	h.slowest.CompareAndSwap(known, max(int64(took), known-known/8))
}

// hedged calls try, and again beside it each time that no answer has begun for
// a while, which doubles. It returns the first result that is no errAgain. If
// all that it has called fail, it returns the last error. The other calls end
// with their context.
func hedged[T any](
	ctx context.Context, h *hedging, try func(ctx context.Context, begun func()) (T, error),
) (value T, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		value T
		err   error
		took  time.Duration
	}
	results := make(chan result, mostHedges)
	begun := make(chan time.Duration, 1)
	start := func() {
		begin := time.Now()
		go func() {
			value, err := try(ctx, func() {
				select {
				case begun <- time.Since(begin):
				default:
				}
			})
			results <- result{value, err, time.Since(begin)}
		}()
	}
	start()
	started, running := 1, 1
	after := h.after()
	timer := time.NewTimer(after)
	defer timer.Stop()
	answers := 0
	for {
		select {
		case took := <-begun:
			answers++
			h.answered(took)
			timer.Stop()
		case <-timer.C:
			if started == mostHedges {
				continue
			}
			start()
			started, running, after = started+1, running+1, 2*after
			timer.Reset(after)
		case r := <-results:
			running--
			if r.err == nil && answers == 0 {
				h.answered(r.took)
			}
			if r.err == nil || !isAgain(r.err) || running == 0 {
				return r.value, r.err
			}
			timer.Reset(after)
		}
	}
}

// errAgain is a try that failed, and may succeed if it is made again.
type errAgain struct{ error }

func (e errAgain) Unwrap() error { return e.error }

func isAgain(err error) bool {
	_, again := errors.AsType[errAgain](err)
	return again
}

// request sends a request that only reads.
func (s *stream) request(ctx context.Context, op, subject string, body []byte) (*nats.Msg, error) {
	return hedged(ctx, &s.store.hedging, func(ctx context.Context, _ func()) (*nats.Msg, error) {
		try, cancel := context.WithTimeout(ctx, longestTry)
		defer cancel()
		reply, err := s.store.conn.RequestWithContext(try, subject, body)
		if err != nil {
			return nil, s.tryFailed(op, err)
		}
		return reply, nil
	})
}
