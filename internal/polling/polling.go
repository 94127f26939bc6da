package polling

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Polling begins with the shortest wait and doubles it up to the longest while
// nothing happens.
const (
	shortestPoll = 10 * time.Millisecond
	longestPoll  = 500 * time.Millisecond
)

// pollPage is how many notifications a subscription reads at once.
const pollPage = 500

// WaitFor returns when the follower whose positions r keeps has processed the
// log of the upstream application up to a notification id, in whatever process
// it runs. It is how a caller reads its own writes from a follower's view.
//
// If ctx ends first, it returns an ErrOperational with the context's cause. Give
// ctx a deadline: a follower that is not running never gets there.
func WaitFor(ctx context.Context, r persistence.TrackingRecorder, upstream string, id int64) error {
	for wait := shortestPoll; ; wait = min(2*wait, longestPoll) {
		if id == 0 { // the position of nothing
			return nil
		}
		position, err := r.MaxTrackingID(ctx, upstream)
		if err == nil && position >= id {
			return nil
		}
		if ctx.Err() == nil && err != nil {
			return err
		}
		if !sleep(ctx, wait) {
			return TimedOut(ctx, upstream, id)
		}
	}
}

// TimedOut is the error of a wait that ctx has ended: the position id in the log
// of an upstream application was not reached.
func TimedOut(ctx context.Context, upstream string, id int64) error {
	return &persistence.Error{Class: persistence.ErrOperational, Err: context.Cause(ctx),
		Op: fmt.Sprintf("waiting for notification %d of application %q to be processed", id, upstream)}
}

// Subscribe streams the log of an application after a position: what is
// recorded already, and then, for as long as the loop goes on, what is recorded
// later, by whatever process. It ends when ctx does, without an error, and at
// the first error of the recorder. To resume, subscribe again after the id that
// was seen last.
//
// It polls, so that it works on every store; a new event is seen within half a
// second. It also looks whenever it receives from wake, which may be nil. A
// wake-up that is lost costs nothing but the time to the next poll.
func Subscribe(
	ctx context.Context, r persistence.ApplicationRecorder, wake <-chan struct{}, after int64, topics ...string,
) iter.Seq2[persistence.Notification, error] {
	return func(yield func(persistence.Notification, error) bool) {
		wait := shortestPoll
		for position := after; ; {
			page, next, err := readPage(ctx, r, position, topics)
			if err != nil {
				if ctx.Err() == nil {
					yield(persistence.Notification{}, err)
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

// Read streams the log of an application after a position, up to its head as it
// is when the loop begins. It ends there, or with an error, which is that of ctx
// if ctx ends.
func Read(ctx context.Context, r persistence.ApplicationRecorder, after int64, topics ...string) iter.Seq2[persistence.Notification, error] {
	return func(yield func(persistence.Notification, error) bool) {
		head, err := r.MaxNotificationID(ctx)
		for position := after; err == nil && position < head; {
			var page []persistence.Notification
			page, err = r.SelectNotifications(ctx,
				persistence.NotificationRange{After: position, Stop: head, Limit: pollPage, Topics: topics})
			if err == nil && len(page) == 0 {
				return
			}
			for _, n := range page {
				if err = context.Cause(ctx); err != nil {
					break
				}
				if !yield(n, nil) {
					return
				}
				position = n.ID
			}
		}
		if err != nil {
			yield(persistence.Notification{}, err)
		}
	}
}

// readPage reads the next page, and the position after it. If no event has the
// wanted topics, the position moves all the same, so that what was passed over
// is not searched again. The head is read first: what is recorded in between is
// after it.
func readPage(ctx context.Context, r persistence.ApplicationRecorder, position int64, topics []string) ([]persistence.Notification, int64, error) {
	head := position
	if len(topics) > 0 {
		var err error
		if head, err = r.MaxNotificationID(ctx); err != nil {
			return nil, position, err
		}
	}
	page, err := r.SelectNotifications(ctx, persistence.NotificationRange{After: position, Limit: pollPage, Topics: topics})
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
