package application

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/internal/timing"
	"github.com/eventsourcing-go/eventsourcing/internal/txscope"
	"github.com/eventsourcing-go/eventsourcing/telemetry"
)

// WithObserver makes the application report what it does to an observer; see
// package telemetry. A follower reports to the observer of the application that
// it belongs to. If the option is given several times, all observers are
// called. Without it nothing is measured. If a function of an observer panics,
// the application logs the panic and goes on.
func WithObserver(observer *telemetry.Observer) Option {
	return func(c *config) { c.observers = append(c.observers, observer) }
}

// joined returns one observer for all of these. It is never nil.
func joined(observers []*telemetry.Observer, logger *slog.Logger) *telemetry.Observer {
	guarded := make([]*telemetry.Observer, len(observers))
	for i, o := range observers {
		if o != nil {
			guarded[i] = observerGuard{logger}.guarded(o)
		}
	}
	return join(guarded)
}

// observerGuard keeps what an observer does wrong from what is observed: events
// are stored when SaveDone is called, and an event is not at fault if HandleDone
// panics.
type observerGuard struct{ logger *slog.Logger }

// guarded returns an observer whose functions do not panic. Those that are nil
// stay nil.
func (g observerGuard) guarded(o *telemetry.Observer) *telemetry.Observer {
	return &telemetry.Observer{
		SaveStart: guardedStart(g, "SaveStart", o.SaveStart), SaveDone: guardedDone(g, "SaveDone", o.SaveDone),
		Metadata:  g.guardedMetadata(o.Metadata),
		LoadStart: guardedStart(g, "LoadStart", o.LoadStart), LoadDone: guardedDone(g, "LoadDone", o.LoadDone),
		SnapshotDone: guardedDone(g, "SnapshotDone", o.SnapshotDone),
		BatchStart:   guardedStart(g, "BatchStart", o.BatchStart), BatchDone: guardedDone(g, "BatchDone", o.BatchDone),
		HandleStart: guardedStart(g, "HandleStart", o.HandleStart), HandleDone: guardedDone(g, "HandleDone", o.HandleDone),
		CallStart: guardedStart(g, "CallStart", o.CallStart), CallDone: guardedDone(g, "CallDone", o.CallDone),
		FollowerChanged: guardedDone(g, "FollowerChanged", o.FollowerChanged),
		EventParked:     guardedDone(g, "EventParked", o.EventParked),
	}
}

// guardedStart returns f, which then returns the context that it was given if
// it panics or returns nil.
func guardedStart[T any](
	g observerGuard, name string, f func(context.Context, T) context.Context,
) func(context.Context, T) context.Context {
	if f == nil {
		return nil
	}
	return func(given context.Context, value T) (ctx context.Context) {
		defer func() {
			g.recovered(given, name, recover())
			if ctx == nil {
				ctx = given
			}
		}()
		return f(given, value)
	}
}

func guardedDone[T any](g observerGuard, name string, f func(context.Context, T)) func(context.Context, T) {
	if f == nil {
		return nil
	}
	return func(ctx context.Context, value T) {
		defer func() { g.recovered(ctx, name, recover()) }()
		f(ctx, value)
	}
}

func (g observerGuard) guardedMetadata(f func(context.Context) domain.Metadata) func(context.Context) domain.Metadata {
	if f == nil {
		return nil
	}
	return func(ctx context.Context) domain.Metadata {
		defer func() { g.recovered(ctx, "Metadata", recover()) }()
		return f(ctx)
	}
}

// recovered logs what a function of an observer has panicked with, if it has.
func (g observerGuard) recovered(ctx context.Context, name string, value any) {
	if value != nil {
		g.logger.ErrorContext(ctx, "an observer panicked; mend it, or leave it out", "function", name,
			"panic", fmt.Sprint(value), "stack", string(debug.Stack()))
	}
}

// put stores the events of a save and reports it to the observer.
func (a *Application) put(ctx context.Context, w *work) ([]mapper.Recording, error) {
	o := a.observer
	if o.SaveStart == nil && o.SaveDone == nil {
		w.addMetadata(a.metadataOf(ctx))
		return a.events.Put(ctx, w.events)
	}
	save := telemetry.Save{Application: a.name, Originators: w.originators(), Events: len(w.events),
		InTransaction: txscope.From(ctx) != nil, Start: time.Now()}
	if o.SaveStart != nil {
		ctx = o.SaveStart(ctx, save)
	}
	w.addMetadata(a.metadataOf(ctx))
	times := &timing.Timing{}
	recordings, err := a.events.Put(timing.With(ctx, times), w.events)
	if o.SaveDone == nil {
		return recordings, err
	}
	save.Duration, save.Err = time.Since(save.Start), err
	save.Wait, save.Write, save.Together = times.Times()
	if len(recordings) > 0 {
		save.Position = recordings[len(recordings)-1].Notification.ID
	}
	o.SaveDone(ctx, save)
	return recordings, err
}

// originators returns the aggregates of a save, each once.
func (w *work) originators() []uuid.UUID {
	var ids []uuid.UUID
	seen := make(map[uuid.UUID]bool, 1)
	for i := range w.events {
		if id := w.events[i].OriginatorID; !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	return ids
}

// loading is a load that is observed, with the source of the aggregate.
type loading struct {
	source string
	from   int64 // the version that the source had
}

type loadingKey struct{}

// isLoadObserved reports whether loads are reported.
func (a *Application) isLoadObserved() bool {
	return a.observer.LoadStart != nil || a.observer.LoadDone != nil
}

// loadedFrom takes down what an aggregate is loaded from, if that is observed.
func (r *aggregates) loadedFrom(ctx context.Context, source string, aggregate any) {
	if !r.app.isLoadObserved() {
		return
	}
	if l, ok := ctx.Value(loadingKey{}).(*loading); ok {
		*l = loading{source, r.definition.Root(aggregate).Version()}
	}
}

// observed reports a load to the observer.
func (r *aggregates) observed(
	ctx context.Context, id uuid.UUID, load func(context.Context) (any, error),
) (any, error) {
	o := r.app.observer
	made := telemetry.Load{Application: r.app.name, Definition: r.definition.Name(), OriginatorID: id, Start: time.Now()}
	if o.LoadStart != nil {
		ctx = o.LoadStart(ctx, made)
	}
	l := &loading{}
	aggregate, err := load(context.WithValue(ctx, loadingKey{}, l))
	if o.LoadDone == nil {
		return aggregate, err
	}
	made.Duration, made.Err = time.Since(made.Start), err
	if err == nil {
		made.Source, made.Version = l.source, r.definition.Root(aggregate).Version()
		made.Replayed = made.Version - l.from
	}
	o.LoadDone(ctx, made)
	return aggregate, err
}

// snapshotDone reports a snapshot to the observer.
func (a *Application) snapshotDone(ctx context.Context, s telemetry.Snapshot) {
	if a.observer.SnapshotDone != nil {
		s.Application = a.name
		a.observer.SnapshotDone(ctx, s)
	}
}
