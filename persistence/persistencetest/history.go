package persistencetest

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// historyRows compare the store with the model after every step of random
// histories.
var historyRows = []row{{
	name: "of events",
	says: "After any history of inserts, conflicts and reads, the events of every originator are the acknowledged ones.",
	run: func(t testing.TB, s *store) {
		histories(t, s, insertSome, insertSome, insertStale, insertMixed, readOriginator, readOriginator)
	},
}, {
	name: "of the log",
	says: "After any history of inserts and conflicts, every page of the log has the acknowledged events of its range.",
	run: func(t testing.TB, s *store) {
		histories(t, s, insertSome, insertSome, insertMixed, readPage, readPage, readHead, neighbourInserts)
	},
}, {
	name: "of positions",
	says: "After any history of moves, every position is the highest id that it was moved to.",
	run:  func(t testing.TB, s *store) { histories(t, s, moveSome, moveSome, readPosition) },
}, {
	name: "of processing",
	says: "After any history of processed events, conflicts and refused positions, events and positions are the acknowledged ones.",
	run: func(t testing.TB, s *store) {
		histories(t, s, processSome, processSome, processMixed, moveSome, insertSome, readPosition, readPage, readOriginator)
	},
}, {
	name: "of snapshots",
	says: "After any history of events and snapshots, both are the acknowledged ones, and neither is among the others.",
	run: func(t testing.TB, s *store) {
		histories(t, s, insertSome, snapshotSome, snapshotSome, readSnapshots, readSnapshots, readOriginator)
	},
}, {
	name:  "of everything",
	says:  "After any history of everything that a store can do, it holds what it has acknowledged.",
	heavy: true,
	run: func(t testing.TB, s *store) {
		histories(t, s, everything...)
	},
}, {
	name:  "of everything with reopening",
	says:  "After any history in which the store is closed and opened again, it holds what it has acknowledged.",
	needs: []Feature{Reopen},
	heavy: true,
	run: func(t testing.TB, s *store) {
		histories(t, s, append([]step{reopenSometimes}, everything...)...)
	},
}, {
	name:  "of two processes",
	says:  "After any history of two processes that take turns, the store holds what it has acknowledged to both.",
	needs: []Feature{Concurrent},
	heavy: true,
	run: func(t testing.TB, s *store) {
		both := []*party{s.party, s.another(t)}
		turn := 0
		histories(t, s, append([]step{func(h *random) {
			turn++
			h.party = both[turn%2]
		}}, everything...)...)
	},
}, {
	name:  "of transactions",
	says:  "After any history of transactions that are committed or rolled back, the store holds what was committed.",
	needs: []Feature{Transaction},
	heavy: true,
	run: func(t testing.TB, s *store) {
		histories(t, s, insertSome, transactSome, transactSome, readOriginator, readPage, readPosition, readHead)
	},
}}

// everything are the steps that every store can take.
var everything = []step{
	insertSome, insertSome, insertStale, insertMixed, insertNothing, readOriginator, readPage, readHead, moveSome,
	readPosition, processSome, processMixed, snapshotSome, readSnapshots, neighbourInserts,
}

// step is one step of a random history. It fails the row if the store does not
// do as the model does.
type step func(h *random)

// random is a random history in progress.
type random struct {
	*rand.Rand
	*store
	*party // whose turn it is
	t      testing.TB
}

// histories takes random steps. The seed is printed if the row fails, and can
// be set.
func histories(t testing.TB, s *store, steps ...step) {
	t.Helper()
	seed := seed(t)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("PERSISTENCETEST_SEED=%d repeats this history", seed)
		}
	})
	h := &random{Rand: rand.New(rand.NewPCG(seed, 0)), store: s, party: s.party, t: t}
	for range figure(150, 5_000) {
		steps[h.IntN(len(steps))](h)
		if t.Failed() {
			return
		}
	}
}

// seed is the one that the environment has, and otherwise a new one.
func seed(t testing.TB) uint64 {
	t.Helper()
	text := os.Getenv("PERSISTENCETEST_SEED")
	if text == "" {
		return rand.Uint64()
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("PERSISTENCETEST_SEED=%q: %v", text, err)
	}
	return seed
}

// originator is one of a few.
func (h *random) originator() uuid.UUID { return dog([]string{"Fido", "Rex", "Daisy"}[h.IntN(3)]) }

// newcomer is an originator that has no events yet.
func (h *random) newcomer() uuid.UUID { return dog(strconv.FormatUint(h.Uint64(), 36)) }

// topic is one of three.
func (h *random) topic() string { return []string{registered, trickAdded, renamed}[h.IntN(3)] }

// upstream is one of two.
func (h *random) upstream() string { return []string{kennels, shelters}[h.IntN(2)] }

// next makes up to n events that can be stored, of one originator or more.
func (h *random) next(n int) []persistence.StoredEvent {
	last := map[uuid.UUID]int64{}
	events := make([]persistence.StoredEvent, 0, n)
	for range 1 + h.IntN(n) {
		id := h.originator()
		if _, ok := last[id]; !ok {
			last[id] = h.party.events.model.last(id)
		}
		last[id]++
		events = append(events, topical(h.topic(), id, last[id]))
	}
	return events
}

// stale makes an event that is stored already; it returns false if there is
// none.
func (h *random) stale() (persistence.StoredEvent, bool) {
	id := h.originator()
	last := h.party.events.model.last(id)
	if last < 0 {
		return persistence.StoredEvent{}, false
	}
	return topical(h.topic(), id, h.Int64N(last+1)), true
}

