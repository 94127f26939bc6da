// Package systemtest lets a test say what a system is made of before it is
// known in which store.
package systemtest

import (
	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// A test says what its system is made of before it is known in which store. A
// Node is a member that is made later, and a Plan a system of such.
type (
	// Node is a member that is made later.
	Node struct {
		make func(options []application.Option) (system.Member, error)
	}
	// Chain is a pipe of nodes.
	Chain []*Node
	// Plan is a system of chains.
	Plan []Chain
)

// App is the Node of a constructor, which gets the options of the runner and
// then these.
func App[M system.Member](_ string, construct func(...application.Option) (M, error), options ...application.Option) *Node {
	return &Node{make: func(common []application.Option) (system.Member, error) {
		return construct(append(common[:len(common):len(common)], options...)...)
	}}
}

// Built is the Node of a member that exists.
func Built(member system.Member) *Node {
	return &Node{make: func([]application.Option) (system.Member, error) { return member, nil }}
}

// Pipe makes a chain, as system.Pipe does.
func Pipe(nodes ...*Node) Chain { return nodes }

// System makes the members, each Node once, and the system of them.
func (p Plan) System(options ...application.Option) (*system.System, error) {
	made := map[*Node]system.Member{}
	var pipes []system.Pipeline
	for _, c := range p {
		var members []system.Member
		for _, n := range c {
			if n == nil {
				members = append(members, nil)
				continue
			}
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

// NewSingleThreadedRunner makes a runner of a plan, with the options for all of
// its members.
func NewSingleThreadedRunner(p Plan, options ...application.Option) (*system.SingleThreadedRunner, error) {
	s, err := p.System(options...)
	if err != nil {
		return nil, err
	}
	return system.NewSingleThreadedRunner(s)
}

// NewRunner makes a runner of a plan, with the options for all of its members.
func NewRunner(p Plan, options ...application.Option) (*system.Runner, error) {
	s, err := p.System(options...)
	if err != nil {
		return nil, err
	}
	return system.NewRunner(s, system.Config{})
}
