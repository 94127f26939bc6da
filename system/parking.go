package system

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/txscope"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// failures are those of one event in a row.
type failures struct {
	notificationID int64
	count          int
}

func (f *failures) add(notificationID int64) int {
	if f.notificationID != notificationID {
		*f = failures{notificationID: notificationID}
	}
	f.count++
	return f.count
}

// parking is where events are parked, or nil.
func (f *followerLoop) parking() capability.ParkingRecorder {
	return f.app.RecorderCapabilities().Parking
}

// parks reports whether the follower wants the only event of a batch parked.
func (f *followerLoop) parks(b batch, err error) bool {
	if f.follower.park == nil || len(b.events) != 1 || f.isAboutStore(err) {
		return false
	}
	defer func() {
		if value := recover(); value != nil {
			f.app.Logger().Error("Park panicked; the event is not parked", "follower", f.app.Name(), "panic", value)
		}
	}()
	return f.follower.park(b.events[0], err, f.failing.add(b.events[0].ID))
}

// storeErrors are the errors that are not about an event.
var storeErrors = []error{persistence.ErrOperational, persistence.ErrInterface, persistence.ErrInternal, persistence.ErrNoTransaction,
	persistence.ErrOutcomeUnknown, persistence.ErrClosed, persistence.ErrNewerProgram, errUnlockedMove}

func (f *followerLoop) isAboutStore(err error) bool {
	if errors.Is(err, ErrAhead) {
		return true
	}
	if slices.ContainsFunc(storeErrors, func(trouble error) bool { return errors.Is(err, trouble) }) {
		return true
	}
	if isContextError(err) && !isAboutEvent(err) {
		return true
	}
	class, _ := f.classify(err)
	return class != nil || f.isRetryable(err)
}

// isContextError reports whether a context has ended, which may be one that a
// handler has made for its own call.
func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// isAboutEvent reports whether an error comes from the processing of an event,
// and not from the transaction around it.
func isAboutEvent(err error) bool {
	failed, ok := errors.AsType[*ProcessingError](err)
	return ok && failed.NotificationID > 0
}

// isRetryable reports whether an error may be gone at the next attempt,
// whatever reports it.
func (f *followerLoop) isRetryable(err error) bool {
	_, retryable := f.classify(err)
	return retryable || persistence.IsRetryable(err)
}

// classify asks the store about an error, which may be that of a handler's own
// statement.
func (f *followerLoop) classify(err error) (class error, retryable bool) {
	store := f.app.Capabilities().Classifier
	if store == nil {
		return nil, false
	}
	return store.Classify(err)
}

// park parks the only event of a batch, and moves on.
func (f *followerLoop) park(ctx context.Context, b batch, cause error) (outcome, error) {
	n := b.events[0]
	err := f.transaction(ctx, func(ctx context.Context) error {
		if err := f.lockBatch(ctx, b); err != nil {
			return err
		}
		if err := f.parkEvent(ctx, n, textOf(cause)); err != nil {
			return err
		}
		return f.moveLocked(ctx, b, n.ID, b.events)
	})
	if f.partitions != nil {
		f.concludePartitions(ctx, b, n.ID, err)
	}
	switch {
	case isPaused(err):
		f.isPaused = true
		return paused, nil
	case isLocked(err):
		f.standingBy = true
		return onStandby, nil
	case errors.Is(err, errOvertaken):
		return overtaken, nil
	case errors.Is(err, errOutOfDate):
		return retriedAtOnce, nil
	case err != nil:
		return nothingMore, f.failed(n, errors.Join(cause, err))
	}
	f.eventParked(ctx, n, cause)
	f.oneByOne = max(f.oneByOne-1, 0)
	if f.partitions == nil {
		f.progress.Position = n.ID
	}
	f.progress.Parked++
	return maybeMore, nil
}

func (f *followerLoop) parkEvent(ctx context.Context, n persistence.Notification, reason string) error {
	return f.parking().ParkEvent(ctx, persistence.ParkedEvent{
		ApplicationName: f.app.Name(), UpstreamApplicationName: f.leader.Name(), NotificationID: n.ID,
		OriginatorID: n.OriginatorID, OriginatorVersion: n.OriginatorVersion, Topic: n.Topic,
		Error: keepable(reason), ParkedAt: time.Now().UTC(),
	})
}

// parkedOriginators are those of some events that have others parked already.
// Each has the first of them.
func (f *followerLoop) parkedOriginators(ctx context.Context, events []persistence.Notification) (map[uuid.UUID]int64, error) {
	if !f.mayHaveParked {
		return nil, nil
	}
	var among []uuid.UUID
	seen := map[uuid.UUID]bool{}
	for _, n := range events {
		if !seen[n.OriginatorID] {
			seen[n.OriginatorID] = true
			among = append(among, n.OriginatorID)
		}
	}
	return f.parking().ParkedOriginators(ctx, f.leader.Name(), among)
}

// Parked returns the events that a follower has parked, in the order of their
// notification ids.
func (c *core) Parked(ctx context.Context, follower Member) ([]persistence.ParkedEvent, error) {
	edges, err := c.edgesOf(follower)
	if err != nil {
		return nil, err
	}
	if edges[0].parking() == nil {
		return nil, nil
	}
	return edges[0].parking().ParkedEvents(ctx, "")
}

