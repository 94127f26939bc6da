package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/system"
)

// idle is the way of a follower that has nothing to do.
const idle = "idle"

// heapSamples is how many batches pass between two looks at the heap, each of
// which collects the garbage.
const heapSamples = 100

// watchedHeap follows a log and watches how far the heap grows.
func watchedHeap(d *database, h *history) way {
	var growth uint64
	w := d.catchingUp(ours, h, func() (reader, func() error, error) {
		db, pool, err := d.open(2)
		if err != nil {
			return nil, nil, err
		}
		p, err := newPair(db, h.application, nil, nil)
		read := func(ctx context.Context) (int64, error) {
			watch := newHeapWatch()
			defer func() { growth = watch.growth }()
			return p.catchUp(ctx, h.events, watch.batch)
		}
		return read, pool.Close, err
	})
	return way{name: ours, turn: func(ctx context.Context) (tally, error) {
		t, err := w.turn(ctx)
		t.Growth = growth
		return t, err
	}}
}

// heapWatch looks at the heap from time to time.
type heapWatch struct {
	before  uint64
	growth  uint64
	batches int
}

func newHeapWatch() *heapWatch { return &heapWatch{before: liveHeap()} }

// batch is called after every batch, the first one included: a small log has no
// others.
func (w *heapWatch) batch(system.Processed) {
	if w.batches++; w.batches%heapSamples != 1 {
		return
	}
	if now := liveHeap(); now > w.before {
		w.growth = max(w.growth, now-w.before)
	}
}

// liveHeap is the size of everything in Go's memory that is in use.
func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// counter is a logger of GORM that counts statements. The store shows it those
// that it sends past GORM as well, but not the beginnings and ends of
// transactions.
type counter struct {
	logger.Interface
	queries, writes atomic.Int64
}

func newCounter() *counter { return &counter{Interface: logger.Discard} }

// LogMode implements logger.Interface: sessions of GORM must not get rid of the
// counter.
func (c *counter) LogMode(logger.LogLevel) logger.Interface { return c }

// Trace implements logger.Interface.
func (c *counter) Trace(_ context.Context, _ time.Time, statement func() (sql string, rows int64), _ error) {
	if sql, _ := statement(); strings.HasPrefix(sql, "SELECT") {
		c.queries.Add(1)
	} else {
		c.writes.Add(1)
	}
}

// watchedIdle runs a follower that is at the end of its log, as watchedHeap has
// left it, and counts what it asks the database.
func (b *bench) watchedIdle(d *database, h *history) way {
	return way{name: idle, turn: func(ctx context.Context) (_ tally, err error) {
		db, pool, err := d.open(2)
		if err != nil {
			return tally{}, err
		}
		defer func() { err = errors.Join(err, pool.Close()) }()
		count := newCounter()
		p, err := newPair(db.Session(&gorm.Session{Logger: count}), h.application, nil, nil)
		if err != nil {
			return tally{}, err
		}
		return p.rest(ctx, count, b.followers.idle)
	}}
}

// rest runs the follower for some time, after another in which it gets to its
// rest.
func (p *pair) rest(ctx context.Context, count *counter, d time.Duration) (t tally, err error) {
	runner, err := system.NewRunner(p.system, system.Config{})
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, runner.Close()) }()
	if err := runner.Start(ctx); err != nil {
		return t, err
	}
	time.Sleep(d / 10)
	queries, writes, start := count.queries.Load(), count.writes.Load(), time.Now()
	time.Sleep(d)
	t.Elapsed = time.Since(start)
	t.Operations, t.Writes = count.queries.Load()-queries, count.writes.Load()-writes
	if p.follower.events > 0 {
		return t, errors.New("void: the follower had something to do")
	}
	return t, ctx.Err()
}

// measureFollowing is the row following. Its turns are long, and what they
// count does not depend on what else the machine does, so there is one round.
func (b *bench) measureFollowing(ctx context.Context, p *place) ([]result, error) {
	h := &history{application: applicationName, events: b.followers.followed}
	return b.within(p, func(d *database) (results []result, err error) {
		if err := d.record(ctx, h); err != nil {
			return nil, err
		}
		for _, c := range []*cell{
			{note: fmt.Sprintf("a log of %s events; events a second", number(float64(h.events))), ways: []way{watchedHeap(d, h)}},
			{note: fmt.Sprintf("nothing to do for %v; queries a second", b.followers.idle), ways: []way{b.watchedIdle(d, h)}},
		} {
			c.row, c.database, c.workers, c.events = rowFollowing, d.kind, 1, 1
			r, err := c.measure(ctx, 1)
			if err != nil {
				return nil, err
			}
			results = append(results, r)
		}
		return results, nil
	})
}
