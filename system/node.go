package system

import (
	"context"
	"reflect"

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
	// What it wants stored it collects; it must not save by itself, which is application.ErrSaveInPolicy. Where it
	// returns an error nothing of the event is stored, and the event is tried again later. A runner never calls it
	// twice at the same time; CatchUp and RetryParked, called beside one, may call it for one leader while the runner does
	// for another.
	//
	// ctx ends when the runner is cancelled. It carries the transaction that everything is stored in, where the store
	// has such, and the metadata that new events get: who caused them, and the conversation that they belong to.
	Policy(ctx context.Context, event domain.Event, processing *application.ProcessingEvent) error
}

// TopicFilter is a Follower that wants events of some topics only. Its position
// moves over the others, as far as the leader's definitions have them: at a topic
// that the program does not know it stops (persistence.ErrNewerProgram), because a
// newer program may want it. Give all definitions of a log to the application, by
// repositories or application.WithDefinitions. Of a leader that is no application
// of the system (Upstream), all topics that are not named are passed over.
type TopicFilter interface {
	Follower

	// Topics are the names of the wanted events; events that were stored under a former name are wanted with today's. None
	// means all of them. They must be the same for as long as the application lives. They may change with the program:
	// a topic that is added is processed from then on, and a note in Statuses says so if there are older events of it.
	Topics() []string
}

// Node is an application's place in a system, before it is made.
type Node struct {
	name    string
	make    func(options []application.Option) (Member, error)
	foreign bool   // made by somebody else
	leader  Leader // instead of make, for what is only followed
}

// App names an application and says how to make it: with its constructor, which is given the runner's options and behind
// them these. The name is the one that the application has itself.
func App[M Member](name string, construct func(...application.Option) (M, error), options ...application.Option) *Node {
	node := &Node{name: name}
	if construct != nil {
		node.make = func(common []application.Option) (Member, error) {
			return construct(append(common[:len(common):len(common)], options...)...)
		}
	}
	return node
}

// Built is App for an application that exists already. Options of a runner have no effect on it, and a runner does not
// close it.
func Built(member Member) *Node {
	if isNil(member) {
		return nil // which New reports
	}
	made := func([]application.Option) (Member, error) { return member, nil }
	return &Node{name: member.Base().Name(), make: made, foreign: true}
}

// Upstream brings a leader that is no application of this process into a system, such as the log of another service. It
// can only be followed.
func Upstream(leader Leader) *Node {
	if leader == nil {
		return nil // which New reports
	}
	return &Node{name: leader.Name(), leader: leader}
}

// Name is the application's name.
func (n *Node) Name() string { return n.name }

// isNil also recognises a nil pointer in the interface, and a struct without its application.
func isNil(member Member) bool {
	v := reflect.ValueOf(member)
	return !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() || member.Base() == nil
}
