package system

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// standByAfter is how long a follower of a Runner waits for its position before
// it stands by, as a multiple of the time of a batch. Another process that holds
// the position for longer is at an event that takes long.
const standByAfter = 10

// Runner runs the followers of a system, each in its own goroutine. It is used
// once: started, and stopped. It is safe for concurrent use.
type Runner struct {
	*core
	stopping chan struct{} // closed by the first Stop
	done     chan struct{} // closed when all followers have ended

	starting sync.Mutex // held during a start

	mu      sync.Mutex // protects what follows
	started bool
	stopped bool
	cancel  context.CancelFunc // nil before the start
}

// NewRunner makes a runner. Followers run from Run or Start on. A runner that
// is started and does not end with Run must be stopped. The applications are
// those of the caller, who closes them after the runner has stopped. It returns
// persistence.ErrProgramming for a nil system or a config that makes no sense.
func NewRunner(s *System, config Config) (*Runner, error) {
	c, err := newCore(s, config)
	if err != nil {
		return nil, err
	}
	return &Runner{core: c, stopping: make(chan struct{}), done: make(chan struct{})}, nil
}

// Run runs the followers until ctx ends or Stop is called. It returns nil for
// such an end, and otherwise why it could not run.
func (r *Runner) Run(ctx context.Context) error {
	if err := r.Start(ctx); err != nil {
		return err
	}
	<-r.done
	return nil
}

// Start runs the followers in the background until ctx ends, which cancels
// them, or Stop is called. A second start is a persistence.ErrProgramming, and
// one after Stop ErrStopped.
//
// A follower with StartAtHead that has never run begins before Start returns, so
// that it misses nothing that is saved afterwards. If that cannot be recorded,
// Start returns why, and the runner can be started again.
func (r *Runner) Start(ctx context.Context) error {
	r.starting.Lock()
	defer r.starting.Unlock()
	if err := r.startable(); err != nil {
		return err
	}
	for _, edge := range r.edges {
		if err := edge.settleStart(ctx); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return ErrStopped
	}
	r.started = true
	ctx, r.cancel = context.WithCancel(ctx)
	workers := r.workers()
	go r.supervise(ctx, workers)
	return nil
}

// startable returns why the runner cannot be started, or nil.
func (r *Runner) startable() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.stopped:
		return ErrStopped
	case r.started:
		return errAlreadyStarted()
	}
	return nil
}

// supervise owns the goroutines of all workers. It waits for an end also if
// there are none.
func (r *Runner) supervise(ctx context.Context, workers []*worker) {
	defer close(r.done)
	defer r.cancel()
	var group sync.WaitGroup
	for _, w := range workers {
		group.Go(func() { w.keepRunning(ctx, r.stopping) })
	}
	listening, end := context.WithCancel(ctx)
	defer end()
	for _, w := range workers {
		group.Go(func() { w.heartbeat(listening) })
	}
	for _, edge := range r.edges {
		if edge.app.RecorderCapabilities().Partitions != nil {
			group.Go(func() { edge.keepLeases(listening) })
		}
	}
	for _, l := range r.listeners() {
		group.Go(func() { r.listen(listening, l, workers) })
	}
	select {
	case <-ctx.Done():
	case <-r.stopping:
	}
	end()
	group.Wait()
}

// listeners are the stores of leaders that hear of what other processes record.
func (r *Runner) listeners() (all []capability.Listener) {
	for _, edge := range r.edges {
		local, ok := edge.leader.(*localLeader)
		if !ok {
			continue
		}
		if l := local.app.Capabilities().Listener; l != nil && !slices.Contains(all, l) {
			all = append(all, l)
		}
	}
	return all
}

// listen wakes the followers of an application that a listener hears of.
// Followers poll as well, so that a listener which fails makes them slower and
// nothing else.
func (r *Runner) listen(ctx context.Context, l capability.Listener, workers []*worker) {
	workers[0].edges[0].guarded(ctx, func() {
		err := l.Listen(ctx, func(application string) {
			for _, w := range workers {
				if application == "" || w.follows(application) {
					w.notify()
				}
			}
		})
		if err != nil && ctx.Err() == nil && !errors.Is(err, persistence.ErrNotSupported) {
			workers[0].edges[0].app.Logger().WarnContext(ctx, "cannot listen for events of other processes; followers poll", "error", err)
		}
	})
}

// Stop has every follower finish the batch it is at, and returns when all have
// ended. When ctx ends first, the ctx of their handlers is cancelled, and Stop
// still waits for them before it returns ctx's error. Stopping again does
// nothing, and a runner that was stopped cannot be started. A handler must not
// call it.
func (r *Runner) Stop(ctx context.Context) error {
	if cancel := r.stop(); cancel != nil {
		select {
		case <-r.done:
		case <-ctx.Done():
			cancel()
			<-r.done
			return ctx.Err()
		}
	}
	return nil
}

