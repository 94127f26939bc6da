package persistencetest

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// bug is a mistake that a store may have. Every one of them must fail at least one row.
type bug struct {
	name string
	// spoil changes what a recorder does.
	spoil func(r *spoilt)
	// fresh makes spoil for one store, where the bug keeps something of its own.
	fresh func() func(r *spoilt)
	// rename changes the names of applications.
	rename func(name string) string
	// reopen is what happens when a store is opened again.
	reopen func(f persistence.Factory) persistence.Factory
	// transaction changes how transactions are run.
	transaction func(run transactionFunc) transactionFunc
	// unclosed ignores Close.
	unclosed bool
}

type transactionFunc func(ctx context.Context, f persistence.Factory, fn func(ctx context.Context) error) error

// TestSeededBugs runs the suite against stores with known bugs. With FULL=1 it runs every row against each bug;
// otherwise it stops where some rows have found it.
func TestSeededBugs(t *testing.T) {
	seen := map[string]bool{}
	for _, b := range bugs {
		if seen[b.name] {
			t.Errorf("there are two bugs %q", b.name)
		}
		seen[b.name] = true
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			caught := b.caught(t, figure(3, 1_000))
			if len(caught) == 0 {
				t.Fatal("no row fails")
			}
			t.Logf("caught by:\n\t%s", strings.Join(caught, "\n\t"))
		})
	}
	t.Logf("%d bugs", len(bugs))
}

// TestNoBug shows that the wrapping of stores is not itself what the rows fail on.
func TestNoBug(t *testing.T) {
	t.Parallel()
	b := bug{spoil: func(*spoilt) {}}
	if caught := b.caught(t, 1); len(caught) > 0 {
		t.Errorf("fails without a bug: %v", caught)
	}
}

// caught runs rows against a store with the bug until enough of them have failed, the quick ones first.
func (b bug) caught(t *testing.T, enough int) []string {
	rows, _ := divide(b.harness())
	slices.SortStableFunc(rows, func(x, y row) int {
		switch {
		case x.heavy == y.heavy:
			return 0
		case x.heavy:
			return 1
		}
		return -1
	})
	var caught []string
	for _, r := range rows {
		if record(t, func(t testing.TB) { r.exercise(t, b.harness()) }).Failed() {
			if caught = append(caught, r.fullName()); len(caught) == enough {
				break
			}
		}
	}
	return caught
}

// harness is the one of a correct store, spoilt by the bug.
func (b bug) harness() Harness {
	h := transactional()
	run := transactionFunc(h.Transaction)
	if b.transaction != nil {
		run = b.transaction(run)
	}
	return Harness{
		New: func(t testing.TB) persistence.Factory {
			spoil := b.spoil
			if b.fresh != nil {
				spoil = b.fresh()
			}
			return &spoiltStore{Factory: h.New(t), bug: b, spoil: spoil}
		},
		Reopen: func(t testing.TB, f persistence.Factory) persistence.Factory {
			old := f.(*spoiltStore)
			if b.reopen != nil {
				return &spoiltStore{Factory: b.reopen(old.Factory), bug: b, spoil: old.spoil}
			}
			return &spoiltStore{Factory: h.Reopen(t, old.Factory), bug: b, spoil: old.spoil}
		},
		Concurrent: true,
		Transaction: func(ctx context.Context, f persistence.Factory, fn func(ctx context.Context) error) error {
			return run(ctx, f.(*spoiltStore).Factory, fn)
		},
	}
}

// spoiltStore is a store with a bug.
type spoiltStore struct {
	persistence.Factory
	bug   bug
	spoil func(r *spoilt)
}

func (s *spoiltStore) Close() error {
	if s.bug.unclosed {
		return nil
	}
	return s.Factory.Close()
}

func (s *spoiltStore) name(application string) string {
	if s.bug.rename != nil {
		return s.bug.rename(application)
	}
	return application
}

