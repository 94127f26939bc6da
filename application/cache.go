package application

import (
	"container/list"
	"errors"
	"math"
	"sync"

	"github.com/google/uuid"
)

// maxCacheSize is the largest AGGREGATE_CACHE_MAXSIZE: more is a slip of the
// hand.
const maxCacheSize = 10_000_000

// cacheSettings say whether and how repositories cache aggregates.
type cacheSettings struct {
	size        int  // 0 is off
	fastForward bool // apply what was saved since, on every Get
	skipping    bool // do not wait for another fast-forward of the same aggregate
}

func (c *config) readCache() error {
	var mistakes [4]error
	e := c.environment
	c.cache.size, mistakes[0] = e.Int(0, 1, maxCacheSize, "AGGREGATE_CACHE_MAXSIZE")
	c.cache.fastForward, mistakes[1] = e.Bool(true, "AGGREGATE_CACHE_FASTFORWARD")
	c.cache.skipping, mistakes[2] = e.Bool(false, "AGGREGATE_CACHE_FASTFORWARD_SKIPPING")
	copies, err := e.Bool(true, "DEEPCOPY_FROM_AGGREGATE_CACHE")
	if mistakes[3] = err; !copies && err == nil {
		c.logger.Warn("DEEPCOPY_FROM_AGGREGATE_CACHE=n has no effect: each caller gets its own aggregate, "+
			"because two that change the same one would corrupt it", "application", c.name)
	}
	return errors.Join(mistakes[:]...)
}

// lru keeps the values used last, up to a number. It is safe for concurrent
// use.
type lru[V any] struct {
	size int

	mu    sync.Mutex // protects what follows
	order *list.List // the one used last in front
	items map[uuid.UUID]*list.Element
}

type item[V any] struct {
	id    uuid.UUID
	value V
}

func newLRU[V any](size int) *lru[V] {
	if size < 1 {
		size = math.MaxInt
	}
	return &lru[V]{size: size, order: list.New(), items: map[uuid.UUID]*list.Element{}}
}

// get returns the value of an id and makes it the one used last.
func (c *lru[V]) get(id uuid.UUID) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.items[id]
	if !ok {
		return value, false
	}
	c.order.MoveToFront(element)
	return element.Value.(*item[V]).value, true
}

// put sets the value of an id. If there is one too many, it drops the one not
// used for longest, and returns it.
func (c *lru[V]) put(id uuid.UUID, value V) (evicted uuid.UUID, dropped bool) {
	return c.putUnless(id, value, func(V) bool { return false })
}

// putUnless is put, but a value that is cached already stays if stays says so.
func (c *lru[V]) putUnless(id uuid.UUID, value V, stays func(present V) bool) (evicted uuid.UUID, dropped bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, ok := c.items[id]; ok {
		present := element.Value.(*item[V])
		if !stays(present.value) {
			present.value = value
		}
		c.order.MoveToFront(element)
		return uuid.Nil, false
	}
	c.items[id] = c.order.PushFront(&item[V]{id: id, value: value})
	if len(c.items) <= c.size {
		return uuid.Nil, false
	}
	oldest := c.order.Remove(c.order.Back()).(*item[V])
	delete(c.items, oldest.id)
	return oldest.id, true
}

// remove drops the value of an id.
func (c *lru[V]) remove(id uuid.UUID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, ok := c.items[id]; ok {
		c.order.Remove(element)
		delete(c.items, id)
	}
}
