package system

import (
	"context"
	"errors"
	"sync"
	"time"
)

// SingleThreadedRunner runs the followers of a system one after the other, in
// the goroutine of the caller that saves: when the save returns, what it has
// recorded is processed by all followers, in the order of their definition, and
// so is what they have made of it in turn. It is for tests and commands.
//
// It is safe for concurrent use: while one goroutine is processing, it also
// processes what others save, whose saves do not wait. When all saves have
// returned, everything is processed.
type SingleThreadedRunner struct {
	*core

	mu      sync.Mutex // protects what follows
	started bool
	stopped bool
	pulling bool
	again   bool     // something was recorded since the round began
	bells   []func() // take back what listen and followings.run have installed
}

// NewSingleThreadedRunner makes a runner. Followers run from Start on. The
// applications are those of the caller, who closes them after the runner.
func NewSingleThreadedRunner(s *System) (*SingleThreadedRunner, error) {
	c, err := newCore(s, Config{})
	if err != nil {
		return nil, err
	}
	return &SingleThreadedRunner{core: c}, nil
}

// Start processes what was recorded before, and then what each save records.
// The end of ctx ends only the former. What follows a save has the values of
// this ctx, not of the save's, whose cause is another.
//
// It returns the errors of all followers that failed, each of which stopped at
// the event at fault; the others have processed what they could, and the runner
// is started all the same. A second start is a persistence.ErrProgramming, and
// one after Close ErrStopped.
func (r *SingleThreadedRunner) Start(ctx context.Context) error {
	if err := r.listen(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	return r.sync(ctx)
}

// listen sees to it that every save of a leader is processed. What becomes of
// it is in the statuses, and in Err: a save that has succeeded cannot fail any
// more.
func (r *SingleThreadedRunner) listen(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.stopped:
		return ErrStopped
	case r.started:
		return errAlreadyStarted()
	}
	r.started = true
	heard := map[Leader]bool{}
	for _, edge := range r.edges {
		edge.setStatus(nil, time.Time{})
		if !heard[edge.leader] {
			heard[edge.leader] = true
			r.bells = append(r.bells, listen(edge.leader, func() { _ = r.sync(ctx) }))
		}
	}
	for follower, edges := range r.edgesByFollower() {
		r.bells = append(r.bells, follower.followings.run(edges, r.await))
	}
	return nil
}

// sync processes everything that there is to process. It returns the errors of
// all followers that failed, each of which stopped at the event at fault; the
// others have processed what they could. Called while another call is at work,
// from a handler or from another goroutine, it returns nil at once and has that
// call go round once more.
func (r *SingleThreadedRunner) sync(ctx context.Context) error {
	if mine, err := r.begin(); !mine {
		return err
	}
	ended := false
	var current *followerLoop
	defer func() {
		if !ended { // a handler has ended the goroutine, as a test that fails does
			current.noteExit()
			r.end()
		}
	}()
	failed := make([]error, len(r.edges))
	for r.goOn() {
		for i, edge := range r.edges {
			if failed[i] == nil {
				current = edge
				failed[i] = r.pullAll(ctx, edge)
			}
		}
	}
	ended = true
	return errors.Join(failed...)
}

// begin reports whether the caller is the one to pull.
func (r *SingleThreadedRunner) begin() (mine bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.stopped:
		return false, ErrStopped
	case !r.started:
		return false, errNotStarted()
	}
	r.again = true
	mine = !r.pulling
	r.pulling = true
	return mine, nil
}

func (r *SingleThreadedRunner) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pulling = false
}

// goOn reports whether to go round again, and ends the pulling where not, so
// that no wake-up is lost in between.
func (r *SingleThreadedRunner) goOn() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	again := r.again && !r.stopped
	r.again, r.pulling = false, again
	return again
}

// pullAll pulls until there is no more. What is made of the events rings the
// bell for another round.
func (r *SingleThreadedRunner) pullAll(ctx context.Context, edge *followerLoop) error {
	defer edge.releasePartitions(ctx)
	for {
		edge.takeRetryNow() // this pull is what wake has asked for
		did, err := r.pull(ctx, edge)
		if err != nil || did == nothingMore || did == paused || did == onStandby || r.isStopped() {
			return err
		}
	}
}

// pull pulls a batch and takes down how it went.
func (r *SingleThreadedRunner) pull(ctx context.Context, edge *followerLoop) (outcome, error) {
	defer edge.beginPull()()
	did, err := edge.pull(ctx)
	switch {
	case err != nil && ctx.Err() != nil: // it is cancelled, which says nothing about the follower
	case did != retriedOneByOne && did != retriedAtOnce:
		edge.setStatus(err, time.Time{})
	}
	return did, err
}

func (r *SingleThreadedRunner) isStopped() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stopped
}

// Close ends the runner: saves are no longer processed. What another goroutine
// is processing ends after its batch, for which Close does not wait. Closing
// again does nothing. It returns nil.
func (r *SingleThreadedRunner) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	for _, remove := range r.bells {
		remove()
	}
	r.bells = nil
	for _, edge := range r.edges {
		edge.ended()
	}
	return nil
}
