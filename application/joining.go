package application

import (
	"context"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/telemetry"
)

// join returns an observer that calls all of these, in order. Nil observers are
// left out. A function that none of them has is nil.
func join(observers []*telemetry.Observer) *telemetry.Observer {
	joined := &telemetry.Observer{}
	for _, o := range observers {
		if o == nil {
			continue
		}
		joined.SaveStart = startBoth(joined.SaveStart, o.SaveStart)
		joined.SaveDone = doneBoth(joined.SaveDone, o.SaveDone)
		joined.LoadStart = startBoth(joined.LoadStart, o.LoadStart)
		joined.LoadDone = doneBoth(joined.LoadDone, o.LoadDone)
		joined.SnapshotDone = doneBoth(joined.SnapshotDone, o.SnapshotDone)
		joined.BatchStart = startBoth(joined.BatchStart, o.BatchStart)
		joined.BatchDone = doneBoth(joined.BatchDone, o.BatchDone)
		joined.HandleStart = startBoth(joined.HandleStart, o.HandleStart)
		joined.HandleDone = doneBoth(joined.HandleDone, o.HandleDone)
		joined.CallStart = startBoth(joined.CallStart, o.CallStart)
		joined.CallDone = doneBoth(joined.CallDone, o.CallDone)
		joined.FollowerChanged = doneBoth(joined.FollowerChanged, o.FollowerChanged)
		joined.EventParked = doneBoth(joined.EventParked, o.EventParked)
		joined.Metadata = metadataOfBoth(joined.Metadata, o.Metadata)
	}
	return joined
}

func startBoth[T any](first, second func(context.Context, T) context.Context) func(context.Context, T) context.Context {
	if first == nil || second == nil {
		return either(first, second)
	}
	return func(ctx context.Context, value T) context.Context { return second(first(ctx, value), value) }
}

func doneBoth[T any](first, second func(context.Context, T)) func(context.Context, T) {
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

func metadataOfBoth(first, second func(context.Context) domain.Metadata) func(context.Context) domain.Metadata {
	if first == nil {
		return second
	}
	if second == nil {
		return first
	}
	return func(ctx context.Context) domain.Metadata { return merged(first(ctx), second(ctx)) }
}

func either[T any](first, second func(context.Context, T) context.Context) func(context.Context, T) context.Context {
	if first == nil {
		return second
	}
	return first
}