// RetryParked processes what a follower has parked, oldest events first, each
// in its own transaction, and returns how many were processed. An event that
// fails again stays parked, and so do the later ones of its originator; the
// others are tried all the same. The follower may be running: its position is
// held meanwhile. Of a follower that has never parked anything, whether it may
// park or not, that is 0 and nil.
func (c *core) RetryParked(ctx context.Context, follower Member) (processed int, err error) {
	edges, err := c.edgesOf(follower)
	if err != nil {
		return 0, err
	}
	for _, edge := range edges {
		n, failed := edge.again(edge.leader).retryParked(ctx)
		processed, err = processed+n, errors.Join(err, failed)
	}
	return processed, err
}

// retryParked goes round until nothing is left to try: a follower that runs may
// park more of an originator meanwhile. No event is tried twice.
func (f *followerLoop) retryParked(ctx context.Context) (processed int, err error) {
	if f.parking() == nil {
		return 0, nil
	}
	blocked := map[uuid.UUID]bool{}
	seen := map[int64]bool{}
	for {
		parked, listing := f.parking().ParkedEvents(ctx, f.leader.Name())
		tried := 0
		for _, event := range parked {
			if blocked[event.OriginatorID] || ctx.Err() != nil {
				continue
			}
			if seen[event.NotificationID] {
				blocked[event.OriginatorID] = true
				err = errors.Join(err, f.failed(notificationOf(event), errStillParked))
				continue
			}
			seen[event.NotificationID] = true
			tried++
			switch failed := f.retry(ctx, event); {
			case failed == nil:
				processed++
			case isPaused(failed) || isLocked(failed):
				return processed, errors.Join(err, failed)
			case !errors.Is(failed, errOvertaken): // another process has retried it
				blocked[event.OriginatorID] = true
				err = errors.Join(err, failed)
			}
		}
		if tried == 0 || listing != nil {
			return processed, errors.Join(err, listing, ctx.Err())
		}
	}
}

// errStillParked says that the row of a parked event stays although it was
// deleted.
var errStillParked = errors.New("the event is parked still, although its row was deleted or another process has retried it; " +
	"look for a trigger or a rule on the table parked_events that keeps rows")

// notificationOf is what is known of a parked event without the log.
func notificationOf(event persistence.ParkedEvent) persistence.Notification {
	return persistence.Notification{ID: event.NotificationID, StoredEvent: persistence.StoredEvent{Topic: event.Topic}}
}

// isParked reports whether a notification is the event that was parked. A log
// that was restored may have another one at its place.
func isParked(event persistence.ParkedEvent, n persistence.Notification) bool {
	return n.OriginatorID == event.OriginatorID && n.OriginatorVersion == event.OriginatorVersion && n.Topic == event.Topic
}

// retry processes one parked event. The position is locked, so that the
// follower cannot process a later event of the same originator before this one
// is done.
func (f *followerLoop) retry(ctx context.Context, event persistence.ParkedEvent) error {
	wanted := persistence.NotificationRange{After: event.NotificationID - 1, Stop: event.NotificationID, Limit: 1}
	found, err := f.leader.Notifications(ctx, wanted)
	n := notificationOf(event)
	switch {
	case err != nil:
		return f.failed(n, err)
	case len(found) == 0 || !isParked(event, found[0]):
		return f.failed(n, errors.New("the parked event is not in the log any more"))
	}
	if f.follower.hasEffects() {
		if txscope.From(ctx) != nil {
			return f.failed(n, errEffectInTransaction)
		}
		if err := f.mayRetry(ctx, event); err != nil {
			return err
		}
		made := f.callEffect(ctx, found[0])
		if made.err != nil {
			return f.failed(found[0], made.err)
		}
		f.effects = effects{effectKeyOf(found[0]): made}
	}
	return f.repeatedly(ctx, func(ctx context.Context) error {
		if err := f.unpark(ctx, event); err != nil {
			return err
		}
		return f.processEvent(ctx, found[0], nil)
	})
}

// repeatedly runs fn in a transaction, and again if the follower has moved the
// position before the commit, in a store that does not lock it. A panic is a
// ProcessingError.
func (f *followerLoop) repeatedly(ctx context.Context, fn func(ctx context.Context) error) error {
	for retries := 0; ; retries++ {
		err := f.transaction(ctx, fn)
		if _, panicked := errors.AsType[*panicError](err); panicked {
			return f.failed(persistence.Notification{}, err)
		}
		if !errors.Is(err, errMovedAtCommit) || retries == bridge.CommitRetries {
			return err
		}
	}
}

// unpark takes an event out of the parked ones under the lock of the position.
func (f *followerLoop) unpark(ctx context.Context, event persistence.ParkedEvent) error {
	if _, _, err := f.lockPosition(ctx); err != nil {
		return err
	}
	err := f.parking().UnparkEvent(ctx, f.leader.Name(), event.NotificationID)
	if errors.Is(err, persistence.ErrProgramming) {
		return errOvertaken // it is not parked any more
	}
	return err
}

// errMayRetry rolls back what only finds out whether an event can be retried.
var errMayRetry = errors.New("rolled back")

// mayRetry returns an error if the follower is paused or the event is not
// parked any more, before a call is made for it.
func (f *followerLoop) mayRetry(ctx context.Context, event persistence.ParkedEvent) error {
	err := f.transaction(ctx, func(ctx context.Context) error {
		if err := f.unpark(ctx, event); err != nil {
			return err
		}
		return errMayRetry
	})
	if errors.Is(err, errMayRetry) {
		return nil
	}
	return err
}
