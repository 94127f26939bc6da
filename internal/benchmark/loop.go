package main

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// timing says how long a turn takes.
type timing struct{ Warmup, Measured time.Duration }

// An operation is what one worker does again and again.
type operation func(ctx context.Context) error

// A tally is what a turn has counted.
type tally struct {
	Acknowledged int64 // operations that succeeded at any time, measured or not
	Operations   int64 // those that ended while they were measured
	Elapsed      time.Duration
	Latencies    histogram
	CPU          time.Duration // of this process and the server; 0 is unknown
	Allocations  uint64        // 0 is unknown
	Allocated    uint64        // in bytes

	Growth uint64 // of the heap, in bytes; of followers
	Writes int64  // statements that were no queries; of followers
}

// progress is what the workers of a turn share.
type progress struct {
	phase atomic.Int32
	once  sync.Once
	first chan struct{} // is closed when the first operation was measured
}

// The phases of a turn.
const (
	warming int32 = iota
	measuring
	ending
)

// closedLoop has every worker do its operation for the time of a turn, the next
// one as soon as the last has returned. A turn in which nothing would be
// measured lasts longer. The meter reads the processor time that was used so
// far. The first error ends the turn.
func closedLoop(ctx context.Context, t timing, workers []operation, meter func() time.Duration) (tally, error) {
	runtime.GC() // what was before is not this turn's

	p := progress{first: make(chan struct{})}
	tallies := make([]tally, len(workers))
	failures := make([]error, len(workers))
	turn, end := context.WithCancel(ctx)
	defer end()
	var group sync.WaitGroup
	for i, work := range workers {
		group.Go(func() {
			if failures[i] = tallies[i].repeat(turn, &p, work); failures[i] != nil {
				end()
			}
		})
	}
	wait := func(d time.Duration) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-turn.Done():
		}
	}

	var total tally
	var before, after runtime.MemStats
	wait(t.Warmup)
	runtime.ReadMemStats(&before)
	cpu, start := meter(), time.Now()
	p.phase.Store(measuring)
	wait(t.Measured)
	select {
	case <-p.first:
	case <-turn.Done():
	}
	p.phase.Store(ending)
	total.Elapsed, total.CPU = time.Since(start), meter()-cpu
	runtime.ReadMemStats(&after)
	group.Wait()

	total.Allocations, total.Allocated = after.Mallocs-before.Mallocs, after.TotalAlloc-before.TotalAlloc
	total.Latencies = newHistogram()
	for i := range tallies {
		total.add(&tallies[i])
	}
	return total, errors.Join(append(failures, ctx.Err())...)
}

// repeat does an operation until the turn ends, and counts. The operation's
// context does not end, as that of a program which waits for the outcome:
// drivers then do without a goroutine that watches it.
func (t *tally) repeat(turn context.Context, p *progress, work operation) error {
	t.Latencies = newHistogram()
	ctx := context.WithoutCancel(turn)
	for p.phase.Load() != ending && turn.Err() == nil {
		start := time.Now()
		if err := work(ctx); err != nil {
			return err
		}
		taken := time.Since(start)
		t.Acknowledged++
		if p.phase.Load() == measuring {
			p.once.Do(func() { close(p.first) })
			t.Operations++
			t.Latencies.add(taken)
		}
	}
	return nil
}

// add adds what a worker has counted.
func (t *tally) add(worker *tally) {
	t.Acknowledged += worker.Acknowledged
	t.Operations += worker.Operations
	t.Latencies.merge(worker.Latencies)
}

// once measures work that is done once, whose operations are of no interest
// each: it returns how many there were. The context does not end, as in
// closedLoop.
func once(ctx context.Context, meter func() time.Duration, work func(ctx context.Context) (int64, error)) (t tally, err error) {
	runtime.GC() // what was before is not this turn's
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, start := meter(), time.Now()
	t.Operations, err = work(context.WithoutCancel(ctx))
	t.Elapsed, t.CPU = time.Since(start), meter()-cpu
	runtime.ReadMemStats(&after)
	t.Allocations, t.Allocated = after.Mallocs-before.Mallocs, after.TotalAlloc-before.TotalAlloc
	return t, errors.Join(err, ctx.Err())
}

// A sample is what a turn says. Everything but the rate and what is said of
// followers is for one operation; 0 is unknown.
type sample struct {
	Rate        float64 `json:"rate"` // operations a second
	P50         float64 `json:"p50_us"`
	P99         float64 `json:"p99_us"`
	CPU         float64 `json:"cpu_us"`
	Allocations float64 `json:"allocations"`
	Allocated   float64 `json:"allocated_bytes"`
	Growth      float64 `json:"heap_growth_mib,omitempty"`
	Writes      float64 `json:"writes_10s,omitempty"` // in 10 seconds
}

func (t *tally) sample() sample {
	n := float64(t.Operations)
	return sample{
		Rate:        ratio(n, t.Elapsed.Seconds()),
		P50:         microseconds(t.Latencies.quantile(0.50)),
		P99:         microseconds(t.Latencies.quantile(0.99)),
		CPU:         ratio(microseconds(t.CPU), n),
		Allocations: ratio(float64(t.Allocations), n),
		Allocated:   ratio(float64(t.Allocated), n),
		Growth:      float64(t.Growth) / (1 << 20),
		Writes:      ratio(10*float64(t.Writes), t.Elapsed.Seconds()),
	}
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
