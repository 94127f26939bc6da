package application

import (
	"context"
	"sync"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/lru"
)

// aggregateCache keeps aggregates as they were committed. It hands out copies,
// so that no two callers and no caller and the cache ever share memory.
type aggregateCache struct {
	r        *aggregates
	settings cacheSettings
	entries  *lru.Cache[*entry]
	plain    bool // states are copied without being encoded
	warned   sync.Once
}

// entry is one cached aggregate.
type entry struct {
	forwarding sync.Mutex // held while the entry is brought up to date

	mu      sync.Mutex // protects what follows
	version int64
	state   cachedState
}

// isAhead reports whether the entry is of a later version than another one.
func (e *entry) isAhead(other *entry) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.version > other.version
}

// cachedState is the state of an aggregate as a snapshot would have it.
type cachedState struct {
	snapshot domain.Event // without Data if the state is encoded
	encoded  []byte       // nil if it is not
}

func newAggregateCache(r *aggregates) *aggregateCache {
	return &aggregateCache{
		r:        r,
		settings: r.app.cache,
		entries:  lru.New[*entry](r.app.cache.size),
		plain:    r.app.mapper.CopiesPlain(r.definition.SnapshotType().GoType()),
	}
}

// get returns an aggregate from the cache, brought up to date, or loads it.
func (c *aggregateCache) get(ctx context.Context, id uuid.UUID) (any, error) {
	cached, ok := c.entries.Get(id)
	if !ok {
		return c.load(ctx, id)
	}
	if !c.settings.fastForward {
		return c.takeLoaded(ctx, cached)
	}
	return c.forward(ctx, id, cached)
}

// load loads an aggregate past the cache, and caches it.
func (c *aggregateCache) load(ctx context.Context, id uuid.UUID) (any, error) {
	aggregate, err := c.r.load(ctx, id, latest)
	if err != nil {
		return nil, err
	}
	if err := c.keep(aggregate); err != nil {
		c.uncachable(ctx, id, err)
	}
	return aggregate, nil
}

// uncachable drops an aggregate whose state cannot be encoded. A cache must not
// refuse what can be read without it.
func (c *aggregateCache) uncachable(ctx context.Context, id uuid.UUID, err error) {
	c.entries.Remove(id)
	c.warned.Do(func() {
		c.r.app.logger.WarnContext(ctx, "an aggregate is not cached, because its state cannot be encoded",
			"application", c.r.app.name, "definition", c.r.definition.Name(), "originator", id, "error", err)
	})
}

// forward brings an entry up to date and returns it. One caller at a time reads
// what is new; others wait for it, or, with skipping, take what is there. An
// entry whose event is not stored any more, because the aggregate was deleted
// or restored to another state, is dropped.
func (c *aggregateCache) forward(ctx context.Context, id uuid.UUID, cached *entry) (any, error) {
	if !cached.forwarding.TryLock() {
		if c.settings.skipping {
			return c.takeLoaded(ctx, cached)
		}
		cached.forwarding.Lock()
	}
	defer cached.forwarding.Unlock()
	aggregate, err := c.takeLoaded(ctx, cached)
	if err != nil {
		return nil, err
	}
	before := c.r.definition.Root(aggregate).Version()
	if err := c.r.forward(aggregate, c.r.app.events.GetSince(ctx, id, rangeOf(before, latest))); err != nil {
		c.entries.Remove(id)
		if isOutdated(err) {
			return c.load(ctx, id)
		}
		return nil, err
	}
	if c.r.definition.Root(aggregate).Version() == before {
		return aggregate, nil
	}
	if err := c.put(cached, aggregate); err != nil {
		c.uncachable(ctx, id, err)
	}
	return aggregate, nil
}

// saved keeps an aggregate that was just committed, if nothing would bring the
// cached one up to date.
func (c *aggregateCache) saved(aggregate any) {
	root := c.r.definition.Root(aggregate)
	if c.settings.fastForward {
		return
	}
	if len(root.PendingEvents()) > 0 || c.r.definition.IsPartial(aggregate) || c.keep(aggregate) != nil {
		c.entries.Remove(root.ID())
	}
}

// keep makes an entry of an aggregate. A later version that is cached already
// stays: a slow Get must not put what it has loaded over what was saved in the
// meantime.
func (c *aggregateCache) keep(aggregate any) error {
	made := &entry{}
	if err := c.put(made, aggregate); err != nil {
		return err
	}
	c.entries.PutUnless(c.r.definition.Root(aggregate).ID(), made, func(present *entry) bool { return present.isAhead(made) })
	return nil
}

func (c *aggregateCache) put(e *entry, aggregate any) error {
	version := c.r.definition.Root(aggregate).Version()
	state, err := c.newState(aggregate)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.version, e.state = version, state
	return nil
}

func (c *aggregateCache) newState(aggregate any) (cachedState, error) {
	snapshot := c.r.definition.TakeSnapshot(aggregate)
	data := snapshot.Data
	snapshot.Data = nil
	if c.plain {
		if own, ok := c.r.definition.SnapshotType().Copy(data); ok {
			snapshot.Data = own
			return cachedState{snapshot: snapshot}, nil
		}
	}
	encoded, err := c.r.app.mapper.Transcoder().Encode(nil, data)
	return cachedState{snapshot: snapshot, encoded: encoded}, err
}

// takeLoaded is take for a load, whose source it takes down.
func (c *aggregateCache) takeLoaded(ctx context.Context, e *entry) (any, error) {
	aggregate, err := c.take(e)
	if err == nil {
		c.r.loadedFrom(ctx, "cache", aggregate)
	}
	return aggregate, err
}

// take hands the entry's aggregate out.
func (c *aggregateCache) take(e *entry) (any, error) {
	e.mu.Lock()
	state := e.state
	e.mu.Unlock()
	snapshot, kind := state.snapshot, c.r.definition.SnapshotType()
	snapshot.Application = c.r.app.name
	if snapshot.Data != nil {
		snapshot.Data, _ = kind.Copy(snapshot.Data) // as newState has copied it
		return c.r.definition.Restore(snapshot)
	}
	var err error
	snapshot.Data, err = kind.Decode(kind.Version(), func(into any) error {
		return c.r.app.mapper.Transcoder().Decode(state.encoded, into)
	})
	if err != nil {
		return nil, err
	}
	return c.r.definition.Restore(snapshot)
}
