package system

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/eventsourcing-go/eventsourcing/internal/polling"
	"github.com/eventsourcing-go/eventsourcing/internal/txscope"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// waitInterval is how often a follower looks at its position while a caller
// waits for it and another process is the one that moves it.
const waitInterval = 20 * time.Millisecond

// waiter waits for a follower loop to reach a position.
type waiter struct {
	target int64         // or -1: the head of the log when it is next read
	during int           // the pull that had begun when it came, or 0
	done   chan struct{} // closed when the position is reached, or err is set
	err    error
}

// WaitFor returns when a follower has processed all that its leaders had
// recorded at the time of the call. Then what the caller has saved is in what the
// follower makes, such as its read model. Call WaitFor after the commit: before
// it, the follower sees nothing of the save, and WaitFor does not wait for it.
//
// If the follower has failed, WaitFor returns that error at once, although the
// follower will try again; during another attempt it waits for the outcome. An
// event that is parked counts as processed. If ctx ends first, it returns an
// ErrOperational with the context's cause; if the runner was stopped,
// ErrStopped; if the follower is paused, ErrPaused; and an ErrProgramming if the
// runner was not started, if the system has no such follower, or if ctx carries
// a transaction. It sends no queries: the runner wakes it. A runner that stands
// by looks at the position meanwhile. To wait for one position, or for followers
// that only other processes run, use Follower.WaitForPosition.
func (r *Runner) WaitFor(ctx context.Context, follower Member) error {
	if err := refuseInTransaction(ctx); err != nil {
		return err
	}
	edges, err := r.edgesOf(follower)
	if err != nil {
		return err
	}
	waiters := make([]*waiter, len(edges))
	for i, edge := range edges {
		waiters[i] = edge.addWaiter(-1)
	}
	for i, edge := range edges {
		if err := edge.await(ctx, waiters[i]); err != nil {
			return err
		}
	}
	return nil
}

// refuseInTransaction refuses to wait for a follower in a transaction: the
// follower cannot see what the transaction has saved, and may need a lock or a
// connection that the transaction has.
func refuseInTransaction(ctx context.Context) error {
	if txscope.From(ctx) == nil {
		return nil
	}
	return &persistence.Error{Class: persistence.ErrProgramming, Op: "wait for a follower",
		Err:  errors.New("the context carries a transaction, and no follower sees its saves before the commit"),
		Hint: "wait after the transaction, with the context from outside of it"}
}

// WaitForPosition returns when the follower has processed the log of a leader
// up to a position, such as that of application.Saved, in whatever process it
// runs.
//
// While a runner of this process runs the follower for the leader, it is as
// WaitFor of the runner: it returns an error if the follower has failed or is
// paused, and ErrStopped if the runner is stopped meanwhile. If a runner runs
// the follower and no system of this process has it follow the leader, it
// returns an ErrProgramming.
//
// Otherwise it polls the position in the follower's store, and sees it move
// within half a second. If ctx ends first, it returns an ErrOperational with the
// context's cause. Give ctx a deadline: a follower that no process runs never
// gets there.
func (f *Follower) WaitForPosition(ctx context.Context, leader Member, position int64) error {
	if err := refuseInTransaction(ctx); err != nil {
		return err
	}
	switch wait, err := f.waitOf(leader); {
	case err != nil:
		return err
	case wait != nil && position > 0:
		return wait(ctx, position)
	}
	return polling.WaitFor(ctx, f.app.Recorder(), leader.Name(), position)
}

// followings are the leaders of a follower in this process.
type followings struct {
	mu      sync.Mutex
	leaders []string // of all systems, whether they run or not
	running []runningLoop
}

// runningLoop is a loop that a runner runs, with how to wait for a position.
type runningLoop struct {
	*followerLoop
	wait waitFunc
}

// waitFunc waits until a loop has reached a position.
type waitFunc func(ctx context.Context, loop *followerLoop, position int64) error

// addLeaders adds the leaders that the pipes of a system give to the follower.
func (f *followings) addLeaders(names []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range names {
		if !slices.Contains(f.leaders, name) {
			f.leaders = append(f.leaders, name)
		}
	}
}

// run adds the loops that a runner begins to run, and returns a function that
// removes them. Both do it in one step, so a wait sees all of them or none.
func (f *followings) run(loops []*followerLoop, wait waitFunc) (remove func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, loop := range loops {
		f.running = append(f.running, runningLoop{loop, wait})
	}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.running = slices.DeleteFunc(f.running, func(r runningLoop) bool { return slices.Contains(loops, r.followerLoop) })
	}
}