// stop announces the end. It returns how to cancel the followers that are to be
// waited for, or nil if there are none.
func (r *Runner) stop() context.CancelFunc {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stopped {
		r.stopped = true
		close(r.stopping)
		if !r.started {
			close(r.done)
		}
	}
	if isClosed(r.done) {
		return nil
	}
	return r.cancel
}

// Close is Stop without a limit, for defer.
func (r *Runner) Close() error { return r.Stop(context.Background()) }

// workers are one for each follower, woken by all its leaders.
func (r *Runner) workers() []*worker {
	byFollower := map[*Follower]*worker{}
	var workers []*worker
	for _, edge := range r.edges {
		w := byFollower[edge.follower]
		if w == nil {
			w = &worker{wake: make(chan struct{}, 1)}
			byFollower[edge.follower] = w
			workers = append(workers, w)
		}
		edge.wait = standByAfter * edge.config.BatchTime
		edge.wake = w.notify
		edge.isRun = true
		if edge.partitions != nil {
			edge.partitions.greedy = false
		}
		edge.claims, edge.standingBy = true, edge.follower.hasEffects()
		edge.setStatus(nil, time.Time{})
		w.edges = append(w.edges, &retryState{followerLoop: edge, statusWriter: newStatusWriter(edge), announced: Stopped})
		w.unsubscribe = append(w.unsubscribe, listen(edge.leader, w.notify))
	}
	wait := func(ctx context.Context, edge *followerLoop, position int64) error {
		return edge.await(ctx, edge.addWaiter(position))
	}
	for follower, edges := range r.edgesByFollower() {
		w := byFollower[follower]
		w.unsubscribe = append(w.unsubscribe, follower.followings.run(edges, wait))
	}
	return workers
}

// worker is one follower's goroutine.
type worker struct {
	edges       []*retryState
	current     *retryState   // what is pulled, or was last
	unsubscribe []func()      // take back what listen and followings.run have installed
	wake        chan struct{} // holds one wake-up, which is as good as many
}

// retryState is a follower loop with its failures in a row.
type retryState struct {
	*followerLoop
	*statusWriter
	failures  int
	next      time.Time // not before; zero is at once
	announced State     // what was logged and reported last
}

func (w *worker) follows(application string) bool {
	return slices.ContainsFunc(w.edges, func(edge *retryState) bool { return edge.leader.Name() == application })
}

func (w *worker) notify() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// keepRunning runs in a goroutine that a handler may end, with runtime.Goexit,
// as a helper of tests does. That is an error of the handler, and the follower
// goes on in another one. So it does after a panic between batches, as that of a
// logger: it must not end the process.
func (w *worker) keepRunning(ctx context.Context, stopping <-chan struct{}) {
	defer w.ended(ctx)
	for {
		err := inGoroutine(func() { w.run(ctx, stopping) })
		if err == nil {
			return
		}
		if w.current != nil && w.current.exit != nil {
			continue // the batch in which it ended has failed
		}
		if edge := w.current; edge != nil {
			edge.guarded(ctx, func() { w.failed(ctx, edge, edge.failed(persistence.Notification{}, err)) })
		}
		w.sleep(ctx, stopping)
	}
}

// heartbeat writes heartbeats also while a handler takes long. If the batch has
// the only connection, or SQLite's write lock, it cannot; but then no other
// process can do anything with the follower either.
func (w *worker) heartbeat(ctx context.Context) {
	ticker := time.NewTicker(capability.HeartbeatInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, edge := range w.edges {
			edge.guarded(ctx, func() {
				edge.warnIfSlow(ctx)
				edge.warnIfHeld(ctx)
				edge.report(ctx, edge.followerLoop)
			})
		}
	}
}

// run pulls until ctx ends or stopping is closed: everything there is at first,
// and then whenever it is woken, when the poll interval is over, or when a
// failure is to be tried again.
//
// It reports before the first pull, which may be long: a reset of the follower
// has to find that it is at work.
func (w *worker) run(ctx context.Context, stopping <-chan struct{}) {
	for _, edge := range w.edges {
		if ctx.Err() == nil && !isClosed(stopping) {
			// It must not take the place of the runner that makes the calls.
			edge.report(ctx, edge.followerLoop)
		}
	}
	polled := false // nothing woke us: there is probably nothing new
	for {
		more := false
		for _, edge := range w.edges {
			if ctx.Err() != nil || isClosed(stopping) {
				return
			}
			more = w.pull(ctx, edge, polled) || more
			edge.report(ctx, edge.followerLoop)
		}
		if more {
			w.yield(ctx, stopping)
		}
		polled = !more && w.sleep(ctx, stopping)
	}
}

