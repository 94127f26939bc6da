package persistencetest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// followerBug is a mistake of a store that keeps parked events and statuses. It
// fails at least one row of the groups parking and statuses.
type followerBug struct {
	name string
	// spoil changes what the store keeps and how it is asked.
	spoil func(k *keeper)
}

var followerBugs = []followerBug{
	{"parked events come in the order of parking", func(k *keeper) { k.sort = func([]persistence.ParkedEvent) {} }},
	{"a parked event has no version", func(k *keeper) { k.park = func(e *persistence.ParkedEvent) { e.OriginatorVersion = 0 } }},
	{"the time of parking is cut to seconds", func(k *keeper) {
		k.park = func(e *persistence.ParkedEvent) { e.ParkedAt = e.ParkedAt.Truncate(time.Second) }
	}},
	{"the error is cut to letters of ASCII", func(k *keeper) {
		k.park = func(e *persistence.ParkedEvent) { e.Error = strings.Trim(e.Error, "犬") }
	}},
	{"parked events of all upstream applications are mixed", func(k *keeper) { k.upstream = func(string) string { return "" } }},
	{"no upstream application is one without a name", func(k *keeper) { k.isOf = func(e, upstream string) bool { return e == upstream } }},
	{"parked events of all followers are mixed", func(k *keeper) { k.follower = func(string) string { return application } }},
	{"parking again replaces the event", func(k *keeper) { k.replaces = true }},
	{"unparking does nothing", func(k *keeper) { k.forgets = func(int64, int64) bool { return false } }},
	{"unparking forgets all events", func(k *keeper) { k.forgets = func(int64, int64) bool { return true } }},
	{"unparking twice succeeds", func(k *keeper) { k.missing = nil }},
	{"the last event of an originator is found", func(k *keeper) { k.isFirst = func(id, known int64) bool { return id > known } }},
	{"originators that were not asked for are found", func(k *keeper) { k.findsAll = true }},
	{"parking ignores the rollback", func(k *keeper) { k.undoes = false }},
	{"parked events are counted from 1", func(k *keeper) { k.count = 1 }},
	{"each process has its own parked events", func(k *keeper) { k.apart = true }},

	{"the first status stays", func(k *keeper) {
		k.record = func(old, next capability.FollowerStatus) capability.FollowerStatus { return old }
	}},
	{"a status has no error", func(k *keeper) {
		k.record = func(_, next capability.FollowerStatus) capability.FollowerStatus { next.Error = ""; return next }
	}},
	{"statuses are not in order", func(k *keeper) { k.backwards = true }},
	{"heartbeats are told by another clock", func(k *keeper) { k.clock = time.Hour }},
	{"a runner that stops replaces another one", func(k *keeper) { k.stops = true }},
	{"a runner that stops hides another one", func(k *keeper) { k.hides = true }},
	{"a runner that stands by replaces another one", func(k *keeper) { k.standsBy = true }},
	{"a position ahead is lost", func(k *keeper) { k.losesAhead = true }},
	{"a position ahead never ends", func(k *keeper) { k.keepsAhead = true }},
}

func TestSeededBugsOfFollowers(t *testing.T) {
	for _, b := range append(followerBugs, followerBug{"", func(*keeper) {}}) {
		t.Run(cmp.Or(b.name, "none"), func(t *testing.T) {
			t.Parallel()
			var caught []string
			rows, _ := divide(b.harness())
			for _, r := range rows {
				if (r.group == "parking" || r.group == "statuses") && record(t, func(t testing.TB) { r.exercise(t, b.harness()) }).Failed() {
					caught = append(caught, r.fullName())
				}
			}
			if (len(caught) > 0) != (b.name != "") {
				t.Errorf("these rows fail: %v, want some exactly if there is a bug", caught)
			}
		})
	}
}

func (b followerBug) harness() Harness {
	h := transactional()
	wrap := func(f persistence.Factory, k *keeper) persistence.Factory { return newKeepingStore(f, k) }
	return Harness{
		New: func(t testing.TB) persistence.Factory {
			k := newKeeper()
			b.spoil(k)
			return wrap(h.New(t), k)
		},
		Reopen: func(t testing.TB, f persistence.Factory) persistence.Factory {
			old := f.(*keepingStore)
			k := old.k
			if k.apart {
				k = newKeeper()
			}
			return wrap(h.Reopen(t, old.Factory), k)
		},
		Concurrent: true,
		Transaction: func(ctx context.Context, f persistence.Factory, fn func(ctx context.Context) error) error {
			s := f.(*keepingStore)
			before := s.k.events()
			err := h.Transaction(ctx, s.Factory, fn)
			if err != nil && s.k.undoes {
				s.k.set(before)
			}
			return err
		},
	}
}

// keeper keeps parked events and statuses, correctly but for what a bug changes.
type keeper struct {
	sort     func([]persistence.ParkedEvent)
	park     func(*persistence.ParkedEvent)
	upstream func(string) string
	isOf     func(event, upstream string) bool
	follower func(string) string
	forgets  func(id, unparked int64) bool
	missing  error
	isFirst  func(id, known int64) bool
	record   func(old, next capability.FollowerStatus) capability.FollowerStatus
	count    int64
	clock    time.Duration

	replaces, findsAll, undoes, apart, backwards, stops, hides, standsBy, losesAhead, keepsAhead bool

	mu       sync.Mutex // protects what follows
	parked   []persistence.ParkedEvent
	statuses map[string]capability.FollowerStatus
	others   map[string][]capability.FollowerStatus // of runners that go on
}

