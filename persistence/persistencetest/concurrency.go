package persistencetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// racers is how many goroutines want the same thing.
const racers = 12

// concurrencyRows are about many goroutines, and several processes, in one
// store.
var concurrencyRows = []row{{
	name: "one of many writers wins",
	says: "Of writers who store the same version of an originator at once, exactly one succeeds; the others get a ConflictError.",
	run: func(t testing.TB, s *store) {
		for version := range int64(figure(5, 200)) {
			errs := race(racers, func(i int) error {
				_, err := s.events.try(s.ctx, topical(fmt.Sprintf("Topic.%d", i), dog("Fido"), version))
				return err
			})
			wantOneWinner(t, errs, persistence.IsConflict)
		}
	},
}, {
	name: "one of many writers of several events wins",
	says: "Of writers whose inserts share one event, exactly one succeeds, and of the others nothing is stored.",
	run: func(t testing.TB, s *store) {
		for version := range int64(figure(4, 100)) {
			errs := race(racers, func(i int) error {
				own := dog(fmt.Sprintf("Dog%d", i))
				_, err := s.events.try(s.ctx, at(own, version*2), at(dog("Fido"), version), at(own, version*2+1))
				if !persistence.IsConflict(err) {
					return err
				}
				if _, again := s.events.try(s.ctx, history(own, version*2, 2)...); again != nil {
					// This does not count as a loss.
					return fmt.Errorf("store what is not in conflict: %v", again)
				}
				return err
			})
			wantOneWinner(t, errs, persistence.IsConflict)
		}
	},
}, {
	name: "one of many snapshots wins",
	says: "Of writers who store a snapshot of the same version at once, exactly one succeeds; the others get a ConflictError.",
	run: func(t testing.TB, s *store) {
		errs := race(racers, func(i int) error {
			_, err := s.snapshots.try(s.ctx, topical(fmt.Sprintf("Topic.%d", i), dog("Fido"), 7))
			return err
		})
		wantOneWinner(t, errs, persistence.IsConflict)
	},
}, {
	name: "one of many followers wins",
	says: "Of processes of a follower that move its position to the same id at once, exactly one succeeds; the others get ErrPositionMoved.",
	run: func(t testing.TB, s *store) {
		for id := int64(1); id <= int64(figure(5, 200)); id++ {
			errs := race(racers, func(int) error { return s.tryTracking(s.ctx, kennels, id) })
			wantOneWinner(t, errs, isTracking)
			s.wantPosition(t, kennels, id)
		}
	},
}, {
	name: "an upstream event is processed once",
	says: "Of processes of a follower that process the same upstream event at once, exactly one succeeds; the others get ErrPositionMoved, and nothing of theirs is stored.",
	run: func(t testing.TB, s *store) {
		for id := int64(1); id <= int64(figure(5, 200)); id++ {
			errs := race(racers, func(i int) error {
				_, err := s.tryProcessed(s.ctx, tracking(kennels, id), topical(fmt.Sprintf("Topic.%d", i), dog("Fido"), id))
				return err
			})
			wantOneWinner(t, errs, isTracking)
			s.wantPosition(t, kennels, id)
		}
	},
}, {
	name: "a position never goes back",
	says: "However many processes move a position at once, a reader never sees it go back, and it ends at the highest id.",
	run: func(t testing.TB, s *store) {
		const rounds = 20
		busy(t, 6, func(i int) error {
			for round := range rounds {
				err := s.tryTracking(s.ctx, kennels, int64(round*6+i+1))
				if err != nil && !isTracking(err) {
					return err
				}
			}
			return nil
		}, func(done <-chan struct{}) error {
			for last := int64(0); !closed(done); {
				id, err := s.process.MaxTrackingID(s.ctx, kennels)
				if err != nil || id < last {
					return fmt.Errorf("position %d after %d; error %w", id, last, err)
				}
				last = id
			}
			return nil
		})
	},
}, {
	name: "writers of different originators do not disturb each other",
	says: "Any number of writers of different originators and any number of readers work at once without an error.",
	run: func(t testing.TB, s *store) {
		writes, size := figure(8, 100), figure(10, 100)
		busy(t, 10, func(i int) error {
			return appendTo(s.party, fmt.Sprintf("Dog%d", i), writes, size)
		}, readsAll(s.party), readsAll(s.party))
	},
}, {
	name: "many small writes",
	says: "Writers who store one event at a time, each of another originator, all succeed.",
	run: func(t testing.TB, s *store) {
		busy(t, 4, func(i int) error { return appendTo(s.party, fmt.Sprintf("Dog%d", i), figure(25, 500), 1) })
	},
}, {
	name: "repeating after a conflict ends",
	says: "Writers of one originator who read it again after every conflict all get their events stored, without gaps.",
	run: func(t testing.TB, s *store) {
		const writers = 6
		rounds := figure(5, 100)
		busy(t, writers, func(int) error {
			for range rounds {
				if err := appendOnce(s.party); err != nil {
					return err
				}
			}
			return nil
		})
		s.events.wantVersions(t, dog("Fido"), persistence.EventRange{Descending: true, Limit: 1}, int64(writers*rounds))
	},
}, {
	name: "writers of the same originators in another order",
	says: "Writers who store events of the same originators in different orders get a success or a ConflictError, and never wait for each other.",
	run: func(t testing.TB, s *store) {
		rounds := int64(figure(10, 200))
		busy(t, 6, func(i int) error {
			first, second := dog("Fido"), dog("Rex")
			if i%2 == 1 {
				first, second = second, first
			}
			for version := int64(1); version <= rounds; version++ {
				_, err := s.events.try(s.ctx, at(first, version), at(second, version))
				if err != nil && !persistence.IsConflict(err) {
					return err
				}
			}
			return nil
		})
		s.events.wantVersions(t, dog("Fido"), persistence.EventRange{Descending: true, Limit: 1}, rounds)
	},
}, {
	name: "an insert becomes visible as a whole",
	says: "A reader sees all events of an insert or none, in the log and of the originator.",
	run: func(t testing.TB, s *store) {
		const size = 5
		whole := func(what string, n int, err error) error {
			if err == nil && n%size != 0 {
				return fmt.Errorf("%s has %d events, which is no multiple of %d", what, n, size)
			}
			return err
		}
		busy(t, 1, func(int) error {
			return appendTo(s.party, "Fido", figure(40, 400), size)
		}, func(done <-chan struct{}) error {
			for !closed(done) {
				events, err := collect(s.events.recorder.SelectEvents(s.ctx, dog("Fido"), persistence.EventRange{}))
				if err := whole("the originator", len(events), err); err != nil {
					return err
				}
			}
			return nil
		}, func(done <-chan struct{}) error {
			for after := int64(0); !closed(done); {
				r := persistence.NotificationRange{After: after, Limit: persistence.MaxPage}
				page, err := s.process.SelectNotifications(s.ctx, r)
				if err := whole("the log's end", len(page), err); err != nil {
					return err
				}
				if len(page) > 0 {
					after = page[len(page)-1].ID
				}
			}
			return nil
		})
	},
}, {
	name: "events and position become visible together",
	says: "A reader sees the events of a processed upstream event if and only if it sees the position.",
	run: func(t testing.TB, s *store) {
		rounds := int64(figure(40, 400))
		count := func() (int64, error) {
			events, err := collect(s.events.recorder.SelectEvents(s.ctx, dog("Fido"), persistence.EventRange{}))
			return int64(len(events)), err
		}
		busy(t, 1, func(int) error {
			for id := int64(1); id <= rounds; id++ {
				if _, err := s.tryProcessed(s.ctx, tracking(kennels, id), at(dog("Fido"), id)); err != nil {
					return err
				}
			}
			return nil
		}, func(done <-chan struct{}) error {
			for !closed(done) {
				before, err1 := count()
				position, err2 := s.process.MaxTrackingID(s.ctx, kennels)
				after, err3 := count()
				if err := errors.Join(err1, err2, err3); err != nil {
					return err
				}
				if before > position || position > after {
					return fmt.Errorf("position %d was read between %d and %d events", position, before, after)
				}
			}
			return nil
		})
	},
}, {
	name: "applications work at once",
	says: "Two applications write and read at once without disturbing each other.",
	run: func(t testing.TB, s *store) {
		parties := []*party{s.party, s.neighbour}
		busy(t, 4, func(i int) error {
			return appendTo(parties[i%2], fmt.Sprintf("Dog%d", i/2), figure(10, 200), 3)
		}, readsAll(s.party), readsAll(s.neighbour))
	},
}, {
	name: "recorders are made at once",
	says: "A factory makes recorders for any number of goroutines at once.",
	run: func(t testing.TB, s *store) {
		errs := race(racers, func(i int) error {
			process, err := s.factory.ProcessRecorder(s.name)
			if err != nil {
				return err
			}
			if _, err := s.factory.SnapshotRecorder(s.name); err != nil {
				return err
			}
			events := history(dog(fmt.Sprintf("Dog%d", i)), 1, 2)
			ids, err := process.InsertEvents(s.ctx, events)
			if err != nil {
				return err
			}
			return s.events.acknowledge(ids, events)
		})
		must(t, errs...)
	},
}, {
	name: "a save that is cut off",
	says: "An insert whose context ends during the call is either stored and acknowledged, or not stored and an error, or an ErrOutcomeUnknown.",
	run: func(t testing.TB, s *store) {
		for i := range figure(30, 2_000) {
			originator := fmt.Sprintf("Dog%d", i)
			var canceller sync.WaitGroup
			ctx, cancel := context.WithCancel(s.ctx)
			canceller.Go(cancel)
			_, err := s.events.try(ctx, history(dog(originator), 1, 3)...)
			canceller.Wait()
			switch {
			case errors.Is(err, persistence.ErrOutcomeUnknown):
				s.adopt(t, originator)
			case err != nil && !errors.Is(err, context.Canceled):
				t.Fatalf("insert %d: got the error %v, want none or %v", i, err, context.Canceled)
			}
		}
	},
}, {
	name:  "one of many writers in two processes wins",
	says:  "Of writers in different processes who store the same version of an originator at once, exactly one succeeds.",
	needs: []Feature{Concurrent},
	run: func(t testing.TB, s *store) {
		parties := []*party{s.party, s.another(t)}
		for version := range int64(figure(5, 200)) {
			errs := race(racers, func(i int) error {
				_, err := parties[i%2].events.try(s.ctx, topical(fmt.Sprintf("Topic.%d", i), dog("Fido"), version))
				return err
			})
			wantOneWinner(t, errs, persistence.IsConflict)
		}
	},
}, {
	name:  "an upstream event is processed once by two processes",
	says:  "Of a follower's goroutines in different processes that process the same upstream event at once, exactly one succeeds; the others get ErrPositionMoved.",
	needs: []Feature{Concurrent},
	run: func(t testing.TB, s *store) {
		parties := []*party{s.party, s.another(t)}
		for id := int64(1); id <= int64(figure(5, 200)); id++ {
			errs := race(racers, func(i int) error {
				_, err := parties[i%2].tryProcessed(s.ctx, tracking(kennels, id), at(dog("Fido"), id))
				return err
			})
			wantOneWinner(t, errs, isTracking)
		}
	},
}, {
	name:  "processes see each other's writes",
	says:  "What one process has stored, another one reads at once.",
	needs: []Feature{Concurrent},
	run: func(t testing.TB, s *store) {
		other := s.another(t)
		for version := int64(1); version <= 10; version += 2 {
			s.insertProcessed(t, tracking(kennels, version), at(dog("Fido"), version))
			other.events.want(t, dog("Fido"), persistence.EventRange{})
			other.wantPosition(t, kennels, version)
			other.insertProcessed(t, tracking(kennels, version+1), at(dog("Fido"), version+1))
			s.events.want(t, dog("Fido"), persistence.EventRange{})
			s.wantPosition(t, kennels, version+1)
			other.events.conflict(t, at(dog("Fido"), version))
		}
	},
}}

