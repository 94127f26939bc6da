package system_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// fixed makes members that exist, for tests of the graph alone.
type fixed struct{ a, b, c, d *follower }

func newFixed(t *testing.T) fixed {
	made := func(name string) *follower {
		app, err := application.New(name, application.WithStore(memory.New()))
		expect.NoError(t, err)
		return expect.Must(newFollower(app, ignore))
	}
	return fixed{made("A"), made("B"), made("C"), made("D")}
}

// leader returns a follower as an application that leads.
func leader(f *follower) system.Member { return f.Application }

func TestGraph(t *testing.T) {
	t.Parallel()
	f := newFixed(t)
	for name, test := range map[string]struct {
		pipes                   [][]system.Member
		names, edges, followers string
	}{
		"one application":         {pipes: [][]system.Member{system.Pipe(leader(f.a))}, names: "A"},
		"an empty pipe beside it": {pipes: [][]system.Member{system.Pipe(), system.Pipe(leader(f.a))}, names: "A"},
		"a chain": {pipes: [][]system.Member{system.Pipe(leader(f.a), f.b, f.c)}, names: "A B C", edges: "A -> B, B -> C",
			followers: "B C"},
		"an edge twice": {pipes: [][]system.Member{system.Pipe(leader(f.a), f.b), system.Pipe(leader(f.a), f.b, f.c)},
			names: "A B C", edges: "A -> B, B -> C", followers: "B C"},
		"two leaders and two followers": {pipes: [][]system.Member{system.Pipe(leader(f.a), f.c), system.Pipe(leader(f.b), f.c),
			system.Pipe(leader(f.b), f.d)}, names: "A C B D", edges: "A -> C, B -> C, B -> D", followers: "C D"},
		"a loop": {pipes: [][]system.Member{system.Pipe(f.a, f.b, f.a), system.Pipe(leader(f.d))}, names: "A B D",
			edges: "A -> B, B -> A", followers: "A B"},
		"after itself": {pipes: [][]system.Member{system.Pipe(f.a, f.a)}, names: "A", edges: "A -> A", followers: "A"},
		"a follower that leads, given as its application": {pipes: [][]system.Member{system.Pipe(leader(f.b), f.c),
			system.Pipe(leader(f.a), f.b)}, names: "B C A", edges: "B -> C, A -> B", followers: "B C"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := system.New(test.pipes...)
			expect.NoError(t, err)
			graph := bridge.GraphOf(s)
			for what, pair := range map[string][2]string{
				"names":     {strings.Join(graph.Names(), " "), test.names},
				"edges":     {strings.Join(s.Edges(), ", "), test.edges},
				"followers": {strings.Join(graph.Followers(), " "), test.followers},
			} {
				if pair[0] != pair[1] {
					t.Errorf("got %s %q, want %q", what, pair[0], pair[1])
				}
			}
		})
	}

	s, err := system.New(system.Pipe(leader(f.a), f.c), system.Pipe(leader(f.b), f.c), system.Pipe(leader(f.b), f.d))
	expect.NoError(t, err)
	graph := bridge.GraphOf(s)
	if got := graph.Follows("C"); !slices.Equal(got, []string{"A", "B"}) {
		t.Errorf("C follows %v, want A and B", got)
	}
	graph.Names()[0] = ""
	if got := graph.Names()[0]; got != "A" {
		t.Errorf("a caller has changed the system: got the first name %q, want A", got)
	}
	if m := graph.Member("C"); m != system.Member(f.c) {
		t.Errorf("got %v, want the member that was given", m)
	}
	if m := graph.Member("X"); m != nil {
		t.Errorf("got %v, want none", m)
	}
}