func (s *spoiltStore) ProcessRecorder(application string) (persistence.ProcessRecorder, error) {
	inner, err := s.Factory.ProcessRecorder(s.name(application))
	if err != nil {
		return nil, err
	}
	r := &spoilt{
		factory: s.Factory, application: application,
		insert: inner.InsertEvents, selects: inner.SelectEvents, page: inner.SelectNotifications,
		head: inner.MaxNotificationID, move: inner.InsertTracking, position: inner.MaxTrackingID,
		process: inner.InsertProcessed,
	}
	return r.spoiltBy(s.spoil), nil
}

func (s *spoiltStore) SnapshotRecorder(application string) (persistence.AggregateRecorder, error) {
	inner, err := s.Factory.SnapshotRecorder(s.name(application))
	if err != nil {
		return nil, err
	}
	r := &spoilt{
		factory: s.Factory, application: application, snapshots: true,
		insert: inner.InsertEvents, selects: inner.SelectEvents,
	}
	return r.spoiltBy(s.spoil), nil
}

// spoilt is a recorder whose methods a bug may replace.
type spoilt struct {
	factory     persistence.Factory
	application string
	snapshots   bool

	insert   insertFunc
	selects  selectFunc
	page     func(context.Context, persistence.NotificationRange) ([]persistence.Notification, error)
	head     func(context.Context) (int64, error)
	move     func(context.Context, persistence.Tracking) error
	position func(context.Context, string) (int64, error)
	process  func(context.Context, []persistence.StoredEvent, persistence.Tracking) ([]int64, error)
}

type (
	insertFunc func(context.Context, []persistence.StoredEvent) ([]int64, error)
	selectFunc func(context.Context, uuid.UUID, persistence.EventRange) iter.Seq2[persistence.StoredEvent, error]
)

func (r *spoilt) spoiltBy(spoil func(*spoilt)) *spoilt {
	if spoil != nil {
		spoil(r)
	}
	return r
}

func (r *spoilt) InsertEvents(ctx context.Context, events []persistence.StoredEvent) ([]int64, error) {
	return r.insert(ctx, events)
}

func (r *spoilt) SelectEvents(
	ctx context.Context, id uuid.UUID, want persistence.EventRange,
) iter.Seq2[persistence.StoredEvent, error] {
	return r.selects(ctx, id, want)
}

func (r *spoilt) SelectNotifications(
	ctx context.Context, want persistence.NotificationRange,
) ([]persistence.Notification, error) {
	return r.page(ctx, want)
}

func (r *spoilt) MaxNotificationID(ctx context.Context) (int64, error) { return r.head(ctx) }

func (r *spoilt) InsertTracking(ctx context.Context, to persistence.Tracking) error {
	return r.move(ctx, to)
}

func (r *spoilt) MaxTrackingID(ctx context.Context, upstream string) (int64, error) {
	return r.position(ctx, upstream)
}

func (r *spoilt) InsertProcessed(
	ctx context.Context, events []persistence.StoredEvent, to persistence.Tracking,
) ([]int64, error) {
	return r.process(ctx, events, to)
}

// eachEvent changes every event that is read, from a stream or from a page.
func eachEvent(change func(e *persistence.StoredEvent)) func(r *spoilt) {
	return func(r *spoilt) {
		selects, page := r.selects, r.page
		r.selects = func(ctx context.Context, id uuid.UUID, want persistence.EventRange) iter.Seq2[persistence.StoredEvent, error] {
			return func(yield func(persistence.StoredEvent, error) bool) {
				for e, err := range selects(ctx, id, want) {
					if err == nil {
						change(&e)
					}
					if !yield(e, err) {
						return
					}
				}
			}
		}
		r.page = func(ctx context.Context, want persistence.NotificationRange) ([]persistence.Notification, error) {
			got, err := page(ctx, want)
			for i := range got {
				change(&got[i].StoredEvent)
			}
			return got, err
		}
	}
}

