package doctored

import (
	"context"
	"iter"
	"slices"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

// HistoryStore is a store in memory that also reads a snapshot and events at
// once.
type HistoryStore struct {
	*memory.Store

	// Select is called in place of SelectHistory, if it is set.
	Select func(ctx context.Context, r *HistoryRecorder, id uuid.UUID, before int64) (
		*persistence.StoredEvent, iter.Seq2[persistence.StoredEvent, error], error)
}

// ProcessRecorder makes a *HistoryRecorder.
func (s *HistoryStore) ProcessRecorder(application string) (persistence.ProcessRecorder, error) {
	events, err := s.Store.ProcessRecorder(application)
	if err != nil {
		return nil, err
	}
	snapshots, err := s.SnapshotRecorder(application)
	if err != nil {
		return nil, err
	}
	return &HistoryRecorder{ProcessRecorder: events, Snapshots: snapshots, store: s}, nil
}

// HistoryRecorder is a capability.HistoryReader.
type HistoryRecorder struct {
	persistence.ProcessRecorder
	Snapshots persistence.AggregateRecorder
	store     *HistoryStore
}

// SelectHistory implements capability.HistoryReader.
func (r *HistoryRecorder) SelectHistory(ctx context.Context, id uuid.UUID, before int64) (
	*persistence.StoredEvent, iter.Seq2[persistence.StoredEvent, error], error,
) {
	if r.store.Select != nil {
		return r.store.Select(ctx, r, id, before)
	}
	return r.Read(ctx, id, before)
}

// Read is SelectHistory as it should be.
func (r *HistoryRecorder) Read(ctx context.Context, id uuid.UUID, before int64) (
	*persistence.StoredEvent, iter.Seq2[persistence.StoredEvent, error], error,
) {
	newest := persistence.EventRange{Before: before, Descending: true, Limit: 1}
	snapshots, err := collect(r.Snapshots.SelectEvents(ctx, id, newest))
	if err != nil {
		return nil, nil, err
	}
	from, snapshot := int64(0), (*persistence.StoredEvent)(nil)
	if len(snapshots) > 0 {
		snapshot, from = &snapshots[0], snapshots[0].OriginatorVersion
	}
	events, err := collect(r.SelectEvents(ctx, id, persistence.EventRange{From: from, Before: before}))
	return snapshot, Stream(events), err
}

// Stream is a stream of events.
func Stream(events []persistence.StoredEvent) iter.Seq2[persistence.StoredEvent, error] {
	return func(yield func(persistence.StoredEvent, error) bool) {
		for _, e := range slices.Clone(events) {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func collect(stream iter.Seq2[persistence.StoredEvent, error]) ([]persistence.StoredEvent, error) {
	var events []persistence.StoredEvent
	for e, err := range stream {
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, nil
}
