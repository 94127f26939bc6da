package lru_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/lru"
)

func TestCache(t *testing.T) {
	ids := []uuid.UUID{uuid.New(), uuid.New(), uuid.New(), uuid.New()}
	want := func(t *testing.T, c *lru.Cache[int], index, value int) {
		t.Helper()
		if got, ok := c.Get(ids[index]); !ok || got != value {
			t.Errorf("id %d: got %d, %v; want %d", index, got, ok, value)
		}
	}
	wantNone := func(t *testing.T, c *lru.Cache[int], index int) {
		t.Helper()
		if got, ok := c.Get(ids[index]); ok {
			t.Errorf("id %d: got %d, want nothing", index, got)
		}
	}
	for name, size := range map[string]int{"bounded": 3, "unbounded": 0} {
		t.Run("get, put and overwrite, "+name, func(t *testing.T) {
			c := lru.New[int](size)
			wantNone(t, c, 0)
			c.Put(ids[0], 1)
			want(t, c, 0, 1)
			c.Put(ids[0], 2)
			want(t, c, 0, 2)
			wantNone(t, c, 1)
		})
	}
	t.Run("evicts the one not used for longest, and returns it", func(t *testing.T) {
		c := lru.New[int](2)
		for i := range 2 {
			if _, dropped := c.Put(ids[i], i); dropped {
				t.Errorf("id %d: something was dropped", i)
			}
		}
		if evicted, dropped := c.Put(ids[2], 2); !dropped || evicted != ids[0] {
			t.Errorf("got %v, %v; want %v", evicted, dropped, ids[0])
		}
		wantNone(t, c, 0)
		want(t, c, 1, 1)
		want(t, c, 2, 2)
	})
	t.Run("get refreshes", func(t *testing.T) {
		c := lru.New[int](2)
		c.Put(ids[0], 0)
		c.Put(ids[1], 1)
		want(t, c, 0, 0)
		c.Put(ids[2], 2)
		wantNone(t, c, 1)
		want(t, c, 0, 0)
	})
	t.Run("overwriting refreshes and drops nothing", func(t *testing.T) {
		c := lru.New[int](2)
		c.Put(ids[0], 0)
		c.Put(ids[1], 1)
		if _, dropped := c.Put(ids[0], 10); dropped {
			t.Error("something was dropped")
		}
		c.Put(ids[2], 2)
		wantNone(t, c, 1)
		want(t, c, 0, 10)
	})
	t.Run("remove makes room", func(t *testing.T) {
		c := lru.New[int](2)
		c.Put(ids[0], 0)
		c.Put(ids[1], 1)
		c.Remove(ids[0])
		c.Remove(ids[3])
		wantNone(t, c, 0)
		if _, dropped := c.Put(ids[2], 2); dropped {
			t.Error("something was dropped")
		}
		if _, dropped := c.Put(ids[3], 3); !dropped {
			t.Error("nothing was dropped")
		}
	})
	t.Run("what stays is refreshed", func(t *testing.T) {
		c := lru.New[int](2)
		c.Put(ids[0], 5)
		c.Put(ids[1], 1)
		c.PutUnless(ids[0], 4, func(present int) bool { return present > 4 })
		c.Put(ids[2], 2)
		want(t, c, 0, 5)
		c.PutUnless(ids[0], 6, func(present int) bool { return present > 6 })
		want(t, c, 0, 6)
	})
}
