package system

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// SingleThreadedRunner runs the followers of a system one after the other: what a save has recorded is processed when the
// save returns, by all followers, in the order of their definition, and so is what they make in turn. It is for tests and
// commands.
type SingleThreadedRunner struct {
	*members

	mu      sync.Mutex // protects what follows
	started bool
	stopped bool
	pulling bool
	again   bool
	err     error
}

// NewSingleThreadedRunner makes the applications of a system, each with the options.
func NewSingleThreadedRunner(s *System, options ...application.Option) (*SingleThreadedRunner, error) {
	m, err := makeMembers(s, options)
	if err != nil {
		return nil, err
	}
	return &SingleThreadedRunner{members: m}, nil
}

// Start has saves processed from now on, and processes what was recorded before. It returns the first error of a
// follower; the others have processed what they could. A second start is ErrAlreadyStarted.
func (r *SingleThreadedRunner) Start(ctx context.Context) error {
	r.mu.Lock()
	if r.started {
		r.mu.Unlock()
		return ErrAlreadyStarted
	}
	r.started = true
	r.mu.Unlock()
	hooked := map[string]bool{}
	for _, edge := range r.edges {
		if !hooked[edge.leader.Name()] {
			hooked[edge.leader.Name()] = true
			edge.leader.OnRecorded(r.recorded)
		}
	}
	return r.Sync(ctx)
}

// recorded processes what a save has recorded. An error does not make the save fail: Err has it.
func (r *SingleThreadedRunner) recorded(ctx context.Context, _ []persistence.Recording) {
	if err := r.Sync(context.WithoutCancel(ctx)); err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.err = errors.Join(r.err, err)
	}
}

// Err is what followers failed with since the runner was started, or since Err was called last.
func (r *SingleThreadedRunner) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.err
	r.err = nil
	return err
}

// Sync processes everything that there is to process. It returns the errors of all followers that failed, each of which
// stopped at the event at fault. Called while another call is at work, from a policy or from another goroutine, it has
// that call go round once more.
func (r *SingleThreadedRunner) Sync(ctx context.Context) error {
	r.mu.Lock()
	if !r.started || r.stopped {
		r.mu.Unlock()
		return ErrNotStarted
	}
	r.again = true
	if r.pulling {
		r.mu.Unlock()
		return nil
	}
	r.pulling = true
	r.mu.Unlock()
	failed := map[*following]error{}
	for r.goOn() {
		for _, edge := range r.edges {
			if failed[edge] == nil {
				failed[edge] = r.pullAll(ctx, edge)
			}
		}
	}
	var all error
	for _, edge := range r.edges {
		all = errors.Join(all, failed[edge])
	}
	return all
}

// goOn tells whether to go round again, and ends the pulling where not, so that no wake-up is lost in between.
func (r *SingleThreadedRunner) goOn() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	again := r.again && !r.stopped
	r.again, r.pulling = false, again
	return again
}

// pullAll pulls until there is no more. What was processed may have made events for others, which go round again.
func (r *SingleThreadedRunner) pullAll(ctx context.Context, edge *following) error {
	for {
		processed, more, err := edge.pull(ctx)
		edge.note(err, time.Time{})
		if processed > 0 {
			r.mu.Lock()
			r.again = true
			r.mu.Unlock()
		}
		if err != nil || !more {
			return err
		}
	}
}

// Stop ends the runner: saves are no longer processed. Stopping again does nothing.
func (r *SingleThreadedRunner) Stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
}

// Close stops the runner and closes the applications that it has made.
func (r *SingleThreadedRunner) Close() error {
	r.Stop()
	return r.close()
}