// waitOf returns how to wait for a position in a leader's log, or nil if no
// runner of this process runs the follower for that leader.
func (f *Follower) waitOf(leader Member) (wait func(ctx context.Context, position int64) error, err error) {
	if isNil(leader) {
		return nil, &mistake{f.Name(), "the leader is nil"}
	}
	name, all := leader.Name(), &f.followings
	all.mu.Lock()
	defer all.mu.Unlock()
	for _, r := range all.running {
		if r.leader.Name() == name {
			return func(ctx context.Context, position int64) error { return r.wait(ctx, r.followerLoop, position) }, nil
		}
	}
	if len(all.running) > 0 && !slices.Contains(all.leaders, name) {
		return nil, &mistake{f.Name(), fmt.Sprintf("it does not follow %s; it follows %s", name, strings.Join(all.leaders, ", "))}
	}
	return nil, nil
}

// WaitFor is that of a Runner. It processes what there is to process, such as
// what other processes have recorded.
func (r *SingleThreadedRunner) WaitFor(ctx context.Context, follower Member) error {
	if err := refuseInTransaction(ctx); err != nil {
		return err
	}
	edges, err := r.edgesOf(follower)
	if err != nil {
		return err
	}
	for _, edge := range edges {
		if err := r.await(ctx, edge, -1); err != nil {
			return err
		}
	}
	return nil
}

// await processes events until an edge has reached a position. Another
// goroutine may be at it already, or another process.
func (r *SingleThreadedRunner) await(ctx context.Context, edge *followerLoop, position int64) error {
	// A failure of this follower is the error of w, and others do not matter.
	_ = r.sync(ctx)
	w := edge.addWaiter(position)
	defer edge.dropWaiter(w)
	ticker := time.NewTicker(waitInterval)
	defer ticker.Stop()
	for {
		_ = r.sync(ctx)
		select {
		case <-w.done:
			return w.err
		case <-ctx.Done():
			return edge.waitError(ctx, w)
		case <-ticker.C:
		}
	}
}

// addWaiter adds a waiter and wakes the follower. The waiter is done already if
// there is nothing to wait for, or no reason to.
func (f *followerLoop) addWaiter(target int64) *waiter {
	w := &waiter{target: target, done: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pulling {
		w.during = f.pulls
	}
	if err := f.stalledLocked(); err != nil || target == 0 || target > 0 && target <= f.position {
		w.err = err
		close(w.done)
		return w
	}
	f.waiters = append(f.waiters, w)
	if f.wake != nil {
		f.wake()
	}
	return w
}

// await waits for a waiter.
func (f *followerLoop) await(ctx context.Context, w *waiter) error {
	defer f.dropWaiter(w)
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return f.waitError(ctx, w)
	}
}

func (f *followerLoop) waitError(ctx context.Context, w *waiter) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return polling.TimedOut(ctx, f.leader.Name(), max(w.target, 0))
}

func (f *followerLoop) dropWaiter(w *waiter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiters = slices.DeleteFunc(f.waiters, func(other *waiter) bool { return other == w })
}

func (f *followerLoop) hasWaiters() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.waiters) > 0
}

// newWaiters returns those that wait for the head of the log that is read next.
func (f *followerLoop) newWaiters() (waiting []*waiter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.waiters {
		if w.target < 0 {
			waiting = append(waiting, w)
		}
	}
	return waiting
}

// aim sets the target of waiters to the head of the log that was read after
// they came, and ends the waiting of those that have reached it.
func (f *followerLoop) aim(waiting []*waiter, head int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range waiting {
		w.target = head
	}
	f.releaseLocked(nil)
}

// reached takes note of the position, and ends the waiting of those that wait
// for it or an earlier one.
func (f *followerLoop) reached(position int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.position = position
	f.releaseLocked(nil)
}

// releaseLocked ends the waiting of those whose target is reached, and of all
// if err is not nil. The caller has locked f.mu.
func (f *followerLoop) releaseLocked(err error) {
	f.waiters = slices.DeleteFunc(f.waiters, func(w *waiter) bool {
		if err == nil && (w.target < 0 || w.target > f.position) {
			return false
		}
		w.err = err
		close(w.done)
		return true
	})
}

// stalledLocked returns why the follower does not go on, or nil. What the last
// pull has found says nothing if another one is under way or follows at once.
// Nor does a pause, which another process may have ended: the next pull, which
// comes soon for a waiter, finds out. The caller has locked f.mu.
func (f *followerLoop) stalledLocked() error {
	switch {
	case f.status.Err != nil && (f.stopped || !f.pulling && !f.retryNow):
		return f.status.Err
	case f.stopped:
		return ErrStopped
	case f.status.State == Stopped && f.status.Err == nil:
		return errNotStarted()
	}
	return nil
}

// releasePausedLocked ends the waiting of those that came before the pull which
// has found the follower paused. It may have been resumed for the others since.
// The caller has locked f.mu.
func (f *followerLoop) releasePausedLocked() {
	err := f.paused()
	f.waiters = slices.DeleteFunc(f.waiters, func(w *waiter) bool {
		if w.during == f.pulls {
			return false
		}
		w.err = err
		close(w.done)
		return true
	})
}
