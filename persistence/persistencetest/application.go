package persistencetest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// applicationRows are about ApplicationRecorder: an application's events as one
// log.
var applicationRows = []row{{
	name: "an empty log has the highest id 0",
	says: "If an application has no events, its highest id is 0, whatever others have stored.",
	run: func(t testing.TB, s *store) {
		if got := s.maxID(t); got != 0 {
			t.Errorf("MaxNotificationID: got %d, want 0", got)
		}
	},
}, {
	name: "an empty log has no notifications",
	says: "If an application has no events, every page of its log is empty.",
	run: func(t testing.TB, s *store) {
		for _, r := range []persistence.NotificationRange{
			{Limit: 10}, {Limit: 10, Topics: []string{trickAdded}}, {After: 1, Limit: 10}, {Stop: 5, Limit: 1},
		} {
			if got := s.page(t, r); len(got) != 0 {
				t.Errorf("SelectNotifications(%+v): got %d notifications, want none", r, len(got))
			}
		}
	},
}, {
	name: "every event gets an id",
	says: "An insert returns an id for each of its events, ascending, in the order of the events, and from 1 on.",
	run: func(t testing.TB, s *store) {
		ids := slices.Concat(s.events.insert(t, history(dog("Fido"), 1, 2)...), s.events.insert(t, at(dog("Fido"), 3)))
		if len(ids) != 3 || !ascending(ids) {
			t.Errorf("got the ids %v, want three ascending ones", ids)
		}
	},
}, {
	name: "later inserts get higher ids",
	says: "An insert that begins after another one has returned gets higher ids, whatever originators they are about.",
	run: func(t testing.TB, s *store) {
		last := int64(0)
		for version := int64(1); version <= 10; version++ {
			for _, name := range []string{"Rex", "Fido", "Daisy"} {
				ids := s.events.insert(t, at(dog(name), version))
				if ids[0] <= last {
					t.Fatalf("got the id %d after %d", ids[0], last)
				}
				last = ids[0]
			}
		}
	},
}, {
	name: "the returned ids are those in the log",
	says: "The log has each event, whole, under the id that its insert returned.",
	run: func(t testing.TB, s *store) {
		events := interleave(history(dog("Fido"), 1, 2), history(dog("Rex"), 1, 2))
		ids := s.events.insert(t, events...)
		var want []persistence.Notification
		for i := range events {
			want = append(want, persistence.Notification{ID: ids[i], StoredEvent: events[i]})
		}
		if problem := difference(s.page(t, persistence.NotificationRange{Limit: 10}), want); problem != "" {
			t.Error(problem)
		}
	},
}, {
	name: "an insert keeps the order of its events",
	says: "The events of one insert are in the log in the order in which they were given, also if originators are interleaved.",
	run: func(t testing.TB, s *store) {
		events := interleave(history(dog("Zoe"), 1, 20), history(dog("Ada"), 1, 20))
		s.events.insert(t, events...)
		var got []persistence.StoredEvent
		for _, n := range s.log(t) {
			got = append(got, n.StoredEvent)
		}
		if problem := difference(unnumbered(got), unnumbered(events)); problem != "" {
			t.Error(problem)
		}
	},
}, {
	name: "inserting nothing leaves the log alone",
	says: "Storing no events changes neither the log nor its highest id.",
	run: func(t testing.TB, s *store) {
		ids := s.events.insert(t, at(dog("Fido"), 1))
		s.events.insert(t)
		if got := s.maxID(t); got != ids[0] {
			t.Errorf("MaxNotificationID: got %d, want %d", got, ids[0])
		}
	},
}, {
	name: "the highest id is that of the last event",
	says: "MaxNotificationID returns the highest id in the application's own log.",
	run: func(t testing.TB, s *store) {
		for version := int64(1); version < 10; version += 3 {
			ids := s.events.insert(t, history(dog("Fido"), version, 3)...)
			s.neighbour.events.insert(t, at(dog("Daisy"), version/3))
			if got := s.maxID(t); got != ids[2] {
				t.Errorf("MaxNotificationID: got %d, want %d", got, ids[2])
			}
		}
	},
}, {
	name: "the newest event is known",
	says: "NewestNotificationID returns the id of the newest event in the application's own log, and 0 if there is none.",
	run: func(t testing.TB, s *store) {
		want := int64(0)
		for version := range int64(3) {
			if got, err := s.process.NewestNotificationID(s.ctx); err != nil || got != want {
				t.Errorf("NewestNotificationID = %d, %v, want %d", got, err, want)
			}
			want = s.events.insert(t, at(dog("Fido"), version))[0]
			s.neighbour.events.insert(t, at(dog("Daisy"), version))
		}
	},
}, {
	name: "a conflict leaves the log alone",
	says: "An insert that fails adds nothing to the log, does not change its highest id, and does not disturb later reads.",
	run: func(t testing.TB, s *store) {
		ids := s.events.insert(t, history(dog("Fido"), 1, 2)...)
		s.events.conflict(t, at(dog("Rex"), 1), at(dog("Fido"), 2))
		if got := s.maxID(t); got != ids[1] {
			t.Errorf("MaxNotificationID: got %d, want %d", got, ids[1])
		}
		s.wantPage(t, persistence.NotificationRange{Limit: 10})
		if later := s.events.insert(t, at(dog("Rex"), 1)); later[0] <= ids[1] {
			t.Errorf("got the id %d after %d", later[0], ids[1])
		}
	},
}, {
	name: "no topics select all events",
	says: "A range without topics selects events of every topic.",
	run: func(t testing.TB, s *store) {
		threeTopics(t, s)
		s.wantPage(t, persistence.NotificationRange{Limit: 10, Topics: nil})
		s.wantPage(t, persistence.NotificationRange{Limit: 10, Topics: []string{}})
	},
}, {
	name: "one topic selects its events",
	says: "A range with one topic selects the events stored under that name.",
	run: func(t testing.TB, s *store) {
		threeTopics(t, s)
		for _, topic := range []string{registered, trickAdded, renamed} {
			r := persistence.NotificationRange{Limit: 10, Topics: []string{topic}}
			if got := s.page(t, r); len(got) != 2 {
				t.Errorf("%s: got %d notifications, want 2", topic, len(got))
			}
			s.wantPage(t, r)
		}
	},
}, {
	name: "two topics of three",
	says: "A range with several topics selects the events of each of them, in order of id.",
	run: func(t testing.TB, s *store) {
		threeTopics(t, s)
		for _, topics := range [][]string{{registered, trickAdded}, {renamed, registered}, {trickAdded, renamed}} {
			s.wantPage(t, persistence.NotificationRange{Limit: 10, Topics: topics})
		}
		s.wantPage(t, persistence.NotificationRange{Limit: 10, Topics: []string{renamed, trickAdded, registered}})
	},
}, {
	name: "an unknown topic selects nothing",
	says: "A topic under which nothing is stored selects nothing, and does not hinder others.",
	run: func(t testing.TB, s *store) {
		threeTopics(t, s)
		if got := s.page(t, persistence.NotificationRange{Limit: 10, Topics: []string{"Dog.Unknown"}}); len(got) != 0 {
			t.Errorf("got %d notifications, want none", len(got))
		}
		s.wantPage(t, persistence.NotificationRange{Limit: 10, Topics: []string{"Dog.Unknown", renamed}})
	},
}, {
	name: "a topic given twice counts once",
	says: "A range that has a topic twice selects each of its events once.",
	run: func(t testing.TB, s *store) {
		threeTopics(t, s)
		s.wantPage(t, persistence.NotificationRange{Limit: 10, Topics: []string{renamed, renamed, renamed}})
	},
}, {
	name: "all but some topics",
	says: "Except leaves out the events of its topics, and no others, whatever they are called.",
	run: func(t testing.TB, s *store) {
		threeTopics(t, s)
		for _, except := range [][]string{{}, {registered}, {renamed, trickAdded}, {registered, renamed, trickAdded}, {"Dog.Unknown"}} {
			s.wantPage(t, persistence.NotificationRange{Limit: 10, Except: except})
			s.wantPage(t, persistence.NotificationRange{After: 1, Limit: 2, Topics: []string{registered, renamed}, Except: except})
		}
	},
}, {
	name: "topics are compared exactly",
	says: "Topics are compared byte for byte: case, spaces, beginnings and signs of patterns make a difference.",
	run: func(t testing.TB, s *store) {
		topics := []string{
			registered, "dog.registered", "Dog.Registered ", "Dog.Register", "Dog_Registered", "Dog.%", "%", "é", "e\u0301",
			"Dog.Registered.V2",
		}
		for i, topic := range topics {
			s.events.insert(t, topical(topic, dog("Fido"), int64(i)))
		}
		for _, topic := range topics {
			s.wantPage(t, persistence.NotificationRange{Limit: 20, Topics: []string{topic}})
		}
		none := []string{"Dog.", "Dog", "DOG.REGISTERED", "Dog.Registered\t"}
		s.wantPage(t, persistence.NotificationRange{Limit: 20, Topics: none})
	},
}, {
	name: "many topics",
	says: "A range may have any number of topics.",
	run: func(t testing.TB, s *store) {
		threeTopics(t, s)
		topics := []string{renamed}
		for i := range 2_000 {
			topics = append(topics, fmt.Sprintf("Dog.Unknown%d", i))
		}
		s.wantPage(t, persistence.NotificationRange{Limit: 10, Topics: append(topics, registered)})
	},
}, {
	name: "Limit is the length of a page",
	says: "A page has Limit notifications, and fewer only at the end of the range.",
	run: func(t testing.TB, s *store) {
		ids := s.events.insert(t, history(dog("Fido"), 1, 5)...)
		for limit := 1; limit <= 6; limit++ {
			got := s.page(t, persistence.NotificationRange{Limit: limit})
			if want := min(limit, len(ids)); len(got) != want {
				t.Errorf("Limit %d: got %d notifications, want %d", limit, len(got), want)
			}
			s.wantPage(t, persistence.NotificationRange{Limit: limit})
		}
	},
}, {
	name: "a page is filled if topics are selected",
	says: "Limit counts selected events only: events of other topics in between do not shorten a page.",
	run: func(t testing.TB, s *store) {
		for version := int64(0); version < 60; version++ {
			topic := trickAdded
			if version%10 == 9 {
				topic = renamed
			}
			s.events.insert(t, topical(topic, dog("Fido"), version))
		}
		r := persistence.NotificationRange{Limit: 5, Topics: []string{renamed}}
		if got := s.page(t, r); len(got) != 5 {
			t.Errorf("got %d notifications, want 5", len(got))
		}
		s.wantPage(t, r)
	},
}, {
	name:  "a page has at most MaxPage notifications",
	says:  "A Limit over MaxPage counts as MaxPage.",
	heavy: true,
	run: func(t testing.TB, s *store) {
		s.events.insert(t, history(dog("Fido"), 1, persistence.MaxPage+5)...)
		for _, limit := range []int{persistence.MaxPage - 1, persistence.MaxPage, persistence.MaxPage + 1, math.MaxInt} {
			got := s.page(t, persistence.NotificationRange{Limit: limit})
			if want := min(limit, persistence.MaxPage); len(got) != want {
				t.Errorf("Limit %d: got %d notifications, want %d", limit, len(got), want)
			}
		}
	},
}, {
	name: "After is the id that a page begins after",
	says: "A page begins with the first id that is higher than After; 0 is the beginning of the log.",
	run: func(t testing.TB, s *store) {
		ids := s.events.insert(t, history(dog("Fido"), 1, 5)...)
		for i, id := range ids {
			r := persistence.NotificationRange{After: id, Limit: 10}
			if got := s.page(t, r); len(got) != 4-i {
				t.Errorf("After %d of %v: got %d notifications, want %d", id, ids, len(got), 4-i)
			}
			s.wantPage(t, r)
			s.wantPage(t, persistence.NotificationRange{After: id - 1, Limit: 10})
		}
	},
}, {
	name: "After at the end selects nothing",
	says: "A range after the last id is legal and empty.",
	run: func(t testing.TB, s *store) {
		ids := s.events.insert(t, history(dog("Fido"), 1, 3)...)
		for _, after := range []int64{ids[2], ids[2] + 1, ids[2] + 1000, math.MaxInt64} {
			if got := s.page(t, persistence.NotificationRange{After: after, Limit: 10}); len(got) != 0 {
				t.Errorf("After %d of %v: got %d notifications, want none", after, ids, len(got))
			}
		}
	},
}, {
	name: "Stop is the last id of a range",
	says: "A range ends with the id Stop, that one included; 0 means no end.",
	run: func(t testing.TB, s *store) {
		ids := s.events.insert(t, history(dog("Fido"), 1, 5)...)
		for i, id := range ids {
			r := persistence.NotificationRange{Stop: id, Limit: 10}
			if got := s.page(t, r); len(got) != i+1 {
				t.Errorf("Stop %d of %v: got %d notifications, want %d", id, ids, len(got), i+1)
			}
			s.wantPage(t, r)
		}
		s.wantPage(t, persistence.NotificationRange{Stop: math.MaxInt64, Limit: 10})
	},
}, {
	name: "After and Stop enclose a range",
	says: "A range from After, exclusive, up to Stop has the ids in between; if Stop is not after After, it is legal and empty.",
	run: func(t testing.TB, s *store) {
		ids := s.events.insert(t, history(dog("Fido"), 1, 5)...)
		for _, c := range []struct {
			after, stop int64
			want        int
		}{
			{ids[0], ids[1], 1}, {ids[0], ids[2], 2}, {ids[1], ids[1], 0}, {ids[3], ids[1], 0}, {ids[4], ids[4] + 100, 0},
		} {
			r := persistence.NotificationRange{After: c.after, Stop: c.stop, Limit: 10}
			if got := s.page(t, r); len(got) != c.want {
				t.Errorf("%+v of %v: got %d notifications, want %d", r, ids, len(got), c.want)
			}
		}
	},
}, {
	name: "every combination of a page's fields",
	says: "After, Stop, Limit and Topics mean the same in every combination, also in gaps of the log.",
	run: func(t testing.TB, s *store) {
		last := int64(0)
		for version := int64(1); version <= 6; version++ {
			topic := []string{registered, trickAdded, renamed}[version%3]
			last = s.events.insert(t, topical(topic, dog("Fido"), version))[0]
			s.neighbour.events.insert(t, at(dog("Daisy"), version))
		}
		first := s.log(t)[0].ID
		for after := first - 1; after <= last; after++ {
			for _, stop := range []int64{0, first, first + 3, last - 1, last, last + 1} {
				for _, limit := range []int{1, 3, 100} {
					for _, topics := range [][]string{nil, {trickAdded}, {renamed, registered}} {
						s.wantPage(t, persistence.NotificationRange{After: max(after, 0), Stop: stop, Limit: limit, Topics: topics})
					}
				}
			}
		}
	},
}, {
	name: "reading page by page gives the whole log",
	says: "A reader who begins each page after the last id of the one before sees every event once, whatever the length of the pages.",
	run: func(t testing.TB, s *store) {
		for version := int64(1); version <= 8; version++ {
			s.events.insert(t, at(dog("Fido"), 2*version-1), at(dog("Fido"), 2*version), at(dog("Rex"), version))
			s.neighbour.events.insert(t, at(dog("Daisy"), version))
		}
		for _, limit := range []int{1, 2, 3, 5, 7, 10, 23, 24, 25} {
			var log []persistence.Notification
			for after := int64(0); ; {
				page := s.page(t, persistence.NotificationRange{After: after, Limit: limit})
				if len(page) == 0 {
					break
				}
				if page[len(page)-1].ID <= after {
					t.Fatalf("the page after %d ends with %d", after, page[len(page)-1].ID)
				}
				log = append(log, page...)
				after = page[len(page)-1].ID
			}
			if problem := difference(log, s.events.model.all()); problem != "" {
				t.Errorf("pages of %d: %s", limit, problem)
			}
		}
	},
}, {
	name: "a notification is the reader's",
	says: "Changing a state in a page changes neither what is stored nor what others read.",
	run: func(t testing.TB, s *store) {
		s.events.insert(t, history(dog("Fido"), 1, 2)...)
		page := s.page(t, persistence.NotificationRange{Limit: 10})
		for i := range page {
			overwrite(page[i].State)
			page[i].Topic = "spoilt"
		}
		s.wantPage(t, persistence.NotificationRange{Limit: 10})
	},
}, {
	name: "the returned ids are the writer's",
	says: "Changing the ids that an insert returned changes nothing that is stored.",
	run: func(t testing.TB, s *store) {
		ids := s.events.insert(t, history(dog("Fido"), 1, 2)...)
		for i := range ids {
			ids[i] = 1 << 40
		}
		s.wantPage(t, persistence.NotificationRange{Limit: 10})
	},
}, {
	name: "selecting does not change the topics",
	says: "Recorders do not change the topics of the range that they are given.",
	run: func(t testing.TB, s *store) {
		threeTopics(t, s)
		topics := []string{trickAdded, renamed, registered, renamed}
		s.page(t, persistence.NotificationRange{Limit: 10, Topics: topics})
		if want := []string{trickAdded, renamed, registered, renamed}; !slices.Equal(topics, want) {
			t.Errorf("the topics are now %q, want %v", topics, want)
		}
	},
}, {
	name:  "ten thousand events are numbered in order",
	says:  "The ids of a large insert ascend in the order of its events.",
	heavy: true,
	run: func(t testing.TB, s *store) {
		s.events.insert(t, interleave(history(dog("Fido"), 1, 5_000), history(dog("Rex"), 1, 5_000))...)
	},
}, {
	name: "a cancelled read returns the context's error",
	says: "Reading the log or its highest id with a context that has ended returns the context's error.",
	run: func(t testing.TB, s *store) {
		s.events.insert(t, at(dog("Fido"), 1))
		page, err := s.process.SelectNotifications(cancelled(s.ctx), persistence.NotificationRange{Limit: 10})
		if len(page) != 0 {
			t.Errorf("SelectNotifications with a cancelled context returned %d notifications, want 0", len(page))
		}
		wantIs(t, "SelectNotifications", err, context.Canceled)
		_, err = s.process.MaxNotificationID(cancelled(s.ctx))
		wantIs(t, "MaxNotificationID", err, context.Canceled)
	},
}, {
	name: "logs of applications are separate",
	says: "The log of an application has its own events only, and its ids ascend whatever others store in between.",
	run: func(t testing.TB, s *store) {
		for version := int64(1); version <= 5; version++ {
			s.events.insert(t, at(dog("Fido"), version))
			s.neighbour.events.insert(t, at(dog("Fido"), version+3))
		}
		s.wantPage(t, persistence.NotificationRange{Limit: 100})
		s.neighbour.wantPage(t, persistence.NotificationRange{Limit: 100})
	},
}}

// threeTopics inserts two events of each of three topics.
func threeTopics(t testing.TB, s *store) {
	t.Helper()
	fido, rex := dog("Fido"), dog("Rex")
	s.events.insert(t, topical(registered, fido, 1), topical(trickAdded, fido, 2), topical(renamed, fido, 3))
	s.events.insert(t, topical(registered, rex, 1), topical(renamed, rex, 2), topical(trickAdded, rex, 3))
}
