package persistencetest

import (
	"testing"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// lifecycleRows are about opening and closing.
var lifecycleRows = []row{{
	name: "closing twice succeeds",
	says: "Closing a factory that is closed does nothing, and is no error.",
	run: func(t testing.TB, s *store) {
		s.events.insert(t, at(dog("Fido"), 1))
		for range 3 {
			if err := s.factory.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
		s.end(t)
	},
}, {
	name: "closing at once by many succeeds",
	says: "A factory may be closed by several goroutines at once.",
	run: func(t testing.TB, s *store) {
		must(t, race(racers, func(int) error { return s.factory.Close() })...)
		s.end(t)
	},
}, {
	name: "a closed store does not write",
	says: "Every write after Close is an ErrClosed, and stores nothing.",
	run: func(t testing.TB, s *store) {
		s.events.insert(t, at(dog("Fido"), 1))
		must(t, s.factory.Close())
		_, err := s.process.InsertEvents(s.ctx, history(dog("Fido"), 2, 1))
		wantIs(t, "InsertEvents", err, persistence.ErrClosed)
		_, err = s.process.InsertProcessed(s.ctx, history(dog("Fido"), 2, 1), tracking(kennels, 1))
		wantIs(t, "InsertProcessed", err, persistence.ErrClosed)
		wantIs(t, "InsertTracking", s.process.InsertTracking(s.ctx, tracking(kennels, 1)), persistence.ErrClosed)
		_, err = s.snapshots.recorder.InsertEvents(s.ctx, history(dog("Fido"), 2, 1))
		wantIs(t, "InsertEvents of snapshots", err, persistence.ErrClosed)
		s.end(t)
	},
}, {
	name: "a closed store does not read",
	says: "Every read after Close is an ErrClosed, so that a closed store is not taken for an empty one.",
	run: func(t testing.TB, s *store) {
		s.events.insert(t, at(dog("Fido"), 1))
		s.snapshots.insert(t, at(dog("Fido"), 1))
		must(t, s.factory.Close())
		_, err := collect(s.process.SelectEvents(s.ctx, dog("Fido"), persistence.EventRange{}))
		wantIs(t, "SelectEvents", err, persistence.ErrClosed)
		_, err = s.process.SelectNotifications(s.ctx, persistence.NotificationRange{Limit: 1})
		wantIs(t, "SelectNotifications", err, persistence.ErrClosed)
		_, err = s.process.MaxNotificationID(s.ctx)
		wantIs(t, "MaxNotificationID", err, persistence.ErrClosed)
		_, err = s.process.MaxTrackingID(s.ctx, kennels)
		wantIs(t, "MaxTrackingID", err, persistence.ErrClosed)
		_, err = collect(s.snapshots.recorder.SelectEvents(s.ctx, dog("Fido"), persistence.EventRange{}))
		wantIs(t, "SelectEvents of snapshots", err, persistence.ErrClosed)
		s.end(t)
	},
}, {
	name: "an ErrClosed is an ErrInterface",
	says: "The use of a closed store belongs to the class ErrInterface: the program is at fault, and not the database.",
	run: func(t testing.TB, s *store) {
		must(t, s.factory.Close())
		_, err := s.process.MaxNotificationID(s.ctx)
		wantClass(t, err, persistence.ErrInterface)
		s.end(t)
	},
}, {
	name: "a closed factory makes no recorders",
	says: "Making a recorder after Close is an ErrClosed.",
	run: func(t testing.TB, s *store) {
		must(t, s.factory.Close())
		_, err := s.factory.ProcessRecorder(s.name)
		wantIs(t, "ProcessRecorder", err, persistence.ErrClosed)
		_, err = s.factory.SnapshotRecorder(s.name)
		wantIs(t, "SnapshotRecorder", err, persistence.ErrClosed)
		s.end(t)
	},
}, {
	name:  "reopening keeps everything",
	says:  "Events, their ids, snapshots and positions are there after the store was closed and opened again.",
	needs: []Feature{Reopen},
	run: func(t testing.TB, s *store) {
		s.events.insert(t, history(dog("Fido"), 1, 3)...)
		s.snapshots.insert(t, at(dog("Fido"), 3))
		s.insertProcessed(t, tracking(kennels, 8), at(dog("Rex"), 0))
		s.insertTracking(t, shelters, 9)
		for range 3 {
			s.reopen(t)
			s.verify(t)
		}
	},
}, {
	name:  "conflicts are found after reopening",
	says:  "A version or position that was stored before the store was opened is in the way of the same one afterwards.",
	needs: []Feature{Reopen},
	run: func(t testing.TB, s *store) {
		events := history(dog("Fido"), 1, 3)
		ids := s.insertProcessed(t, tracking(kennels, 8), events...)
		s.snapshots.insert(t, at(dog("Fido"), 3))
		s.reopen(t)
		stored := s.events.conflict(t, topical(renamed, dog("Fido"), 3)).Stored
		want := []persistence.Notification{{ID: ids[2], StoredEvent: events[2]}}
		if problem := difference(stored, want); problem != "" {
			t.Errorf("Stored: %s", problem)
		}
		s.snapshots.conflict(t, at(dog("Fido"), 3))
		wantBehind(t, s.tryTracking(s.ctx, kennels, 8), s.party, tracking(kennels, 8), 8)
	},
}, {
	name:  "ids go on after reopening",
	says:  "Events that are stored after the store was opened again get higher ids than all before.",
	needs: []Feature{Reopen},
	run: func(t testing.TB, s *store) {
		last := int64(0)
		for version := int64(1); version <= 9; version += 3 {
			ids := s.events.insert(t, history(dog("Fido"), version, 3)...)
			if ids[0] <= last {
				t.Errorf("got the ids %v after %d", ids, last)
			}
			last = ids[2]
			s.events.conflict(t, at(dog("Fido"), 1))
			s.reopen(t)
		}
	},
}, {
	name:  "closing one process leaves the other",
	says:  "Closing a factory leaves another one over the same store as it was.",
	needs: []Feature{Concurrent},
	run: func(t testing.TB, s *store) {
		s.events.insert(t, at(dog("Fido"), 1))
		second := s.harness.Reopen(t, s.factory)
		s.through(t, second).events.insert(t, at(dog("Fido"), 2))
		must(t, second.Close())
		s.events.insert(t, at(dog("Fido"), 3))
		s.insertTracking(t, kennels, 1)
	},
}}

// end notes that the row has closed the store. If it can be opened again, that
// is done to look through it.
func (s *store) end(t testing.TB) {
	t.Helper()
	if s.harness.Reopen == nil {
		s.ended = true
		return
	}
	s.reopen(t)
}
