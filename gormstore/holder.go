package gormstore

import (
	"fmt"
	"sync"
	"time"
)

// holders are the store's own transactions that are open on one pool, so that a
// caller that waits for a connection or a lock can be told what has it.
type holders struct {
	mu   sync.Mutex // protects open
	open map[*holder]struct{}
}

// holder is one open transaction.
type holder struct {
	operation string
	since     time.Time
}

// add takes note of a transaction until the function that it returns is called.
func (h *holders) add(operation string) (remove func()) {
	one := &holder{operation: operation, since: time.Now()}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open == nil {
		h.open = map[*holder]struct{}{}
	}
	h.open[one] = struct{}{}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.open, one)
	}
}

// String says what has been open for the longest time, or nothing.
func (h *holders) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var oldest *holder
	for one := range h.open {
		if oldest == nil || one.since.Before(oldest.since) {
			oldest = one
		}
	}
	if oldest == nil {
		return ""
	}
	return fmt.Sprintf("%q has been open for %v; ", oldest.operation, time.Since(oldest.since).Round(time.Millisecond))
}
