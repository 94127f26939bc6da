package system_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
)

func TestGraph(t *testing.T) {
	t.Parallel()
	node := func(name string) *system.Node { return following(name, ignore) }
	a, b, c, d := node("A"), node("B"), node("C"), node("D")
	for name, test := range map[string]struct {
		pipes                                                   []system.Chain
		names, edges, leaders, only, followers, processors, own string
	}{
		"one application":         {pipes: []system.Chain{system.Pipe(a)}, names: "A", own: "A"},
		"an empty pipe beside it": {pipes: []system.Chain{system.Pipe(), system.Pipe(a)}, names: "A", own: "A"},
		"a chain": {pipes: []system.Chain{system.Pipe(a, b, c)}, names: "A B C", edges: "A -> B, B -> C",
			leaders: "A B", only: "A", followers: "B C", processors: "B"},
		"an edge twice": {pipes: []system.Chain{system.Pipe(a, b), system.Pipe(a, b, c)}, names: "A B C", edges: "A -> B, B -> C",
			leaders: "A B", only: "A", followers: "B C", processors: "B"},
		"two leaders and two followers": {pipes: []system.Chain{system.Pipe(a, c), system.Pipe(b, c), system.Pipe(b, d)},
			names: "A C B D", edges: "A -> C, B -> C, B -> D", leaders: "A B", only: "A B", followers: "C D"},
		"a loop": {pipes: []system.Chain{system.Pipe(a, b, a), system.Pipe(d)}, names: "A B D", edges: "A -> B, B -> A",
			leaders: "A B", followers: "A B", processors: "A B", own: "D"},
		"behind itself": {pipes: []system.Chain{system.Pipe(a, a)}, names: "A", edges: "A -> A",
			leaders: "A", followers: "A", processors: "A"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSystem(t, test.pipes...)
			var edges []string
			for _, edge := range s.Edges() {
				edges = append(edges, edge.String())
			}
			for _, check := range []struct {
				what      string
				got, want string
			}{
				{"names", strings.Join(s.Names(), " "), test.names},
				{"edges", strings.Join(edges, ", "), test.edges},
				{"leaders", strings.Join(s.Leaders(), " "), test.leaders},
				{"leaders only", strings.Join(s.LeadersOnly(), " "), test.only},
				{"followers", strings.Join(s.Followers(), " "), test.followers},
				{"processors", strings.Join(s.Processors(), " "), test.processors},
				{"singles", strings.Join(s.Singles(), " "), test.own},
			} {
				if check.got != check.want {
					t.Errorf("got %s %q, want %q", check.what, check.got, check.want)
				}
			}
		})
	}

	s := newSystem(t, system.Pipe(a, c), system.Pipe(b, c), system.Pipe(b, d))
	if got := s.Follows("C"); !slices.Equal(got, []string{"A", "B"}) {
		t.Errorf("C follows %v", got)
	}
	if got := s.Leads("B"); !slices.Equal(got, []string{"C", "D"}) {
		t.Errorf("B leads %v", got)
	}
	s.Edges()[0] = system.Edge{}
	s.Names()[0] = ""
	if got := s.Edges()[0]; got != (system.Edge{Leader: "A", Follower: "C"}) || s.Names()[0] != "A" {
		t.Errorf("a caller has changed the system: %v", got)
	}
	if got := a.Name(); got != "A" {
		t.Errorf("got name %q", got)
	}
}

func TestSystemsThatCannotBe(t *testing.T) {
	t.Parallel()
	a, b, c := following("A", ignore), following("B", ignore), following("C", ignore)
	for name, test := range map[string]struct {
		pipes []system.Chain
		want  string
	}{
		"nothing":                       {nil, "at least one application"},
		"empty pipes":                   {[]system.Chain{system.Pipe(), nil}, "at least one application"},
		"nil":                           {[]system.Chain{system.Pipe(a, nil)}, "nil application"},
		"nil, built":                    {[]system.Chain{system.Pipe(system.Built(nil))}, "nil application"},
		"nil pointer":                   {[]system.Chain{system.Pipe(system.Built((*follower)(nil)))}, "nil application"},
		"without its base":              {[]system.Chain{system.Pipe(system.Built(&follower{}))}, "nil application"},
		"no constructor":                {[]system.Chain{system.Pipe(system.App[*follower]("B", nil))}, `"B": it has no constructor`},
		"a loop by chance":              {[]system.Chain{system.Pipe(a, b), system.Pipe(b, c, a)}, `A -> B -> C -> A`},
		"one name for two":              {[]system.Chain{system.Pipe(a, following("A", ignore))}, `"A": two applications have this name`},
		"one that can only be followed": {[]system.Chain{system.Pipe(a, system.Upstream(elsewhere{}))}, `"Elsewhere": it is upstream`},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := system.New(test.pipes...)
			if s != nil || !strings.Contains(wantError[*system.Error](t, err).Error(), test.want) {
				t.Errorf("got %v, %v; want %q", s, err, test.want)
			}
			if !errors.Is(err, domain.ErrEventSourcing) {
				t.Errorf("%v is no error of the framework", err)
			}
		})
	}
}