func TestSystemsThatCannotBe(t *testing.T) {
	t.Parallel()
	f := newFixed(t)
	other := newFixed(t)
	dogs := expect.Must(school.New(application.WithStore(memory.New())))
	app := func(name string, options ...application.Option) *application.Application {
		return expect.Must(application.New(name, append(options, application.WithStore(memory.New()))...))
	}
	silent := &struct{ *application.Application }{app("Silent")}
	barked := expect.Must(system.NewFollower(app("F"), system.On(func(context.Context, domain.Recorded[catFed]) error { return nil })))
	trained := expect.Must(system.NewFollower(app("G"), system.On(func(context.Context, domain.Recorded[school.TrickAdded]) error { return nil })))
	for name, test := range map[string]struct {
		pipes [][]system.Member
		wants []string
	}{
		"nothing":               {nil, []string{"at least one application"}},
		"empty pipes":           {[][]system.Member{system.Pipe(), nil}, []string{"at least one application"}},
		"nil":                   {[][]system.Member{system.Pipe(f.a, nil)}, []string{"nil application"}},
		"nil pointer":           {[][]system.Member{system.Pipe((*follower)(nil))}, []string{"nil application"}},
		"without its base":      {[][]system.Member{system.Pipe(&follower{})}, []string{"nil application"}},
		"something else":        {[][]system.Member{system.Pipe(called("X"))}, []string{"system_test.called is not an application"}},
		"a loop by accident":    {[][]system.Member{system.Pipe(f.a, f.b), system.Pipe(f.b, f.c, f.a)}, []string{"make a loop", `A -> B -> C -> A`}},
		"one name for two":      {[][]system.Member{system.Pipe(f.a, f.b), system.Pipe(other.a)}, []string{`"A": two applications have this name`}},
		"one from elsewhere":    {[][]system.Member{system.Pipe(leader(f.a), elsewhere{})}, []string{`"Elsewhere": it is a leader from elsewhere`}},
		"no follower":           {[][]system.Member{system.Pipe(leader(f.a), silent)}, []string{`"Silent"`, "it follows A", "system.NewFollower"}},
		"nothing to follow":     {[][]system.Member{system.Pipe(f.a)}, []string{`"A"`, "leader"}},
		"an unknown payload":    {[][]system.Member{system.Pipe(dogs, barked)}, []string{`"F"`, "system_test.catFed", schoolName}},
		"a leader for nothing":  {[][]system.Member{system.Pipe(dogs, trained), system.Pipe(leader(f.b), trained)}, []string{`"G"`, "follows B and handles none"}},
		"several, all reported": {[][]system.Member{system.Pipe(dogs, barked), system.Pipe(leader(f.a), silent)}, []string{`"F"`, `"Silent"`}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := system.New(test.pipes...)
			if s != nil {
				t.Errorf("got %v, want none", s)
			}
			expect.ErrorIs(t, err, persistence.ErrProgramming)
			text := err.Error()
			if !errors.Is(err, domain.ErrEventSourcing) {
				t.Errorf("got %v, want an ErrEventSourcing", err)
			}
			for _, want := range test.wants {
				if !strings.Contains(text, want) {
					t.Errorf("got %q, want it to contain %q", text, want)
				}
			}
		})
	}
	if _, err := system.NewRunner(nil, system.Config{}); err == nil {
		t.Error("a runner was made of no system")
	}
}

func TestFollowersThatCannotBe(t *testing.T) {
	t.Parallel()
	app := expect.Must(application.New("F", application.WithStore(memory.New())))
	added := func(context.Context, domain.Recorded[school.TrickAdded]) error { return nil }
	every := func(context.Context, domain.Event) error { return nil }
	clear := func(context.Context, []string) error { return nil }
	for name, test := range map[string]struct {
		options []system.FollowerOption
		want    string
	}{
		"no handler":           {nil, "it has no handler"},
		"two of one payload":   {[]system.FollowerOption{system.On(added), system.On(added)}, "two handlers are given for school.TrickAdded"},
		"every twice":          {[]system.FollowerOption{system.OnEvery(every), system.OnEvery(every)}, "given twice"},
		"every and one":        {[]system.FollowerOption{system.OnEvery(every), system.On(added)}, "cannot be given together"},
		"an interface":         {[]system.FollowerOption{system.On(func(context.Context, domain.Recorded[any]) error { return nil })}, "is an interface"},
		"a nil handler":        {[]system.FollowerOption{system.On[school.TrickAdded](nil)}, "is nil"},
		"nil for every":        {[]system.FollowerOption{system.OnEvery(nil)}, "is nil"},
		"two kinds of reset":   {[]system.FollowerOption{system.On(added), system.Replayable(), system.Resettable(clear)}, "give one of them"},
		"a nil reset":          {[]system.FollowerOption{system.On(added), system.Resettable(nil)}, "is nil"},
		"a nil park":           {[]system.FollowerOption{system.On(added), system.Park(nil)}, "is nil"},
		"a negative start":     {[]system.FollowerOption{system.On(added), system.StartAt(-7)}, "cannot start at position -7"},
		"two different starts": {[]system.FollowerOption{system.On(added), system.StartAtHead(), system.StartAt(3)}, "two starts are given"},
	} {
		f, err := system.NewFollower(app, test.options...)
		if f != nil || !errors.Is(err, persistence.ErrProgramming) || !strings.Contains(fmt.Sprint(err), `application "F": `) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, %v; want %q of F", name, f, err, test.want)
		}
	}
	if _, err := system.NewFollower(nil, system.On(added)); err == nil {
		t.Error("a follower was made of no application")
	}
}

