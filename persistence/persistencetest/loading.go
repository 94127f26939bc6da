package persistencetest

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// loadingRows are about capability.HistoryReader. A recorder that is none has
// nothing to show in them.
var loadingRows = []row{{
	name: "a history is the newest snapshot and the events from its version on",
	says: "SelectHistory returns the newest snapshot, and the event of its version and all later ones in ascending order.",
	run: loading(func(t testing.TB, s *store, r capability.HistoryReader) {
		s.events.insert(t, history(dog("Fido"), 1, 9)...)
		s.events.insert(t, history(dog("Rex"), 1, 3)...)
		s.snapshots.insert(t, topical(registered, dog("Fido"), 6))
		s.snapshots.insert(t, topical(registered, dog("Fido"), 2))
		s.snapshots.insert(t, topical(registered, dog("Rex"), 3))
		s.wantHistory(t, r, dog("Fido"), 0, 6, 6, 7, 8, 9)
		s.wantHistory(t, r, dog("Rex"), 0, 3, 3)
	}),
}, {
	name: "a history without a snapshot is all events",
	says: "Without a snapshot SelectHistory returns none and all events from the first on, which are none if the originator is unknown.",
	run: loading(func(t testing.TB, s *store, r capability.HistoryReader) {
		s.events.insert(t, history(dog("Fido"), 0, 4)...)
		s.events.insert(t, history(dog("Rex"), 1, 2)...)
		s.snapshots.insert(t, at(dog("Daisy"), 2))
		s.wantHistory(t, r, dog("Fido"), 0, none, 0, 1, 2, 3)
		s.wantHistory(t, r, dog("Rex"), 0, none, 1, 2)
		s.wantHistory(t, r, dog("Nobody"), 0, none)
	}),
}, {
	name: "a history ends before a version",
	says: "Before excludes snapshots and events of that version and later ones.",
	run: loading(func(t testing.TB, s *store, r capability.HistoryReader) {
		s.events.insert(t, history(dog("Fido"), 1, 9)...)
		for _, version := range []int64{3, 6, 9} {
			s.snapshots.insert(t, at(dog("Fido"), version))
		}
		s.wantHistory(t, r, dog("Fido"), 9, 6, 6, 7, 8)
		s.wantHistory(t, r, dog("Fido"), 7, 6, 6)
		s.wantHistory(t, r, dog("Fido"), 6, 3, 3, 4, 5)
		s.wantHistory(t, r, dog("Fido"), 3, none, 1, 2)
		s.wantHistory(t, r, dog("Fido"), 1, none)
		s.wantHistory(t, r, dog("Fido"), 100, 9, 9)
	}),
}, {
	name: "a snapshot without its event is returned",
	says: "The newest snapshot is returned although the event of its version is not stored, with the events of later versions if there are any.",
	run: loading(func(t testing.TB, s *store, r capability.HistoryReader) {
		s.events.insert(t, history(dog("Fido"), 1, 3)...)
		s.snapshots.insert(t, at(dog("Fido"), 2))
		s.snapshots.insert(t, at(dog("Fido"), 7))
		s.wantHistory(t, r, dog("Fido"), 0, 7)
		s.events.insert(t, beginning(history(dog("Rex"), 5, 2)...)...)
		s.snapshots.insert(t, at(dog("Rex"), 2))
		s.wantHistory(t, r, dog("Rex"), 0, 2, 5, 6)
		s.snapshots.insert(t, at(dog("Daisy"), 4))
		s.wantHistory(t, r, dog("Daisy"), 0, 4)
	}),
}, {
	name: "a history may be long",
	says: "The stream of a history does not end before its events do, however many there are.",
	run: loading(func(t testing.TB, s *store, r capability.HistoryReader) {
		const n = 1_100
		s.events.insert(t, history(dog("Fido"), 1, n)...)
		for _, before := range []int64{0, 500, 501, 502, 1000, 1001, 1002, n, n + 1, n + 2} {
			s.wantHistory(t, r, dog("Fido"), before, none, numbers(1, before, n)...)
		}
		s.snapshots.insert(t, at(dog("Fido"), 100))
		for _, before := range []int64{0, 600, 601, 1001, n + 1} {
			s.wantHistory(t, r, dog("Fido"), before, 100, numbers(100, before, n)...)
		}
	}),
}, {
	name: "a history is read at once",
	says: "What is stored after SelectHistory has returned is not in a short stream, which gives the same again.",
	run: loading(func(t testing.TB, s *store, r capability.HistoryReader) {
		s.events.insert(t, history(dog("Fido"), 1, 3)...)
		_, events, err := r.SelectHistory(s.ctx, dog("Fido"), 0)
		must(t, err)
		s.events.insert(t, history(dog("Fido"), 4, 2)...)
		s.snapshots.insert(t, at(dog("Fido"), 3))
		for range events {
			break
		}
		for range 2 {
			got, err := collect(events)
			if must(t, err); fmt.Sprint(versions(got)) != "[1 2 3]" {
				t.Errorf("got versions %v, want those stored before", versions(got))
			}
		}
		s.wantHistory(t, r, dog("Fido"), 0, 3, 3, 4, 5)
	}),
}, {
	name: "a history has only what is the application's",
	says: "SelectHistory returns neither a snapshot nor events of another application with the same originator.",
	run: loading(func(t testing.TB, s *store, r capability.HistoryReader) {
		s.neighbour.events.insert(t, history(dog("Daisy"), 1, 3)...)
		s.neighbour.snapshots.insert(t, at(dog("Daisy"), 2))
		s.wantHistory(t, r, dog("Daisy"), 0, none)
		s.events.insert(t, history(dog("Daisy"), 1, 1)...)
		s.wantHistory(t, r, dog("Daisy"), 0, none, 1)
		s.snapshots.insert(t, at(dog("Daisy"), 1))
		s.wantHistory(t, r, dog("Daisy"), 0, 1, 1)
	}),
}, {
	name: "a history that cannot be read",
	says: "A negative Before is an ErrProgramming, a closed store an ErrClosed.",
	run: loading(func(t testing.TB, s *store, r capability.HistoryReader) {
		_, _, err := r.SelectHistory(s.ctx, dog("Fido"), -1)
		wantInvalid(t, "SelectHistory", err, persistence.ErrProgramming)
		s.events.insert(t, at(dog("Fido"), 1))
		must(t, s.factory.Close())
		_, _, err = r.SelectHistory(s.ctx, dog("Fido"), 0)
		wantIs(t, "SelectHistory", err, persistence.ErrClosed)
		s.end(t)
	}),
}, {
	name:  "a transaction sees its own history",
	says:  "In a transaction SelectHistory returns what was stored in it, which is gone when it is rolled back.",
	needs: []Feature{Transaction},
	run: loading(func(t testing.TB, s *store, r capability.HistoryReader) {
		s.events.insert(t, history(dog("Fido"), 1, 2)...)
		undone := errors.New("undone")
		err := s.transaction(s.ctx, func(ctx context.Context) error {
			_, err := s.process.InsertEvents(ctx, history(dog("Fido"), 3, 2))
			must(t, err)
			_, err = s.snapshots.recorder.InsertEvents(ctx, history(dog("Fido"), 3, 1))
			must(t, err)
			wantHistory(t, ctx, r, dog("Fido"), 0, 3, 3, 4)
			return undone
		})
		wantIs(t, "Transaction", err, undone)
		s.wantHistory(t, r, dog("Fido"), 0, none, 1, 2)
	}),
}}

