package system

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Edge says that one application follows another.
type Edge struct{ Leader, Follower string }

// String shows the edge as an arrow.
func (e Edge) String() string { return e.Leader + " -> " + e.Follower }

// System says which applications there are and who follows whom. It is immutable and safe for concurrent use; runners make
// the applications.
type System struct {
	nodes []*Node
	edges []Edge
	loops []Edge // those of the edges that are in a chain which says itself that it is a loop
}

// Chain is what Pipe makes.
type Chain []*Node

// Pipe is a chain of applications: each follows the one before it. The application of a pipe of one follows nobody. An
// application may be in several pipes.
//
// Applications may follow each other, and themselves. That must be said in one pipe, as in Pipe(a, b, a), so that nobody
// makes a loop by chance; it is up to the policies that it comes to an end.
func Pipe(nodes ...*Node) Chain { return nodes }

// isLoop tells whether an application is in a chain more than once.
func (c Chain) isLoop() bool {
	for i, node := range c {
		if slices.Contains(c[:i], node) {
			return true
		}
	}
	return false
}

// New makes a system of pipes. It returns an *Error where an application is missing, two have one name, or several pipes
// make a loop together (ErrLoop).
func New(pipes ...Chain) (*System, error) {
	s := &System{}
	for _, pipe := range pipes {
		for i, node := range pipe {
			if err := s.add(node); err != nil {
				return nil, err
			}
			if i > 0 && node.leader != nil {
				return nil, &Error{Name: node.name, Problem: "it is upstream, so it cannot follow " + pipe[i-1].name}
			}
			if i > 0 {
				s.connect(Edge{Leader: pipe[i-1].name, Follower: node.name}, pipe.isLoop())
			}
		}
	}
	if len(s.nodes) == 0 {
		return nil, &Error{Problem: "a system needs at least one application"}
	}
	if err := s.checkLoops(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *System) add(node *Node) error {
	switch {
	case node == nil:
		return &Error{Problem: "a pipe has a nil application"}
	case node.make == nil && node.leader == nil:
		return &Error{Name: node.name, Problem: "it has no constructor"}
	}
	known := s.node(node.name)
	switch {
	case known == nil:
		s.nodes = append(s.nodes, node)
	case known != node:
		return &Error{Name: node.name, Problem: "two applications have this name; " +
			"to have one in several pipes, give all of them the same node"}
	}
	return nil
}

func (s *System) connect(edge Edge, loop bool) {
	if !slices.Contains(s.edges, edge) {
		s.edges = append(s.edges, edge)
	}
	if loop {
		s.loops = append(s.loops, edge)
	}
}

// checkLoops finds a loop that no single pipe has.
func (s *System) checkLoops() error {
	for _, node := range s.nodes {
		if path := s.pathTo(node.name, []string{node.name}); path != nil {
			return &Error{Name: node.name, Err: ErrLoop, Problem: fmt.Sprintf("the pipes make a loop: %s; if events are meant "+
				"to go round, say so in one pipe with all of these", strings.Join(path, " -> "))}
		}
	}
	return nil
}

// pathTo finds a way from the end of a path to a goal, over edges that are not in loops on purpose.
func (s *System) pathTo(goal string, path []string) []string {
	for _, edge := range s.edges {
		if edge.Leader != path[len(path)-1] || slices.Contains(s.loops, edge) {
			continue
		}
		next := append(slices.Clip(path), edge.Follower)
		if edge.Follower == goal {
			return next
		}
		if slices.Contains(path, edge.Follower) {
			continue
		}
		if found := s.pathTo(goal, next); found != nil {
			return found
		}
	}
	return nil
}

func (s *System) node(name string) *Node {
	for _, node := range s.nodes {
		if node.name == name {
			return node
		}
	}
	return nil
}

// Names are the names of all applications, in the order of their definition.
func (s *System) Names() []string {
	names := make([]string, len(s.nodes))
	for i, node := range s.nodes {
		names[i] = node.name
	}
	return names
}

// Edges are all edges, in the order of their definition, each once.
func (s *System) Edges() []Edge { return slices.Clone(s.edges) }

// Leaders are the names of the applications that others follow.
func (s *System) Leaders() []string {
	return s.namesWhere(func(e Edge, name string) bool { return e.Leader == name })
}

// Followers are the names of the applications that follow others.
func (s *System) Followers() []string {
	return s.namesWhere(func(e Edge, name string) bool { return e.Follower == name })
}

// Processors are the names of the applications that follow others and are followed.
func (s *System) Processors() []string {
	followers := s.Followers()
	return slices.DeleteFunc(s.Leaders(), func(name string) bool { return !slices.Contains(followers, name) })
}

// LeadersOnly are the names of the applications that are followed and follow nobody.
func (s *System) LeadersOnly() []string {
	followers := s.Followers()
	return slices.DeleteFunc(s.Leaders(), func(name string) bool { return slices.Contains(followers, name) })
}

// Singles are the names of the applications that have to do with no other.
func (s *System) Singles() []string {
	return slices.DeleteFunc(s.Names(), func(name string) bool {
		return len(s.Follows(name))+len(s.Leads(name)) > 0
	})
}

// Follows are the names of the applications that an application follows.
func (s *System) Follows(name string) (leaders []string) {
	for _, edge := range s.edges {
		if edge.Follower == name {
			leaders = append(leaders, edge.Leader)
		}
	}
	return leaders
}

// Leads are the names of the applications that follow an application.
func (s *System) Leads(name string) (followers []string) {
	for _, edge := range s.edges {
		if edge.Leader == name {
			followers = append(followers, edge.Follower)
		}
	}
	return followers
}

func (s *System) namesWhere(is func(Edge, string) bool) []string {
	return slices.DeleteFunc(s.Names(), func(name string) bool {
		return !slices.ContainsFunc(s.edges, func(e Edge) bool { return is(e, name) })
	})
}

// check compares the applications that were made with what the system says of them. It reports all mistakes together.
func (s *System) check(m *members) error {
	var mistakes []error
	for _, name := range s.Names() {
		if own := m.leaders[name].Name(); own != name {
			mistakes = append(mistakes, &Error{Name: name, Err: ErrNameMismatch, Problem: fmt.Sprintf("it calls itself %q; "+
				"both names must be the same, because positions are stored under it", own)})
		}
	}
	for _, name := range s.Followers() {
		follower, ok := m.byName[name].(Follower)
		if !ok {
			mistakes = append(mistakes, &Error{Name: name, Problem: fmt.Sprintf("it follows others, but %T has no method Policy "+
				"as system.Follower asks for", m.byName[name])})
			continue
		}
		mistakes = append(mistakes, s.checkTopics(name, follower, m.leaders), checkParking(follower), checkHeadStart(follower))
	}
	for _, name := range s.Names() {
		if _, ok := m.byName[name].(Follower); ok && len(s.Follows(name)) == 0 {
			mistakes = append(mistakes, &Error{Name: name, Err: ErrFollowsNobody,
				Problem: "it is a follower, but no pipe has a leader in front of it, so that its policy would never be called"})
		}
	}
	return errors.Join(mistakes...)
}

// checkTopics finds a misspelt topic, whose events would be passed over in silence.
func (s *System) checkTopics(name string, follower Follower, all map[string]Leader) error {
	filter, ok := follower.(TopicFilter)
	if !ok {
		return nil
	}
	leaders := s.Follows(name)
	for _, topic := range filter.Topics() {
		known := slices.ContainsFunc(leaders, func(leader string) bool {
			return len(all[leader].Topics(topic)) > 0
		})
		if !known {
			return &Error{Name: name, Problem: fmt.Sprintf("it wants topic %q, which none of %s has", topic, strings.Join(leaders, ", "))}
		}
	}
	return nil
}