func TestConfigsThatCannotBe(t *testing.T) {
	t.Parallel()
	f := newFixed(t)
	s := expect.Must(system.New(system.Pipe(leader(f.a), f.b)))
	for want, config := range map[string]system.Config{
		"PollInterval is -1s":   {PollInterval: -time.Second},
		"BatchEvents is -1":     {BatchEvents: -1},
		"BatchEvents is 99999":  {BatchEvents: 99999},
		"PartitionLease is 1ns": {PartitionLease: 1},
		"LongestRetry is 1s":    {ShortestRetry: time.Minute, LongestRetry: time.Second},
	} {
		if _, err := system.NewRunner(s, config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// A runner leaves applications open, which are the caller's.
func TestRunnerLeavesApplicationsOpen(t *testing.T) {
	t.Parallel()
	dogs := expect.Must(school.New(application.WithStore(memory.New())))
	f := newFixed(t)
	r, err := system.NewRunner(expect.Must(system.New(system.Pipe(dogs, f.a))), system.Config{})
	expect.NoError(t, err)
	expect.NoError(t, r.Start(t.Context()), r.Close(), dogs.Register(t.Context(), "Fido"), dogs.Close())
}

// elsewhere is a leader that is no application of this process.
type elsewhere struct{ system.Leader }

func (elsewhere) Name() string { return "Elsewhere" }

// A setting that is misspelt for all applications of a system is warned of once,
// and neither again when they are used nor by another system of the same ones.
// A second system of the process has its own warning.
func TestMisspeltSettingIsWarnedOfOnce(t *testing.T) {
	t.Setenv("SNAPSHOTS", "5")
	for range 2 {
		var logs bytes.Buffer
		logger := application.WithLogger(slog.New(slog.NewTextHandler(&logs, nil)))
		store := application.WithStore(memory.New())
		dogs, err := school.New(logger, store)
		expect.NoError(t, err)
		var followers []*system.Follower
		for _, name := range []string{"Accounts", "Mailer"} {
			app, err := application.New(name, logger, store)
			expect.NoError(t, err)
			follower, err := system.NewFollower(app, system.OnEvery(func(context.Context, domain.Event) error { return nil }))
			expect.NoError(t, err)
			followers = append(followers, follower)
		}
		for range 2 {
			_, err = system.New(system.Pipe(dogs, followers[0]), system.Pipe(dogs, followers[1]))
			expect.NoError(t, err)
		}
		expect.NoError(t, dogs.Register(t.Context(), "Fido"))
		want := `application="TrainingSchool, Accounts, Mailer" key=SNAPSHOTS `
		if n := strings.Count(logs.String(), "key=SNAPSHOTS "); n != 1 || !strings.Contains(logs.String(), want) {
			t.Errorf("%d warnings, want 1 with %s: %s", n, want, &logs)
		}
	}
}

// Each logger gets the warnings for the applications that log to it: the logs may
// be read in different places.
func TestMisspeltSettingIsWarnedOfInEachLog(t *testing.T) {
	t.Setenv("SNAPSHOTS", "5")
	var ofSchool, ofMailer bytes.Buffer
	logTo := func(log *bytes.Buffer) application.Option {
		return application.WithLogger(slog.New(slog.NewTextHandler(log, nil)))
	}
	store := application.WithStore(memory.New())
	dogs := expect.Must(school.New(logTo(&ofSchool), store))
	mailer := expect.Must(application.New("Mailer", logTo(&ofMailer), store))
	follower := expect.Must(system.NewFollower(mailer, system.OnEvery(func(context.Context, domain.Event) error { return nil })))
	expect.Must(system.New(system.Pipe(dogs, follower)))
	for name, log := range map[string]*bytes.Buffer{"TrainingSchool": &ofSchool, "Mailer": &ofMailer} {
		want := "application=" + name + " key=SNAPSHOTS "
		if n := strings.Count(log.String(), "key=SNAPSHOTS "); n != 1 || !strings.Contains(log.String(), want) {
			t.Errorf("%d warnings, want 1 with %s: %s", n, want, log)
		}
	}
}

// A snapshotting interval that all applications of a system read is warned of
// once, and only if none of them has the definition. One that is for a single
// application is about that one.
func TestIntervalOfNoDefinitionIsWarnedOfOnce(t *testing.T) {
	for name, test := range map[string]struct {
		key    string
		system bool
		want   []string // the definitions warned of
	}{
		"for all applications": {"SNAPSHOTTING_INTERVALS", true, []string{"application=Kennel definition=Cat"}},
		"without a system": {"SNAPSHOTTING_INTERVALS", false, []string{"application=Kennel definition=Cat",
			"application=Kennel definition=Dog", "application=TrainingSchool definition=Cat"}},
		"for one application": {"KENNEL_SNAPSHOTTING_INTERVALS", true, []string{"application=Kennel definition=Cat",
			"application=Kennel definition=Dog"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(test.key, "Dog=2,Cat=3")
			var logs bytes.Buffer
			logger := application.WithLogger(slog.New(slog.NewTextHandler(&logs, nil)))
			store := application.WithStore(memory.New())
			kennel := expect.Must(application.New("Kennel", logger, store))
			dogs := expect.Must(school.New(logger, store))
			if test.system {
				expect.Must(system.New(system.Pipe(kennel), system.Pipe(dogs)))
			}
			expect.Must(kennel.Save(t.Context()))
			expect.NoError(t, dogs.Register(t.Context(), "Fido"))
			for _, want := range test.want {
				if !strings.Contains(logs.String(), "no repository has a definition of that name\" "+want) {
					t.Errorf("got %s, want a warning of %s", &logs, want)
				}
			}
			if got := strings.Count(logs.String(), "snapshotting interval"); got != len(test.want) {
				t.Errorf("%d warnings, want %d: %s", got, len(test.want), &logs)
			}
		})
	}
}

func panics(context.Context, domain.Event) error { panic("no dog") }

// The stack of a handler that panics is where its failure is logged: the error
// has only what was given to panic.
func TestStackOfAPanicIsLogged(t *testing.T) {
	var logs bytes.Buffer
	store := application.WithStore(memory.New())
	dogs := expect.Must(school.New(store))
	app := expect.Must(application.New("Mailer", store, application.WithLogger(slog.New(slog.NewTextHandler(&logs, nil)))))
	follower := expect.Must(system.NewFollower(app, system.OnEvery(panics)))
	runner := expect.Must(system.NewRunner(expect.Must(system.New(system.Pipe(dogs, follower))), system.Config{}))
	expect.NoError(t, runner.Start(t.Context()))
	expect.NoError(t, dogs.Register(t.Context(), "Fido"))
	if err := runner.WaitFor(t.Context(), follower); !hasPanicked(err) {
		t.Errorf("got %v, want a panic", err)
	}
	expect.NoError(t, runner.Close())
	if text := logs.String(); !strings.Contains(text, "stack=") || !strings.Contains(text, "system_test.panics(") {
		t.Errorf("got %s, want the stack with the function that panicked", text)
	}
}
