package application

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/telemetry"
)

// WithObserver has the application report what it does. A follower reports to
// the observer of its own application; see package telemetry. Given several
// times, all observers are told. Without it nothing is measured.
func WithObserver(observer *telemetry.Observer) Option {
	return func(c *config) { c.observer = telemetry.Join(c.observer, observer) }
}

// put stores the events of a save and reports it to the observer.
func (a *Application) put(ctx context.Context, w *work) ([]mapper.Recording, error) {
	o := a.observer
	if o.SaveStart == nil && o.SaveDone == nil {
		w.addMetadata(a.metadataOf(ctx))
		return a.events.Put(ctx, w.events)
	}
	save := telemetry.Save{Application: a.name, Originators: w.originators(), Events: len(w.events),
		InTransaction: persistence.TransactionFrom(ctx) != nil, Start: time.Now()}
	if o.SaveStart != nil {
		ctx = o.SaveStart(ctx, save)
	}
	w.addMetadata(a.metadataOf(ctx))
	timing := &telemetry.Timing{}
	recordings, err := a.events.Put(telemetry.WithTiming(ctx, timing), w.events)
	if o.SaveDone == nil {
		return recordings, err
	}
	save.Duration, save.Err = time.Since(save.Start), err
	timing.AddTo(&save)
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

// loading is a load that is observed: where the aggregate came from.
type loading struct {
	source telemetry.Source
	from   int64 // the version that the source had
}

type loadingKey struct{}

// isLoadObserved reports whether loads are reported.
func (a *Application) isLoadObserved() bool {
	return a.observer.LoadStart != nil || a.observer.LoadDone != nil
}

// loadedFrom takes down what an aggregate is loaded from, if that is observed.
func (r *Repository[T]) loadedFrom(ctx context.Context, source telemetry.Source, aggregate *T) {
	if !r.app.isLoadObserved() {
		return
	}
	if l, ok := ctx.Value(loadingKey{}).(*loading); ok {
		*l = loading{source, r.definition.Root(aggregate).Version()}
	}
}

// observed reports a load to the observer.
func (r *Repository[T]) observed(
	ctx context.Context, id uuid.UUID, load func(context.Context) (*T, error),
) (*T, error) {
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
