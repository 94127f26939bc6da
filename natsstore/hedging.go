package natsstore

import (
	"context"
	"errors"
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
	mostHedges = 4
)

// hedged calls try, and again beside it each time that no answer has begun for
// a while, which doubles. It returns the first result that is no errAgain. If
// all that it has called fail, it returns the last error. The other calls end
// with their context.
func hedged[T any](
	ctx context.Context, after time.Duration, try func(ctx context.Context, begun func()) (T, error),
) (value T, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		value T
		err   error
	}
	results := make(chan result, mostHedges)
	begun := make(chan struct{}, 1)
	start := func() {
		go func() {
			value, err := try(ctx, func() {
				select {
				case begun <- struct{}{}:
				default:
				}
			})
			results <- result{value, err}
		}()
	}
	start()
	started, running := 1, 1
	timer := time.NewTimer(after)
	defer timer.Stop()
	for {
		select {
		case <-begun:
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
	return hedged(ctx, s.store.hedge, func(ctx context.Context, _ func()) (*nats.Msg, error) {
		try, cancel := context.WithTimeout(ctx, longestTry)
		defer cancel()
		reply, err := s.store.conn.RequestWithContext(try, subject, body)
		if err != nil {
			return nil, s.tryFailed(op, err)
		}
		return reply, nil
	})
}
