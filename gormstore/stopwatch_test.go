package gormstore_test

import (
	"sync"
	"testing"
	"time"
)

// stopwatch measures how long something takes, without the time in which the
// machine, busy with other things, does not run this process.
type stopwatch struct {
	begin time.Time

	mu      sync.Mutex    // protects what follows
	stalled time.Duration // until the last beat
	beaten  time.Duration // when the last beat was
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
				s.beat()
			}
		}
	}()
	return s
}

func (s *stopwatch) beat() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stalled += s.stall()
	s.beaten = time.Since(s.begin)
}

// stall returns how long the process has not run since the last beat.
func (s *stopwatch) stall() time.Duration {
	if since := time.Since(s.begin) - s.beaten; since > longestBeat {
		return since - beat
	}
	return 0
}

// took is how long it has taken so far.
func (s *stopwatch) took() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.begin) - s.stalled - s.stall()
}
