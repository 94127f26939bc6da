package persistencetest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/limits"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// badInputRows are about values that one database would refuse and another one
// keep, or change. Every store refuses them in the same way.
var badInputRows = []row{{
	name: "the zero UUID is refused",
	says: "An event whose originator is the zero UUID is an ErrData, because its aggregate was given no id.",
	run: func(t testing.TB, s *store) {
		refuseEvent(t, s, func(e *persistence.StoredEvent) { e.OriginatorID = uuid.Nil })
	},
}, {
	name: "a negative version is refused",
	says: "An event with a negative version is an ErrData.",
	run: func(t testing.TB, s *store) {
		refuseEvent(t, s, func(e *persistence.StoredEvent) { e.OriginatorVersion = -1 })
		refuseEvent(t, s, func(e *persistence.StoredEvent) { e.OriginatorVersion = -1 << 63 })
	},
}, {
	name: "a skipped version is refused",
	says: "An insert that skips a version of an originator is an ErrData.",
	run: func(t testing.TB, s *store) {
		refuseEvents(t, s, at(dog("Fido"), 1), at(dog("Fido"), 3))
		refuseEvents(t, s, at(dog("Fido"), 1), at(dog("Rex"), 1), at(dog("Rex"), 3), at(dog("Fido"), 2))
	},
}, {
	name: "versions that go back are refused",
	says: "An insert in which the versions of an originator do not ascend is an ErrData.",
	run: func(t testing.TB, s *store) {
		refuseEvents(t, s, at(dog("Fido"), 2), at(dog("Fido"), 1))
	},
}, {
	name: "an empty topic is refused",
	says: "An event without a topic is an ErrData.",
	run: func(t testing.TB, s *store) {
		refuseEvent(t, s, func(e *persistence.StoredEvent) { e.Topic = "" })
	},
}, {
	name: "a topic of 256 bytes is refused",
	says: "An event whose topic has more than 255 bytes, however few characters they are, is an ErrData.",
	run: func(t testing.TB, s *store) {
		refuseEvent(t, s, func(e *persistence.StoredEvent) { e.Topic = strings.Repeat("x", limits.Topic+1) })
		refuseEvent(t, s, func(e *persistence.StoredEvent) { e.Topic = strings.Repeat("犬", 86) })
	},
}, {
	name: "a topic with NUL is refused",
	says: "An event whose topic contains a NUL is an ErrData.",
	run: func(t testing.TB, s *store) {
		refuseEvent(t, s, func(e *persistence.StoredEvent) { e.Topic = "Dog\x00Registered" })
	},
}, {
	name: "a topic that is not UTF-8 is refused",
	says: "An event whose topic is not valid UTF-8 is an ErrData.",
	run: func(t testing.TB, s *store) {
		refuseEvent(t, s, func(e *persistence.StoredEvent) { e.Topic = "Dog.\xff" })
	},
}, {
	name: "a nil state is refused",
	says: "An event without a state is an ErrData, and not stored as an empty one.",
	run: func(t testing.TB, s *store) {
		refuseEvent(t, s, func(e *persistence.StoredEvent) { e.State = nil })
	},
}, {
	name:  "a state over the limit is refused",
	says:  "A state may have 16 MiB; one byte more is an ErrData.",
	heavy: true,
	run: func(t testing.TB, s *store) {
		state := make([]byte, limits.State+1)
		refuseEvent(t, s, func(e *persistence.StoredEvent) { e.State = state })
		big := at(dog("Fido"), 1)
		big.State = state[:limits.State]
		s.events.insert(t, big)
	},
}, {
	name: "an invalid event at the end stores nothing",
	says: "If any event of an insert is invalid, none is stored.",
	run: func(t testing.TB, s *store) {
		bad := at(dog("Rex"), 1)
		bad.State = nil
		refuseEvents(t, s, append(history(dog("Fido"), 1, 5), bad)...)
	},
}, {
	name: "invalid events leave the position",
	says: "InsertProcessed with an invalid event is an ErrData, and leaves the position.",
	run: func(t testing.TB, s *store) {
		bad := at(dog("Fido"), 2)
		bad.Topic = ""
		_, err := s.tryProcessed(s.ctx, tracking(kennels, 1), at(dog("Fido"), 1), bad)
		wantInvalid(t, "InsertProcessed with an event without a topic", err, persistence.ErrData)
		s.wantPosition(t, kennels, 0)
	},
}, {
	name: "an invalid position leaves the events",
	says: "InsertProcessed with an invalid position is an ErrData, and stores none of the events.",
	run: func(t testing.TB, s *store) {
		for _, to := range []persistence.Tracking{tracking("", 1), tracking(kennels, 0), tracking(kennels, -1)} {
			_, err := s.tryProcessed(s.ctx, to, at(dog("Fido"), 1))
			wantInvalid(t, fmt.Sprintf("InsertProcessed to %+v", to), err, persistence.ErrData)
		}
		s.events.wantVersions(t, dog("Fido"), persistence.EventRange{})
	},
}, {
	name: "a position below 1 is refused",
	says: "Moving a position to 0 or to a negative id is an ErrData.",
	run: func(t testing.TB, s *store) {
		for _, id := range []int64{0, -1, -1 << 63} {
			wantInvalid(t, fmt.Sprintf("InsertTracking to %d", id), s.tryTracking(s.ctx, kennels, id), persistence.ErrData)
		}
		s.wantPosition(t, kennels, 0)
	},
}, {
	name: "an upstream name that cannot be stored is refused",
	says: "The name of an upstream application follows the same rules as every application name.",
	run: func(t testing.TB, s *store) {
		for what, name := range badNames {
			wantInvalid(t, "InsertTracking in an application "+what, s.tryTracking(s.ctx, name, 1), persistence.ErrData)
		}
	},
}, {
	name: "an application name that cannot be stored is refused",
	says: "Making a recorder for a name that is empty, longer than 32 characters, not UTF-8, or has NUL or spaces at its ends is an ErrData.",
	run: func(t testing.TB, s *store) {
		for what, name := range badNames {
			_, err := s.factory.ProcessRecorder(name)
			wantInvalid(t, "ProcessRecorder for an application "+what, err, persistence.ErrData)
			_, err = s.factory.SnapshotRecorder(name)
			wantInvalid(t, "SnapshotRecorder for an application "+what, err, persistence.ErrData)
		}
	},
}, {
	name: "every other application name is stored",
	says: "An application name may have 32 characters of any script, spaces inside, and signs that mean something to a database; names that differ are different applications.",
	run: func(t testing.TB, s *store) {
		for _, name := range []string{
			strings.Repeat("x", 32), strings.Repeat("犬", 32), strings.Repeat("🐕", 32), "x", "Training School",
			"TRAININGSCHOOL", "Training_chool", "TrainingSchoo%", "%", `O'Brien "Dogs" \ Co.`,
			"'; DROP TABLE stored_events; --", "é", "e\u0301", "0", "NULL",
		} {
			p := newParty(s.ctx, name)
			p.use(t, s.factory)
			p.verify(t)
			p.settle(t)
			p.verify(t)
		}
	},
}, {
	name: "negative bounds of a range of events are refused",
	says: "A range of events with a negative From, Before or Limit is an ErrProgramming, which ends the stream.",
	run: func(t testing.TB, s *store) {
		for _, b := range []*book{s.events, s.snapshots} {
			b.insert(t, history(dog("Fido"), 1, 3)...)
			for _, r := range []persistence.EventRange{{From: -1}, {Before: -1}, {Limit: -1}, {From: 1, Before: 2, Limit: -5}} {
				events, err := collect(b.recorder.SelectEvents(s.ctx, dog("Fido"), r))
				wantInvalid(t, fmt.Sprintf("SelectEvents(%+v)", r), err, persistence.ErrProgramming)
				if len(events) > 0 {
					t.Errorf("SelectEvents(%+v) gave %d events, want 0", r, len(events))
				}
			}
		}
	},
}, {
	name: "a page needs a length",
	says: "A range of notifications whose Limit is 0 or negative is an ErrProgramming.",
	run: func(t testing.TB, s *store) {
		refuseRange(t, s, persistence.NotificationRange{}, persistence.NotificationRange{Limit: -1})
	},
}, {
	name: "negative bounds of a page are refused",
	says: "A range of notifications with a negative After or Stop is an ErrProgramming.",
	run: func(t testing.TB, s *store) {
		refuseRange(t, s,
			persistence.NotificationRange{After: -1, Limit: 1}, persistence.NotificationRange{Stop: -1, Limit: 1})
	},
}, {
	name: "after bad input everything goes on",
	says: "Refused input disturbs neither later reads nor later writes.",
	run: func(t testing.TB, s *store) {
		bad := at(dog("Fido"), 1)
		bad.Topic = "\x00"
		refuseEvents(t, s, bad)
		refuseRange(t, s, persistence.NotificationRange{Limit: 0})
		s.events.insert(t, at(dog("Fido"), 1))
		s.snapshots.insert(t, at(dog("Fido"), 1))
		s.insertTracking(t, kennels, 1)
	},
}}

