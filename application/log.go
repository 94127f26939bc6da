package application

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime/debug"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/internal/polling"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Log is the log of an application: all its events, each at its position. It is
// safe for concurrent use.
type Log struct{ app *Application }

// Log returns the application's log.
func (a *Application) Log() *Log { return &Log{a} }

// Head returns the position up to which the log is final: no event appears at
// or below it any more. The head of an empty log is 0.
func (l *Log) Head(ctx context.Context) (int64, error) {
	if err := l.app.ready(ctx); err != nil {
		return 0, err
	}
	return l.app.recorder.MaxNotificationID(ctx)
}

// Events streams the events after a position up to the head as it is when the
// loop begins, and ends there. Topics choose events by the names that they have
// today, whatever they were stored under; none means all. A name that no
// definition has chooses what is stored under it. It also ends at the first
// error, which is that of ctx if ctx ends. Events that domain.UpcastToMany has
// made of one share a NotificationID.
func (l *Log) Events(ctx context.Context, after int64, topics ...string) iter.Seq2[domain.Event, error] {
	return func(yield func(domain.Event, error) bool) {
		if err := l.app.ready(ctx); err != nil {
			yield(domain.Event{}, err)
			return
		}
		selected := l.app.mapper.Select(topics)
		l.app.decodeAll(polling.Read(ctx, l.app.recorder, after, selected.Topics...), selected, yield)
	}
}

// decodeAll yields the selected events of notifications, up to the first error.
func (a *Application) decodeAll(
	notifications iter.Seq2[persistence.Notification, error], selected mapper.Selection, yield func(domain.Event, error) bool,
) {
	for notification, err := range notifications {
		var event domain.Event
		if err == nil {
			event, err = a.mapper.NotificationToParts(notification)
		}
		if err != nil {
			yield(domain.Event{}, err)
			return
		}
		for part := range a.mapper.Parts(event, selected) {
			if !yield(part, nil) {
				return
			}
		}
	}
}

// Subscribe streams the events after a position: those that are recorded
// already, and then, for as long as the loop goes on, those that any process
// records later. Saves of this process are seen at once; those of others within
// half a second, or at once if the store hears of them, as with
// gormstore.WithListener. Topics choose events as those of Events do.
//
// To resume, subscribe again after the NotificationID of the last event that
// was seen. Events that domain.UpcastToMany has made of one share a
// NotificationID. The stream ends without an error when ctx ends, and at the
// first error, which may be that an event cannot be decoded. To read what is
// there and no more, use Events. To process every event exactly once, use a
// follower of package system.
func (l *Log) Subscribe(ctx context.Context, after int64, topics ...string) iter.Seq2[domain.Event, error] {
	a := l.app
	return func(yield func(domain.Event, error) bool) {
		if a.closed.Load() {
			yield(domain.Event{}, a.closedError())
			return
		}
		if err := a.checkFormerNames(ctx); err != nil {
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
		selected := a.mapper.Select(topics)
		a.decodeAll(polling.Subscribe(ctx, a.recorder, wake, after, selected.Topics...), selected, yield)
	}
}

// wakeUps signals wake after saves in this process and, if the store hears of
// them, in others, until ctx ends. The channel that it returns is closed when
// nothing rings any more.
func (a *Application) wakeUps(ctx context.Context, wake chan struct{}) (done <-chan struct{}) {
	ring := func() {
		select {
		case wake <- struct{}{}:
		default: // one is waiting already
		}
	}
	remove := a.onRecorded(func(context.Context, []mapper.Recording) { ring() })
	context.AfterFunc(ctx, remove)
	ended := make(chan struct{})
	listener := a.capabilities.Listener
	if listener == nil {
		close(ended)
		return ended
	}
	go func() {
		defer close(ended)
		defer func() { _ = recover() }() // of a logger, of which no other one can be told
		defer func() {
			if value := recover(); value != nil {
				a.logger.ErrorContext(ctx, "what listens for events of other processes panicked; the subscription polls",
					"application", a.name, "panic", fmt.Sprint(value), "stack", string(debug.Stack()))
			}
		}()
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
