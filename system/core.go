package system

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/internal/txscope"
)

// core is what both runners have: a system, and a follower loop for each of its
// edges.
type core struct {
	system *System
	edges  []*followerLoop
}

func newCore(s *System, config Config) (*core, error) {
	if s == nil {
		return nil, &mistake{"", "a runner needs a system and was given nil"}
	}
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &core{system: s}
	identity := newIdentity()
	leaders := map[string]Leader{}
	for _, m := range s.members {
		leaders[m.Name()] = m.newLeader()
	}
	for _, edge := range s.edges {
		f := newFollowerLoop(s.member(edge.follower).follower, leaders[edge.leader], config)
		f.identity = identity
		c.edges = append(c.edges, f)
	}
	return c, nil
}

// System returns the system that the runner runs, for another runner of the same
// system.
func (c *core) System() *System { return c.system }

// Statuses returns the status of each follower and leader, in the order in which
// the pipes name them. If it returns an error, which is one of reading positions,
// the statuses have what is known. A database that does not answer before ctx
// ends makes only the statuses unknown that need it. If ctx has already ended,
// no database is asked, and the statuses have what this process knows.
func (c *core) Statuses(ctx context.Context) ([]Status, error) {
	statuses, mistakes := make([]Status, len(c.edges)), make([]error, len(c.edges))
	var group sync.WaitGroup
	reads := statusReads{isInTransaction: txscope.From(ctx) != nil}
	for _, edges := range c.edgesByLeader() {
		leader := c.edges[edges[0]].leader
		reads.start(&group, func() {
			var end logEnd // which followers of one leader share
			reads.read(ctx, storeOf(leader), func() { end = endOf(ctx, leader) })
			for _, i := range edges {
				edge := c.edges[i]
				reads.start(&group, func() {
					reads.read(ctx, edge.app.Factory(), func() { statuses[i], mistakes[i] = edge.statusNow(ctx, end) })
				})
			}
		})
	}
	reads.wait(&group)
	return statuses, errors.Join(mistakes...)
}

// edgesByLeader returns the indexes of the edges by the names of their leaders.
func (c *core) edgesByLeader() map[string][]int {
	edges := map[string][]int{}
	for i, edge := range c.edges {
		edges[edge.leader.Name()] = append(edges[edge.leader.Name()], i)
	}
	return edges
}

// Err returns the errors of all followers that have failed and not recovered,
// or nil.
func (c *core) Err() error {
	failures := make([]error, len(c.edges))
	for i, edge := range c.edges {
		failures[i] = edge.currentStatus().Err
	}
	return errors.Join(failures...)
}

// edgesOf returns the followings of a follower, or an ErrProgramming if it is
// not one of the system.
func (c *core) edgesOf(follower Member) (edges []*followerLoop, err error) {
	if isNil(follower) {
		return nil, &mistake{"", "the follower is nil"}
	}
	name := follower.Name()
	for _, edge := range c.edges {
		if edge.app.Name() == name {
			edges = append(edges, edge)
		}
	}
	if len(edges) == 0 {
		return nil, &mistake{name, "there is no such follower; followers are " + strings.Join(c.system.followers(), ", ")}
	}
	return edges, nil
}

// edgesByFollower returns the loops of each follower.
func (c *core) edgesByFollower() map[*Follower][]*followerLoop {
	edges := map[*Follower][]*followerLoop{}
	for _, edge := range c.edges {
		edges[edge.follower] = append(edges[edge.follower], edge)
	}
	return edges
}

// listen remembers every save of a leader in this process for its followers,
// and then calls wake, until remove is called.
func listen(leader Leader, wake func()) (remove func()) {
	local, ok := leader.(*localLeader)
	if !ok {
		return func() {}
	}
	return local.app.OnRecorded(func(_ context.Context, recordings []mapper.Recording) {
		local.remember(recordings)
		wake()
	})
}
