package persistencetest

import (
	"context"
	"iter"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/doctored"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

// readFunc is SelectHistory, with the recorder whose method it replaces.
type readFunc = func(context.Context, *doctored.HistoryRecorder, uuid.UUID, int64) (
	*persistence.StoredEvent, iter.Seq2[persistence.StoredEvent, error], error)

// loadingBugs are mistakes in SelectHistory. That of the name "none" is none.
var loadingBugs = map[string]readFunc{
	"none": nil,
	"the snapshot may be of any version": func(ctx context.Context, r *doctored.HistoryRecorder, id uuid.UUID, before int64) (
		*persistence.StoredEvent, iter.Seq2[persistence.StoredEvent, error], error,
	) {
		snapshot, _, err := r.Read(ctx, id, 0)
		if snapshot == nil || err != nil {
			return r.Read(ctx, id, before)
		}
		return snapshot, r.SelectEvents(ctx, id, persistence.EventRange{From: snapshot.OriginatorVersion, Before: before}), nil
	},
	"the events do not end": func(ctx context.Context, r *doctored.HistoryRecorder, id uuid.UUID, before int64) (
		*persistence.StoredEvent, iter.Seq2[persistence.StoredEvent, error], error,
	) {
		snapshot, _, err := r.Read(ctx, id, before)
		if snapshot == nil || err != nil {
			return r.Read(ctx, id, 0)
		}
		return snapshot, r.SelectEvents(ctx, id, persistence.EventRange{From: snapshot.OriginatorVersion}), nil
	},
	"the events begin after the snapshot": changed(func(snapshot *persistence.StoredEvent, events []persistence.StoredEvent) (
		*persistence.StoredEvent, []persistence.StoredEvent,
	) {
		if snapshot != nil && len(events) > 0 && events[0].OriginatorVersion == snapshot.OriginatorVersion {
			events = events[1:]
		}
		return snapshot, events
	}),
	"the events begin with the first": func(ctx context.Context, r *doctored.HistoryRecorder, id uuid.UUID, before int64) (
		*persistence.StoredEvent, iter.Seq2[persistence.StoredEvent, error], error,
	) {
		snapshot, _, err := r.Read(ctx, id, before)
		return snapshot, r.SelectEvents(ctx, id, persistence.EventRange{Before: before}), err
	},
	"a snapshot without its event is not found": changed(func(snapshot *persistence.StoredEvent, events []persistence.StoredEvent) (
		*persistence.StoredEvent, []persistence.StoredEvent,
	) {
		if len(events) == 0 || snapshot != nil && events[0].OriginatorVersion != snapshot.OriginatorVersion {
			snapshot = nil
		}
		return snapshot, events
	}),
	"the oldest snapshot": func(ctx context.Context, r *doctored.HistoryRecorder, id uuid.UUID, before int64) (
		*persistence.StoredEvent, iter.Seq2[persistence.StoredEvent, error], error,
	) {
		for first, err := range r.Snapshots.SelectEvents(ctx, id, persistence.EventRange{Before: before, Limit: 1}) {
			return &first, r.SelectEvents(ctx, id, persistence.EventRange{From: first.OriginatorVersion, Before: before}), err
		}
		return r.Read(ctx, id, before)
	},
	"one page": changed(func(snapshot *persistence.StoredEvent, events []persistence.StoredEvent) (
		*persistence.StoredEvent, []persistence.StoredEvent,
	) {
		return snapshot, events[:min(len(events), 500)]
	}),
	"the second page begins with the first one's last event": changed(func(
		snapshot *persistence.StoredEvent, events []persistence.StoredEvent,
	) (*persistence.StoredEvent, []persistence.StoredEvent) {
		if len(events) < 500 {
			return snapshot, events
		}
		return snapshot, append(events[:500:500], events[499:]...)
	}),
	"another topic": changed(func(snapshot *persistence.StoredEvent, events []persistence.StoredEvent) (
		*persistence.StoredEvent, []persistence.StoredEvent,
	) {
		if snapshot != nil && len(events) > 0 {
			snapshot.Topic = events[0].Topic
		}
		return snapshot, events
	}),
	"read later": func(ctx context.Context, r *doctored.HistoryRecorder, id uuid.UUID, before int64) (
		*persistence.StoredEvent, iter.Seq2[persistence.StoredEvent, error], error,
	) {
		snapshot, _, err := r.Read(ctx, id, before)
		if err != nil {
			return nil, nil, err
		}
		return snapshot, func(yield func(persistence.StoredEvent, error) bool) {
			if _, events, err := r.Read(ctx, id, before); err != nil {
				yield(persistence.StoredEvent{}, err)
			} else {
				events(yield)
			}
		}, nil
	},
	"outside of the transaction": func(ctx context.Context, r *doctored.HistoryRecorder, id uuid.UUID, before int64) (
		*persistence.StoredEvent, iter.Seq2[persistence.StoredEvent, error], error,
	) {
		return r.Read(context.Background(), id, before)
	},
	"any range": func(ctx context.Context, r *doctored.HistoryRecorder, id uuid.UUID, before int64) (
		*persistence.StoredEvent, iter.Seq2[persistence.StoredEvent, error], error,
	) {
		return r.Read(ctx, id, max(before, 0))
	},
	"a closed store is empty": func(ctx context.Context, r *doctored.HistoryRecorder, id uuid.UUID, before int64) (
		*persistence.StoredEvent, iter.Seq2[persistence.StoredEvent, error], error,
	) {
		snapshot, events, err := r.Read(ctx, id, before)
		if before == 0 && err != nil {
			return nil, doctored.Stream(nil), nil
		}
		return snapshot, events, err
	},
}

// changed reads a history and changes it.
func changed(change func(*persistence.StoredEvent, []persistence.StoredEvent) (
	*persistence.StoredEvent, []persistence.StoredEvent),
) readFunc {
	return func(ctx context.Context, r *doctored.HistoryRecorder, id uuid.UUID, before int64) (
		*persistence.StoredEvent, iter.Seq2[persistence.StoredEvent, error], error,
	) {
		snapshot, stream, err := r.Read(ctx, id, before)
		if err != nil {
			return nil, nil, err
		}
		events, err := collect(stream)
		snapshot, events = change(snapshot, events)
		return snapshot, doctored.Stream(events), err
	}
}

// Every bug of SelectHistory is found by a row, and a store without one passes.
func TestSeededBugsOfLoading(t *testing.T) {
	for name, bug := range loadingBugs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := Harness{
				New: func(testing.TB) persistence.Factory {
					return &doctored.HistoryStore{Store: memory.New(), Select: bug}
				},
				Transaction: func(ctx context.Context, f persistence.Factory, fn func(context.Context) error) error {
					return f.(*doctored.HistoryStore).Transaction(ctx, fn)
				},
			}
			var caught []string
			rows, _ := divide(h)
			for _, r := range rows {
				if r.group == "loading" && record(t, func(t testing.TB) { r.exercise(t, h) }).Failed() {
					caught = append(caught, r.fullName())
				}
			}
			if (len(caught) > 0) != (bug != nil) {
				t.Fatalf("caught by %q, want some exactly if there is a bug", caught)
			}
			t.Logf("caught by:\n\t%s", strings.Join(caught, "\n\t"))
		})
	}
}
