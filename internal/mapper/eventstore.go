package mapper

import (
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Recording is an event as it was recorded: the event with its position, and
// what was stored.
type Recording struct {
	Event        domain.Event
	Notification persistence.Notification
}

// EventStore stores and reads the events of an application: a mapper over a
// recorder. It is safe for concurrent use.
type EventStore struct {
	mapper   *Mapper
	recorder persistence.AggregateRecorder
	history  capability.HistoryReader // nil if the recorder is none
}

// NewEventStore makes an EventStore.
func NewEventStore(mapper *Mapper, recorder persistence.AggregateRecorder) *EventStore {
	history := capability.OfRecorder(recorder).History
	return &EventStore{mapper: mapper, recorder: recorder, history: history}
}

// Put stores the events, all or none, and returns them with their positions.
//
// A version conflict with the very same events, recognised by their event ids,
// is a success: they were stored by an earlier attempt whose answer was lost.
// Other conflicts are a *ConflictError, or an ErrOriginatorType if the
// originator belongs to another definition. States in the Python library's
// layout have no event id; where such a state is stored already, equal to the
// last byte when it is decrypted, Put returns ErrOutcomeUnknown.
func (s *EventStore) Put(ctx context.Context, events []domain.Event) ([]Recording, error) {
	stored := make([]persistence.StoredEvent, len(events))
	for i := range events {
		var err error
		if stored[i], err = s.mapper.ToStored(events[i]); err != nil {
			return nil, err
		}
	}
	ids, err := s.recorder.InsertEvents(ctx, stored)
	if conflict, ok := errors.AsType[*persistence.ConflictError](err); ok {
		if ids, err = s.resolve(conflict, events, stored); persistence.IsConflict(err) {
			conflict.Exists = !conflict.Gap && slices.ContainsFunc(stored, func(e persistence.StoredEvent) bool {
				return e.OriginatorID == conflict.OriginatorID && e.OriginatorVersion == conflict.Version && begins(e)
			})
			err = s.checkDefinition(ctx, conflict, stored, err)
		}
	}
	if err != nil {
		return nil, err
	}
	return s.recordings(events, stored, ids), nil
}

// initialVersion is the version of the first event of an originator, unless its
// definition says otherwise.
const initialVersion = 1

// begins reports whether the event may be the first of its originator.
func begins(e persistence.StoredEvent) bool {
	return e.Begins || e.OriginatorVersion <= initialVersion && !e.Continues
}

// checkDefinition returns an ErrOriginatorType in place of a conflict if the
// stored events of the originator belong to another definition.
func (s *EventStore) checkDefinition(ctx context.Context, conflict *persistence.ConflictError, stored []persistence.StoredEvent, err error) error {
	wanted := ""
	for i := range stored {
		if stored[i].OriginatorID == conflict.OriginatorID {
			wanted = stored[i].Topic
			break
		}
	}
	for first, failed := range s.recorder.SelectEvents(ctx, conflict.OriginatorID, persistence.EventRange{Limit: 1}) {
		if failed != nil {
			return err // the conflict is what the caller has to know
		}
		if wrong := s.mapper.CheckDefinition(first, wanted); wrong != nil {
			return wrong
		}
	}
	return err
}

// resolve finds out whether the events in the way are the ones that were to be
// stored.
func (s *EventStore) resolve(conflict *persistence.ConflictError, events []domain.Event, stored []persistence.StoredEvent) ([]int64, error) {
	if len(conflict.Stored) != len(stored) {
		return nil, conflict
	}
	type place struct {
		originator uuid.UUID
		version    int64
	}
	places := make(map[place]persistence.Notification, len(stored))
	for _, n := range conflict.Stored {
		places[place{n.OriginatorID, n.OriginatorVersion}] = n
	}
	ids, certain := make([]int64, len(stored)), true
	for i := range stored {
		n, ok := places[place{stored[i].OriginatorID, stored[i].OriginatorVersion}]
		if !ok {
			return nil, conflict
		}
		same, byID := s.isSame(n, events[i], stored[i])
		if !same {
			return nil, conflict
		}
		certain = certain && byID
		ids[i] = n.ID
	}
	if !certain {
		return nil, &persistence.Error{Class: persistence.ErrOutcomeUnknown, Op: s.mapper.application + ": save", Err: conflict,
			Hint: "equal events are stored already, by an earlier attempt of this save or by another writer; " +
				"the original's layout has no event ids to tell which"}
	}
	return ids, nil
}

// isSame reports whether the stored notification is the event itself. Without
// event ids it reports whether the two are equal, which is not certain to mean
// the same.
func (s *EventStore) isSame(n persistence.Notification, event domain.Event, stored persistence.StoredEvent) (same, certain bool) {
	if id, ok := s.mapper.idOf(n.StoredEvent); ok && !s.mapper.pythonLayout {
		return id == event.ID, true
	}
	return s.mapper.isSame(&n.StoredEvent, &stored), false
}

func (s *EventStore) recordings(events []domain.Event, stored []persistence.StoredEvent, ids []int64) []Recording {
	recordings := make([]Recording, len(events))
	for i := range events {
		event := events[i]
		event.Application = s.mapper.application
		if ids != nil {
			event.NotificationID = ids[i]
		}
		recordings[i] = Recording{Event: event, Notification: persistence.Notification{ID: event.NotificationID, StoredEvent: stored[i]}}
	}
	return recordings
}

// Get streams the events of an originator. The first error ends the stream.
func (s *EventStore) Get(ctx context.Context, id uuid.UUID, r persistence.EventRange) iter.Seq2[domain.Event, error] {
	return mapped(s.recorder.SelectEvents(ctx, id, r), s.mapper.ToDomain)
}

// GetSince is Get for the events since one that is known already, which begin
// with it. Of that one it tells no more than which event it is, as Identify
// does.
func (s *EventStore) GetSince(ctx context.Context, id uuid.UUID, r persistence.EventRange) iter.Seq2[domain.Event, error] {
	return s.since(s.recorder.SelectEvents(ctx, id, r))
}

// since maps a stream that begins with an event that is known already.
func (s *EventStore) since(stream iter.Seq2[persistence.StoredEvent, error]) iter.Seq2[domain.Event, error] {
	return func(yield func(domain.Event, error) bool) {
		isKnown := true
		mapped(stream, func(stored persistence.StoredEvent) (domain.Event, error) {
			if isKnown {
				isKnown = false
				return s.mapper.Identify(stored)
			}
			return s.mapper.ToDomain(stored)
		})(yield)
	}
}

// ReadsHistory reports whether the store can read a snapshot and events at once.
func (s *EventStore) ReadsHistory() bool { return s.history != nil }

// History returns the newest snapshot of an originator as it is stored, or nil
// if it has none, and a stream of the events: without a snapshot all of them as
// by Get, otherwise those from its version on as by GetSince. See
// capability.HistoryReader. ReadsHistory must be true.
func (s *EventStore) History(ctx context.Context, id uuid.UUID, before int64) (
	snapshot *persistence.StoredEvent, events iter.Seq2[domain.Event, error], err error,
) {
	snapshot, stored, err := s.history.SelectHistory(ctx, id, before)
	if err != nil {
		return nil, nil, err
	}
	if snapshot != nil {
		return snapshot, s.since(stored), nil
	}
	return nil, mapped(stored, s.mapper.ToDomain), nil
}

// mapped maps a stream.
func mapped(stream iter.Seq2[persistence.StoredEvent, error], toDomain func(persistence.StoredEvent) (domain.Event, error)) iter.Seq2[domain.Event, error] {
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
