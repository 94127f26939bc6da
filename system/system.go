package system

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
)

// Member is a part of a system: an application, a Follower, or a Leader from
// elsewhere. A struct that embeds an *application.Application or a *Follower is
// one too.
type Member interface {
	Name() string
}

// System says which applications there are and which follow which. It is
// immutable and safe for concurrent use.
type System struct {
	members []*member // in the order of their definition
	edges   []edge
	loops   []edge // those of the edges that are in a pipe which is a loop
}

// member is a Member with what it is.
type member struct {
	Member
	app      bridge.Application // nil if it is a leader from elsewhere
	follower *Follower          // nil if it follows nothing
	leader   Leader             // from elsewhere, or nil
}

// edge says that one application follows another.
type edge struct{ leader, follower string }

// Pipe makes a pipe for New: a chain of members, each of which follows the one
// before it. A member may be in several pipes.
//
// Give New every application, also one that has no follower and no leader, as a
// pipe of one: commands and pages know only those.
//
// Applications may follow each other, and themselves. That must be said in one
// pipe, as in Pipe(a, b, a), so that no loop is made by accident; the handlers
// must see to it that it ends.
func Pipe(members ...Member) []Member { return members }

// isLoop reports whether a member is in the pipe more than once.
func isLoop(pipe []Member) bool {
	for i, m := range pipe {
		if slices.ContainsFunc(pipe[:i], func(other Member) bool { return other.Name() == m.Name() }) {
			return true
		}
	}
	return false
}

// New makes a system of pipes. It returns persistence.ErrProgramming, several
// joined, if a member is nil or has the name of another one, if several pipes
// make a loop together, if a member follows others and is not a Follower, if a
// Follower has no leader, or if it handles payloads that none of its leaders
// defines, or needs what its store cannot do.
func New(pipes ...[]Member) (*System, error) {
	s := &System{}
	for _, pipe := range pipes {
		if err := s.add(pipe); err != nil {
			return nil, err
		}
	}
	if len(s.members) == 0 {
		return nil, &mistake{"", "a system needs at least one application"}
	}
	s.warnOfMisspelt()
	s.shareIntervals()
	if err := s.checkLoops(); err != nil {
		return nil, err
	}
	if err := s.checkFollowers(); err != nil {
		return nil, err
	}
	for _, m := range s.members {
		if m.follower != nil {
			m.follower.followings.addLeaders(s.follows(m.Name()))
		}
	}
	return s, nil
}

func (s *System) add(pipe []Member) error {
	for _, m := range pipe {
		if err := s.addMember(m); err != nil {
			return err
		}
	}
	for i, m := range pipe {
		if i > 0 {
			s.connect(edge{leader: pipe[i-1].Name(), follower: m.Name()}, isLoop(pipe))
		}
	}
	return nil
}

// warnOfMisspelt warns each logger once of each setting that its applications
// have misspelt: all of them read the environment of the process.
func (s *System) warnOfMisspelt() {
	type warning struct {
		setting bridge.Misspelling
		logger  *slog.Logger
	}
	var warnings []warning
	names := map[warning][]string{}
	for _, m := range s.members {
		if m.app == nil {
			continue
		}
		for _, setting := range m.app.TakeMisspelt() {
			w := warning{setting, m.app.Logger()}
			if names[w] == nil {
				warnings = append(warnings, w)
			}
			names[w] = append(names[w], m.Name())
		}
	}
	for _, w := range warnings {
		w.setting.Warn(w.logger, names[w]...)
	}
}

// shareIntervals has the applications warn together of a snapshotting interval
// that all of them read: once, and only if none has the definition.
func (s *System) shareIntervals() {
	var warned sync.Map
	isSettled := func(definition string) bool {
		for _, m := range s.members {
			if m.app != nil && m.app.HasRepository(definition) {
				return true
			}
		}
		_, again := warned.LoadOrStore(definition, true)
		return again
	}
	for _, m := range s.members {
		if m.app != nil {
			m.app.ShareIntervals(isSettled)
		}
	}
}

func (s *System) addMember(value Member) error {
	if isNil(value) {
		return &mistake{"", "a pipe has a nil application"}
	}
	m := &member{Member: value, app: bridge.Of(value)}
	if f, ok := value.(interface{ follower() *Follower }); ok && m.app != nil {
		m.follower = f.follower()
	}
	if m.app == nil {
		if m.leader, _ = value.(Leader); m.leader == nil {
			return &mistake{"", fmt.Sprintf("%T is not an application, a follower or a leader", value)}
		}
	}
	known := s.member(value.Name())
	switch {
	case known == nil:
		s.members = append(s.members, m)
	case known.app != m.app || !isSame(known.leader, m.leader):
		return &mistake{value.Name(), "two applications have this name; to have one in several pipes, " +
			"give all of them the same value"}
	case known.follower == nil && m.follower != nil:
		*known = *m // the application was given alone before
	}
	return nil
}

