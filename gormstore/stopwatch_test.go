package gormstore_test

import (
	"sync/atomic"
	"testing"
	"time"
)

// stopwatch measures how long something takes, without the time in which the
// machine, busy with other things, does not run this process.
type stopwatch struct {
	begin   time.Time
	stalled atomic.Int64 // nanoseconds
	beaten  atomic.Int64 // when the last beat was, in nanoseconds since begin
}

// A beat that is later than longestBeat is one of a process that does not run.
const (
	beat        = 5 * time.Millisecond
	longestBeat = 50 * time.Millisecond
)

// measure starts a stopwatch, which goes until the test ends.
func measure(t testing.TB) *stopwatch {
	t.Helper()
	s, done := &stopwatch{begin: time.Now()}, make(chan struct{})
	t.Cleanup(func() { close(done) })
	go func() {
		for ticker := time.NewTicker(beat); ; {
			select {
			case <-done:
				ticker.Stop()
				return
			case <-ticker.C:
				s.stalled.Add(int64(s.stall()))
				s.beaten.Store(int64(time.Since(s.begin)))
			}
		}
	}()
	return s
}

// stall returns how long the process has not run since the last beat.
func (s *stopwatch) stall() time.Duration {
	if since := time.Since(s.begin) - time.Duration(s.beaten.Load()); since > longestBeat {
		return since - beat
	}
	return 0
}

// took is how long it has taken so far.
func (s *stopwatch) took() time.Duration {
	return time.Since(s.begin) - time.Duration(s.stalled.Load()) - s.stall()
}