func newKeeper() *keeper {
	return &keeper{
		sort: func(events []persistence.ParkedEvent) {
			slices.SortFunc(events, func(a, b persistence.ParkedEvent) int { return cmp.Compare(a.NotificationID, b.NotificationID) })
		},
		park:     func(*persistence.ParkedEvent) {},
		upstream: func(name string) string { return name },
		isOf:     func(event, upstream string) bool { return upstream == "" || event == upstream },
		follower: func(name string) string { return name },
		forgets:  func(id, unparked int64) bool { return id == unparked },
		missing:  &persistence.Error{Class: persistence.ErrProgramming, Op: "unpark"},
		isFirst:  func(id, known int64) bool { return id < known },
		record:   func(_, next capability.FollowerStatus) capability.FollowerStatus { return next },
		undoes:   true,
		statuses: map[string]capability.FollowerStatus{},
		others:   map[string][]capability.FollowerStatus{},
	}
}

func (k *keeper) events() []persistence.ParkedEvent {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.parked)
}

func (k *keeper) set(events []persistence.ParkedEvent) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.parked = events
}

// keepingStore is a store with a keeper.
type keepingStore struct {
	persistence.Factory
	capability.Provider
	k *keeper
}

func newKeepingStore(f persistence.Factory, k *keeper) *keepingStore {
	s := &keepingStore{Factory: f, k: k}
	s.Provider = capability.Provide(capability.Store{Statuses: s})
	return s
}

func (s *keepingStore) ProcessRecorder(name string) (persistence.ProcessRecorder, error) {
	r, err := s.Factory.ProcessRecorder(name)
	return &keepingRecorder{r, s.k, s.k.follower(name)}, err
}

// keepingRecorder is a recorder with a keeper.
type keepingRecorder struct {
	persistence.ProcessRecorder
	k        *keeper
	follower string
}

func (r *keepingRecorder) of(upstream string) (events []persistence.ParkedEvent) {
	for _, e := range r.k.events() {
		if e.ApplicationName == r.follower && r.k.isOf(e.UpstreamApplicationName, r.k.upstream(upstream)) {
			events = append(events, e)
		}
	}
	return events
}

func (r *keepingRecorder) ParkEvent(_ context.Context, event persistence.ParkedEvent) error {
	r.k.park(&event)
	events := r.k.events()
	is := func(e persistence.ParkedEvent) bool {
		return e.ApplicationName == r.follower && e.UpstreamApplicationName == event.UpstreamApplicationName && e.NotificationID == event.NotificationID
	}
	switch i := slices.IndexFunc(events, is); {
	case i < 0:
		events = append(events, event)
	case r.k.replaces:
		events[i] = event
	}
	r.k.set(events)
	return nil
}

func (r *keepingRecorder) ParkedEvents(_ context.Context, upstream string) ([]persistence.ParkedEvent, error) {
	events := r.of(upstream)
	r.k.sort(events)
	return events, nil
}

func (r *keepingRecorder) ParkedOriginators(_ context.Context, upstream string, among []uuid.UUID) (map[uuid.UUID]int64, error) {
	found := map[uuid.UUID]int64{}
	for _, e := range r.of(upstream) {
		known, ok := found[e.OriginatorID]
		if (r.k.findsAll || slices.Contains(among, e.OriginatorID)) && (!ok || r.k.isFirst(e.NotificationID, known)) {
			found[e.OriginatorID] = e.NotificationID
		}
	}
	return found, nil
}

func (r *keepingRecorder) CountParked(_ context.Context, upstream string) (int64, error) {
	return int64(len(r.of(upstream))) + r.k.count, nil
}

func (r *keepingRecorder) UnparkEvent(_ context.Context, upstream string, id int64) error {
	if !slices.ContainsFunc(r.of(upstream), func(e persistence.ParkedEvent) bool { return e.NotificationID == id }) {
		return r.k.missing
	}
	r.k.set(slices.DeleteFunc(r.k.events(), func(e persistence.ParkedEvent) bool { return r.k.forgets(e.NotificationID, id) }))
	return nil
}

func (s *keepingStore) RecordStatus(_ context.Context, next capability.FollowerStatus) error {
	k, key := s.k, next.UpstreamApplicationName
	k.mu.Lock()
	defer k.mu.Unlock()
	old, known := k.statuses[key]
	next.Heartbeat = time.Now()
	others := slices.DeleteFunc(k.others[key], func(o capability.FollowerStatus) bool { return o.Process == next.Process })
	stop := next.State == "stopped" && next.Ahead <= 0
	if stop && next.Ahead == 0 && old.Ahead > 0 && !k.keepsAhead {
		old.Ahead, old.Error = 0, ""
	}
	if next.Ahead == capability.KeepAhead || stop {
		next.Ahead = old.Ahead
	}
	if k.losesAhead {
		next.Ahead = 0
	}
	k.others[key] = others
	if next.State != "stopped" {
		k.others[key] = append(others, next)
	}
	atWork := known && old.Process != next.Process
	switch {
	case stop && atWork && !k.stops, next.State == "standing by" && atWork && !k.standsBy:
		next = old
	case stop && len(others) > 0 && !k.hides:
		next = others[len(others)-1]
	case known:
		next = k.record(old, next)
	}
	k.statuses[key] = next
	return nil
}

func (s *keepingStore) FollowerStatuses(context.Context) ([]capability.FollowerStatus, error) {
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	var all []capability.FollowerStatus
	for _, key := range slices.Sorted(maps.Keys(s.k.statuses)) {
		status := s.k.statuses[key]
		status.Heartbeat = status.Heartbeat.Add(-s.k.clock)
		all = append(all, status)
	}
	if s.k.backwards {
		slices.Reverse(all)
	}
	return all, nil
}