// isNil also recognises a nil pointer in the interface, and a struct whose
// embedded application is nil, which panics when it is asked for its name.
func isNil(value Member) (is bool) {
	if value == nil {
		return true
	}
	if v := reflect.ValueOf(value); v.Kind() == reflect.Pointer && v.IsNil() {
		return true
	}
	defer func() { is = recover() != nil }()
	_ = value.Name()
	return false
}

// isSame compares values that may not be comparable.
func isSame(a, b any) bool {
	t := reflect.TypeOf(a)
	return t == reflect.TypeOf(b) && (t == nil || t.Comparable()) && a == b
}

func (s *System) connect(added edge, loop bool) {
	if !slices.Contains(s.edges, added) {
		s.edges = append(s.edges, added)
	}
	if loop {
		s.loops = append(s.loops, added)
	}
}

// checkLoops finds a loop that no single pipe has.
func (s *System) checkLoops() error {
	for _, m := range s.members {
		if path := s.pathTo(m.Name(), []string{m.Name()}); path != nil {
			return &mistake{m.Name(), fmt.Sprintf("the pipes make a loop: %s; if events are meant "+
				"to go round, say so in one pipe with all of these", strings.Join(path, " -> "))}
		}
	}
	return nil
}

// pathTo finds a way from the end of a path to a goal, over edges that are not
// in loops on purpose.
func (s *System) pathTo(goal string, path []string) []string {
	for _, edge := range s.edges {
		if edge.leader != path[len(path)-1] || slices.Contains(s.loops, edge) {
			continue
		}
		next := append(slices.Clip(path), edge.follower)
		if edge.follower == goal {
			return next
		}
		if slices.Contains(path, edge.follower) {
			continue
		}
		if found := s.pathTo(goal, next); found != nil {
			return found
		}
	}
	return nil
}

// checkFollowers compares each member with what the pipes make of it.
func (s *System) checkFollowers() error {
	var mistakes []error
	for _, m := range s.members {
		leaders := s.follows(m.Name())
		switch {
		case m.leader != nil && len(leaders) > 0:
			mistakes = append(mistakes, &mistake{m.Name(), "it is a leader from elsewhere, so it cannot follow " + leaders[0]})
		case m.follower == nil && len(leaders) > 0:
			mistakes = append(mistakes, &mistake{m.Name(), fmt.Sprintf("it follows %s, but %T is not a follower; "+
				"make it with system.NewFollower", strings.Join(leaders, ", "), m.Member)})
		case m.follower != nil && len(leaders) == 0:
			mistakes = append(mistakes, &mistake{m.Name(),
				"it is a follower, but no pipe has a leader before it, so that its handlers would never be called"})
		case m.follower != nil:
			mistakes = append(mistakes, m.follower.checkStore(), m.follower.checkHandlers(s.leadersOf(m.Name())))
		}
	}
	return errors.Join(mistakes...)
}

// leadersOf returns what a member follows, to ask for topics.
func (s *System) leadersOf(name string) (leaders []Leader) {
	for _, leader := range s.follows(name) {
		leaders = append(leaders, s.member(leader).newLeader())
	}
	return leaders
}

// newLeader returns the member as a leader.
func (m *member) newLeader() Leader {
	if m.leader != nil {
		return m.leader
	}
	return &localLeader{app: m.app}
}

func (s *System) member(name string) *member {
	for _, m := range s.members {
		if m.Name() == name {
			return m
		}
	}
	return nil
}

// names returns the names of all members, in the order of their definition.
func (s *System) names() []string {
	names := make([]string, len(s.members))
	for i, m := range s.members {
		names[i] = m.Name()
	}
	return names
}

// followers returns the names of the members that follow others.
func (s *System) followers() []string {
	return slices.DeleteFunc(s.names(), func(name string) bool { return len(s.follows(name)) == 0 })
}

// graph is a system as the other packages of this module use it.
type graph struct{ s *System }

func (g graph) Names() []string              { return g.s.names() }
func (g graph) Followers() []string          { return g.s.followers() }
func (g graph) Follows(name string) []string { return g.s.follows(name) }

func (g graph) Member(name string) any {
	if m := g.s.member(name); m != nil {
		return m.Member
	}
	return nil
}

func init() {
	bridge.GraphOf = func(value any) bridge.Graph { return graph{value.(*System)} }
}

// follows returns the names of the members that a member follows.
func (s *System) follows(name string) (leaders []string) {
	for _, edge := range s.edges {
		if edge.follower == name {
			leaders = append(leaders, edge.leader)
		}
	}
	return leaders
}

// listed names leaders with commas between.
func listed(leaders []Leader) string {
	names := make([]string, len(leaders))
	for i, leader := range leaders {
		names[i] = leader.Name()
	}
	return strings.Join(names, ", ")
}
