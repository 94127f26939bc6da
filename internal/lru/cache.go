// Package lru is a cache that drops what was not used for longest.
package lru

import (
	"container/list"
	"math"
	"sync"

	"github.com/google/uuid"
)

// Cache keeps the values used last, up to a number. It is safe for concurrent
// use.
type Cache[V any] struct {
	size int

	mu    sync.Mutex // protects what follows
	order *list.List // the one used last in front
	items map[uuid.UUID]*list.Element
}

type item[V any] struct {
	id    uuid.UUID
	value V
}

// New makes a cache of size values. A size below 1 is no limit.
func New[V any](size int) *Cache[V] {
	if size < 1 {
		size = math.MaxInt
	}
	return &Cache[V]{size: size, order: list.New(), items: map[uuid.UUID]*list.Element{}}
}

// Get returns the value of an id and makes it the one used last.
func (c *Cache[V]) Get(id uuid.UUID) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, ok := c.items[id]
	if !ok {
		return value, false
	}
	c.order.MoveToFront(element)
	return element.Value.(*item[V]).value, true
}

// Put sets the value of an id. If there is one too many, it drops the one not
// used for longest, and returns it.
func (c *Cache[V]) Put(id uuid.UUID, value V) (evicted uuid.UUID, dropped bool) {
	return c.PutUnless(id, value, func(V) bool { return false })
}

// PutUnless is Put, but a value that is cached already stays if stays says so.
func (c *Cache[V]) PutUnless(id uuid.UUID, value V, stays func(present V) bool) (evicted uuid.UUID, dropped bool) {
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

// Remove drops the value of an id.
func (c *Cache[V]) Remove(id uuid.UUID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, ok := c.items[id]; ok {
		c.order.Remove(element)
		delete(c.items, id)
	}
}