// mixed puts an event that is stored already among others that are not.
func (h *random) mixed() ([]persistence.StoredEvent, bool) {
	stale, ok := h.stale()
	if !ok {
		return nil, false
	}
	var events []persistence.StoredEvent
	for _, e := range h.next(4) {
		if e.OriginatorID != stale.OriginatorID {
			events = append(events, e)
		}
	}
	at := h.IntN(len(events) + 1)
	return append(events[:at:at], append([]persistence.StoredEvent{stale}, events[at:]...)...), true
}

func insertSome(h *random) { h.party.events.insert(h.t, h.next(5)...) }

func insertNothing(h *random) { h.party.events.insert(h.t) }

func insertStale(h *random) {
	if stale, ok := h.stale(); ok {
		h.party.events.conflict(h.t, stale)
	}
}

func insertMixed(h *random) {
	if events, ok := h.mixed(); ok {
		h.party.events.conflict(h.t, events...)
	}
}

func neighbourInserts(h *random) {
	h.neighbour.events.insert(h.t, at(dog("Rex"), h.neighbour.events.model.last(dog("Rex"))+1))
}

func readOriginator(h *random) {
	id := h.originator()
	h.party.events.want(h.t, id, h.eventRange(h.party.events.model.last(id)))
}

// eventRange is a range around the versions that an originator has.
func (h *random) eventRange(last int64) persistence.EventRange {
	r := persistence.EventRange{Descending: h.IntN(2) == 0}
	if h.IntN(2) == 0 {
		r.From = h.Int64N(last + 4)
	}
	if h.IntN(2) == 0 {
		r.Before = h.Int64N(last + 4)
	}
	if h.IntN(2) == 0 {
		r.Limit = h.IntN(8)
	}
	return r
}

func readPage(h *random) {
	last := int64(0)
	if log := h.party.events.model.all(); len(log) > 0 {
		last = log[len(log)-1].ID
	}
	r := persistence.NotificationRange{After: h.Int64N(last + 3), Limit: 1 + h.IntN(20)}
	if h.IntN(2) == 0 {
		r.Stop = h.Int64N(last + 3)
	}
	for range h.IntN(3) {
		r.Topics = append(r.Topics, h.topic())
	}
	h.wantPage(h.t, r)
}

func readHead(h *random) {
	log := h.party.events.model.all()
	want := int64(0)
	if len(log) > 0 {
		want = log[len(log)-1].ID
	}
	if got := h.maxID(h.t); got != want {
		h.t.Errorf("MaxNotificationID: got %d, want %d", got, want)
	}
}

// destination is a position near the present one of some upstream application,
// and the present one.
func (h *random) destination() (to persistence.Tracking, current int64) {
	to.ApplicationName = h.upstream()
	current = h.party.positions.all()[to.ApplicationName]
	to.NotificationID = max(1, current+h.Int64N(6)-2)
	return to, current
}

func moveSome(h *random) {
	to, current := h.destination()
	err := h.tryTracking(h.ctx(), to.ApplicationName, to.NotificationID)
	if to.NotificationID > current {
		must(h.t, err)
		return
	}
	wantBehind(h.t, err, h.party, to, current)
}

func readPosition(h *random) {
	upstream := h.upstream()
	h.wantPosition(h.t, upstream, h.party.positions.all()[upstream])
}

func processSome(h *random) {
	to, current := h.destination()
	var events []persistence.StoredEvent
	if h.IntN(4) > 0 {
		events = h.next(3)
	}
	_, err := h.tryProcessed(h.ctx(), to, events...)
	if to.NotificationID > current {
		must(h.t, err)
		return
	}
	wantBehind(h.t, err, h.party, to, current)
}

func processMixed(h *random) {
	events, ok := h.mixed()
	if !ok {
		return
	}
	to, current := h.destination()
	_, err := h.tryProcessed(h.ctx(), to, events...)
	if to.NotificationID > current {
		wantConflict(h.t, err)
		return
	}
	wantBehind(h.t, err, h.party, to, current)
}

func snapshotSome(h *random) {
	snapshot := topical(h.topic(), h.originator(), h.Int64N(40))
	book := h.party.snapshots
	taken := book.model.selected(snapshot.OriginatorID,
		persistence.EventRange{From: snapshot.OriginatorVersion, Before: snapshot.OriginatorVersion + 1})
	if len(taken) > 0 {
		book.conflict(h.t, snapshot)
		return
	}
	book.insert(h.t, snapshot)
}

func readSnapshots(h *random) {
	id := h.originator()
	h.party.snapshots.want(h.t, id, h.eventRange(h.party.snapshots.model.last(id)))
}

func reopenSometimes(h *random) {
	if h.IntN(4) == 0 {
		h.reopen(h.t)
	}
}

func transactSome(h *random) {
	commits := h.IntN(2) == 0
	w := &written{}
	err := h.transaction(h.ctx(), func(ctx context.Context) error {
		for range h.IntN(3) {
			if err := w.insert(ctx, h.party.events, history(h.newcomer(), 0, 1+h.IntN(3))...); err != nil {
				return err
			}
		}
		if stale, ok := h.stale(); ok && h.IntN(2) == 0 {
			_, err := h.process.InsertEvents(ctx, []persistence.StoredEvent{stale})
			wantConflict(h.t, err)
		}
		if to, current := h.destination(); to.NotificationID > current {
			if err := w.process(ctx, h.party, to, at(h.newcomer(), 0)); err != nil {
				return err
			}
		}
		if !commits {
			return errRollback
		}
		return nil
	})
	if commits {
		must(h.t, err, w.acknowledge(err))
		return
	}
	wantIs(h.t, "the transaction", err, errRollback)
}

func (h *random) ctx() context.Context { return h.party.ctx }
