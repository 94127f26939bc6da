package gormstore

import (
	"context"
	"database/sql"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"weak"
)

// poolState is what all Stores over one database pool share: what is known of
// the database, and the queues in which concurrent saves meet. Two applications
// of one program that have the same *gorm.DB share it on purpose: that is how
// their saves of the same log are merged.
type poolState struct {
	prepared  atomic.Bool
	preparing chan struct{} // holds a value while a caller prepares the database

	lockTimeout atomic.Int64 // of transactions without a Store; 0 is the default

	// What preparing finds does not change once prepared.
	synced bool          // every connection of SQLite syncs at each commit by itself
	busy   time.Duration // how long a statement of SQLite waits for the lock by itself

	mu      sync.Mutex // protects what follows; readers does not change once prepared
	readers *sql.DB    // of SQLite, or nil
	queues  map[queueKey]*logQueue
	turns   map[weak.Pointer[sql.Tx]]*turns

	models []any // of projections

	deadlines deadlines
	lookTime  time.Duration // bounds a look at who holds a lock
	requests  sync.Map      // whether statements can be canceled, by the type of connection

	holding holders

	bounds    sync.Map // of *logBound by logKey
	locations sync.Map // the last location of a table, by its quoted name
	present   sync.Map // the quoted names of optional tables that exist
}

// queueKey names the log that a queue is for.
type queueKey struct {
	table       string
	application string
	// The leader of a batch decides about these for all of its saves.
	notify bool
	order  writerOrder
}

// poolStates finds the state of a pool. It does not keep the pool alive.
var poolStates struct {
	sync.Mutex // protects byPool
	byPool     map[weak.Pointer[sql.DB]]*poolState
}

func poolStateOf(pool *sql.DB) *poolState {
	key := weak.Make(pool)
	poolStates.Lock()
	defer poolStates.Unlock()
	if h, ok := poolStates.byPool[key]; ok {
		return h
	}
	if poolStates.byPool == nil {
		poolStates.byPool = map[weak.Pointer[sql.DB]]*poolState{}
	}
	h := &poolState{
		preparing: make(chan struct{}, 1), queues: map[queueKey]*logQueue{}, lookTime: defaultLookTime,
	}
	poolStates.byPool[key] = h
	runtime.AddCleanup(pool, forgetHandle, key)
	return h
}

func forgetHandle(key weak.Pointer[sql.DB]) {
	poolStates.Lock()
	defer poolStates.Unlock()
	delete(poolStates.byPool, key)
}

// prepare prepares the database once, the first time that it can be reached.
// While one caller does so, another waits no longer than its own context.
func (h *poolState) prepare(ctx context.Context, s *Store) error {
	if h.prepared.Load() {
		return nil
	}
	select {
	case h.preparing <- struct{}{}:
		defer func() { <-h.preparing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if h.prepared.Load() {
		return nil
	}
	joined, err := s.txScopeOf(ctx)
	if err != nil {
		return err
	}
	done, err := s.dialect.prepare(ctx, s, joined)
	h.prepared.Store(done && err == nil)
	return err
}

// queue returns the queue of a log. On SQLite saves are not interruptible: the
// driver would start a goroutine for each statement.
func (h *poolState) queue(key queueKey, interruptible bool) *logQueue {
	h.mu.Lock()
	defer h.mu.Unlock()
	q, ok := h.queues[key]
	if !ok {
		q = &logQueue{}
		q.Interruptible = interruptible
		h.queues[key] = q
	}
	return q
}
