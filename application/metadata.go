package application

import (
	"context"
	"maps"
	"strings"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
)

type metadataKey struct{}

// WithMetadata returns a context whose saves add these metadata to every event,
// together with those that ctx has already. What an event was triggered with
// (domain.With) is not replaced. Followers hand the domain.CorrelationID, which
// names the conversation that a request belongs to, on to the events that they
// make.
func WithMetadata(ctx context.Context, m domain.Metadata) context.Context {
	return context.WithValue(ctx, metadataKey{}, merged(MetadataFrom(ctx), m))
}

// MetadataFrom returns the metadata that ctx has, or nil. They must not be
// changed.
func MetadataFrom(ctx context.Context) domain.Metadata {
	m, _ := ctx.Value(metadataKey{}).(domain.Metadata)
	return m
}

// merged returns new metadata with the entries of both; if both have a key,
// other wins. It returns nil if both are empty.
func merged(m, other domain.Metadata) domain.Metadata {
	if len(m) == 0 && len(other) == 0 {
		return nil
	}
	merged := make(domain.Metadata, len(m)+len(other))
	maps.Copy(merged, m)
	maps.Copy(merged, other)
	return merged
}

// handling is the context of a handler that processes an event. It makes the
// metadata of what the event causes only if something is saved: most handlers
// save nothing for most events.
type handling struct {
	context.Context
	id          uuid.UUID
	correlation string
	saves       bridge.Saves // told of each save; may be nil
}

func withCause(ctx context.Context, event domain.Event, saves bridge.Saves) context.Context {
	return &handling{Context: ctx, id: event.ID, correlation: event.Metadata[domain.CorrelationID], saves: saves}
}

type handlingKey struct{}

// handlingFrom returns the handling that ctx is part of, or nil.
func handlingFrom(ctx context.Context) *handling {
	h, _ := ctx.Value(handlingKey{}).(*handling)
	return h
}

// Value implements context.Context.
func (h *handling) Value(key any) any {
	switch key {
	case metadataKey{}:
		return merged(MetadataFrom(h.Context), h.metadata())
	case handlingKey{}:
		return h
	}
	return h.Context.Value(key)
}

// metadata returns the metadata of what the event causes. Events that Python
// has stored have no id.
func (h *handling) metadata() domain.Metadata {
	m := domain.Metadata{}
	if h.id != uuid.Nil {
		m[domain.CausationID] = h.id.String()
	}
	if h.correlation != "" {
		// Versions of this package that did not refuse invalid text may have
		// stored some. A follower must not stop at it for ever.
		m[domain.CorrelationID] = strings.ToValidUTF8(h.correlation, "\uFFFD")
	}
	return m
}
