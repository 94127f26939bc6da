package system

import (
	"context"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
)

// Member is what can be part of a system: an application, usually embedded in a struct of the user's.
type Member interface {
	Base() *application.Application
}

// Follower is a Member that processes the events of others.
type Follower interface {
	Member

	// Policy is called with every event of the applications that are followed, in the order of each application's log.
	// What it wants stored it collects; it must not save by itself. Where it returns an error nothing of the event is
	// stored, and the event is tried again later. One call of it runs at a time.
	Policy(ctx context.Context, event domain.Event, processing *application.ProcessingEvent) error
}

// TopicFilter is a Follower that wants events of some topics only. Its position moves over the others.
type TopicFilter interface {
	Topics() []string
}

// Node is an application's place in a system, before it is made.
type Node struct {
	name    string
	make    func(options []application.Option) (Member, error)
	foreign bool // made by somebody else
}

// App names an application and says how to make it: with its constructor, which is given the runner's options and behind
// them these.
func App[M Member](name string, construct func(...application.Option) (M, error), options ...application.Option) *Node {
	return &Node{name: name, make: func(common []application.Option) (Member, error) {
		return construct(append(common[:len(common):len(common)], options...)...)
	}}
}

// Built is App for an application that exists already. Options of a runner have no effect on it, and a runner does not
// close it.
func Built(member Member) *Node {
	made := func([]application.Option) (Member, error) { return member, nil }
	return &Node{name: member.Base().Name(), make: made, foreign: true}
}

// Name is the application's name.
func (n *Node) Name() string { return n.name }