// ended reports with a ctx that is not cancelled, or the end would not be
// recorded.
func (w *worker) ended(ctx context.Context) {
	for _, remove := range w.unsubscribe {
		remove()
	}
	for _, edge := range w.edges {
		edge.guarded(ctx, func() { edge.releasePartitions(ctx) })
		edge.ended()
		edge.guarded(ctx, func() { edge.announce(context.WithoutCancel(ctx)) })
		edge.guarded(ctx, func() { edge.reportLast(context.WithoutCancel(ctx), edge.followerLoop) })
	}
}

// yield lets others write after a batch that has kept them from it for long.
func (w *worker) yield(ctx context.Context, stopping <-chan struct{}) {
	var pause time.Duration
	for _, edge := range w.edges {
		pause = max(pause, edge.yieldTime())
	}
	if pause == 0 {
		return
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-stopping:
	case <-timer.C:
	}
}

// sleep waits for something to do. It returns true if that is only to have a
// look.
func (w *worker) sleep(ctx context.Context, stopping <-chan struct{}) (poll bool) {
	wait := w.edges[0].config.PollInterval
	wait += rand.N(wait/4 + 1)
	for _, edge := range w.edges {
		if edge.hasWaiters() {
			wait = min(wait, waitInterval)
		}
		if !edge.next.IsZero() {
			wait = min(wait, time.Until(edge.next))
		}
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-stopping:
	case <-w.wake:
	case <-timer.C:
		return true
	}
	return false
}

// pull pulls a batch and takes down how it went. It returns true if there may
// be more.
func (w *worker) pull(ctx context.Context, edge *retryState, polled bool) bool {
	if edge.takeRetryNow() {
		edge.failures, edge.next = 0, time.Time{}
		polled = false
	}
	if time.Now().Before(edge.next) || polled && !edge.hasWaiters() && edge.quiet(ctx) {
		return false
	}
	w.current = edge
	defer edge.beginPull()()
	did, err := edge.resume(ctx)
	if err != nil && ctx.Err() != nil {
		return false // it is cancelled, which says nothing about the follower
	}
	if did == retriedOneByOne || did == retriedAtOnce {
		return true // which is neither a success nor, yet, a failure
	}
	if err == nil {
		edge.failures, edge.next = 0, time.Time{}
		w.pulled(ctx, edge)
		// A process that was overtaken leaves the work to the other, and looks
		// again from time to time.
		return did == maybeMore
	}
	w.failed(ctx, edge, err)
	return false
}

// pulled takes down that a pull has not failed. If the follower is divided,
// some of its partitions may have.
func (w *worker) pulled(ctx context.Context, edge *retryState) {
	failure := edge.worstFailure()
	if failure == nil {
		edge.setStatus(nil, time.Time{})
		edge.announce(ctx)
		return
	}
	edge.setStatus(failure.err, failure.next)
	if !failure.announced {
		failure.announced = true
		edge.failures = failure.count
		edge.announce(ctx)
	}
}

// beginPull takes down that a pull has begun, and returns what takes down that
// it has ended, after its outcome.
func (f *followerLoop) beginPull() (end func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pulls++
	f.pulling = true
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.pulling = false
	}
}

// takeRetryNow reports whether the next pull is not to wait, once.
func (f *followerLoop) takeRetryNow() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	hurry := f.retryNow
	f.retryNow = false
	return hurry
}

// failed takes down a failure, and when to try again.
func (w *worker) failed(ctx context.Context, edge *retryState, err error) {
	edge.next = time.Now().Add(edge.retryAfter(err))
	edge.failures++
	edge.setStatus(err, edge.next)
	edge.announce(ctx)
}

// retryAfter is how long to wait after a failure. A follower that lost a race
// for a lock, or whose partitions another process has, may try again soon, so
// as to take over when that one ends; one that is ahead of the log waits for a
// person.
func (a *retryState) retryAfter(err error) time.Duration {
	if errors.Is(err, ErrAhead) {
		return shortened(a.config.LongestRetry)
	}
	if _, divided := errors.AsType[divisionError](err); divided || a.isRetryable(err) {
		return shortened(a.config.ShortestRetry)
	}
	return a.retryTime(a.failures)
}

// shortened is a time between 3/4 of d and d.
func shortened(d time.Duration) time.Duration { return d - rand.N(d/4+1) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