// wantOneWinner demands that all but one got the error that losers get.
func wantOneWinner(t testing.TB, errs []error, isLoss func(error) bool) {
	t.Helper()
	winners, losers := divided(errs)
	if winners != 1 {
		t.Errorf("%d of %d succeeded, want 1", winners, len(errs))
	}
	for _, err := range losers {
		if !isLoss(err) {
			t.Errorf("a loser got the error %v (%[1]T), want a conflict or a failure of the database", err)
		}
	}
}

func isTracking(err error) bool {
	return errors.Is(err, persistence.ErrPositionMoved)
}

// busy runs writers and meanwhile the readers, which are told when the writers
// are done. It fails the row at the first error.
func busy(t testing.TB, writers int, write func(i int) error, readers ...func(done <-chan struct{}) error) {
	t.Helper()
	done := make(chan struct{})
	reading := make(chan []error, 1)
	go func() { reading <- race(len(readers), func(i int) error { return readers[i](done) }) }()
	writing := race(writers, write)
	close(done)
	must(t, append(writing, <-reading...)...)
}

func closed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// appendTo stores events of an originator, size at a time.
func appendTo(p *party, name string, writes, size int) error {
	first := p.events.model.last(dog(name)) + 1
	for range writes {
		if _, err := p.events.try(p.ctx, history(dog(name), first, size)...); err != nil {
			return err
		}
		first += int64(size)
	}
	return nil
}

