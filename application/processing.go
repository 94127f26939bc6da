package application

import (
	"context"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// ProcessingEvent is the processing of one event of an upstream application: the position that it moves to, and the new
// events that the policy collects. A policy uses it alone; it is not safe for concurrent use.
type ProcessingEvent struct {
	tracking persistence.Tracking
	changes  []domain.Changes
}

// NewProcessingEvent begins the processing of the event at a position.
func NewProcessingEvent(tracking persistence.Tracking) *ProcessingEvent {
	return &ProcessingEvent{tracking: tracking}
}

// Tracking is the position of the event that is processed.
func (p *ProcessingEvent) Tracking() persistence.Tracking { return p.tracking }

// Collect has the pending events of the changes stored together with the position. Nil changes are ignored.
func (p *ProcessingEvent) Collect(changes ...domain.Changes) {
	p.changes = append(p.changes, changes...)
}

// Record stores what a policy collected together with the position, or neither. Where the position is there already it
// returns a *persistence.TrackingError: another process of the same follower was faster, and nothing is lost.
func (a *Application) Record(ctx context.Context, p *ProcessingEvent) ([]persistence.Recording, error) {
	return a.record(ctx, p.changes, func(ctx context.Context, events []domain.Event) ([]persistence.Recording, error) {
		return a.events.PutProcessed(ctx, events, p.tracking)
	})
}

// StoreCollected stores what a policy collected and leaves the position alone, for a caller that processes several events
// in one transaction and moves the position at its end.
func (a *Application) StoreCollected(ctx context.Context, p *ProcessingEvent) ([]persistence.Recording, error) {
	if len(p.changes) == 0 { // as for most events of most logs
		return nil, a.ready(ctx)
	}
	return a.record(ctx, p.changes, a.events.Put)
}

type processingKey struct{}

// WithProcessing returns the context to call a policy with: saving in it is ErrSaveInPolicy.
func WithProcessing(ctx context.Context) context.Context {
	return context.WithValue(ctx, processingKey{}, true)
}

func isProcessing(ctx context.Context) bool {
	processing, _ := ctx.Value(processingKey{}).(bool)
	return processing
}
