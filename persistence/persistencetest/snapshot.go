package persistencetest

import (
	"testing"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// snapshotRows are about what distinguishes a recorder of snapshots from one of
// events.
var snapshotRows = []row{{
	name: "snapshots have no ids",
	says: "A recorder of snapshots returns nil for the ids of what it stores.",
	run: func(t testing.TB, s *store) {
		if ids := s.snapshots.insert(t, history(dog("Fido"), 1, 2)...); ids != nil {
			t.Errorf("InsertEvents returned %v, want nil", ids)
		}
	},
}, {
	name: "snapshots and events are separate",
	says: "A snapshot and an event may have the same originator and version; neither is in the other's way, nor found among the others.",
	run: func(t testing.TB, s *store) {
		s.events.insert(t, history(dog("Fido"), 1, 3)...)
		s.snapshots.insert(t, topical(registered, dog("Fido"), 2))
		s.events.insert(t, at(dog("Fido"), 4))
		s.snapshots.insert(t, topical(registered, dog("Fido"), 4))
		s.events.wantVersions(t, dog("Fido"), persistence.EventRange{}, 1, 2, 3, 4)
		s.snapshots.wantVersions(t, dog("Fido"), persistence.EventRange{}, 2, 4)
	},
}, {
	name: "snapshots are not in the log",
	says: "Storing a snapshot adds nothing to the log of the application, and does not change its highest id.",
	run: func(t testing.TB, s *store) {
		ids := s.events.insert(t, history(dog("Fido"), 1, 3)...)
		s.snapshots.insert(t, at(dog("Fido"), 3))
		if got := s.maxID(t); got != ids[2] {
			t.Errorf("MaxNotificationID: got %d, want %d", got, ids[2])
		}
		if got := s.log(t); len(got) != 3 {
			t.Errorf("the log has %d notifications, want 3", len(got))
		}
	},
}, {
	name: "the same snapshot again is a conflict",
	says: "Storing a snapshot of a version that has one is a ConflictError whose stored snapshot has no id.",
	run: func(t testing.TB, s *store) {
		s.snapshots.insert(t, at(dog("Fido"), 2))
		for _, n := range s.snapshots.conflict(t, topical(renamed, dog("Fido"), 2)).Stored {
			if n.ID != 0 {
				t.Errorf("the stored snapshot has the id %d, want 0", n.ID)
			}
		}
	},
}, {
	name: "snapshots may have any distance",
	says: "Between the versions of an originator's snapshots there may be any gaps.",
	run: func(t testing.TB, s *store) {
		for _, version := range []int64{5, 10, 100} {
			s.snapshots.insert(t, at(dog("Fido"), version))
		}
		s.snapshots.wantVersions(t, dog("Fido"), persistence.EventRange{}, 5, 10, 100)
	},
}, {
	name: "a snapshot of an older version can be stored later",
	says: "Snapshots are in order of version, not in the order in which they were stored.",
	run: func(t testing.TB, s *store) {
		for _, version := range []int64{10, 5, 7, 1, 12} {
			s.snapshots.insert(t, at(dog("Fido"), version))
		}
		s.snapshots.wantVersions(t, dog("Fido"), persistence.EventRange{}, 1, 5, 7, 10, 12)
		s.snapshots.wantVersions(t, dog("Fido"), persistence.EventRange{From: 5, Descending: true, Limit: 2}, 12, 10)
	},
}, {
	name: "the newest snapshot up to a version",
	says: "A descending range with Limit 1 and Before one more than a version gives the newest snapshot at or below that version.",
	run: func(t testing.TB, s *store) {
		for _, version := range []int64{2, 4, 8} {
			s.snapshots.insert(t, at(dog("Fido"), version))
		}
		newest := func(version int64) persistence.EventRange {
			return persistence.EventRange{Before: version + 1, Descending: true, Limit: 1}
		}
		s.snapshots.wantVersions(t, dog("Fido"), newest(1))
		s.snapshots.wantVersions(t, dog("Fido"), newest(2), 2)
		s.snapshots.wantVersions(t, dog("Fido"), newest(3), 2)
		s.snapshots.wantVersions(t, dog("Fido"), newest(4), 4)
		s.snapshots.wantVersions(t, dog("Fido"), newest(100), 8)
	},
}, {
	name: "a snapshot needs no events",
	says: "A snapshot can be stored if its originator has no events: recorders of snapshots know nothing of events.",
	run: func(t testing.TB, s *store) {
		s.snapshots.insert(t, at(dog("Daisy"), 7))
		s.events.wantVersions(t, dog("Daisy"), persistence.EventRange{})
	},
}}
