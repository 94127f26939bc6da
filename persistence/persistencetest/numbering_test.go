package persistencetest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// numbering gives the events of a store ids that were drawn before the store
// was locked, so that they become visible in any order.
type numbering struct {
	drawing sync.Mutex // protects last
	last    int64

	// storing is held by callers that store or read outside of a transaction,
	// so that nothing is read that has no id yet. A writer may wait in it for a
	// transaction that has locked the store, so a transaction does without.
	storing sync.Mutex

	mu  sync.Mutex // protects ids
	ids map[place]int64

	writers  atomic.Int64 // that are storing now
	lagged   atomic.Bool  // whether a writer has waited for others
	stored   atomic.Int64 // the id that was stored last
	readings atomic.Int64 // of the log
}

// A writer waits for so long until others come. If they have come, it waits until
// they have stored events. Then it waits as long until a reader comes, and if one
// has come until the log was read.
const (
	lagAlone   = 250 * time.Millisecond
	longestLag = 4 * time.Second
)

// lag has one writer of the store wait until another one has stored ids that
// were drawn later, and the log was read since. It is the one of Dog0, who has
// others beside him wherever there are many writers.
func (n *numbering) lag(ctx context.Context, events []storedEvent, ids []int64) {
	if ctx.Value(transactionKey{}) != nil || originatorOf(events) != dog("Dog0") || n.lagged.Swap(true) {
		return
	}
	later := func() bool { return n.stored.Load() > ids[len(ids)-1] }
	lagUntil(func(waited time.Duration) bool { return later() || waited > lagAlone && n.writers.Load() == 1 })
	if !later() {
		return
	}
	before := n.readings.Load()
	lagUntil(func(waited time.Duration) bool {
		readings := n.readings.Load() // one may have begun before
		return readings >= before+2 || waited > lagAlone && readings == 0
	})
}

// lagUntil waits until isOver returns true, which is given the time waited, and
// not longer than longestLag.
func lagUntil(isOver func(waited time.Duration) bool) {
	begin := time.Now()
	for waited := time.Duration(0); waited <= longestLag && !isOver(waited); waited = time.Since(begin) {
		time.Sleep(time.Millisecond)
	}
}

// alone takes storing unless ctx carries a transaction.
func (n *numbering) alone(ctx context.Context) (release func()) {
	if ctx.Value(transactionKey{}) != nil {
		return func() {}
	}
	n.storing.Lock()
	return n.storing.Unlock
}

func (n *numbering) id(at place) int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ids[at]
}

func (n *numbering) set(at place, id int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ids[at] = id
}

// place is what a store knows an event by.
type place struct {
	application string
	originator  uuid.UUID
	version     int64
}

func (n *numbering) spoil(r *spoilt) {
	if r.snapshots {
		return
	}
	insert, process := r.insert, r.process
	r.insert = func(ctx context.Context, events []storedEvent) ([]int64, error) {
		return n.numbered(ctx, r, events, func() error {
			_, err := insert(ctx, events)
			return err
		})
	}
	r.process = func(ctx context.Context, events []storedEvent, to destination) ([]int64, error) {
		return n.numbered(ctx, r, events, func() error {
			_, err := process(ctx, events, to)
			return err
		})
	}
	n.read(r)
}

func (n *numbering) numbered(ctx context.Context, r *spoilt, events []storedEvent, store func() error) ([]int64, error) {
	n.writers.Add(1)
	defer n.writers.Add(-1)
	ids := n.draw(len(events))
	n.lag(ctx, events, ids)
	defer n.alone(ctx)()
	err := store()
	if conflict, ok := errors.AsType[*conflictError](err); ok {
		for i := range conflict.Stored {
			conflict.Stored[i].ID = n.id(placeOf(r, conflict.Stored[i].StoredEvent))
		}
	}
	if err != nil {
		return nil, err
	}
	for i, e := range events {
		n.set(placeOf(r, e), ids[i])
		n.stored.Store(ids[i])
	}
	return ids, nil
}

func (n *numbering) draw(count int) []int64 {
	ids := make([]int64, count)
	n.drawing.Lock()
	defer n.drawing.Unlock()
	for i := range ids {
		n.last++
		ids[i] = n.last
	}
	return ids
}

func placeOf(r *spoilt, e storedEvent) place {
	application := r.application
	if r.snapshots {
		application += " snapshots"
	}
	return place{application, e.OriginatorID, e.OriginatorVersion}
}

// read gives pages in the order of the other ids.
func (n *numbering) read(r *spoilt) {
	page := r.page
	all := func(ctx context.Context) (*model, error) {
		defer n.alone(ctx)()
		m := &model{}
		for after := int64(0); ; {
			got, err := page(ctx, pageRange{After: after, Limit: persistence.MaxPage})
			if err != nil || len(got) == 0 {
				return m, err
			}
			after = got[len(got)-1].ID
			for _, x := range got {
				x.ID = n.id(placeOf(r, x.StoredEvent))
				m.rows = append(m.rows, x)
			}
		}
	}
	r.page = func(ctx context.Context, want pageRange) ([]notification, error) {
		want, err := want.Validate()
		if err != nil {
			return nil, err
		}
		m, err := all(ctx)
		n.readings.Add(1)
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