func loading(run func(t testing.TB, s *store, r capability.HistoryReader)) func(testing.TB, *store) {
	return func(t testing.TB, s *store) {
		if r, ok := s.process.(capability.HistoryReader); ok {
			run(t, s, r)
		}
	}
}

// none is the version of a snapshot that there is not.
const none int64 = -1

// numbers are the versions from first to before or, if that is 0 or too high,
// to last.
func numbers(first, before, last int64) []int64 {
	if before > 0 {
		last = min(last, before-1)
	}
	var all []int64
	for n := first; n <= last; n++ {
		all = append(all, n)
	}
	return all
}

// wantHistory reads a history and compares it with what was acknowledged. The
// versions of the snapshot and of the events are those that are wanted.
func (s *store) wantHistory(
	t testing.TB, r capability.HistoryReader, id uuid.UUID, before, snapshot int64, events ...int64,
) {
	t.Helper()
	gotSnapshot, gotEvents := wantHistory(t, s.ctx, r, id, before, snapshot, events...)
	if gotSnapshot != nil {
		want := s.snapshots.model.selected(id, persistence.EventRange{Before: before, Descending: true, Limit: 1})
		if problem := difference(unnumbered([]persistence.StoredEvent{*gotSnapshot}), unnumbered(want)); problem != "" {
			t.Errorf("the snapshot of SelectHistory(%s, %d): %s", id, before, problem)
		}
	}
	want := s.events.model.selected(id, persistence.EventRange{From: max(snapshot, 0), Before: before})
	if problem := difference(unnumbered(gotEvents), unnumbered(want)); problem != "" {
		t.Errorf("the events of SelectHistory(%s, %d): %s", id, before, problem)
	}
}

// wantHistory reads a history and compares its versions.
func wantHistory(
	t testing.TB, ctx context.Context, r capability.HistoryReader, id uuid.UUID, before, snapshot int64, events ...int64,
) (*persistence.StoredEvent, []persistence.StoredEvent) {
	t.Helper()
	gotSnapshot, stream, err := r.SelectHistory(ctx, id, before)
	if err != nil {
		t.Fatalf("SelectHistory(%s, %d): %v", id, before, err)
	}
	got, err := collect(stream)
	if err != nil {
		t.Fatalf("the events of SelectHistory(%s, %d): %v", id, before, err)
	}
	version := none
	if gotSnapshot != nil {
		version = gotSnapshot.OriginatorVersion
	}
	if version != snapshot || fmt.Sprint(versions(got)) != fmt.Sprint(events) {
		t.Errorf("SelectHistory(%s, %d): got the snapshot of version %d and the events %v, want %d and %v",
			id, before, version, versions(got), snapshot, events)
	}
	return gotSnapshot, got
}
