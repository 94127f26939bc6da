package telemetry

import (
	"context"

	"github.com/eventsourcing-go/eventsourcing/domain"
)

// Join returns an observer that calls all of these, in order. Nil observers are
// left out. A function that none of them has is nil.
func Join(observers ...*Observer) *Observer {
	joined := &Observer{}
	for _, o := range observers {
		if o == nil {
			continue
		}
		joined.SaveStart = start(joined.SaveStart, o.SaveStart)
		joined.SaveDone = done(joined.SaveDone, o.SaveDone)
		joined.LoadStart = start(joined.LoadStart, o.LoadStart)
		joined.LoadDone = done(joined.LoadDone, o.LoadDone)
		joined.SnapshotDone = done(joined.SnapshotDone, o.SnapshotDone)
		joined.BatchStart = start(joined.BatchStart, o.BatchStart)
		joined.BatchDone = done(joined.BatchDone, o.BatchDone)
		joined.HandleStart = start(joined.HandleStart, o.HandleStart)
		joined.HandleDone = done(joined.HandleDone, o.HandleDone)
		joined.CallStart = start(joined.CallStart, o.CallStart)
		joined.CallDone = done(joined.CallDone, o.CallDone)
		joined.FollowerChanged = done(joined.FollowerChanged, o.FollowerChanged)
		joined.EventParked = done(joined.EventParked, o.EventParked)
		joined.Metadata = metadata(joined.Metadata, o.Metadata)
	}
	return joined
}

func start[T any](first, second func(context.Context, T) context.Context) func(context.Context, T) context.Context {
	if first == nil || second == nil {
		return either(first, second)
	}
	return func(ctx context.Context, value T) context.Context { return second(first(ctx, value), value) }
}

func done[T any](first, second func(context.Context, T)) func(context.Context, T) {
	if first == nil {
		return second
	}
	if second == nil {
		return first
	}
	return func(ctx context.Context, value T) {
		first(ctx, value)
		second(ctx, value)
	}
}

func metadata(first, second func(context.Context) domain.Metadata) func(context.Context) domain.Metadata {
	if first == nil {
		return second
	}
	if second == nil {
		return first
	}
	return func(ctx context.Context) domain.Metadata { return first(ctx).Merge(second(ctx)) }
}

func either[T any](first, second func(context.Context, T) context.Context) func(context.Context, T) context.Context {
	if first == nil {
		return second
	}
	return first
}
