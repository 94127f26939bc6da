package persistence

import (
	"context"
	"fmt"
	"iter"
	"time"
)

// Polling begins with the shortest wait and doubles it up to the longest while
// nothing happens.
const (
	shortestPoll = 10 * time.Millisecond
	longestPoll  = 500 * time.Millisecond
)

// pollPage is how many notifications a subscription reads at once.
const pollPage = 500

// HasTracked reports whether the position in the log of the upstream
// application has reached a notification id. It always has reached 0, the
// position of nothing.
func HasTracked(ctx context.Context, r TrackingRecorder, upstream string, id int64) (bool, error) {
	if id == 0 {
		return true, nil
	}
	reached, err := r.MaxTrackingID(ctx, upstream)
	return err == nil && reached >= id, err
}

// WaitFor returns when the follower whose positions r keeps has processed the
// log of the upstream application up to a notification id, in whatever process
// it runs. It is how a caller reads its own writes from a follower's view.
//
// It returns a *WaitError when ctx ends first. Give ctx a deadline: a follower
// that is not running never gets there.
func WaitFor(ctx context.Context, r TrackingRecorder, upstream string, id int64) error {
	for wait := shortestPoll; ; wait = min(2*wait, longestPoll) {
		done, err := HasTracked(ctx, r, upstream, id)
		if done {
			return nil
		}
		if ctx.Err() == nil && err != nil {
			return err
		}
		if !sleep(ctx, wait) {
			return &WaitError{Upstream: upstream, NotificationID: id, Err: context.Cause(ctx)}
		}
	}
}

// WaitError says that a position was not reached in time.
type WaitError struct {
	Upstream       string
	NotificationID int64
	// Err is why the wait ended: context.DeadlineExceeded, context.Canceled, or
	// the context's cause.
	Err error
}

func (e *WaitError) Error() string {
	return fmt.Sprintf("timed out waiting for notification %d from application %q to be processed: %v",
		e.NotificationID, e.Upstream, e.Err)
}

// Unwrap returns the class ErrOperational and the cause.
func (e *WaitError) Unwrap() []error { return both(ErrOperational, e.Err) }

// Subscribe streams the log of an application behind a position: what is
// recorded already, and then, for as long as the loop goes on, what is recorded
// later, by whatever process. It ends when ctx does, without an error, and at
// the first error of the recorder. To resume, subscribe again behind the id
// that was seen last.
//
// It polls, so that it works on every store; a new event is seen within half a
// second.
func Subscribe(ctx context.Context, r ApplicationRecorder, after int64, topics ...string) iter.Seq2[Notification, error] {
	return SubscribeWoken(ctx, r, nil, after, topics...)
}

// SubscribeWoken is Subscribe for a caller who can tell when there is something
// new: it also looks whenever it receives from wake. A wake-up that is lost
// costs nothing but the time to the next poll.
func SubscribeWoken(ctx context.Context, r ApplicationRecorder, wake <-chan struct{}, after int64, topics ...string) iter.Seq2[Notification, error] {
	return func(yield func(Notification, error) bool) {
		wait := shortestPoll
		for position := after; ; {
			page, next, err := readPage(ctx, r, position, topics)
			if err != nil {
				if ctx.Err() == nil {
					yield(Notification{}, err)
				}
				return
			}
			for _, n := range page {
				if ctx.Err() != nil || !yield(n, nil) {
					return
				}
			}
			if next > position {
				position, wait = next, shortestPoll
			}
			if len(page) > 0 {
				continue
			}
			if !sleepOrWake(ctx, wake, wait) {
				return
			}
			wait = min(2*wait, longestPoll)
		}
	}
}

// readPage reads the next page, and the position behind it. Where no event has
// the wanted topics the position moves all the same, so that what was passed
// over is not searched again. The head is read first: what is recorded in
// between is behind it.
func readPage(ctx context.Context, r ApplicationRecorder, position int64, topics []string) ([]Notification, int64, error) {
	head := position
	if len(topics) > 0 {
		var err error
		if head, err = r.MaxNotificationID(ctx); err != nil {
			return nil, position, err
		}
	}
	page, err := r.SelectNotifications(ctx, NotificationRange{After: position, Limit: pollPage, Topics: topics})
	if err != nil {
		return nil, position, err
	}
	if len(page) > 0 {
		return page, page[len(page)-1].ID, nil
	}
	return nil, max(head, position), nil
}

// sleep waits, and is false when ctx ended first.
func sleep(ctx context.Context, wait time.Duration) bool { return sleepOrWake(ctx, nil, wait) }

// sleepOrWake is sleep that a wake-up ends.
func sleepOrWake(ctx context.Context, wake <-chan struct{}, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-wake:
	}
	return true
}
