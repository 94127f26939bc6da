package persistencetest

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"

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
	ids := n.draw(len(events))
	for range rand.IntN(50) {
		runtime.Gosched()
	}
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
