package system

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// members are the applications of a runner and their followings.
type members struct {
	system  *System
	byName  map[string]Member
	leaders map[string]Leader // all applications, and what is followed from elsewhere
	order   []string
	edges   []*following
	foreign map[string]bool // not made by the runner, and not closed by it
}

func makeMembers(s *System, options []application.Option) (*members, error) {
	if s == nil {
		return nil, &Error{Problem: "a runner needs a system and was given nil"}
	}
	m := &members{system: s, byName: map[string]Member{}, leaders: map[string]Leader{}, foreign: map[string]bool{}}
	for _, node := range s.nodes {
		if node.leader != nil {
			m.leaders[node.name] = node.leader
			continue
		}
		member, err := node.make(options)
		if err == nil && isNil(member) {
			err = errors.New("the constructor made nil")
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("system: make application %q: %w", node.name, err), m.close())
		}
		m.byName[node.name] = member
		m.leaders[node.name] = &localLeader{app: member.Base()}
		m.order = append(m.order, node.name)
		m.foreign[node.name] = node.foreign
	}
	if err := s.check(m); err != nil {
		return nil, errors.Join(err, m.close())
	}
	identity := newIdentity()
	for _, edge := range s.edges {
		f := newFollowing(m.byName[edge.Follower].(Follower), m.leaders[edge.Leader])
		f.identity = identity
		m.edges = append(m.edges, f)
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

// Statuses tells how all followings stand, in the order of the system's edges. It tells what it knows also where it
// returns an error, which is one of reading positions.
func (m *members) Statuses(ctx context.Context) ([]Status, error) {
	statuses, mistakes := make([]Status, len(m.edges)), make([]error, len(m.edges))
	for i, edge := range m.edges {
		statuses[i], mistakes[i] = edge.statusNow(ctx)
	}
	return statuses, errors.Join(mistakes...)
}

// Err is what keeps followers from going on: the errors of all that have failed and not recovered, or nil.
func (m *members) Err() error {
	failures := make([]error, len(m.edges))
	for i, edge := range m.edges {
		failures[i] = edge.now().Err
	}
	return errors.Join(failures...)
}

func (m *members) all() []Member {
	all := make([]Member, len(m.order))
	for i, name := range m.order {
		all[i] = m.byName[name]
	}
	return all
}

// Registry is what a Runner and a SingleThreadedRunner both are: applications to choose from with Get.
type Registry interface {
	Member(name string) (Member, bool)
	all() []Member
}

// Get returns the application of type M that a runner has. It returns an *Error where it has none or several.
func Get[M Member](runner Registry) (found M, err error) {
	n := 0
	for _, member := range runner.all() {
		if m, ok := member.(M); ok {
			found, n = m, n+1
		}
	}
	if n != 1 {
		var none M
		return none, &Error{Problem: fmt.Sprintf("the runner has %d applications of type %v, where one was asked for",
			n, reflect.TypeFor[M]())}
	}
	return found, nil
}

// listen has every save of a leader in this process remembered for its followers, and then ring called, until remove is
// called.
func listen(leader Leader, ring func()) (remove func()) {
	local, ok := leader.(*localLeader)
	if !ok {
		return func() {}
	}
	return local.app.OnRecorded(func(_ context.Context, recordings []persistence.Recording) {
		local.remember(recordings)
		ring()
	})
}
