package persistencetest

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// trackingRows are about TrackingRecorder: the positions of a follower.
var trackingRows = []row{{
	name: "nothing processed is position 0",
	says: "The position in a log of which nothing was processed is 0, whatever other positions there are.",
	run: func(t testing.TB, s *store) {
		s.wantPosition(t, kennels, 0)
		s.insertTracking(t, shelters, 5)
		s.wantPosition(t, kennels, 0)
	},
}, {
	name: "a position moves forward",
	says: "The position is the id that it was moved to last.",
	run: func(t testing.TB, s *store) {
		for _, id := range []int64{1, 2, 3} {
			s.insertTracking(t, kennels, id)
			s.wantPosition(t, kennels, id)
		}
	},
}, {
	name: "a position may jump",
	says: "A position may move over any number of ids, because logs have gaps.",
	run: func(t testing.TB, s *store) {
		for _, id := range []int64{7, 9, 1_000_000} {
			s.insertTracking(t, kennels, id)
		}
		s.wantPosition(t, kennels, 1_000_000)
	},
}, {
	name: "positions are kept for each upstream application",
	says: "The positions of a follower in different logs are separate.",
	run: func(t testing.TB, s *store) {
		s.insertTracking(t, kennels, 21)
		s.insertTracking(t, kennels, 22)
		s.insertTracking(t, shelters, 21)
		s.wantPosition(t, kennels, 22)
		s.wantPosition(t, shelters, 21)
		s.wantPosition(t, "Unknown", 0)
	},
}, {
	name: "a position is locked in a transaction only",
	says: "LockPosition without a transaction in its context is an ErrNoTransaction: nothing would hold the lock.",
	run: func(t testing.TB, s *store) {
		_, err := s.process.LockPosition(s.ctx, kennels)
		wantIs(t, "LockPosition", err, persistence.ErrNoTransaction)
	},
}, {
	name: "a position moves only from where it was read",
	says: "MovePosition is ErrPositionMoved unless the position is the one it is to move from, and leaves it there.",
	run: func(t testing.TB, s *store) {
		move := func(from, to int64) error {
			err := s.process.MovePosition(s.ctx, from, tracking(kennels, to))
			if err == nil {
				s.positions.moved(tracking(kennels, to))
			}
			return err
		}
		if err := move(0, 2); err != nil {
			t.Fatal(err)
		}
		s.insertTracking(t, kennels, 5)
		for _, from := range []int64{0, 2, 4, 6} {
			wantBehind(t, move(from, 9), s.party, tracking(kennels, 9), 5)
		}
		wantBehind(t, move(5, 5), s.party, tracking(kennels, 5), 5)
		if err := move(5, 9); err != nil {
			t.Fatal(err)
		}
		wantBehind(t, s.process.MovePosition(s.ctx, 1, tracking(shelters, 2)), s.party, tracking(shelters, 2), 0)
		s.wantPosition(t, kennels, 9)
	},
}, {
	name: "the same position again is refused",
	says: "Moving a position to where it is already is ErrPositionMoved, and leaves it there.",
	run: func(t testing.TB, s *store) {
		s.insertTracking(t, kennels, 21)
		s.insertTracking(t, shelters, 21)
		for range 2 {
			wantBehind(t, s.tryTracking(s.ctx, kennels, 21), s.party, tracking(kennels, 21), 21)
			wantBehind(t, s.tryTracking(s.ctx, shelters, 21), s.party, tracking(shelters, 21), 21)
		}
		s.wantPosition(t, kennels, 21)
	},
}, {
	name: "a lower position inserted later is refused",
	says: "Moving a position to a lower id than its own is ErrPositionMoved, also if it was never at that id.",
	run: func(t testing.TB, s *store) {
		s.insertTracking(t, kennels, 21)
		s.insertTracking(t, kennels, 24)
		for _, id := range []int64{23, 22, 21, 1} {
			wantBehind(t, s.tryTracking(s.ctx, kennels, id), s.party, tracking(kennels, id), 24)
			s.wantPosition(t, kennels, 24)
		}
	},
}, {
	name: "after a refusal a position goes on",
	says: "A position that was not moved can be moved forward afterwards.",
	run: func(t testing.TB, s *store) {
		s.insertTracking(t, kennels, 2)
		wantBehind(t, s.tryTracking(s.ctx, kennels, 1), s.party, tracking(kennels, 1), 2)
		s.insertTracking(t, kennels, 3)
		s.wantPosition(t, kennels, 3)
	},
}, {
	name: "positions reach up to the largest integer",
	says: "A position may be any id from 1 to 9223372036854775807.",
	run: func(t testing.TB, s *store) {
		s.insertTracking(t, kennels, 1)
		s.insertTracking(t, kennels, 1<<53+1)
		wantBehind(t, s.tryTracking(s.ctx, kennels, 1<<53), s.party, tracking(kennels, 1<<53), 1<<53+1)
		s.insertTracking(t, kennels, math.MaxInt64)
		s.wantPosition(t, kennels, math.MaxInt64)
	},
}, {
	name: "followers are separate",
	says: "Two applications that follow the same log have separate positions.",
	run: func(t testing.TB, s *store) {
		s.neighbour.wantPosition(t, kennels, 21)
		s.insertTracking(t, kennels, 3)
		s.neighbour.insertTracking(t, kennels, 30)
		s.insertTracking(t, kennels, 4)
		s.wantPosition(t, kennels, 4)
		s.neighbour.wantPosition(t, kennels, 30)
	},
}, {
	name: "an application may follow itself",
	says: "The upstream application may be the follower itself, or any other application of the store.",
	run: func(t testing.TB, s *store) {
		ids := s.events.insert(t, at(dog("Fido"), 1))
		s.insertTracking(t, s.name, ids[0])
		s.insertTracking(t, s.neighbour.name, s.neighbour.maxID(t))
		s.wantPosition(t, s.name, ids[0])
	},
}, {
	name: "upstream names are compared exactly",
	says: "Upstream applications whose names differ only in case or in a sign of a pattern are different ones.",
	run: func(t testing.TB, s *store) {
		for i, name := range []string{"Kennels", "kennels", "KENNELS", "Kennel_", "Kennel%", "Kennel"} {
			s.insertTracking(t, name, int64(i+1))
		}
		s.wantPosition(t, "Kennels", 1)
		s.wantPosition(t, "kennelS", 0)
	},
}, {
	name: "an upstream name of 32 characters",
	says: "The name of an upstream application may have 32 characters of any script.",
	run: func(t testing.TB, s *store) {
		s.insertTracking(t, strings.Repeat("犬", 32), 1)
		s.insertTracking(t, strings.Repeat("🐕", 32), 2)
		s.wantPosition(t, strings.Repeat("犬", 32), 1)
		s.wantPosition(t, strings.Repeat("犬", 31), 0)
	},
}, {
	name: "many upstream applications",
	says: "A follower may have positions in any number of logs.",
	run: func(t testing.TB, s *store) {
		for i := range int64(40) {
			s.insertTracking(t, fmt.Sprintf("Upstream%d", i), i+1)
		}
		s.wantPosition(t, "Upstream39", 40)
	},
}, {
	name: "positions and events are separate",
	says: "Moving a position stores no event and draws no place in the log; storing events moves no position.",
	run: func(t testing.TB, s *store) {
		s.insertTracking(t, kennels, 100)
		if got := s.maxID(t); got != 0 {
			t.Errorf("MaxNotificationID: got %d, want 0", got)
		}
		s.events.insert(t, history(dog("Fido"), 1, 3)...)
		s.wantPosition(t, kennels, 100)
		s.wantPosition(t, s.name, 0)
	},
}, {
	name: "recorders of an application share its positions",
	says: "However many recorders are made for an application, they move and read the same positions.",
	run: func(t testing.TB, s *store) {
		first := s.process
		s.insertTracking(t, kennels, 5)
		s.use(t, sameStore{s.factory})
		wantBehind(t, s.tryTracking(s.ctx, kennels, 5), s.party, tracking(kennels, 5), 5)
		s.insertTracking(t, kennels, 6)
		if got, err := first.MaxTrackingID(s.ctx, kennels); got != 6 || err != nil {
			t.Errorf("the first recorder's position: got %d and the error %v, want 6", got, err)
		}
	},
}, {
	name: "a cancelled move leaves the position",
	says: "Moving a position with a context that has ended returns the context's error, and leaves the position where it is.",
	run: func(t testing.TB, s *store) {
		s.insertTracking(t, kennels, 5)
		wantIs(t, "InsertTracking", s.tryTracking(cancelled(s.ctx), kennels, 6), context.Canceled)
		s.wantPosition(t, kennels, 5)
		_, err := s.process.MaxTrackingID(cancelled(s.ctx), kennels)
		wantIs(t, "MaxTrackingID", err, context.Canceled)
		s.insertTracking(t, kennels, 6)
	},
}}
