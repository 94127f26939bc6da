package application

import (
	"context"

	"github.com/eventsourcing-go/eventsourcing/domain"
)

type metadataKey struct{}

// WithMetadata returns a context whose saves add these metadata to every event, together with those that ctx has
// already. What an event was triggered with (domain.With) is not replaced.
func WithMetadata(ctx context.Context, m domain.Metadata) context.Context {
	return context.WithValue(ctx, metadataKey{}, MetadataFrom(ctx).Merge(m))
}

// WithCorrelationID is WithMetadata for the id of the conversation that a request belongs to. Followers hand it on to
// the events that they make.
func WithCorrelationID(ctx context.Context, id string) context.Context {
	return WithMetadata(ctx, domain.Metadata{domain.CorrelationID: id})
}

// WithCausationID is WithMetadata for the id of the command or event that causes what is saved.
func WithCausationID(ctx context.Context, id string) context.Context {
	return WithMetadata(ctx, domain.Metadata{domain.CausationID: id})
}

// MetadataFrom returns the metadata that ctx has, or nil. They must not be changed.
func MetadataFrom(ctx context.Context) domain.Metadata {
	m, _ := ctx.Value(metadataKey{}).(domain.Metadata)
	return m
}