// appendOnce stores the next event of Fido, reading again after every conflict.
// Since a conflict means that another writer has stored an event, there is an
// end to them.
func appendOnce(p *party) error {
	for range 10_000 {
		last := int64(0)
		newest := persistence.EventRange{Descending: true, Limit: 1}
		for e, err := range p.events.recorder.SelectEvents(p.ctx, dog("Fido"), newest) {
			if err != nil {
				return err
			}
			last = e.OriginatorVersion
		}
		_, err := p.events.try(p.ctx, at(dog("Fido"), last+1))
		if !persistence.IsConflict(err) {
			return err
		}
	}
	return errors.New("there was a conflict 10,000 times in a row")
}

// readsAll reads whole logs until the writers are done.
func readsAll(p *party) func(done <-chan struct{}) error {
	return func(done <-chan struct{}) error {
		for read := 0; ; {
			log, err := p.readLog(p.ctx)
			if err != nil || len(log) < read {
				return fmt.Errorf("the log has %d events after it had %d; error %w", len(log), read, err)
			}
			read = len(log)
			if closed(done) {
				return nil
			}
		}
	}
}

// adopt asks the store whether it has the events of an insert whose outcome is
// unknown, and believes it.
func (p *party) adopt(t testing.TB, name string) {
	t.Helper()
	var ids []int64
	var events []persistence.StoredEvent
	for _, n := range p.log(t) {
		if n.OriginatorID == dog(name) {
			ids, events = append(ids, n.ID), append(events, n.StoredEvent)
		}
	}
	if len(events) != 0 && len(events) != 3 {
		t.Errorf("%d of 3 events of %s are stored, want all or none", len(events), name)
	}
	p.events.model.add(ids, events)
}
