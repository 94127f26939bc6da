package application

import (
	"context"
	"errors"
	"iter"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Subscribe streams the application's events behind a position: those that are recorded already, and then, for as long as
// the loop goes on, what is recorded later, by whatever process. What this process saves is seen at once; other processes'
// events within half a second, or at once where the store is a persistence.Listener. Topics choose which events; none means
// all.
//
// To resume, subscribe again behind the NotificationID of the event that was seen last. The stream ends when ctx does,
// without an error, and at the first error, which may be that an event cannot be decoded. A follower that must process
// every event exactly once is better off with package system.
func (a *Application) Subscribe(ctx context.Context, after int64, topics ...string) iter.Seq2[domain.Event, error] {
	return func(yield func(domain.Event, error) bool) {
		if a.closed.Load() {
			yield(domain.Event{}, a.closedError())
			return
		}
		if err := a.CheckFormerNames(ctx); err != nil {
			yield(domain.Event{}, err)
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		wake := make(chan struct{}, 1)
		listened := a.wakeUps(ctx, wake)
		defer func() {
			cancel()
			<-listened
		}()
		for notification, err := range persistence.SubscribeWoken(ctx, a.recorder, wake, after, topics...) {
			var event domain.Event
			if err == nil {
				event, err = a.mapper.NotificationToDomain(notification)
			}
			if !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// wakeUps has wake rung by saves, in this process and, where the store hears of them, in others, until ctx ends. The
// channel that it returns is closed when nothing rings any more.
func (a *Application) wakeUps(ctx context.Context, wake chan struct{}) (done <-chan struct{}) {
	ring := func() {
		select {
		case wake <- struct{}{}:
		default: // one is waiting already
		}
	}
	remove := a.OnRecorded(func(context.Context, []persistence.Recording) { ring() })
	context.AfterFunc(ctx, remove)
	ended := make(chan struct{})
	listener, ok := a.factory.(persistence.Listener)
	if !ok {
		close(ended)
		return ended
	}
	go func() {
		defer close(ended)
		err := listener.Listen(ctx, func(application string) {
			if application == "" || application == a.name {
				ring()
			}
		})
		if err != nil && ctx.Err() == nil && !errors.Is(err, persistence.ErrNotSupported) {
			a.logger.WarnContext(ctx, "cannot listen for events of other processes; the subscription polls", "application", a.name, "error", err)
		}
	}()
	return ended
}
