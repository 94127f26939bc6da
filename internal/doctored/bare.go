package doctored

import (
	"context"

	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

// BareStore is a store as another module may have it: it implements
// persistence.Factory and Transactor, and none of internal/capability.
type BareStore struct{ store *memory.Store }

// NewBareStore makes an empty store in memory.
func NewBareStore() *BareStore { return &BareStore{memory.New()} }

// ProcessRecorder implements persistence.Factory.
func (s *BareStore) ProcessRecorder(application string) (persistence.ProcessRecorder, error) {
	r, err := s.store.ProcessRecorder(application)
	if err != nil {
		return nil, err
	}
	return struct{ persistence.ProcessRecorder }{r}, nil
}

// SnapshotRecorder implements persistence.Factory.
func (s *BareStore) SnapshotRecorder(application string) (persistence.AggregateRecorder, error) {
	r, err := s.store.SnapshotRecorder(application)
	if err != nil {
		return nil, err
	}
	return struct{ persistence.AggregateRecorder }{r}, nil
}

// Transaction implements persistence.Transactor.
func (s *BareStore) Transaction(ctx context.Context, fn func(ctx context.Context) error) error {
	return s.store.Transaction(ctx, fn)
}

// Close implements persistence.Factory.
func (s *BareStore) Close() error { return s.store.Close() }
