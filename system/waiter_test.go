package system

import (
	"errors"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
)

// called is an application and a leader of which only the name is known.
type called struct {
	bridge.Application
	Leader
}

func (called) Name() string { return "F" }

// What a pull finds ends the waits that began before it. A pause may be over for
// those that began while it was under way, and a failure may be for all if the
// follower was resumed meanwhile.
func TestOutcomesEndEarlierWaits(t *testing.T) {
	fails := errors.New("fails")
	for name, test := range map[string]struct {
		paused, resumed bool
		err             error
		// early is the outcome of a wait that began before the pull, late of one that
		// began during it; nil if the wait goes on.
		early, late error
	}{
		"paused":              {paused: true, early: ErrPaused},
		"failed":              {err: fails, early: fails, late: fails},
		"failed, and resumed": {err: fails, resumed: true},
		"neither":             {},
	} {
		t.Run(name, func(t *testing.T) {
			f := &followerLoop{app: called{}, leader: called{}, isPaused: test.paused}
			f.status.State = Paused // as the pull before has found it
			early := f.addWaiter(-1)
			end := f.beginPull()
			late := f.addWaiter(-1)
			f.retryNow = test.resumed
			f.setStatus(test.err, time.Time{})
			end()
			for w, want := range map[*waiter]error{early: test.early, late: test.late} {
				select {
				case <-w.done:
					if want == nil || !errors.Is(w.err, want) {
						t.Errorf("got %v, want %v", w.err, want)
					}
				default:
					if want != nil {
						t.Errorf("a wait goes on, want %v", want)
					}
				}
			}
		})
	}
}

// A wait that begins while a follower waits to try again has the failure at
// once, and one that begins while it tries again has not.
func TestWaitsDuringARetry(t *testing.T) {
	fails := errors.New("fails")
	f := &followerLoop{app: called{}, leader: called{}}
	f.setStatus(fails, time.Time{})
	if w := f.addWaiter(-1); !errors.Is(w.err, fails) {
		t.Errorf("before the retry: got %v, want an error that is %v", w.err, fails)
	}
	end := f.beginPull()
	during := f.addWaiter(-1)
	if during.err != nil {
		t.Errorf("during the retry: got %v", during.err)
	}
	f.setStatus(nil, time.Time{})
	end()
	if f.aim([]*waiter{during}, 0); !isClosed(during.done) || during.err != nil {
		t.Errorf("after it: got %v, want the wait ended without an error", during.err)
	}
	f.setStatus(fails, time.Time{})
	f.ended()
	if w := f.addWaiter(-1); !errors.Is(w.err, fails) {
		t.Errorf("after the end: got %v, want an error that is %v", w.err, fails)
	}
}