// eachRange changes the ranges of streams.
func eachRange(change func(want *persistence.EventRange)) func(r *spoilt) {
	return func(r *spoilt) {
		selects := r.selects
		r.selects = func(ctx context.Context, id uuid.UUID, want persistence.EventRange) iter.Seq2[persistence.StoredEvent, error] {
			change(&want)
			return selects(ctx, id, want)
		}
	}
}

// eachStream changes all events of a stream together.
func eachStream(change func(events []persistence.StoredEvent, want persistence.EventRange) []persistence.StoredEvent) func(r *spoilt) {
	return func(r *spoilt) {
		selects := r.selects
		r.selects = func(ctx context.Context, id uuid.UUID, want persistence.EventRange) iter.Seq2[persistence.StoredEvent, error] {
			return func(yield func(persistence.StoredEvent, error) bool) {
				if err := want.Validate(); err != nil {
					yield(persistence.StoredEvent{}, err)
					return
				}
				events, err := collect(selects(ctx, id, persistence.EventRange{}))
				if err != nil {
					yield(persistence.StoredEvent{}, err)
					return
				}
				for _, e := range change(events, want) {
					if !yield(e, nil) {
						return
					}
				}
			}
		}
	}
}

// eachPage changes the ranges of pages.
func eachPage(change func(want *persistence.NotificationRange)) func(r *spoilt) {
	return func(r *spoilt) {
		page := r.page
		r.page = func(ctx context.Context, want persistence.NotificationRange) ([]persistence.Notification, error) {
			change(&want)
			return page(ctx, want)
		}
	}
}

// eachInsert changes the events that are inserted, by whatever method.
func eachInsert(change func(events []persistence.StoredEvent) []persistence.StoredEvent) func(r *spoilt) {
	return func(r *spoilt) {
		insert, process := r.insert, r.process
		r.insert = func(ctx context.Context, events []persistence.StoredEvent) ([]int64, error) {
			return insert(ctx, change(events))
		}
		r.process = func(ctx context.Context, events []persistence.StoredEvent, to persistence.Tracking) ([]int64, error) {
			return process(ctx, change(events), to)
		}
	}
}

// eachResult changes what inserts return, by whatever method.
func eachResult(change func(r *spoilt, ids []int64, err error) ([]int64, error)) func(r *spoilt) {
	return func(r *spoilt) {
		insert, process := r.insert, r.process
		r.insert = func(ctx context.Context, events []persistence.StoredEvent) ([]int64, error) {
			ids, err := insert(ctx, events)
			return change(r, ids, err)
		}
		r.process = func(ctx context.Context, events []persistence.StoredEvent, to persistence.Tracking) ([]int64, error) {
			ids, err := process(ctx, events, to)
			return change(r, ids, err)
		}
	}
}

// eachConflict changes the conflicts that inserts return.
func eachConflict(change func(c *persistence.ConflictError) error) func(r *spoilt) {
	return eachResult(func(_ *spoilt, ids []int64, err error) ([]int64, error) {
		if conflict, ok := errors.AsType[*persistence.ConflictError](err); ok {
			return ids, change(conflict)
		}
		return ids, err
	})
}

// oneByOne is an insert that is not atomic.
func oneByOne(r *spoilt, before func()) {
	insert := r.insert
	r.insert = func(ctx context.Context, events []persistence.StoredEvent) ([]int64, error) {
		if err := persistence.ValidateEvents(r.application, events); err != nil {
			return nil, err
		}
		var all []int64
		for i := range events {
			before()
			ids, err := insert(ctx, events[i:i+1])
			if err != nil {
				return nil, err
			}
			all = append(all, ids...)
		}
		return all, nil
	}
}

// mended makes changed copies of events.
func mended(change func(e *persistence.StoredEvent)) func(events []persistence.StoredEvent) []persistence.StoredEvent {
	return func(events []persistence.StoredEvent) []persistence.StoredEvent {
		events = slices.Clone(events)
		for i := range events {
			change(&events[i])
		}
		return events
	}
}

