package system_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// A test says what its system is made of before it is known in which store.
type (
	// node is a member that is made later.
	node struct {
		make func(options []application.Option) (system.Member, error)
	}
	// chain is a pipe of nodes.
	chain []*node
	// plan is a system of chains.
	plan []chain
)

// app is the node of a member with a name, made by a constructor, which gets
// the options of the runner and then these.
func app[M system.Member](name string, construct func(...application.Option) (M, error), options ...application.Option) *node {
	return &node{make: func(common []application.Option) (system.Member, error) {
		member, err := construct(append(slices.Clone(common), options...)...)
		if err == nil && member.Name() != name {
			err = fmt.Errorf("the member %s is called %s", name, member.Name())
		}
		return member, err
	}}
}

// built is the node of a member that exists.
func built(member system.Member) *node {
	return &node{make: func([]application.Option) (system.Member, error) { return member, nil }}
}

func pipe(nodes ...*node) chain { return nodes }

func newSystem(_ testing.TB, chains ...chain) plan { return chains }

// system makes the members, each node once, and the system of them.
func (p plan) system(options ...application.Option) (*system.System, error) {
	made := map[*node]system.Member{}
	var pipes [][]system.Member
	for _, c := range p {
		var members []system.Member
		for _, n := range c {
			if _, ok := made[n]; !ok {
				member, err := n.make(options)
				if err != nil {
					return nil, err
				}
				made[n] = member
			}
			members = append(members, made[n])
		}
		pipes = append(pipes, system.Pipe(members...))
	}
	return system.New(pipes...)
}

func newSingle(p plan, options ...application.Option) (*system.SingleThreadedRunner, error) {
	s, err := p.system(options...)
	if err != nil {
		return nil, err
	}
	return system.NewSingleThreadedRunner(s)
}

func newConcurrent(p plan, options ...application.Option) (*system.Runner, error) {
	s, err := p.system(options...)
	if err != nil {
		return nil, err
	}
	return system.NewRunner(s, system.Config{})
}

// find returns the only member of a type.
func find[M system.Member](r runner) (found M, err error) {
	n := 0
	graph := bridge.GraphOf(r.System())
	for _, name := range graph.Names() {
		if m, ok := graph.Member(name).(M); ok {
			found, n = m, n+1
		}
	}
	if n != 1 {
		err = fmt.Errorf("the system has %d members of the type", n)
	}
	return found, err
}

// called is a member that is known by its name.
type called string

func (c called) Name() string { return string(c) }

// collector collects what a policy of a test makes, to be saved after it.
type collector struct{ changes []domain.Changes }

func (c *collector) Collect(changes ...domain.Changes) { c.changes = append(c.changes, changes...) }

// follower is a follower with a policy that a test gives it, which may be
// replaced while it runs.
type follower struct {
	*system.Follower

	mu     sync.Mutex // protects policy
	policy policyFunc
}

type policyFunc = func(context.Context, domain.Event, *collector) error

// newFollower makes a follower. If no option is a handler, it handles every
// event.
func newFollower(app *application.Application, policy policyFunc, options ...system.FollowerOption) (*follower, error) {
	f := &follower{policy: policy}
	return f, f.init(app, append(options, system.OnEvery(f.handle))...)
}

func (f *follower) init(app *application.Application, options ...system.FollowerOption) (err error) {
	f.Follower, err = system.NewFollower(app, options...)
	return err
}

func (f *follower) handle(ctx context.Context, event domain.Event) error {
	f.mu.Lock()
	policy := f.policy
	f.mu.Unlock()
	var c collector
	if err := policy(ctx, event, &c); err != nil {
		return err
	}
	_, err := f.Save(ctx, c.changes...)
	return err
}

func (f *follower) become(policy policyFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.policy = policy
}

// followerLoop is the node of a follower of every event.
func followerLoop(name string, policy policyFunc, options ...application.Option) *node {
	return followingWith(name, policy, nil, options...)
}

// followingWith is following with options of the follower.
func followingWith(name string, policy policyFunc, with []system.FollowerOption, options ...application.Option) *node {
	return app(name, func(options ...application.Option) (*follower, error) {
		app, err := application.New(name, options...)
		if err != nil {
			return nil, err
		}
		return newFollower(app, policy, with...)
	}, options...)
}

// filtering is the node of a follower that handles the events of some topics of
// the school, or all.
func filtering(name string, policy policyFunc, topics ...string) *node {
	if len(topics) == 0 {
		return followerLoop(name, policy)
	}
	var handlers []handlerOf
	for _, topic := range topics {
		switch topic {
		case registered:
			handlers = append(handlers, on[school.Registered])
		case trickAdded:
			handlers = append(handlers, on[school.TrickAdded])
		default:
			panic("no payload is known for topic " + topic)
		}
	}
	return handling(name, policy, handlers)
}

// handlerOf makes a handler that calls the policy of a follower.
type handlerOf = func(*follower) system.FollowerOption

// handling is the node of a follower with some handlers, which call one policy.
func handling(name string, policy policyFunc, handlers []handlerOf, options ...application.Option) *node {
	return app(name, func(options ...application.Option) (*follower, error) {
		app, err := application.New(name, options...)
		if err != nil {
			return nil, err
		}
		f := &follower{policy: policy}
		var all []system.FollowerOption
		for _, handler := range handlers {
			all = append(all, handler(f))
		}
		return f, f.init(app, all...)
	}, options...)
}

// on handles the events of one payload.
func on[E any](f *follower) system.FollowerOption {
	return system.On(func(ctx context.Context, event domain.Recorded[E]) error { return f.handle(ctx, event.Event) })
}
