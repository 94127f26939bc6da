package system

import (
	"context"
	"errors"
	"reflect"
	"runtime"
	"sync"
)

// storeOf returns the store that a leader is read from, or the leader if it is
// that of another service.
func storeOf(leader Leader) any {
	if local, ok := leader.(*localLeader); ok {
		return local.app.Factory()
	}
	return leader
}

// statusReads reads statuses at the same time, but only a few of one store: they
// share its connections with the service.
type statusReads struct {
	isInTransaction bool // which has one connection: everything is read in turn

	mu       sync.Mutex // protects what follows
	slots    map[any]chan struct{}
	brokeOff error // of a read in which a logger of the service, say, has panicked
}

// readsOfStore is how many statuses of one store are read at the same time: as
// many as a pool of database/sql keeps idle connections, or it would open and
// close them all the time.
const readsOfStore = 2

func (r *statusReads) start(group *sync.WaitGroup, do func()) {
	if r.isInTransaction {
		do()
		return
	}
	group.Go(func() {
		if err := inGoroutine(do); err != nil {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.brokeOff = err
		}
	})
}

// wait waits for all reads. A panic in one of them is the caller's.
func (r *statusReads) wait(group *sync.WaitGroup) {
	group.Wait()
	if r.brokeOff == nil {
		return
	}
	if panicked, ok := errors.AsType[*panicError](r.brokeOff); ok {
		panic(panicked.value)
	}
	runtime.Goexit()
}

// read calls do when the store has a slot for it, or when ctx has ended: do then
// reads nothing.
func (r *statusReads) read(ctx context.Context, store any, do func()) {
	slots := r.slotsOf(store)
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
	}
	do()
}

func (r *statusReads) slotsOf(store any) chan struct{} {
	if !reflect.TypeOf(store).Comparable() {
		return make(chan struct{}, 1)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.slots == nil {
		r.slots = map[any]chan struct{}{}
	}
	if r.slots[store] == nil {
		r.slots[store] = make(chan struct{}, readsOfStore)
	}
	return r.slots[store]
}
