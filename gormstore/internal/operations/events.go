package operations

import (
	"context"
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
		event, err := app.Mapper().NotificationToParts(n)
		events = append(events, stored(n, event, err))
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
		event, err := app.Mapper().ToDomain(row)
		events = append(events, stored(persistence.Notification{StoredEvent: row}, event, err))
	}
	return events, nil
}

// stored is an event with its place, also if the rest of it could not be read.
func stored(n persistence.Notification, event domain.Event, err error) StoredEvent {
	if err != nil {
		event = domain.Event{NotificationID: n.ID, OriginatorID: n.OriginatorID, OriginatorVersion: n.OriginatorVersion, Topic: n.Topic}
	}
	return StoredEvent{event, err}
}
