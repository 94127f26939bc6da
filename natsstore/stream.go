package natsstore

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
)

// stream is a stream of one application, of its events or of its snapshots, or
// that of the statuses of all followers.
type stream struct {
	store       *Store
	application string
	names       names
	name        string
	kind        kind

	// newest has, of originators, the newest event that this process has
	// written or read; positions the same of upstream applications.
	newest    *cache[uuid.UUID, mark]
	positions *cache[string, positionMark]

	checking chan struct{} // holds a value while the settings are compared

	mu       sync.Mutex // protects what follows
	checked  time.Time  // when the settings were compared last
	connects uint64     // how often the connection had been lost then
	suspect  bool       // the stream may not be what it was
	advices  *nats.Subscription
	first    int64 // the first sequence
	seen     int64 // the highest sequence that this process knows of
	head     int64 // the id of the newest event that is known
	parked   map[string]*parkedView
}

// mark is a version or a position, and the sequence of its message.
type mark struct{ number, seq int64 }

// positionMark is the mark of a position, with the write that has moved it, and
// the settings of the follower as they are stored.
type positionMark struct {
	mark
	write    writeID
	settings []byte
}

// cacheSize is how many originators a process remembers of an application.
const cacheSize = 100_000

func newStream(store *Store, application string, n names, k kind) *stream {
	return &stream{store: store, application: application, names: n, name: n.stream(k), kind: k, checking: make(chan struct{}, 1),
		newest: newCache[uuid.UUID, mark](cacheSize), positions: newCache[string, positionMark](cacheSize),
		parked: map[string]*parkedView{}}
}

// saw remembers that there is a message with the sequence.
func (s *stream) saw(seq int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = max(s.seen, seq)
}

func (s *stream) highest() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

func (s *stream) firstSequence() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first
}

// begin returns a context for an operation, which ends after Config.Timeout. It
// returns an error if the store is closed, ctx has ended, or the stream is
// refused.
func (s *stream) begin(ctx context.Context, op string) (context.Context, context.CancelFunc, error) {
	if s.store.closed.Load() {
		return nil, nil, s.store.closedError(s.application, op)
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, contextError(s.application, op, err)
	}
	bounded, cancel := context.WithTimeoutCause(ctx, s.store.config.Timeout, errTimedOut)
	if err := s.check(bounded); err != nil {
		cancel()
		if ctx.Err() != nil {
			return nil, nil, contextError(s.application, op, ctx.Err())
		}
		return nil, nil, err
	}
	return bounded, cancel, nil
}

// cache is a map that forgets what was not set for long: it has two
// generations, of which the older one is dropped when the newer one is full.
type cache[K comparable, V any] struct {
	mu       sync.Mutex // protects what follows
	size     int
	new, old map[K]V
}

func newCache[K comparable, V any](size int) *cache[K, V] {
	return &cache[K, V]{size: size, new: map[K]V{}}
}

func (c *cache[K, V]) get(key K) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.new[key]; ok {
		return v, true
	}
	v, ok := c.old[key]
	return v, ok
}

// update sets the value that change makes of the one that is known.
func (c *cache[K, V]) update(key K, change func(known V) V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.new[key]
	if !ok {
		known = c.old[key]
	}
	c.new[key] = change(known)
	if len(c.new) >= c.size {
		c.new, c.old = map[K]V{}, c.new
	}
}

// remember keeps the newest event of an originator, unless a later one is
// known.
func (s *stream) remember(id uuid.UUID, m mark) {
	s.newest.update(id, func(known mark) mark {
		if known.seq > m.seq {
			return known
		}
		return m
	})
}
