package system

import (
	"context"
	"runtime/debug"
	"sync"
	"time"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// A batch ends after so many events or so much time, whichever comes first, because it keeps others from writing.
const (
	batchEvents = 500
	batchTime   = 20 * time.Millisecond
)

// following is one follower's following of one leader. One goroutine at a time may pull.
type following struct {
	follower Follower
	leader   *application.Application
	topics   []string
	careful  int // how many events are still to be processed one at a time, after an error

	mu     sync.Mutex // protects status
	status Status
}

func newFollowing(follower Follower, leader *application.Application) *following {
	f := &following{follower: follower, leader: leader}
	if filter, ok := follower.(TopicFilter); ok {
		f.topics = filter.Topics()
	}
	f.status = Status{Follower: f.app().Name(), Leader: leader.Name(), State: Running}
	return f
}

func (f *following) app() *application.Application { return f.follower.Base() }

// pull processes the next batch. It returns how many events were processed, and whether there may be more.
func (f *following) pull(ctx context.Context) (processed int, more bool, err error) {
	position, err := f.app().Recorder().MaxTrackingID(ctx, f.leader.Name())
	if err != nil {
		return 0, false, f.failed(persistence.Notification{}, err)
	}
	page, end, err := f.read(ctx, position)
	if err != nil {
		return 0, false, err
	}
	if len(page) == 0 && end == position {
		return 0, false, nil
	}
	store, batched := f.app().Factory().(persistence.Transactor)
	if !batched {
		processed, err = f.processSingly(ctx, page, end)
		return processed, err == nil && len(page) > 0, err
	}
	processed, err = f.process(ctx, store, position, page, end)
	if err != nil && len(page) > 1 && ctx.Err() == nil {
		f.careful = len(page) // the batch is undone; event by event, only the one at fault fails
		return 0, true, nil
	}
	f.careful = max(f.careful-processed, 0)
	return processed, err == nil && len(page) > 0, err
}

// read reads the page behind a position, and how far the position can move with it. The head is read first: what is
// recorded in between lies behind it.
func (f *following) read(ctx context.Context, position int64) (page []persistence.Notification, end int64, err error) {
	log := f.leader.Recorder()
	head, err := log.MaxNotificationID(ctx)
	if err != nil {
		return nil, 0, f.failed(persistence.Notification{}, err)
	}
	if position > head {
		return nil, 0, &AheadError{Follower: f.app().Name(), Leader: f.leader.Name(), Position: position, Head: head}
	}
	limit := batchEvents
	if f.careful > 0 {
		limit = 1
	}
	page, err = log.SelectNotifications(ctx, persistence.NotificationRange{After: position, Limit: limit, Topics: f.topics})
	if err != nil {
		return nil, 0, f.failed(persistence.Notification{}, err)
	}
	if len(page) == 0 {
		return nil, max(head, position), nil
	}
	last := page[len(page)-1].ID
	if len(page) == limit || len(f.topics) == 0 {
		return page, last, nil
	}
	return page, max(head, last), nil
}

// process processes a page in one transaction.
func (f *following) process(ctx context.Context, store persistence.Transactor, position int64, page []persistence.Notification, end int64) (int, error) {
	processed := 0
	err := store.Transaction(ctx, func(ctx context.Context) error {
		processed = 0
		current, err := f.lock(ctx)
		if err != nil {
			return f.failed(persistence.Notification{}, err)
		}
		if current != position {
			return nil // another process has taken over; the next pull begins where it is
		}
		processed, end, err = f.processBatch(ctx, page, end)
		if err != nil {
			return err
		}
		return f.move(ctx, end)
	})
	if err != nil {
		return 0, err
	}
	return processed, nil
}

// lock holds the position against other processes of the same follower, before anything else is locked.
func (f *following) lock(ctx context.Context) (int64, error) {
	if locker, ok := f.app().Recorder().(persistence.PositionLocker); ok {
		return locker.LockPosition(ctx, f.leader.Name())
	}
	return f.app().Recorder().MaxTrackingID(ctx, f.leader.Name())
}

func (f *following) move(ctx context.Context, to int64) error {
	return f.app().Recorder().InsertTracking(ctx, persistence.Tracking{ApplicationName: f.leader.Name(), NotificationID: to})
}

// processBatch processes events until the page or the time is at its end, and returns how far the position moves.
func (f *following) processBatch(ctx context.Context, page []persistence.Notification, end int64) (int, int64, error) {
	deadline := time.Now().Add(batchTime)
	for i, n := range page {
		processing := f.processing(n)
		event, err := f.policy(ctx, n, processing)
		if err != nil {
			return i, 0, err
		}
		if _, err := f.app().StoreCollected(application.WithMetadata(ctx, cause(event)), processing); err != nil {
			return i, 0, f.failed(n, err)
		}
		if i+1 < len(page) && time.Now().After(deadline) {
			return i + 1, n.ID, nil
		}
	}
	return len(page), end, nil
}

// processSingly stores each event's effects with its position.
func (f *following) processSingly(ctx context.Context, page []persistence.Notification, end int64) (int, error) {
	for i, n := range page {
		processing := f.processing(n)
		event, err := f.policy(ctx, n, processing)
		if err != nil {
			return i, err
		}
		if _, err := f.app().Record(application.WithMetadata(ctx, cause(event)), processing); err != nil {
			return i, f.failed(n, err)
		}
	}
	if len(page) > 0 && page[len(page)-1].ID == end {
		return len(page), nil
	}
	return len(page), f.move(ctx, end)
}

func (f *following) processing(n persistence.Notification) *application.ProcessingEvent {
	return application.NewProcessingEvent(persistence.Tracking{ApplicationName: f.leader.Name(), NotificationID: n.ID})
}

// policy decodes an event with the leader's mapper and calls the policy, whose panic is its error.
func (f *following) policy(ctx context.Context, n persistence.Notification, processing *application.ProcessingEvent) (event domain.Event, err error) {
	if event, err = f.leader.Mapper().NotificationToDomain(n); err != nil {
		return event, f.failed(n, err)
	}
	defer func() {
		if value := recover(); value != nil {
			err = f.failed(n, &PanicError{Value: value, Stack: debug.Stack()})
		}
	}()
	if err := f.follower.Policy(application.WithProcessing(ctx), event, processing); err != nil {
		return event, f.failed(n, err)
	}
	return event, nil
}

func (f *following) failed(n persistence.Notification, err error) error {
	return &ProcessingError{Follower: f.app().Name(), Leader: f.leader.Name(), NotificationID: n.ID, Topic: n.Topic, Err: err}
}

// cause is the metadata of events that an event causes: they belong to the same conversation.
func cause(event domain.Event) domain.Metadata {
	m := domain.Metadata{domain.CausationID: event.ID.String()}
	if correlation := event.Metadata[domain.CorrelationID]; correlation != "" {
		m[domain.CorrelationID] = correlation
	}
	return m
}
