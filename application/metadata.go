package application

import (
	"context"
	"strings"

	"github.com/google/uuid"

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

// WithCause is WithMetadata for what an event causes: its id, and the conversation that it belongs to. Events of the
// original have no id.
func WithCause(ctx context.Context, event domain.Event) context.Context {
	return &caused{Context: ctx, id: event.ID, correlation: event.Metadata[domain.CorrelationID]}
}

// caused makes the metadata when somebody asks for them: most policies collect nothing for most events.
type caused struct {
	context.Context
	id          uuid.UUID
	correlation string
}

// Value implements context.Context.
func (c *caused) Value(key any) any {
	if key == (metadataKey{}) {
		return MetadataFrom(c.Context).Merge(c.metadata())
	}
	return c.Context.Value(key)
}

func (c *caused) metadata() domain.Metadata {
	m := domain.Metadata{}
	if c.id != uuid.Nil {
		m[domain.CausationID] = c.id.String()
	}
	if c.correlation != "" {
		// Versions of this package that did not refuse invalid text may have stored
		// some. A follower must not stop at it for ever.
		m[domain.CorrelationID] = strings.ToValidUTF8(c.correlation, "\uFFFD")
	}
	return m
}