func TestRunnersThatCannotBe(t *testing.T) {
	t.Parallel()
	leader := system.App(schoolName, school.New)
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		pipe  system.Chain
		wants []string
		is    error
	}{
		"no policy": {pipe: system.Pipe(leader, system.App("Silent", newSilent)),
			wants: []string{`"Silent"`, "*system_test.silent", "Policy"}, is: domain.ErrEventSourcing},
		"another name": {pipe: system.Pipe(system.App("Kennel", school.New)),
			wants: []string{`"Kennel"`, `"TrainingSchool"`}, is: system.ErrNameMismatch},
		"both, and all are told": {pipe: system.Pipe(system.App("Kennel", school.New), system.App("Silent", newSilent)),
			wants: []string{`"TrainingSchool"`, "Policy"}, is: system.ErrNameMismatch},
		"nobody to follow": {pipe: system.Pipe(following("F", ignore)), wants: []string{`"F"`, "leader"}, is: system.ErrFollowsNobody},
		"a misspelt topic": {pipe: system.Pipe(leader, filtering("F", ignore, "Dog.TrickAdded", "Dog.Barked")),
			wants: []string{`"F"`, `"Dog.Barked"`, "TrainingSchool"}, is: domain.ErrEventSourcing},
		"a constructor that fails": {pipe: system.Pipe(leader, system.App("B", func(...application.Option) (*follower, error) { return nil, broken })),
			wants: []string{`"B"`}, is: broken},
		"a constructor that makes nil": {pipe: system.Pipe(leader, system.App("B", func(...application.Option) (*follower, error) { return nil, nil })),
			wants: []string{`"B"`, "nil"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSystem(t, test.pipe)
			_, err := system.NewRunner(s)
			_, errSingle := system.NewSingleThreadedRunner(s)
			for _, err := range []error{err, errSingle} {
				if err == nil || test.is != nil && !errors.Is(err, test.is) {
					t.Fatalf("got %v, want %v", err, test.is)
				}
				for _, want := range test.wants {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("got %q, want it to contain %q", err, want)
					}
				}
			}
		})
	}
	t.Run("no system", func(t *testing.T) {
		_, err := system.NewRunner(nil)
		wantError[*system.Error](t, err)
	})
	t.Run("what was made before is closed", func(t *testing.T) {
		var first *school.TrainingSchool
		_, err := system.NewRunner(newSystem(t, system.Pipe(
			system.App(schoolName, func(options ...application.Option) (_ *school.TrainingSchool, err error) {
				first, err = school.New(options...)
				return first, err
			}),
			system.App("B", func(...application.Option) (*follower, error) { return nil, broken }),
		)))
		if !errors.Is(err, broken) {
			t.Fatal(err)
		}
		if err := first.Register(t.Context(), "Fido"); !errors.Is(err, persistence.ErrClosed) {
			t.Errorf("got %v, want the application closed", err)
		}
	})
}

// elsewhere is a leader that is no application of this process.
type elsewhere struct{ system.Leader }

func (elsewhere) Name() string { return "Elsewhere" }

// silent is an application without a policy.
type silent struct{ *application.Application }

func newSilent(options ...application.Option) (*silent, error) {
	app, err := application.New("Silent", options...)
	return &silent{app}, err
}

func TestGet(t *testing.T) {
	t.Parallel()
	r, err := system.NewRunner(newSystem(t, system.Pipe(system.App(schoolName, school.New), following("A", ignore), following("B", ignore))))
	closing(t, r, err)
	if dogs, err := system.Get[*school.TrainingSchool](r); err != nil || dogs.Name() != schoolName {
		t.Errorf("got %v, %v", dogs, err)
	}
	_, err = system.Get[*counters](r)
	if got := wantError[*system.Error](t, err).Error(); !strings.Contains(got, "0 applications of type *system_test.counters") {
		t.Errorf("got %q", got)
	}
	_, err = system.Get[system.Follower](r)
	if got := wantError[*system.Error](t, err).Error(); !strings.Contains(got, "2 applications of type system.Follower") {
		t.Errorf("got %q", got)
	}
	if b, ok := r.Member("B"); !ok || b.Base().Name() != "B" {
		t.Errorf("got %v, %v", b, ok)
	}
	if _, ok := r.Member("C"); ok {
		t.Error("got an application that is not there")
	}
}

// Options reach every application; those of one application count more; a built one has its own.
func TestOptions(t *testing.T) {
	t.Parallel()
	env := func(value string) application.Option {
		return application.WithEnv(map[string]string{"AGGREGATE_CACHE_MAXSIZE": value})
	}
	built, err := school.New(env("3"))
	do(t, err)
	r, err := system.NewRunner(newSystem(t, system.Pipe(system.Built(built), following("A", ignore), following("B", ignore, env("2")))), env("1"))
	closing(t, r, err)
	for name, want := range map[string]string{schoolName: "3", "A": "1", "B": "2"} {
		member := get[system.Member](t, r, name)
		if got := member.Base().Environment().String("", "AGGREGATE_CACHE_MAXSIZE"); got != want {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
	do(t, r.Close())
	if err := built.Register(context.Background(), "Fido"); err != nil {
		t.Errorf("the runner has closed an application that it did not make: %v", err)
	}
	do(t, built.Close())
}
