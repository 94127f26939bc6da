package system

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// How a runner waits. Polling finds what other processes record; a wake-up in the same process comes sooner. A follower
// that fails waits from the shortest to the longest time, twice as long after each failure.
const (
	pollInterval  = 500 * time.Millisecond
	shortestRetry = time.Second
	longestRetry  = time.Minute
)

// Runner runs the followers of a system, each in a goroutine of its own. It is used once: started, and stopped. It is safe
// for concurrent use.
type Runner struct {
	*members
	logger *slog.Logger

	mu      sync.Mutex // protects what follows
	started bool
	cancel  context.CancelFunc
	drain   context.CancelFunc
	done    chan struct{}
}

// members are the applications of a runner and their followings.
type members struct {
	byName  map[string]Member
	order   []string
	edges   []*following
	foreign map[string]bool // not made by the runner, and not closed by it
}

// NewRunner makes the applications of a system, each with the options. Followers run from Run or Start on.
func NewRunner(s *System, options ...application.Option) (*Runner, error) {
	m, err := makeMembers(s, options)
	if err != nil {
		return nil, err
	}
	return &Runner{members: m, logger: slog.Default(), done: make(chan struct{})}, nil
}

func makeMembers(s *System, options []application.Option) (*members, error) {
	m := &members{byName: map[string]Member{}, foreign: map[string]bool{}}
	for _, node := range s.nodes {
		member, err := node.make(options)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("system: make application %q: %w", node.name, err), m.close())
		}
		m.byName[node.name] = member
		m.order = append(m.order, node.name)
		m.foreign[node.name] = node.foreign
	}
	if err := s.check(m.byName); err != nil {
		return nil, errors.Join(err, m.close())
	}
	for _, edge := range s.edges {
		m.edges = append(m.edges, newFollowing(m.byName[edge.Follower].(Follower), m.byName[edge.Leader].Base()))
	}
	return m, nil
}

// close closes the applications that were made here, the last one first.
func (m *members) close() (err error) {
	for i := len(m.order) - 1; i >= 0; i-- {
		if name := m.order[i]; !m.foreign[name] {
			err = errors.Join(err, m.byName[name].Base().Close())
		}
	}
	return err
}

// Member returns an application of the system by its name; it is false where there is none.
func (m *members) Member(name string) (Member, bool) {
	member, ok := m.byName[name]
	return member, ok
}

// Statuses tells how all followings stand, in the order of the system's edges.
func (m *members) Statuses(ctx context.Context) ([]Status, error) {
	statuses := make([]Status, len(m.edges))
	for i, edge := range m.edges {
		var err error
		if statuses[i], err = edge.statusNow(ctx); err != nil {
			return statuses, err
		}
	}
	return statuses, nil
}

// Registry is what both runners are: a set of applications.
type Registry interface {
	Member(name string) (Member, bool)
	all() []Member
}

func (m *members) all() []Member {
	all := make([]Member, len(m.order))
	for i, name := range m.order {
		all[i] = m.byName[name]
	}
	return all
}

// Get returns the application of type M that a runner has made. It returns an *Error where it has none or several.
func Get[M Member](runner Registry) (found M, err error) {
	n := 0
	for _, member := range runner.all() {
		if m, ok := member.(M); ok {
			found, n = m, n+1
		}
	}
	if n != 1 {
		var none M
		return none, &Error{Problem: fmt.Sprintf("the runner has %d applications of type %T, where one was asked for", n, none)}
	}
	return found, nil
}

// Run runs the followers until ctx ends, and then closes the applications that the runner has made. It returns nil for
// an end by ctx or Stop, and otherwise why it could not run.
func (r *Runner) Run(ctx context.Context) error {
	if err := r.Start(ctx); err != nil {
		return err
	}
	<-r.done
	return r.close()
}

// Start runs the followers in the background until ctx ends or Stop is called. A second start is ErrAlreadyStarted.
func (r *Runner) Start(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.started {
		return ErrAlreadyStarted
	}
	r.started = true
	ctx, r.cancel = context.WithCancel(ctx)
	var draining context.Context
	draining, r.drain = context.WithCancel(context.Background())
	var group sync.WaitGroup
	for _, w := range r.workers() {
		group.Go(func() { w.run(ctx, draining.Done()) })
	}
	cancel, drain := r.cancel, r.drain
	go func() {
		group.Wait()
		cancel()
		drain()
		close(r.done)
	}()
	return nil
}

// Stop has every follower finish the batch it is at, and returns when all have ended. When ctx ends first they are
// cancelled, and Stop returns ctx's error. Stopping again does nothing. It does not close the applications; Close does.
func (r *Runner) Stop(ctx context.Context) error {
	r.mu.Lock()
	started := r.started
	if !started {
		r.started = true
		close(r.done)
	}
	r.mu.Unlock()
	if !started {
		return nil
	}
	r.drain()
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		r.cancel()
		<-r.done
		return ctx.Err()
	}
}

// Close stops the followers and closes the applications that the runner has made.
func (r *Runner) Close() error {
	return errors.Join(r.Stop(context.Background()), r.close())
}

// Done is closed when all followers have ended.
func (r *Runner) Done() <-chan struct{} { return r.done }

// workers are one for each follower, woken by all its leaders.
func (r *Runner) workers() []*worker {
	byFollower := map[string]*worker{}
	var workers []*worker
	for _, edge := range r.edges {
		name := edge.app().Name()
		w := byFollower[name]
		if w == nil {
			w = &worker{wake: make(chan struct{}, 1), logger: r.logger}
			byFollower[name] = w
			workers = append(workers, w)
		}
		w.edges = append(w.edges, &attempt{following: edge})
		edge.leader.OnRecorded(func(context.Context, []persistence.Recording) { w.awake() })
	}
	return workers
}

// worker is one follower's goroutine.
type worker struct {
	edges  []*attempt
	wake   chan struct{} // holds one wake-up, which is as good as many
	logger *slog.Logger
}

// attempt is a following with its failures in a row.
type attempt struct {
	*following
	failures int
	next     time.Time
}

func (w *worker) awake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run pulls until ctx ends or stop is closed: everything there is at first, and then whenever it is woken, when the poll
// interval is over, or when a failure is to be tried again.
func (w *worker) run(ctx context.Context, stop <-chan struct{}) {
	for {
		busy := false
		for _, edge := range w.edges {
			busy = w.pull(ctx, edge) || busy
		}
		if busy && ctx.Err() == nil && !closed(stop) {
			continue
		}
		timer := time.NewTimer(pollInterval - rand.N(pollInterval/10))
		select {
		case <-ctx.Done():
		case <-stop:
		case <-w.wake:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil || closed(stop) {
			return
		}
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// pull pulls a batch and takes down how it went. It is true where there may be more.
func (w *worker) pull(ctx context.Context, edge *attempt) bool {
	if time.Now().Before(edge.next) {
		return false
	}
	_, more, err := edge.pull(ctx)
	if ctx.Err() != nil {
		return false
	}
	if err == nil {
		edge.failures, edge.next = 0, time.Time{}
		edge.note(nil, time.Time{})
		return more
	}
	wait := min(shortestRetry<<min(edge.failures, 10), longestRetry)
	edge.failures++
	edge.next = time.Now().Add(wait - rand.N(wait/4))
	edge.note(err, edge.next)
	w.logger.WarnContext(ctx, "follower failed and will try again", "follower", edge.app().Name(),
		"leader", edge.leader.Name(), "failures", edge.failures, "next", edge.next, "error", err)
	return false
}
