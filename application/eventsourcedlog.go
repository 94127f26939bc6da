package application

import (
	"context"
	"errors"
	"iter"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/definitions"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// EventSourcedLog is a sequence of events under one fixed id that is read as a
// sequence, not as the state of an aggregate. Saving a log's event together
// with an aggregate keeps a list of all aggregates of a kind, for example.
//
// It is safe for concurrent use. Two writers that add to it at the same time
// conflict, and one has to try again.
type EventSourcedLog struct {
	app        *Application
	definition *domain.Definition[domain.Log]
	inside     definitions.Definition
	id         uuid.UUID
}

// NewEventSourcedLog makes the log of a definition (see domain.Log) under an id,
// and makes its events known to the application. It returns a
// persistence.ErrProgramming if its topics clash with others.
func NewEventSourcedLog(
	app *Application, definition *domain.Definition[domain.Log], id uuid.UUID,
) (*EventSourcedLog, error) {
	inside := definitions.Of(definition)
	if app == nil {
		return nil, noApplication(inside.Name())
	}
	if err := errors.Join(app.mapper.CheckNames(definition), app.mapper.Add(definition)); err != nil {
		return nil, unusable(app.name, inside.Name(), err)
	}
	return &EventSourcedLog{app, definition, inside, id}, nil
}

// Trigger makes the next event of the log, to be given to Application.Save:
// alone, or together with what it is about. It returns a
// persistence.ErrOriginatorType if the log's id is that of another definition's
// events. It panics if the payload's type is not in the log's definition.
//
// Trigger reads the newest event of the log. A caller that knows the version of
// the next one can use NewEvent of the definition instead.
func (l *EventSourcedLog) Trigger(ctx context.Context, data any, options ...domain.EventOption) (domain.Events, error) {
	last, ok, err := l.Last(ctx)
	if err != nil {
		return nil, err
	}
	version := l.inside.First()
	if ok {
		if err := l.checkDefinition(last); err != nil {
			return nil, err
		}
		version = last.OriginatorVersion + 1
	}
	return domain.Events{l.definition.NewEvent(l.id, version, data, options...)}, nil
}

// checkDefinition refuses to add to the events of another definition.
func (l *EventSourcedLog) checkDefinition(last domain.Event) error {
	own := l.inside.EventTypes()
	if len(own) == 0 {
		return nil
	}
	stored := persistence.StoredEvent{OriginatorID: l.id, Topic: last.Topic}
	if wrong := l.app.mapper.CheckDefinition(stored, own[0].Topic()); wrong != nil {
		return wrong
	}
	return nil
}

// First returns the first event, or false if the log is empty.
func (l *EventSourcedLog) First(ctx context.Context) (domain.Event, bool, error) {
	return one(l.Get(ctx, persistence.EventRange{Limit: 1}))
}

// Last returns the last event, or false if the log is empty.
func (l *EventSourcedLog) Last(ctx context.Context) (domain.Event, bool, error) {
	return one(l.Get(ctx, persistence.EventRange{Descending: true, Limit: 1}))
}

// Get streams the log's events. The first error ends the stream.
func (l *EventSourcedLog) Get(ctx context.Context, r persistence.EventRange) iter.Seq2[domain.Event, error] {
	if l.app.closed.Load() {
		return func(yield func(domain.Event, error) bool) { yield(domain.Event{}, l.app.closedError()) }
	}
	if err := l.app.checkFormerNames(ctx); err != nil {
		return func(yield func(domain.Event, error) bool) { yield(domain.Event{}, err) }
	}
	return l.app.events.Get(ctx, l.id, r)
}
