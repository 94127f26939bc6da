package application

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

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
	app    *Application
	entry  *domain.Definition[domain.Log] // nil if the events are those of an aggregate
	inside definitions.Definition
	id     uuid.UUID
}

// NewEventSourcedLog makes the log of a definition (see domain.Log) under an id,
// and makes its events known to the application. With the definition of an
// aggregate and the aggregate's id it reads the aggregate's history, and
// triggers nothing. It returns a persistence.ErrProgramming if its topics clash
// with others.
func NewEventSourcedLog(app *Application, definition domain.Schema, id uuid.UUID) (*EventSourcedLog, error) {
	inside := definitions.Of(definition)
	if app == nil {
		return nil, noApplication(inside.Name())
	}
	if err := errors.Join(app.mapper.CheckNames(definition), app.mapper.Add(definition)); err != nil {
		return nil, unusable(app.name, inside.Name(), err)
	}
	entry, _ := definition.(*domain.Definition[domain.Log])
	return &EventSourcedLog{app, entry, inside, id}, nil
}

// Trigger makes the next event of the log, to be given to Application.Save:
// alone, or together with what it is about. It returns a
// persistence.ErrOriginatorType if the log's id is that of another definition's
// events, and a persistence.ErrProgramming if the log's definition is that of an
// aggregate. It panics if the payload's type is not in the log's definition.
//
// Trigger reads the newest event of the log. A caller that knows the version of
// the next one can use NewEvent of the definition instead.
func (l *EventSourcedLog) Trigger(ctx context.Context, data any, options ...domain.EventOption) (domain.Events, error) {
	if l.entry == nil {
		return nil, &persistence.Error{Class: persistence.ErrProgramming,
			Op:   fmt.Sprintf("%s: trigger an event of the definition %q", l.app.name, l.inside.Name()),
			Hint: "it is of an aggregate, which a log only reads; trigger events of the aggregate itself"}
	}
	last, ok, err := one(l.stored(ctx, persistence.EventRange{Descending: true, Limit: 1}))
	if err != nil {
		return nil, err
	}
	version := l.inside.First()
	if ok {
		if wrong := l.app.checkDefinition(l.inside, l.id, last.Topic); wrong != nil {
			return nil, wrong
		}
		version = last.OriginatorVersion + 1
	}
	return domain.Events{l.entry.NewEvent(l.id, version, data, options...)}, nil
}

// First returns the first event, or false if the log is empty.
func (l *EventSourcedLog) First(ctx context.Context) (domain.Event, bool, error) {
	return l.first(ctx, persistence.EventRange{})
}

// Last returns the last event, or false if the log is empty.
func (l *EventSourcedLog) Last(ctx context.Context) (domain.Event, bool, error) {
	return l.first(ctx, persistence.EventRange{Descending: true})
}

// first returns the first event of a range.
func (l *EventSourcedLog) first(ctx context.Context, r persistence.EventRange) (domain.Event, bool, error) {
	nearest := r
	nearest.Limit = 1
	event, ok, err := one(l.Get(ctx, nearest))
	if ok || err != nil || l.entry != nil {
		return event, ok, err
	}
	return one(l.Get(ctx, r)) // domain.UpcastToMany may have made nothing of the nearest one
}

// Get streams the log's events. The first error ends the stream. Events that
// domain.UpcastToMany has made of one share a version, and count as one for
// r.Limit.
func (l *EventSourcedLog) Get(ctx context.Context, r persistence.EventRange) iter.Seq2[domain.Event, error] {
	return func(yield func(domain.Event, error) bool) {
		for event, err := range l.stored(ctx, r) {
			if err != nil {
				yield(domain.Event{}, err)
				return
			}
			parts := slices.Collect(event.Parts())
			if r.Descending {
				slices.Reverse(parts)
			}
			for _, part := range parts {
				if !yield(part, nil) {
					return
				}
			}
		}
	}
}

// stored streams the events as they are stored, each as one.
func (l *EventSourcedLog) stored(ctx context.Context, r persistence.EventRange) iter.Seq2[domain.Event, error] {
	if l.app.closed.Load() {
		return func(yield func(domain.Event, error) bool) { yield(domain.Event{}, l.app.closedError()) }
	}
	if err := l.app.checkFormerNames(ctx); err != nil {
		return func(yield func(domain.Event, error) bool) { yield(domain.Event{}, err) }
	}
	return l.app.events.Get(ctx, l.id, r)
}
