package persistencetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// aggregateRows are about AggregateRecorder. They run on recorders of events
// and on recorders of snapshots.
var aggregateRows = []row{{
	name: "inserting nothing succeeds",
	says: "Storing no events is a success, and returns no ids.",
	run: func(t testing.TB, s *store) {
		for _, nothing := range [][]persistence.StoredEvent{nil, {}} {
			ids, err := s.target.recorder.InsertEvents(s.ctx, nothing)
			if err != nil || len(ids) != 0 {
				t.Errorf("InsertEvents(%#v) = %v, %v, want no error and 0 of them", nothing, ids, err)
			}
		}
	},
}, {
	name: "an unknown originator has no events",
	says: "Selecting the events of an originator that has none gives none, and no error.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, at(dog("Fido"), 1))
		s.target.wantVersions(t, dog("Nobody"), persistence.EventRange{})
		s.target.wantVersions(t, uuid.Nil, persistence.EventRange{})
		s.target.wantVersions(t, dog("Nobody"), persistence.EventRange{Descending: true, Limit: 1})
	},
}, {
	name: "an event comes back as it was stored",
	says: "An event is read with the originator, version, topic and state that it was stored with.",
	run: func(t testing.TB, s *store) {
		fido := topical(registered, dog("Fido"), 1)
		s.target.insert(t, fido)
		s.target.wantEvents(t, dog("Fido"), persistence.EventRange{}, fido)
	},
}, {
	name: "several events are stored at once",
	says: "One insert stores all of its events.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, history(dog("Fido"), 1, 2)...)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{}, 1, 2)
	},
}, {
	name: "events come in order of version",
	says: "The events of an originator are selected in ascending order of version, whatever their ids and topics.",
	run: func(t testing.TB, s *store) {
		for version := int64(1); version <= 12; version++ { // 10 sorts before 9 as text
			s.target.insert(t, topical(fmt.Sprintf("Topic.%d", 12-version), dog("Fido"), version))
		}
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{}, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
	},
}, {
	name: "originators are separate",
	says: "Two originators may have events of the same versions, and each is selected without the other's.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, history(dog("Fido"), 1, 3)...)
		s.target.insert(t, history(dog("Rex"), 0, 3)...)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{}, 1, 2, 3)
		s.target.wantVersions(t, dog("Rex"), persistence.EventRange{}, 0, 1, 2)
	},
}, {
	name: "originators may be interleaved in one insert",
	says: "One insert may have the events of several originators in any mixture.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, interleave(history(dog("Fido"), 1, 5), beginning(history(dog("Rex"), 7, 5)...))...)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{}, 1, 2, 3, 4, 5)
		s.target.wantVersions(t, dog("Rex"), persistence.EventRange{}, 7, 8, 9, 10, 11)
	},
}, {
	name: "version 0 is a version",
	says: "The first event of an originator may have the version 0.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, history(dog("Fido"), 0, 2)...)
		s.target.conflict(t, at(dog("Fido"), 0))
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{}, 0, 1)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{Before: 1}, 0)
	},
}, {
	name: "an originator may begin at any version",
	says: "The first event of an originator may have any version that is not negative, if it has Begins.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, beginning(history(dog("Fido"), 1000, 2)...)...)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{}, 1000, 1001)
	},
}, {
	name: "versions reach up to the largest integer",
	says: "Versions up to 9223372036854775807 are stored and selected like small ones.",
	run: func(t testing.TB, s *store) {
		const top = math.MaxInt64
		s.target.insert(t, beginning(history(dog("Fido"), top-2, 3)...)...)
		s.target.conflict(t, at(dog("Fido"), top))
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{}, top-2, top-1, top)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{From: top}, top)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{Before: top}, top-2, top-1)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{From: top - 1, Before: top}, top-1)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{From: 1 << 53, Descending: true, Limit: 1}, top)
	},
}, {
	name: "the same event again is a conflict",
	says: "Storing an event of an originator and version that is stored already is a ConflictError, and stores nothing.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, at(dog("Fido"), 1))
		s.target.conflict(t, at(dog("Fido"), 1))
	},
}, {
	name: "another event of the same version is a conflict",
	says: "A stored event is never changed: one with another topic and state, but its originator and version, is a ConflictError.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, at(dog("Fido"), 1))
		other := topical(renamed, dog("Fido"), 1)
		s.target.conflict(t, other)
		s.target.wantEvents(t, dog("Fido"), persistence.EventRange{}, at(dog("Fido"), 1))
	},
}, {
	name: "a conflict at the beginning stores nothing",
	says: "If the first event of an insert is stored already, the others are not stored either.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, at(dog("Fido"), 1))
		s.target.conflict(t, history(dog("Fido"), 1, 2)...)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{}, 1)
	},
}, {
	name: "a conflict in the middle stores nothing",
	says: "If an event in the middle of an insert is stored already, neither those before it nor those after it are stored.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, at(dog("Rex"), 1))
		s.target.conflict(t, at(dog("Fido"), 1), at(dog("Rex"), 1), at(dog("Daisy"), 1))
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{})
		s.target.wantVersions(t, dog("Daisy"), persistence.EventRange{})
	},
}, {
	name: "a conflict at the end stores nothing",
	says: "If only the last event of a long insert is stored already, none of the others is stored.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, at(dog("Rex"), 1))
		s.target.conflict(t, append(history(dog("Fido"), 1, 700), at(dog("Rex"), 1))...)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{})
	},
}, {
	name: "an event twice in one insert is a conflict",
	says: "An insert that has one originator and version twice is a ConflictError, and stores nothing.",
	run: func(t testing.TB, s *store) {
		s.target.conflict(t, at(dog("Fido"), 1), at(dog("Fido"), 1))
		s.target.conflict(t, at(dog("Fido"), 1), at(dog("Rex"), 1), topical(renamed, dog("Fido"), 1))
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{})
		s.target.wantVersions(t, dog("Rex"), persistence.EventRange{})
	},
}, {
	name: "a conflict says what is in conflict",
	says: "A ConflictError has the application, the originator, the first version in the way, and the originator's highest version or -1.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, history(dog("Fido"), 1, 5)...)
		got := s.target.conflict(t, history(dog("Fido"), 3, 4)...)
		if got.Application != s.name || got.OriginatorID != dog("Fido") || got.Version != 3 {
			t.Errorf("got a conflict of %q, originator %s, version %d; want %q, %s, 3",
				got.Application, got.OriginatorID, got.Version, s.name, dog("Fido"))
		}
		if got.Current != 5 && got.Current != -1 {
			t.Errorf("got the current version %d, want 5, or -1 where it is not known", got.Current)
		}
	},
}, {
	name: "a conflict is recognised",
	says: "A ConflictError is an ErrIntegrity, IsConflict says so, and IsRetryable does not, because the same save cannot succeed.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, at(dog("Fido"), 1))
		_, err := s.target.recorder.InsertEvents(s.ctx, []persistence.StoredEvent{at(dog("Fido"), 1)})
		wantClass(t, err, persistence.ErrIntegrity)
		if !persistence.IsConflict(err) || persistence.IsRetryable(err) {
			t.Errorf("of %v: IsConflict is %v, IsRetryable is %v", err, persistence.IsConflict(err), persistence.IsRetryable(err))
		}
	},
}, {
	name: "a conflict hands over what is stored",
	says: "A ConflictError has the stored events at the places of those that were to be stored, as they are, so that a save repeated after a lost answer can be recognised.",
	run: func(t testing.TB, s *store) {
		stored := history(dog("Fido"), 1, 4)
		rex := topical(registered, dog("Rex"), 1)
		ids := s.target.insert(t, append(slices.Clone(stored), rex)...)
		if len(ids) == 0 {
			ids = make([]int64, 5) // of snapshots
		}
		got := s.target.conflict(t, topical(renamed, dog("Rex"), 1), topical(renamed, dog("Fido"), 3),
			topical(renamed, dog("Fido"), 4), topical(renamed, dog("Fido"), 5)).Stored
		slices.SortFunc(got, func(a, b persistence.Notification) int { return int(a.OriginatorVersion - b.OriginatorVersion) })
		want := []persistence.Notification{
			{ID: ids[4], StoredEvent: rex}, {ID: ids[2], StoredEvent: stored[2]}, {ID: ids[3], StoredEvent: stored[3]},
		}
		if problem := difference(got, want); problem != "" {
			t.Errorf("Stored, in order of version: %s", problem)
		}
	},
}, {
	name: "after a conflict everything goes on",
	says: "An insert that failed disturbs neither later reads nor later inserts, and the events it did not store can be stored.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, at(dog("Fido"), 1))
		for range 3 {
			s.target.conflict(t, at(dog("Rex"), 1), at(dog("Fido"), 1))
			s.target.wantVersions(t, dog("Fido"), persistence.EventRange{}, 1)
		}
		s.target.insert(t, at(dog("Rex"), 1), at(dog("Fido"), 2))
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{}, 1, 2)
	},
}, {
	name: "From is the lowest version selected",
	says: "A range begins with the version From, that one included.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, history(dog("Fido"), 1, 5)...)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{From: 3}, 3, 4, 5)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{From: 5}, 5)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{From: 1}, 1, 2, 3, 4, 5)
	},
}, {
	name: "Before is the version that a range ends before",
	says: "A range ends before the version Before, which is not included; 0 means no end.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, history(dog("Fido"), 1, 5)...)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{Before: 3}, 1, 2)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{Before: 1})
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{Before: 6}, 1, 2, 3, 4, 5)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{Before: 0}, 1, 2, 3, 4, 5)
	},
}, {
	name: "an empty range selects nothing",
	says: "A range whose end is not after its beginning is legal and empty, and so is one beyond the last version.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, history(dog("Fido"), 1, 5)...)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{From: 3, Before: 3})
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{From: 4, Before: 2})
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{From: 6})
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{From: math.MaxInt64, Descending: true})
	},
}, {
	name: "Limit is the largest number selected",
	says: "A range gives its first Limit events; 0 means no limit.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, history(dog("Fido"), 1, 3)...)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{Limit: 2}, 1, 2)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{Limit: 3}, 1, 2, 3)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{Limit: 4}, 1, 2, 3)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{Limit: 0}, 1, 2, 3)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{Limit: math.MaxInt}, 1, 2, 3)
	},
}, {
	name: "Descending turns the order round",
	says: "A descending range gives the same events, highest version first.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, history(dog("Fido"), 1, 4)...)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{Descending: true}, 4, 3, 2, 1)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{Descending: true, From: 2, Before: 4}, 3, 2)
	},
}, {
	name: "the last event is selected by Descending and Limit",
	says: "In a descending range a Limit counts from the end, so that Limit 1 gives the last event of the range.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, history(dog("Fido"), 1, 5)...)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{Descending: true, Limit: 1}, 5)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{Descending: true, Limit: 1, Before: 5}, 4)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{Descending: true, Limit: 2, Before: 5, From: 2}, 4, 3)
	},
}, {
	name: "every combination of a range's fields",
	says: "From, Before, Descending and Limit mean the same in every combination.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, history(dog("Fido"), 1, 4)...)
		for from := range int64(6) {
			for before := range int64(7) {
				for limit := range 6 {
					r := persistence.EventRange{From: from, Before: before, Limit: limit}
					s.target.want(t, dog("Fido"), r)
					r.Descending = true
					s.target.want(t, dog("Fido"), r)
				}
			}
		}
	},
}, {
	name: "ids that look like numbers",
	says: "An originator id of any 16 bytes but zeros comes back as it is, also if its text looks like a number.",
	run: func(t testing.TB, s *store) {
		for _, text := range []string{
			"12345678-9012-3456-7890-123456789012", // all digits
			"00000000-0000-0000-0000-000000000001",
			"00000000-0000-4000-8000-0000000000a0",
			"00000000-0000-0000-0000-0000000001e5", // 1e5 in scientific notation
			"12345678-9012-3456-7890-1234567890e9",
			"99999999-9999-9999-9999-999999999999",
			"ffffffff-ffff-ffff-ffff-ffffffffffff",
			"00ffffff-00ff-00ff-00ff-00ffffffff00",
		} {
			id := uuid.MustParse(text)
			s.target.insert(t, history(id, 1, 2)...)
			s.target.conflict(t, at(id, 2))
			s.target.want(t, id, persistence.EventRange{})
		}
	},
}, {
	name: "ids that differ little",
	says: "Originators whose ids differ in one bit are different originators.",
	run: func(t testing.TB, s *store) {
		for bit := range 128 {
			id := dog("Fido")
			id[bit/8] ^= 1 << (bit % 8)
			s.target.insert(t, beginning(at(id, int64(bit)))...)
		}
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{})
	},
}, {
	name: "an empty state is a state",
	says: "An empty state is legal, and is read as empty and not as nil, so that what was read can be stored again.",
	run: func(t testing.TB, s *store) {
		empty := at(dog("Fido"), 1)
		empty.State = []byte{}
		s.target.insert(t, empty)
		s.target.wantEvents(t, dog("Fido"), persistence.EventRange{}, empty)
	},
}, {
	name: "a state is any bytes",
	says: "A state comes back byte for byte, whatever its bytes are: not text, not JSON, zeros, quotes.",
	run: func(t testing.TB, s *store) {
		for i, state := range []string{
			string(allBytes(256)), "\x00", "\x00\x00\x00", `\x00`, "\xff\xfe", "null", "'; DROP TABLE stored_events; --",
		} {
			e := at(dog("Fido"), int64(i))
			e.State = []byte(state)
			s.target.insert(t, e)
		}
		s.target.want(t, dog("Fido"), persistence.EventRange{})
	},
}, {
	name:  "a state of a mebibyte",
	says:  "A state of 1 MiB comes back byte for byte.",
	heavy: true,
	run: func(t testing.TB, s *store) {
		big := at(dog("Fido"), 1)
		big.State = allBytes(1 << 20)
		s.target.insert(t, big, at(dog("Fido"), 2))
		s.target.want(t, dog("Fido"), persistence.EventRange{})
	},
}, {
	name: "topics of 255 bytes",
	says: "A topic may have 255 bytes, whatever characters they are.",
	run: func(t testing.TB, s *store) {
		long := topical(filled("Dog.TrickAdded", 255), dog("Fido"), 1)
		wide := topical(filled("犬", 255), dog("Fido"), 2)
		s.target.insert(t, long, wide)
		s.target.wantEvents(t, dog("Fido"), persistence.EventRange{}, long, wide)
	},
}, {
	name: "topics in any script",
	says: "A topic comes back character for character, in any script, with spaces at its ends, quotes and signs that mean something to a database.",
	run: func(t testing.TB, s *store) {
		for i, topic := range []string{
			"Собака.Выучила", "犬.芸を覚えた", "🐕.🎾", "e\u0301 is not \u00e9", "é is not e\u0301", "Dog.Registered ",
			" Dog.Registered", "dog.registered", `a"b'c\d%e_f`, "%", "?", "$1", "'; DROP TABLE stored_events; --", "{a,b}",
			"NULL", "a\tb\nc", "eventsourcing.domain:Aggregate.Created",
		} {
			s.target.insert(t, topical(topic, dog("Fido"), int64(i)))
		}
		s.target.want(t, dog("Fido"), persistence.EventRange{})
	},
}, {
	name:  "ten thousand events in one insert",
	says:  "One insert may have any number of events; it is still all or nothing.",
	heavy: true,
	run: func(t testing.TB, s *store) {
		const n = 10_000
		s.target.insert(t, history(dog("Fido"), 1, n)...)
		s.target.conflict(t, append(history(dog("Rex"), 1, n), at(dog("Fido"), n))...)
		s.target.wantVersions(t, dog("Rex"), persistence.EventRange{})
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{Descending: true, Limit: 2}, n, n-1)
	},
}, {
	name:  "a long history is streamed whole",
	says:  "A stream gives every event once and in order, however many there are, in both directions and with any limit.",
	heavy: true,
	run: func(t testing.TB, s *store) {
		const n = 2_100 // more than any store's page
		s.target.insert(t, history(dog("Fido"), 1, n)...)
		s.target.want(t, dog("Fido"), persistence.EventRange{Descending: true})
		for _, limit := range []int{99, 100, 101, 499, 500, 501, 999, 1000, 1001, 2000, 2099, 2100, 2101} {
			s.target.want(t, dog("Fido"), persistence.EventRange{Limit: limit})
			s.target.want(t, dog("Fido"), persistence.EventRange{Limit: limit, From: 50, Before: 2050, Descending: true})
		}
	},
}, {
	name: "what was read is the reader's",
	says: "Changing a state that was read changes neither what is stored nor what others read.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, history(dog("Fido"), 1, 2)...)
		for _, e := range s.target.read(t, dog("Fido"), persistence.EventRange{}) {
			overwrite(e.State)
		}
		for _, n := range s.target.conflict(t, at(dog("Fido"), 1)).Stored {
			overwrite(n.State)
		}
		s.target.want(t, dog("Fido"), persistence.EventRange{})
	},
}, {
	name: "what was given is the writer's",
	says: "Changing events or their states after they were inserted changes nothing that is stored.",
	run: func(t testing.TB, s *store) {
		events := history(dog("Fido"), 1, 2)
		s.target.insert(t, events...)
		for i := range events {
			overwrite(events[i].State)
			events[i] = topical(renamed, dog("Rex"), 99)
		}
		s.target.want(t, dog("Fido"), persistence.EventRange{})
		s.target.wantVersions(t, dog("Rex"), persistence.EventRange{})
	},
}, {
	name: "an insert does not change its events",
	says: "Recorders change neither the slice of events that they are given nor the states in it.",
	run: func(t testing.TB, s *store) {
		events := interleave(history(dog("Rex"), 1, 3), history(dog("Fido"), 1, 3))
		s.target.insert(t, events...)
		want := interleave(history(dog("Rex"), 1, 3), history(dog("Fido"), 1, 3))
		if problem := difference(unnumbered(events), unnumbered(want)); problem != "" {
			t.Errorf("the events that were inserted: %s", problem)
		}
	},
}, {
	name: "a stream can be left early",
	says: "Breaking out of a stream releases whatever it holds: reads and inserts go on at once.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, history(dog("Fido"), 1, 3)...)
		finishes(t, "leaving streams and inserting", func() error {
			for version := int64(4); version < 24; version++ {
				for _, err := range s.target.recorder.SelectEvents(s.ctx, dog("Fido"), persistence.EventRange{}) {
					if err != nil {
						return err
					}
					break
				}
				if _, err := s.target.try(s.ctx, at(dog("Fido"), version)); err != nil {
					return err
				}
			}
			return nil
		})
	},
}, {
	name: "events can be inserted inside the loop over a stream",
	says: "A stream holds no connection and no lock while the loop's body runs, so that the body can insert, also into the originator that is read.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, history(dog("Fido"), 1, 3)...)
		finishes(t, "inserting inside the loop", func() error {
			seen := int64(0)
			for e, err := range s.target.recorder.SelectEvents(s.ctx, dog("Fido"), persistence.EventRange{Before: 4}) {
				if err != nil {
					return err
				}
				if seen++; e.OriginatorVersion != seen {
					return fmt.Errorf("got version %d after %d events", e.OriginatorVersion, seen-1)
				}
				if _, err := s.target.try(s.ctx, at(dog("Rex"), seen), at(dog("Fido"), 3+seen)); err != nil {
					return err
				}
			}
			if seen != 3 {
				return fmt.Errorf("the stream had %d events, want 3", seen)
			}
			return nil
		})
	},
}, {
	name: "events can be read inside the loop over a stream",
	says: "Streams may be nested.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, history(dog("Fido"), 1, 5)...)
		finishes(t, "reading inside the loop", func() error {
			for _, err := range s.target.recorder.SelectEvents(s.ctx, dog("Fido"), persistence.EventRange{}) {
				if err != nil {
					return err
				}
				inner, err := collect(s.target.recorder.SelectEvents(s.ctx, dog("Fido"), persistence.EventRange{}))
				if err != nil || len(inner) != 5 {
					return fmt.Errorf("the inner stream had %d events, want 5; error %w", len(inner), err)
				}
			}
			return nil
		})
	},
}, {
	name: "a stream can be read again",
	says: "Ranging over the same stream again reads again, and sees what was stored in between.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, at(dog("Fido"), 1))
		stream := s.target.recorder.SelectEvents(s.ctx, dog("Fido"), persistence.EventRange{})
		for n := int64(1); n <= 3; n++ {
			events, err := collect(stream)
			if err != nil || len(events) != int(n) {
				t.Fatalf("time %d: got %d events and the error %v, want %d", n, len(events), err, n)
			}
			s.target.insert(t, at(dog("Fido"), n+1))
		}
	},
}, {
	name: "a cancelled insert stores nothing",
	says: "An insert whose context has ended before the call returns the context's error, and stores nothing.",
	run: func(t testing.TB, s *store) {
		_, err := s.target.try(cancelled(s.ctx), at(dog("Fido"), 1))
		wantIs(t, "InsertEvents with a cancelled context", err, context.Canceled)
		expired, cancel := context.WithDeadline(s.ctx, time.Unix(0, 0))
		defer cancel()
		_, err = s.target.try(expired, at(dog("Fido"), 1))
		wantIs(t, "InsertEvents with an expired context", err, context.DeadlineExceeded)
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{})
		s.target.insert(t, at(dog("Fido"), 1))
	},
}, {
	name: "a cancelled stream has one error",
	says: "A stream whose context has ended before the loop gives the context's error, once, and no events.",
	run: func(t testing.TB, s *store) {
		s.target.insert(t, history(dog("Fido"), 1, 3)...)
		turns := 0
		for e, err := range s.target.recorder.SelectEvents(cancelled(s.ctx), dog("Fido"), persistence.EventRange{}) {
			wantIs(t, fmt.Sprintf("turn %d, version %d", turns, e.OriginatorVersion), err, context.Canceled)
			turns++
		}
		if turns != 1 {
			t.Errorf("the loop had %d turns, want 1", turns)
		}
	},
}, {
	name:  "a stream that is cut short says so",
	says:  "A stream whose context ends during the loop either has all of its events or ends with the context's error.",
	heavy: true,
	run: func(t testing.TB, s *store) {
		const n = 1_500
		s.target.insert(t, history(dog("Fido"), 1, n)...)
		ctx, cancel := context.WithCancel(s.ctx)
		defer cancel()
		count := 0
		for e, err := range s.target.recorder.SelectEvents(ctx, dog("Fido"), persistence.EventRange{}) {
			if errors.Is(err, context.Canceled) {
				return
			}
			if count++; err != nil || e.OriginatorVersion != int64(count) {
				t.Fatalf("turn %d: got version %d and the error %v, want no error and OriginatorVersion %v", count, e.OriginatorVersion, err, int64(count))
			}
			if count == 10 {
				cancel()
			}
		}
		if count != n {
			t.Errorf("the stream ended without an error after %d of %d events", count, n)
		}
	},
}, {
	name: "recorders of an application share its events",
	says: "However many recorders are made for an application, they store and read the same events.",
	run: func(t testing.TB, s *store) {
		first := s.target.recorder
		s.target.insert(t, at(dog("Fido"), 1))
		s.use(t, sameStore{s.factory})
		if s.target.recorder == first {
			return // one recorder for all callers shares by its nature
		}
		s.target.conflict(t, at(dog("Fido"), 1))
		s.target.insert(t, at(dog("Fido"), 2))
		got, err := collect(first.SelectEvents(s.ctx, dog("Fido"), persistence.EventRange{}))
		if err != nil || len(got) != 2 {
			t.Errorf("the first recorder sees %d events and the error %v, want 2", len(got), err)
		}
	},
}, {
	name: "applications are separate",
	says: "Two applications may have events of the same originator and version: neither is in the other's way, nor seen by it, even if their names differ only in case.",
	run: func(t testing.TB, s *store) {
		theirs := s.neighbour.events
		if s.target == s.snapshots {
			theirs = s.neighbour.snapshots
		}
		s.target.insert(t, topical(renamed, dog("Fido"), 1))
		theirs.insert(t, history(dog("Fido"), 4, 2)...)
		s.target.insert(t, at(dog("Fido"), 2))
		s.target.wantVersions(t, dog("Fido"), persistence.EventRange{}, 1, 2)
	},
}}

// overwrite spoils a state.
func overwrite(state []byte) {
	for i := range state {
		state[i] = '!'
	}
}

// sameStore is a factory that is closed elsewhere.
type sameStore struct{ persistence.Factory }

func (sameStore) Close() error { return nil }
