package persistencetest

import (
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// orderingRows are about the promise that followers rest on: ids become visible
// in ascending order.
var orderingRows = []row{{
	name: "a reader who follows the log misses nothing",
	says: "A reader who reads page by page after the last id it saw, while many write, sees every event exactly once, in order of id.",
	run: func(t testing.TB, s *store) {
		followWhile(t, s, 8, nil, func(i int) error {
			return appendTo(s.party, fmt.Sprintf("Dog%d", i), figure(20, 2_000), 1+i%3)
		})
	},
}, {
	name: "a reader who follows some topics misses nothing",
	says: "A reader who follows events of some topics, while many write, sees each of those exactly once, in order of id.",
	run: func(t testing.TB, s *store) {
		followWhile(t, s, 8, []string{renamed, registered}, func(i int) error {
			topics := []string{registered, trickAdded, renamed, trickAdded}
			for version := range int64(figure(20, 2_000)) {
				e := topical(topics[(int64(i)+version)%4], dog(fmt.Sprintf("Dog%d", i)), version)
				if _, err := s.events.try(s.ctx, e); err != nil {
					return err
				}
			}
			return nil
		})
	},
}, {
	name: "conflicts do not disturb a reader who follows",
	says: "A reader who follows the log while some inserts fail sees every stored event exactly once, and none of the others.",
	run: func(t testing.TB, s *store) {
		followWhile(t, s, 8, nil, func(i int) error {
			for version := range int64(figure(15, 1_000)) {
				own := at(dog(fmt.Sprintf("Dog%d", i)), version)
				_, err := s.events.try(s.ctx, own, at(dog("Fido"), version))
				if persistence.IsConflict(err) {
					_, err = s.events.try(s.ctx, own)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	},
}, {
	name: "processed events are visible in order too",
	says: "A reader who follows the log sees events in order of id, whether they were inserted by InsertEvents or by InsertProcessed.",
	run: func(t testing.TB, s *store) {
		followWhile(t, s, 6, nil, func(i int) error {
			originator := dog(fmt.Sprintf("Dog%d", i))
			if i%2 == 0 {
				return appendTo(s.party, fmt.Sprintf("Dog%d", i), figure(20, 2_000), 2)
			}
			for n := range int64(figure(20, 2_000)) {
				to := tracking(fmt.Sprintf("Upstream%d", i), n+1)
				if _, err := s.tryProcessed(s.ctx, to, history(originator, n*2, 2)...); err != nil {
					return err
				}
			}
			return nil
		})
	},
}, {
	name: "the log up to the highest id is final",
	says: "What is in the log up to the id that MaxNotificationID has returned never changes.",
	run: func(t testing.TB, s *store) {
		busy(t, 6, func(i int) error {
			return appendTo(s.party, fmt.Sprintf("Dog%d", i), figure(20, 500), 2)
		}, func(done <-chan struct{}) error {
			var before []persistence.Notification
			for !closed(done) {
				head, err := s.process.MaxNotificationID(s.ctx)
				if err != nil {
					return err
				}
				log, err := s.readLog(s.ctx)
				if err != nil {
					return err
				}
				log = slices.DeleteFunc(log, func(n persistence.Notification) bool { return n.ID > head })
				if head > 0 && (len(log) == 0 || log[len(log)-1].ID != head) {
					return fmt.Errorf("the log has no notification %d, which is its highest id", head)
				}
				if problem := difference(log[:min(len(log), len(before))], before); problem != "" {
					return fmt.Errorf("the log has changed: %s", problem)
				}
				before = log
			}
			return nil
		})
	},
}, {
	name: "events of an originator are in the log in order",
	says: "In the log the events of each originator are in order of version, because an event is only stored after the one before it.",
	run: func(t testing.TB, s *store) {
		busy(t, 6, func(int) error {
			for range figure(5, 200) {
				if err := appendOnce(s.party); err != nil {
					return err
				}
			}
			return nil
		})
		for i, n := range s.log(t) {
			if n.OriginatorVersion != int64(i+1) {
				t.Fatalf("event %d of the log has version %d, want %v", i+1, n.OriginatorVersion, int64(i+1))
			}
		}
	},
}, {
	name: "another application does not disturb a reader who follows",
	says: "A reader who follows one log, while many write to another one as well, sees every event of that log exactly once.",
	run: func(t testing.TB, s *store) {
		parties := []*party{s.party, s.neighbour}
		followWhile(t, s, 8, nil, func(i int) error {
			return appendTo(parties[i%2], fmt.Sprintf("Dog%d", i), figure(20, 1_000), 2)
		})
	},
}, {
	name:  "a reader in another process misses nothing",
	says:  "A reader who follows the log, while goroutines of several processes write, sees every event exactly once, in order of id.",
	needs: []Feature{Concurrent},
	run: func(t testing.TB, s *store) {
		parties := []*party{s.party, s.another(t), s.another(t)}
		followWhile(t, s, 9, nil, func(i int) error {
			return appendTo(parties[i%3], fmt.Sprintf("Dog%d", i), figure(15, 1_000), 1+i%3)
		})
	},
}}

// followWhile runs writers while two readers follow the log, and compares what
// the readers saw with what the log holds in the end.
func followWhile(t testing.TB, s *store, writers int, topics []string, write func(i int) error) {
	t.Helper()
	var seen [2][]persistence.Notification
	reader := func(i, limit int) func(done <-chan struct{}) error {
		return func(done <-chan struct{}) (err error) {
			seen[i], err = s.follow(done, limit, slices.Clone(topics))
			return err
		}
	}
	busy(t, writers, write, reader(0, 7), reader(1, persistence.MaxPage))
	var want []persistence.Notification
	for _, n := range s.events.model.all() {
		if len(topics) == 0 || slices.Contains(topics, n.Topic) {
			want = append(want, n)
		}
	}
	for i := range seen {
		if problem := difference(seen[i], want); problem != "" {
			t.Errorf("what reader %d saw: %s", i+1, problem)
		}
	}
}

// follow reads the log page by page, after the last id it saw, until the
// writers are done and the end is reached.
func (p *party) follow(done <-chan struct{}, limit int, topics []string) ([]persistence.Notification, error) {
	var seen []persistence.Notification
	for after := int64(0); ; {
		last := closed(done)
		r := persistence.NotificationRange{After: after, Limit: limit, Topics: topics}
		page, err := p.process.SelectNotifications(p.ctx, r)
		switch {
		case err != nil:
			return seen, err
		case len(page) > 0 && page[len(page)-1].ID <= after:
			return seen, fmt.Errorf("the page after %d ends with %d", after, page[len(page)-1].ID)
		case len(page) > 0:
			seen = append(seen, page...)
			after = page[len(page)-1].ID
		case last:
			return seen, nil
		}
		runtime.Gosched()
	}
}