// badNames are application names that not every database can keep, by what they
// are.
var badNames = map[string]string{
	"without a name":                "",
	"of 33 characters":              strings.Repeat("x", limits.Name+1),
	"of 33 characters of 3 bytes":   strings.Repeat("犬", limits.Name+1),
	"with NUL":                      "Training\x00School",
	"that is not UTF-8":             "Training\xffSchool",
	"that begins with a space":      " TrainingSchool",
	"that ends with a space":        "TrainingSchool ",
	"that ends with a line":         "TrainingSchool\n",
	"that is a space and no name":   " ",
	"that ends with a wide space":   "TrainingSchool\u3000",
	"that begins with a tabulator":  "\tTrainingSchool",
	"that is an unpaired surrogate": "\xed\xa0\x80",
}

// refuseEvent inserts an event that spoil has made invalid, alone and among
// good ones.
func refuseEvent(t testing.TB, s *store, spoil func(*persistence.StoredEvent)) {
	t.Helper()
	bad := at(dog("Fido"), 1)
	spoil(&bad)
	refuseEvents(t, s, bad)
	refuseEvents(t, s, at(dog("Rex"), 1), bad, at(dog("Daisy"), 1))
}

// refuseEvents inserts events that must be refused, by both recorders. The
// store is looked through when the row is done.
func refuseEvents(t testing.TB, s *store, events ...persistence.StoredEvent) {
	t.Helper()
	for _, b := range []*book{s.events, s.snapshots} {
		_, err := b.try(s.ctx, events...)
		wantInvalid(t, "InsertEvents", err, persistence.ErrData)
		for _, e := range events {
			b.want(t, e.OriginatorID, persistence.EventRange{})
		}
	}
}

// refuseRange reads pages that must be refused.
func refuseRange(t testing.TB, s *store, ranges ...persistence.NotificationRange) {
	t.Helper()
	for _, r := range ranges {
		page, err := s.process.SelectNotifications(s.ctx, r)
		wantInvalid(t, fmt.Sprintf("SelectNotifications(%+v)", r), err, persistence.ErrProgramming)
		if len(page) > 0 {
			t.Errorf("SelectNotifications(%+v) gave %d notifications, want 0", r, len(page))
		}
	}
}
