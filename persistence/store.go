package persistence

import (
	"bytes"
	"context"
	"errors"
	"iter"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
)

// Recording is an event as it was recorded: the event with its position, and what was stored.
type Recording struct {
	Event        domain.Event
	Notification Notification
}

// EventStore stores and reads the events of an application: a mapper over a recorder. It is safe for concurrent use.
type EventStore struct {
	mapper   *Mapper
	recorder ProcessRecorder
}

// NewEventStore makes an EventStore.
func NewEventStore(mapper *Mapper, recorder ProcessRecorder) *EventStore {
	return &EventStore{mapper: mapper, recorder: recorder}
}

// Put stores the events, all or none, and returns them with their positions.
//
// A version conflict with the very same events, recognised by their event ids, is a success: they were stored by an
// earlier attempt whose answer was lost. Other conflicts are a *ConflictError. States in the original's layout have no
// event id; where such a state is stored already, to the last byte, Put returns ErrOutcomeUnknown.
func (s *EventStore) Put(ctx context.Context, events []domain.Event) ([]Recording, error) {
	return s.put(ctx, events, s.recorder.InsertEvents)
}

// PutProcessed stores the events that a follower made and moves its position, or does neither.
func (s *EventStore) PutProcessed(ctx context.Context, events []domain.Event, tracking Tracking) ([]Recording, error) {
	return s.put(ctx, events, func(ctx context.Context, stored []StoredEvent) ([]int64, error) {
		return s.recorder.InsertProcessed(ctx, stored, tracking)
	})
}

type insertFunc func(context.Context, []StoredEvent) ([]int64, error)

func (s *EventStore) put(ctx context.Context, events []domain.Event, insert insertFunc) ([]Recording, error) {
	stored := make([]StoredEvent, len(events))
	for i := range events {
		var err error
		if stored[i], err = s.mapper.ToStored(events[i]); err != nil {
			return nil, err
		}
	}
	ids, err := insert(ctx, stored)
	if conflict, ok := errors.AsType[*ConflictError](err); ok {
		ids, err = s.resolve(conflict, events, stored)
	}
	if err != nil {
		return nil, err
	}
	return s.recordings(events, stored, ids), nil
}

// resolve finds out whether the events that stand in the way are the ones that were to be stored.
func (s *EventStore) resolve(conflict *ConflictError, events []domain.Event, stored []StoredEvent) ([]int64, error) {
	if len(conflict.Stored) != len(stored) {
		return nil, conflict
	}
	places := make(map[domain.Originator]Notification, len(stored))
	for _, n := range conflict.Stored {
		places[domain.Originator{ID: n.OriginatorID, Version: n.OriginatorVersion}] = n
	}
	ids := make([]int64, len(stored))
	for i := range stored {
		n, ok := places[domain.Originator{ID: stored[i].OriginatorID, Version: stored[i].OriginatorVersion}]
		if !ok {
			return nil, conflict
		}
		if err := s.isSame(conflict, n, events[i], stored[i]); err != nil {
			return nil, err
		}
		ids[i] = n.ID
	}
	return ids, nil
}

// isSame returns nil where the stored notification is the event itself.
func (s *EventStore) isSame(conflict *ConflictError, n Notification, event domain.Event, stored StoredEvent) error {
	if id, ok := s.mapper.idOf(n.StoredEvent); ok && !s.mapper.original {
		if id == event.ID {
			return nil
		}
		return conflict
	}
	if n.Topic == stored.Topic && bytes.Equal(n.State, stored.State) {
		return &Error{Class: ErrOutcomeUnknown, Op: s.mapper.application + ": save", Err: conflict,
			Hint: "equal events are stored already, by an earlier attempt of this save or by somebody else; " +
				"the original's layout has no event ids to tell which"}
	}
	return conflict
}

func (s *EventStore) recordings(events []domain.Event, stored []StoredEvent, ids []int64) []Recording {
	recordings := make([]Recording, len(events))
	for i := range events {
		event := events[i]
		event.Application = s.mapper.application
		if ids != nil {
			event.NotificationID = ids[i]
		}
		recordings[i] = Recording{Event: event, Notification: Notification{ID: event.NotificationID, StoredEvent: stored[i]}}
	}
	return recordings
}

// Get streams the events of an originator. The first error ends the stream.
func (s *EventStore) Get(ctx context.Context, id uuid.UUID, r EventRange) iter.Seq2[domain.Event, error] {
	return mapped(s.recorder.SelectEvents(ctx, id, r), s.mapper.ToDomain)
}

// mapped maps a stream.
func mapped(stream iter.Seq2[StoredEvent, error], toDomain func(StoredEvent) (domain.Event, error)) iter.Seq2[domain.Event, error] {
	return func(yield func(domain.Event, error) bool) {
		for stored, err := range stream {
			var event domain.Event
			if err == nil {
				event, err = toDomain(stored)
			}
			if !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// SnapshotStore stores and reads the snapshots of an application. It is safe for concurrent use.
type SnapshotStore struct {
	mapper   *Mapper
	recorder AggregateRecorder
}

// NewSnapshotStore makes a SnapshotStore.
func NewSnapshotStore(mapper *Mapper, recorder AggregateRecorder) *SnapshotStore {
	return &SnapshotStore{mapper: mapper, recorder: recorder}
}

// Put stores a snapshot. A snapshot of that version that is there already is a success, because both say the same.
func (s *SnapshotStore) Put(ctx context.Context, snapshot domain.Event) error {
	stored, err := s.mapper.SnapshotToStored(snapshot)
	if err != nil {
		return err
	}
	_, err = s.recorder.InsertEvents(ctx, []StoredEvent{stored})
	if IsConflict(err) {
		return nil
	}
	return err
}

// Get streams the snapshots of an originator. The first error ends the stream.
func (s *SnapshotStore) Get(ctx context.Context, id uuid.UUID, r EventRange) iter.Seq2[domain.Event, error] {
	return mapped(s.recorder.SelectEvents(ctx, id, r), s.mapper.SnapshotToDomain)
}
