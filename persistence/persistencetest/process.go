package persistencetest

import (
	"context"
	"errors"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// processRows are about ProcessRecorder: events and a position in one step.
var processRows = []row{{
	name: "events and position are stored together",
	says: "InsertProcessed stores the events and moves the position.",
	run: func(t testing.TB, s *store) {
		s.insertProcessed(t, tracking(kennels, 1), history(dog("Fido"), 1, 2)...)
		s.wantPosition(t, kennels, 1)
		s.events.wantVersions(t, dog("Fido"), persistence.EventRange{}, 1, 2)
	},
}, {
	name: "processed events are in the log",
	says: "InsertProcessed returns the ids of the events as InsertEvents does, and they are in the same log.",
	run: func(t testing.TB, s *store) {
		first := s.events.insert(t, at(dog("Fido"), 1))
		events := interleave(history(dog("Fido"), 2, 3), history(dog("Rex"), 1, 3))
		ids := s.insertProcessed(t, tracking(kennels, 7), events...)
		if ids[0] <= first[0] {
			t.Errorf("got the ids %v after %d", ids, first[0])
		}
		s.wantPage(t, persistence.NotificationRange{Limit: 100})
		s.wantPage(t, persistence.NotificationRange{After: first[0], Limit: 3, Topics: []string{trickAdded}})
	},
}, {
	name: "no events move the position too",
	says: "InsertProcessed without events moves the position, and returns no ids.",
	run: func(t testing.TB, s *store) {
		for id, none := range [][]persistence.StoredEvent{nil, {}} {
			if ids := s.insertProcessed(t, tracking(kennels, int64(id+1)), none...); len(ids) != 0 {
				t.Errorf("got the ids %v for no events, want 0 of them", ids)
			}
		}
		s.wantPosition(t, kennels, 2)
	},
}, {
	name: "a conflict of events leaves the position",
	says: "If an event is in conflict, InsertProcessed returns a ConflictError, stores none of the events and leaves the position.",
	run: func(t testing.TB, s *store) {
		s.insertProcessed(t, tracking(kennels, 1), history(dog("Fido"), 1, 2)...)
		_, err := s.tryProcessed(s.ctx, tracking(kennels, 2), at(dog("Rex"), 1), at(dog("Fido"), 2))
		wantConflict(t, err)
		s.wantPosition(t, kennels, 1)
		s.events.wantVersions(t, dog("Rex"), persistence.EventRange{})
	},
}, {
	name: "a repeated position leaves the events",
	says: "If the position has that id already, InsertProcessed returns ErrPositionMoved and stores none of the events.",
	run: func(t testing.TB, s *store) {
		s.insertProcessed(t, tracking(kennels, 1), at(dog("Fido"), 1))
		_, err := s.tryProcessed(s.ctx, tracking(kennels, 1), at(dog("Fido"), 2))
		wantBehind(t, err, s.party, tracking(kennels, 1), 1)
		s.events.wantVersions(t, dog("Fido"), persistence.EventRange{}, 1)
	},
}, {
	name: "a lower position leaves the events",
	says: "If the position has a higher id already, InsertProcessed returns ErrPositionMoved and stores none of the events.",
	run: func(t testing.TB, s *store) {
		s.insertProcessed(t, tracking(kennels, 3), at(dog("Fido"), 1))
		_, err := s.tryProcessed(s.ctx, tracking(kennels, 2), at(dog("Fido"), 2))
		wantBehind(t, err, s.party, tracking(kennels, 2), 3)
		s.events.wantVersions(t, dog("Fido"), persistence.EventRange{}, 1)
	},
}, {
	name: "no events at a repeated position are refused",
	says: "InsertProcessed without events, to a position that is there already, is ErrPositionMoved.",
	run: func(t testing.TB, s *store) {
		s.insertProcessed(t, tracking(kennels, 3))
		_, err := s.tryProcessed(s.ctx, tracking(kennels, 3))
		wantBehind(t, err, s.party, tracking(kennels, 3), 3)
	},
}, {
	name: "a process that comes second learns that it did",
	says: "If both the position and the events are stored already, because another process of the follower was faster, the error is ErrPositionMoved.",
	run: func(t testing.TB, s *store) {
		s.insertProcessed(t, tracking(kennels, 1), history(dog("Fido"), 1, 2)...)
		_, err := s.tryProcessed(s.ctx, tracking(kennels, 1), history(dog("Fido"), 1, 2)...)
		wantBehind(t, err, s.party, tracking(kennels, 1), 1)
		if persistence.IsConflict(err) {
			t.Errorf("the error %v is also a version conflict", err)
		}
	},
}, {
	name: "the same originator may be processed again and again",
	says: "After a conflict or a refusal, the next position can be processed, with the events that were not stored.",
	run: func(t testing.TB, s *store) {
		s.insertProcessed(t, tracking(kennels, 1), at(dog("Fido"), 1))
		_, err := s.tryProcessed(s.ctx, tracking(kennels, 2), at(dog("Fido"), 1))
		wantConflict(t, err)
		s.insertProcessed(t, tracking(kennels, 2), at(dog("Fido"), 2))
		_, err = s.tryProcessed(s.ctx, tracking(kennels, 2), at(dog("Fido"), 3))
		wantBehind(t, err, s.party, tracking(kennels, 2), 2)
		s.insertProcessed(t, tracking(kennels, 3), at(dog("Fido"), 3))
	},
}, {
	name: "an event twice leaves the position",
	says: "If the events have one originator and version twice, InsertProcessed is a ConflictError and leaves the position.",
	run: func(t testing.TB, s *store) {
		_, err := s.tryProcessed(s.ctx, tracking(kennels, 1), at(dog("Fido"), 1), at(dog("Fido"), 1))
		wantConflict(t, err)
		s.wantPosition(t, kennels, 0)
	},
}, {
	name: "a conflict of processed events hands over what is stored",
	says: "The ConflictError of InsertProcessed has the stored events in the way, with their ids, as that of InsertEvents has.",
	run: func(t testing.TB, s *store) {
		events := history(dog("Fido"), 1, 3)
		ids := s.events.insert(t, events...)
		_, err := s.tryProcessed(s.ctx, tracking(kennels, 1), at(dog("Fido"), 3), at(dog("Fido"), 4))
		got := wantConflict(t, err)
		want := []persistence.Notification{{ID: ids[2], StoredEvent: events[2]}}
		if problem := difference(got.Stored, want); problem != "" {
			t.Errorf("Stored: %s", problem)
		}
		if got.Application != s.name || got.OriginatorID != dog("Fido") || got.Version != 3 {
			t.Errorf("got the conflict %+v, want Application %v, OriginatorID %v and Version 3", *got, s.name, dog("Fido"))
		}
	},
}, {
	name: "events without a position leave the positions",
	says: "InsertEvents moves no position.",
	run: func(t testing.TB, s *store) {
		s.insertProcessed(t, tracking(kennels, 2), at(dog("Fido"), 1))
		s.events.insert(t, at(dog("Fido"), 2))
		s.wantPosition(t, kennels, 2)
	},
}, {
	name: "InsertTracking and InsertProcessed move the same positions",
	says: "A position moved by one of the two methods cannot be moved back by the other.",
	run: func(t testing.TB, s *store) {
		s.insertTracking(t, kennels, 2)
		_, err := s.tryProcessed(s.ctx, tracking(kennels, 2), at(dog("Fido"), 1))
		wantBehind(t, err, s.party, tracking(kennels, 2), 2)
		s.insertProcessed(t, tracking(kennels, 3), at(dog("Fido"), 1))
		wantBehind(t, s.tryTracking(s.ctx, kennels, 3), s.party, tracking(kennels, 3), 3)
	},
}, {
	name: "processing one log leaves the positions in others",
	says: "InsertProcessed moves only the position in the log that it names.",
	run: func(t testing.TB, s *store) {
		s.insertTracking(t, shelters, 9)
		s.insertProcessed(t, tracking(kennels, 4), at(dog("Fido"), 1))
		s.insertProcessed(t, tracking(shelters, 10), at(dog("Fido"), 2))
		s.wantPosition(t, kennels, 4)
		s.wantPosition(t, shelters, 10)
	},
}, {
	name: "positions may have gaps",
	says: "The position that InsertProcessed moves to need not follow the one before.",
	run: func(t testing.TB, s *store) {
		s.insertProcessed(t, tracking(kennels, 1), at(dog("Fido"), 1))
		s.insertProcessed(t, tracking(kennels, 3), at(dog("Fido"), 2))
		s.wantPosition(t, kennels, 3)
	},
}, {
	name: "followers process separately",
	says: "Two applications can process the same upstream event, each with its own events.",
	run: func(t testing.TB, s *store) {
		s.insertProcessed(t, tracking(kennels, 22), at(dog("Fido"), 1))
		s.neighbour.insertProcessed(t, tracking(kennels, 22), at(dog("Fido"), 4))
		s.wantPosition(t, kennels, 22)
	},
}, {
	name:  "many events with one position",
	says:  "InsertProcessed takes any number of events, and is still all or nothing.",
	heavy: true,
	run: func(t testing.TB, s *store) {
		const n = 3_000
		s.insertProcessed(t, tracking(kennels, 1), history(dog("Fido"), 1, n)...)
		_, err := s.tryProcessed(s.ctx, tracking(kennels, 2), append(history(dog("Rex"), 1, n), at(dog("Fido"), n))...)
		wantConflict(t, err)
		s.wantPosition(t, kennels, 1)
		s.events.wantVersions(t, dog("Rex"), persistence.EventRange{Limit: 1})
	},
}, {
	name: "processed events are the writer's",
	says: "Changing events or their states after they were processed changes nothing that is stored.",
	run: func(t testing.TB, s *store) {
		events := history(dog("Fido"), 1, 2)
		s.insertProcessed(t, tracking(kennels, 1), events...)
		for i := range events {
			overwrite(events[i].State)
			events[i].OriginatorVersion = 99
		}
		s.events.want(t, dog("Fido"), persistence.EventRange{})
	},
}, {
	name: "cancelled processing does neither",
	says: "InsertProcessed with a context that has ended returns the context's error, stores nothing and leaves the position.",
	run: func(t testing.TB, s *store) {
		_, err := s.tryProcessed(cancelled(s.ctx), tracking(kennels, 1), at(dog("Fido"), 1))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got the error %v, want %v", err, context.Canceled)
		}
		s.wantPosition(t, kennels, 0)
		s.events.wantVersions(t, dog("Fido"), persistence.EventRange{})
		s.insertProcessed(t, tracking(kennels, 1), at(dog("Fido"), 1))
	},
}}
