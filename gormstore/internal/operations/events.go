package operations

import (
	"context"
	"errors"
	"math"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// EventsOptions say which events to read.
type EventsOptions struct {
	Application string
	// OriginatorID is the aggregate whose events to read; uuid.Nil is all
	// events of the application.
	OriginatorID uuid.UUID
	// After is where to go on: the version of an aggregate's event, or the
	// notification id in the application's log.
	After int64
	// Limit is how many events to read at most, up to persistence.MaxPage; 0 is
	// 50.
	Limit int
}

// EventsPage is a page of events.
type EventsPage struct {
	Events []StoredEvent
	// Next is what to give as After for the next page, and 0 if there is none.
	Next int64
}

// StoredEvent is an event as it was read.
type StoredEvent struct {
	domain.Event
	// Err is why the event could not be decoded, or nil. What is not in its
	// state is there all the same.
	Err error
}

// Events reads one aggregate's events or an application's log, a page at a
// time, and decodes them. An event that cannot be decoded is on the page with
// its error. The error is an *ApplicationsError, a *MigrationError or that of
// the store.
func Events(ctx context.Context, runner Runner, options EventsOptions) (page EventsPage, err error) {
	app, ok := ApplicationOf(runner, options.Application)
	if !ok {
		return page, &ApplicationsError{Names: []string{options.Application}, Known: MemberNames(runner)}
	}
	if options.Limit <= 0 {
		options.Limit = 50
	}
	options.Limit = min(options.Limit, persistence.MaxPage)
	read := logPage
	if options.OriginatorID != uuid.Nil {
		read = aggregatePage
	}
	events, err := read(ctx, app, options)
	if err != nil {
		return page, located(ctx, app.Factory(), err)
	}
	page.Events = events
	if len(events) == options.Limit {
		last := events[len(events)-1]
		page.Next = last.NotificationID
		if options.OriginatorID != uuid.Nil {
			page.Next = last.OriginatorVersion
		}
	}
	return page, nil
}

func logPage(ctx context.Context, app bridge.Application, options EventsOptions) (events []StoredEvent, err error) {
	rows, err := app.Recorder().SelectNotifications(ctx, persistence.NotificationRange{After: options.After, Limit: options.Limit})
	for _, n := range rows {
		events = append(events, storedNotification(app, n))
	}
	return events, err
}

func aggregatePage(ctx context.Context, app bridge.Application, options EventsOptions) (events []StoredEvent, err error) {
	if options.After == math.MaxInt64 {
		return nil, nil
	}
	wanted := persistence.EventRange{From: options.After + 1, Limit: options.Limit}
	if options.After == 0 {
		wanted.From = 0 // originators of the Python library's kind begin there
	}
	for row, err := range app.Recorder().SelectEvents(ctx, options.OriginatorID, wanted) {
		if err != nil {
			return nil, err
		}
		events = append(events, storedEvent(app, row))
	}
	return events, nil
}

// storedNotification decodes an event of a log.
func storedNotification(app bridge.Application, n persistence.Notification) StoredEvent {
	return stored(n, func() (domain.Event, error) { return app.Mapper().NotificationToParts(n) })
}

// storedEvent decodes an event of an aggregate.
func storedEvent(app bridge.Application, row persistence.StoredEvent) StoredEvent {
	return stored(persistence.Notification{StoredEvent: row}, func() (domain.Event, error) { return app.Mapper().ToDomain(row) })
}

// errDecodingPanicked does not have what the type has panicked with, which may
// be from the payload.
var errDecodingPanicked = errors.New("the event's type panicked while it was decoded")

// stored returns an event with its place, also if the rest of it cannot be
// decoded.
func stored(n persistence.Notification, decode func() (domain.Event, error)) StoredEvent {
	var event domain.Event
	err := guarded(func() (err error) {
		event, err = decode()
		return err
	})
	if _, panicked := errors.AsType[*PanicError](err); panicked {
		err = errDecodingPanicked
	}
	if err != nil {
		event = domain.Event{NotificationID: n.ID, OriginatorID: n.OriginatorID, OriginatorVersion: n.OriginatorVersion, Topic: n.Topic}
	}
	return StoredEvent{event, err}
}
