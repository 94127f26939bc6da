package persistencetest

import (
	"math"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// continuityRows are about streams without holes: an insert continues what is
// stored, or stores nothing.
var continuityRows = []row{{
	name: "a gap is a conflict",
	says: "An event whose originator lacks the version before it is a ConflictError with Gap and the newest version, and stores nothing.",
	run: func(t testing.TB, s *store) {
		s.events.insert(t, history(dog("Fido"), 1, 3)...)
		wantGap(t, s, 3, at(dog("Fido"), 5))
		wantGap(t, s, 3, history(dog("Fido"), 5, 3)...)
		wantGap(t, s, 3, at(dog("Fido"), math.MaxInt64))
		s.events.insert(t, at(dog("Fido"), 4))
		s.events.wantVersions(t, dog("Fido"), persistence.EventRange{}, 1, 2, 3, 4)
	},
}, {
	name: "a stream begins at its beginning",
	says: "The first event of an originator has the version 0 or 1, unless it has Begins.",
	run: func(t testing.TB, s *store) {
		wantGap(t, s, -1, at(dog("Fido"), 2))
		wantGap(t, s, -1, history(dog("Fido"), 5, 2)...)
		s.events.insert(t, beginning(history(dog("Fido"), 5, 2)...)...)
		s.events.insert(t, at(dog("Fido"), 7))
		s.events.insert(t, at(dog("Rex"), 0))
		s.events.insert(t, at(dog("Rex"), 1))
	},
}, {
	name: "an event that continues begins no stream",
	says: "An event of version 1 with Continues must follow version 0.",
	run: func(t testing.TB, s *store) {
		second := at(dog("Fido"), 1)
		second.Continues = true
		wantGap(t, s, -1, second)
		wantGap(t, s, -1, append([]persistence.StoredEvent{second}, history(dog("Fido"), 2, 3)...)...)
		wantGap(t, s, -1, append(history(dog("Rex"), 1, 2), second)...)
		s.events.insert(t, at(dog("Fido"), 0), second)
		s.events.insert(t, at(dog("Rex"), 0))
		second.OriginatorID = dog("Rex")
		s.events.insert(t, second)
		s.events.wantVersions(t, dog("Rex"), persistence.EventRange{}, 0, 1)
	},
}, {
	name: "a stream begins once",
	says: "An event that could begin a stream is a conflict if its originator has other events.",
	run: func(t testing.TB, s *store) {
		s.events.insert(t, history(dog("Fido"), 1, 3)...)
		wantGap(t, s, 3, at(dog("Fido"), 0))
		wantGap(t, s, 3, beginning(history(dog("Fido"), 9, 2)...)...)
		s.events.insert(t, beginning(history(dog("Rex"), 5, 2)...)...)
		wantGap(t, s, 6, at(dog("Rex"), 1))
		s.events.wantVersions(t, dog("Fido"), persistence.EventRange{}, 1, 2, 3)
		s.events.wantVersions(t, dog("Rex"), persistence.EventRange{}, 5, 6)
	},
}, {
	name: "one gap refuses the whole insert",
	says: "If one originator of an insert is not continued, nothing of the insert is stored.",
	run: func(t testing.TB, s *store) {
		s.events.insert(t, history(dog("Fido"), 1, 2)...)
		wantGap(t, s, -1, interleave(history(dog("Fido"), 3, 2), history(dog("Rex"), 2, 2))...)
		wantGap(t, s, 2, interleave(history(dog("Rex"), 1, 2), history(dog("Fido"), 4, 2))...)
		s.events.wantVersions(t, dog("Fido"), persistence.EventRange{}, 1, 2)
		s.events.wantVersions(t, dog("Rex"), persistence.EventRange{})
		if got := s.log(t); len(got) != 2 {
			t.Errorf("the log has %d events, want 2", len(got))
		}
	},
}, {
	name: "a large insert continues its streams",
	says: "An insert of any size continues the streams of its originators, or is refused as a whole.",
	run: func(t testing.TB, s *store) {
		n := figure(1_500, 12_000)
		s.events.insert(t, interleave(history(dog("Fido"), 1, n), history(dog("Rex"), 1, n))...)
		wantGap(t, s, -1, append(history(dog("Fido"), int64(n+1), n), history(dog("Lassie"), 2, n)...)...)
		s.events.insert(t, interleave(history(dog("Rex"), int64(n+1), 2), history(dog("Fido"), int64(n+1), 2))...)
	},
}, {
	name: "processed events continue their streams",
	says: "InsertProcessed refuses events that do not continue their streams, and does not move the position.",
	run: func(t testing.TB, s *store) {
		s.events.insert(t, history(dog("Fido"), 1, 2)...)
		_, err := s.tryProcessed(s.ctx, tracking("Upstream", 7), at(dog("Fido"), 4))
		if conflict := wantConflict(t, err); !conflict.Gap || conflict.Current != 2 {
			t.Errorf("got %+v, want a gap after version 2", conflict)
		}
		s.insertProcessed(t, tracking("Upstream", 7), at(dog("Fido"), 3))
	},
}, {
	name: "applications have separate streams",
	says: "An originator of one application is not continued by events of another.",
	run: func(t testing.TB, s *store) {
		wantGap(t, s, -1, at(dog("Fido"), 4)) // which the neighbour could store
		s.neighbour.events.insert(t, at(dog("Fido"), 4))
	},
}}

// wantGap inserts events that do not continue their stream, which ends at a
// version.
func wantGap(t testing.TB, s *store, newest int64, events ...persistence.StoredEvent) {
	t.Helper()
	before := len(s.log(t))
	conflict := s.events.conflict(t, events...)
	if !conflict.Gap || conflict.Current != newest || len(conflict.Stored) > 0 {
		t.Errorf("got %+v, want a gap after version %d", conflict, newest)
	}
	if after := len(s.log(t)); after != before {
		t.Errorf("the log has %d events after the conflict, and had %d before", after, before)
	}
}