// ignoringContext calls inserts with a context that never ends.
func ignoringContext(r *spoilt) {
	insert, process, move := r.insert, r.process, r.move
	r.insert = func(ctx context.Context, events []persistence.StoredEvent) ([]int64, error) {
		return insert(context.WithoutCancel(ctx), events)
	}
	r.process = func(ctx context.Context, events []persistence.StoredEvent, to persistence.Tracking) ([]int64, error) {
		return process(context.WithoutCancel(ctx), events, to)
	}
	r.move = func(ctx context.Context, to persistence.Tracking) error { return move(context.WithoutCancel(ctx), to) }
}

// numbering gives the events of a store other ids than it has given them. It knows the events by what they are.
type numbering struct {
	mu   sync.Mutex // protects what follows
	last int64
	ids  map[place]int64
}

type place struct {
	application string
	originator  uuid.UUID
	version     int64
}

func (n *numbering) draw() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last++
	return n.last
}

// spoil draws the ids of an insert before the store is locked, so that they become visible in any order. Where together
// is not set, they are not even drawn together.
func (n *numbering) spoil(r *spoilt, together bool) {
	if r.snapshots {
		return
	}
	insert, process := r.insert, r.process
	draw := func(events []persistence.StoredEvent) []int64 {
		ids := make([]int64, len(events))
		if together {
			n.mu.Lock()
			defer n.mu.Unlock()
		}
		for i := range ids {
			if together {
				n.last++
				ids[i] = n.last
				continue
			}
			ids[i] = n.draw()
			runtime.Gosched()
		}
		return ids
	}
	keep := func(events []persistence.StoredEvent, ids []int64) {
		n.mu.Lock()
		defer n.mu.Unlock()
		for i, e := range events {
			n.ids[place{r.application, e.OriginatorID, e.OriginatorVersion}] = ids[i]
		}
	}
	drop := func(events []persistence.StoredEvent) {
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, e := range events {
			delete(n.ids, place{r.application, e.OriginatorID, e.OriginatorVersion})
		}
	}
	numbered := func(ctx context.Context, events []persistence.StoredEvent, store func() error) ([]int64, error) {
		if err := persistence.ValidateEvents(r.application, events); err != nil {
			return nil, err
		}
		ids := draw(events)
		for range rand.IntN(20) {
			runtime.Gosched()
		}
		keep(events, ids)
		if err := store(); err != nil {
			drop(events)
			return nil, err
		}
		return ids, nil
	}
	r.insert = func(ctx context.Context, events []persistence.StoredEvent) ([]int64, error) {
		return numbered(ctx, events, func() error {
			_, err := insert(ctx, events)
			return err
		})
	}
	r.process = func(ctx context.Context, events []persistence.StoredEvent, to persistence.Tracking) ([]int64, error) {
		return numbered(ctx, events, func() error {
			_, err := process(ctx, events, to)
			return err
		})
	}
	n.read(r)
}

// read gives pages in the order of the other ids.
func (n *numbering) read(r *spoilt) {
	page := r.page
	all := func(ctx context.Context) (*model, error) {
		m := &model{}
		for after := int64(0); ; {
			got, err := page(ctx, persistence.NotificationRange{After: after, Limit: persistence.MaxPage})
			if err != nil || len(got) == 0 {
				return m, err
			}
			after = got[len(got)-1].ID
			n.mu.Lock()
			for _, x := range got {
				x.ID = n.ids[place{r.application, x.OriginatorID, x.OriginatorVersion}]
				m.rows = append(m.rows, x)
			}
			n.mu.Unlock()
		}
	}
	r.page = func(ctx context.Context, want persistence.NotificationRange) ([]persistence.Notification, error) {
		want, err := want.Validate()
		if err != nil {
			return nil, err
		}
		m, err := all(ctx)
		return m.page(want), err
	}
	r.head = func(ctx context.Context) (int64, error) {
		m, err := all(ctx)
		if rows := m.all(); err == nil && len(rows) > 0 {
			return rows[len(rows)-1].ID, nil
		}
		return 0, err
	}
}
