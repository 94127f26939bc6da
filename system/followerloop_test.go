package system_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/internal/polling"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// What was recorded before the start is processed, and what is recorded later,
// each event once and in order. Handlers that make nothing of an event move the
// position all the same.
func TestCatchUpAndFollow(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		var j journal
		leader := app(schoolName, school.New)
		r := p.runner(t, pipe(leader, app(countersName, newCounters)), pipe(leader, followerLoop("Journal", j.policy)))
		dogs, counters := get[*school.TrainingSchool](t, r, schoolName), get[*counters](t, r, countersName)
		register(t, dogs, 3, "Fido")
		if got := statuses(t, r)[0]; got.State != system.Stopped || got.Lag() == 0 {
			t.Errorf("got %+v before the start, want State %v and Lag other than 0", got, system.Stopped)
		}
		start(t, r)
		p.sync(t, r)
		register(t, dogs, 2, "Rex", "Bella")
		expect.NoError(t, dogs.AddTrick(t.Context(), "Rex", "roll over"))
		p.sync(t, r)
		if sit, roll := counters.counted(t, "sit"), counters.counted(t, "roll over"); sit != 7 || roll != 1 {
			t.Errorf("counted %d and %d tricks, want 7 and 1", sit, roll)
		}
		j.want(t, dogs.Application)
		for _, status := range statuses(t, r) {
			if status.State != system.Running || status.Err != nil || status.Lag() != 0 || status.Position != head(t, dogs.Application) {
				t.Errorf("got %+v, want it running at the head", status)
			}
		}
		if err := r.Err(); err != nil {
			t.Error(err)
		}
	}, testdb.OneConnection()...)
}

// A chain, and a follower of two leaders.
func TestSeveralEdges(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		var both journal
		dogsNode, countersNode := app(schoolName, school.New), app(countersName, newCounters)
		bothNode := followerLoop("Both", both.policy)
		r := p.started(t, pipe(dogsNode, countersNode, bothNode), pipe(dogsNode, bothNode))
		// The counters' events are decoded with the counters' definitions, the
		// dogs' with those of the school.
		dogs := get[*school.TrainingSchool](t, r, schoolName)
		register(t, dogs, 5, "Fido", "Rex")
		p.sync(t, r)
		counters := get[*counters](t, r, countersName)
		both.want(t, dogs.Application, counters.Application)
		if got := len(both.events(t)); got != 12+10 {
			t.Errorf("processed %d events, want 22", got)
		}
	})
}

// Command and Result are the aggregates of applications that follow each other.
type Command struct {
	domain.Aggregate
	Text, Output, Problem string
}

type CommandGiven struct{ Text string }

func (e CommandGiven) Apply(c *Command) { c.Text = e.Text }

type CommandDone struct{ Output, Problem string }

func (e CommandDone) Apply(c *Command) { c.Output, c.Problem = e.Output, e.Problem }

type Result struct{ domain.Aggregate }

type ResultMade struct {
	Command         uuid.UUID
	Output, Problem string
}

func (ResultMade) Apply(*Result) {}

var (
	commandsDefinition = domain.Define("Command", domain.On("Given", CommandGiven{}), domain.On("Done", CommandDone{}))
	resultsDefinition  = domain.Define("Result", domain.On("Made", ResultMade{}))
)

func execute(_ context.Context, event domain.Event, processing *collector) error {
	given, ok := event.Data.(CommandGiven)
	if !ok {
		return nil
	}
	made := ResultMade{Command: event.OriginatorID, Output: "done: " + given.Text}
	if given.Text == "fail" {
		made.Output, made.Problem = "", "it failed"
	}
	processing.Collect(resultsDefinition.Create(uuid.New(), made))
	return nil
}

// Commands are executed by a follower, whose results the commands' application
// follows in turn.
func TestLoop(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		commands := app("Commands", func(options ...application.Option) (*follower, error) {
			app, err := application.New("Commands", options...)
			if err != nil {
				return nil, err
			}
			repository, err := application.NewRepository(app, commandsDefinition)
			if err != nil {
				return nil, err
			}
			return newFollower(app, func(ctx context.Context, event domain.Event, processing *collector) error {
				made := event.Data.(ResultMade)
				command, err := repository.Get(ctx, made.Command)
				if err != nil {
					return err
				}
				domain.Trigger(command, CommandDone{made.Output, made.Problem})
				processing.Collect(command)
				return nil
			})
		})
		results := followerLoop("Results", execute, application.WithDefinitions(resultsDefinition))
		r := p.started(t, pipe(commands, results, commands))
		app := get[*follower](t, r, "Commands").Application
		repository := expect.Must(application.NewRepository(app, commandsDefinition))
		var given []*Command
		for _, text := range []string{"sit", "fail", "roll over"} {
			command := commandsDefinition.Create(uuid.New(), CommandGiven{text})
			save(t, app, command)
			given = append(given, command)
		}
		p.sync(t, r)
		for i, want := range []Command{{Output: "done: sit"}, {Problem: "it failed"}, {Output: "done: roll over"}} {
			got, err := repository.Get(t.Context(), given[i].ID())
			if err != nil || got.Output != want.Output || got.Problem != want.Problem || got.Version() != 2 {
				t.Errorf("got %+v, %v; want %+v", got, err, want)
			}
		}
	})
}

// An application that follows itself sees what its own handler makes.
func TestSelfFollowing(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		const last = 5
		countdown := app(countersName, func(options ...application.Option) (*counters, error) {
			c, err := newCounters(options...)
			if err != nil {
				return nil, err
			}
			c.policy = func(ctx context.Context, event domain.Event, processing *collector) error {
				if event.OriginatorVersion == last {
					return nil
				}
				counter, err := c.repository.Get(ctx, event.OriginatorID)
				if err != nil {
					return err
				}
				domain.Trigger(counter, Counted{})
				processing.Collect(counter)
				return nil
			}
			return c, nil
		})
		r := p.started(t, pipe(countdown, countdown))
		c := get[*counters](t, r, countersName)
		save(t, c.Application, countersOf.Create(counterID("sit"), Counted{}))
		p.sync(t, r)
		if got := c.counted(t, "sit"); got != last {
			t.Errorf("counted to %d, want %d", got, last)
		}
	})
}

// A filter keeps events from the handler, and moves the position over them.
func TestTopics(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		var none, some, all journal
		leader := app(schoolName, school.New)
		r := p.started(t,
			pipe(leader, filtering("Some", some.policy, "Dog.TrickAdded")),
			pipe(leader, filtering("All", all.policy)),
			pipe(leader, filtering("None", none.policy, "Dog.TrickAdded")))
		dogs := get[*school.TrainingSchool](t, r, schoolName)
		register(t, dogs, 0, "Fido", "Rex")
		p.sync(t, r)
		if got := len(none.events(t)); got != 0 {
			t.Errorf("%d events passed the filter, want 0", got)
		}
		if got := position(t, get[*follower](t, r, "None").Application, schoolName); got != head(t, dogs.Application) {
			t.Errorf("the position is %d, want it at the head, %d", got, head(t, dogs.Application))
		}
		register(t, dogs, 2, "Bella")
		register(t, dogs, 0, "Luna")
		p.sync(t, r)
		if got := len(some.events(t)); got != 2 {
			t.Errorf("%d events passed the filter, want 2", got)
		}
		all.want(t, dogs.Application)
	})
}

// What a handler stores, its effects in the user's tables and the position
// commit together: none of it is there after an error, and all of it exactly
// once in the end. kitten was called otherwise in the past.
type kitten struct{ domain.Aggregate }

type purred struct{}

func (purred) Apply(*kitten) {}

// A follower that wants a topic also gets what was stored under its former
// name.
func TestFormerTopics(t *testing.T) {
	t.Parallel()
	store := memory.New()
	cats := func(definition *domain.Definition[kitten]) *application.Application {
		app, err := application.New("Cats", application.WithStore(store), application.WithDefinitions(definition))
		expect.NoError(t, err)
		return app
	}
	before := domain.Define("Kitten", domain.On("Purred", purred{}))
	now := domain.Define("Cat", domain.On("Purred", purred{}), domain.FormerName[kitten]("Kitten"))
	save(t, cats(before), before.Create(uuid.New(), purred{}))
	today := cats(now)
	save(t, today, now.Create(uuid.New(), purred{}))

	var j journal
	r, err := newSingle(newSystem(t, pipe(built(today), handling("F", j.policy, []handlerOf{on[purred]}))),
		application.WithStore(store))
	closing(t, r, err)
	start(t, r)
	j.want(t, today)
}

// words are the names in a text.
func words(text string) (all []string) {
	word := ""
	for _, r := range text + " " {
		if r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			word += string(r)
			continue
		}
		all, word = append(all, word), ""
	}
	return all
}

// What a handler saves, in its own application and in the one that it follows,
// is stored together with the position, and what it has saved it reads.
func TestSaveInHandler(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		r := p.runner(t, counting())
		dogs, c := get[*school.TrainingSchool](t, r, schoolName), get[*counters](t, r, countersName)
		c.become(func(ctx context.Context, event domain.Event, _ *collector) error {
			if _, ok := event.Data.(school.TrickAdded); !ok {
				return nil
			}
			if err := dogs.Register(ctx, "Rex"); err != nil {
				return err
			}
			if err := c.repository.Save(ctx, countersOf.Create(counterID("sit"), Counted{})); err != nil {
				return err
			}
			err := c.repository.Update(ctx, counterID("sit"), func(c *Counter) error { domain.Trigger(c, Counted{}); return nil })
			if counter, failed := c.repository.Get(ctx, counterID("sit")); failed != nil || counter.N != 2 {
				t.Errorf("the handler reads %+v, %v; want what it has saved", counter, failed)
			}
			return errors.Join(err, errPoison)
		})
		_ = r.Start(t.Context())
		register(t, dogs, 1, "Fido")
		status := waitForState(t, r, system.Retrying)
		if !errors.Is(status.Err, errPoison) || status.Position != 1 {
			t.Errorf("got %+v, want it to have failed at the second event", status)
		}
		if got := head(t, c.Application); got != 0 || len(ids(t, dogs.Application)) != 2 {
			t.Errorf("a handler that failed has stored something: got %v, want 0 and 2 of them", got)
		}
		c.become(func(ctx context.Context, event domain.Event, _ *collector) error {
			if _, ok := event.Data.(school.TrickAdded); !ok {
				return nil
			}
			return errors.Join(dogs.Register(ctx, "Rex"), c.repository.Save(ctx, countersOf.Create(counterID("sit"), Counted{})))
		})
		p.sync(t, r)
		if got := len(ids(t, dogs.Application)); got != 3 || c.counted(t, "sit") != 1 {
			t.Errorf("got %d events of the leader and %d counted, want 3 and 1", got, c.counted(t, "sit"))
		}
	})
}

// An aggregate of another application is not saved.
func TestSaveOfAnotherApplicationInHandler(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		r := p.runner(t, counting())
		dogs, c := get[*school.TrainingSchool](t, r, schoolName), get[*counters](t, r, countersName)
		repository := expect.Must(application.NewRepository(dogs.Application, school.Dogs))
		c.become(func(ctx context.Context, event domain.Event, _ *collector) error {
			dog, err := repository.Get(ctx, event.OriginatorID)
			if err != nil {
				return err
			}
			dog.AddTrick("sit")
			_, err = c.Save(ctx, dog)
			return err
		})
		_ = r.Start(t.Context())
		register(t, dogs, 0, "Fido")
		foreign := expect.ErrorAs[*invalid.Error](t, waitForState(t, r, system.Retrying).Err)
		if !strings.HasPrefix(foreign.What, countersName+": ") || !strings.Contains(foreign.Problem, "loaded from "+schoolName) {
			t.Errorf("got %v, want both applications", foreign)
		}
	})
}

// reached waits until a follower has processed a position of the school.
func reached(t testing.TB, app *application.Application, id int64) {
	t.Helper()
	reachedIn(t, app, schoolName, id)
}

func reachedIn(t testing.TB, app *application.Application, leader string, id int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	expect.NoError(t, polling.WaitFor(ctx, bridge.Of(app).Recorder(), leader, id))
}

// A follower that is ahead of the log processes nothing, also when the log has
// grown beyond its position, until its position is another one.
func TestAhead(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		var j journal
		r := p.runner(t, pipe(app(schoolName, school.New), followerLoop("F", j.policy)))
		dogs, f := get[*school.TrainingSchool](t, r, schoolName), get[*follower](t, r, "F")
		register(t, dogs, 0, "Fido")
		at := head(t, dogs.Application) + 2
		expect.NoError(t, bridge.Of(f).Recorder().InsertTracking(t.Context(), persistence.Tracking{ApplicationName: schoolName, NotificationID: at}))
		_ = r.Start(t.Context())
		status := waitForState(t, r, system.Stopped)
		expect.ErrorIs(t, status.Err, system.ErrAhead)
		want := fmt.Sprintf("F: position %d is ahead of the log of %s, which ends at %d; ", at, schoolName, at-2)
		if !strings.HasPrefix(status.Err.Error(), want) {
			t.Errorf("got %v, want one that begins with %q", status.Err, want)
		}
		register(t, dogs, 4, "Rex")
		if single, ok := r.(*system.SingleThreadedRunner); ok {
			expect.ErrorIs(t, single.Sync(t.Context()), system.ErrAhead)
		}
		expect.ErrorIs(t, r.Err(), system.ErrAhead)
		if got := len(j.events(t)); got != 0 {
			t.Errorf("processed %d events, want 0", got)
		}
		if single, ok := r.(*system.SingleThreadedRunner); ok && p.db != nil {
			expect.NoError(t, p.db.Exec("DELETE FROM notification_tracking").Error, single.Sync(t.Context()), single.Err())
			j.want(t, dogs.Application)
		}
	})
}

// Events that a handler makes belong to the conversation of the event that
// caused them, and to no other.
func TestCorrelation(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		var seen sync.Map
		r := p.runner(t, counting())
		dogs, c := get[*school.TrainingSchool](t, r, schoolName), get[*counters](t, r, countersName)
		c.become(func(ctx context.Context, event domain.Event, processing *collector) error {
			seen.Store(event.NotificationID, application.MetadataFrom(ctx)[domain.CorrelationID])
			return c.count(ctx, event, processing)
		})
		start(t, r)
		ctx := application.WithMetadata(t.Context(), domain.Metadata{domain.CorrelationID: "conversation", "user": "Ann"})
		first, second := school.RegisterDog("Fido"), school.RegisterDog("Rex")
		first.AddTrick("sit")
		second.AddTrick("roll over")
		with, err := dogs.Save(ctx, first)
		expect.NoError(t, err)
		without := save(t, dogs.Application, second)
		p.sync(t, r)
		for trick, want := range map[string]domain.Metadata{
			"sit":       {domain.CorrelationID: "conversation", domain.CausationID: with.Events[1].ID.String()},
			"roll over": {domain.CausationID: without[1].ID.String()},
		} {
			for event, err := range bridge.Of(c).Events().Get(t.Context(), counterID(trick), persistence.EventRange{}) {
				if err != nil || fmt.Sprint(event.Metadata) != fmt.Sprint(want) {
					t.Errorf("%s: got %v, %v; want %v", trick, event.Metadata, err, want)
				}
			}
		}
		if got, _ := seen.Load(with.Position); got != "conversation" {
			t.Errorf("the policy was called in the conversation %q, want \"conversation\"", got)
		}
	})
}

// Events of the original have no id that could be a cause.
func TestCauseWithoutID(t *testing.T) {
	t.Parallel()
	r, err := newSingle(newSystem(t, pipe(
		app(schoolName, school.New, application.WithPythonLayout()), app(countersName, newCounters))))
	closing(t, r, err)
	start(t, r)
	register(t, get[*school.TrainingSchool](t, r, schoolName), 1, "Fido")
	for event, err := range bridge.Of(get[*counters](t, r, countersName)).Events().Get(t.Context(), counterID("sit"), persistence.EventRange{}) {
		if err != nil || len(event.Metadata) != 0 {
			t.Errorf("got %v, %v, want no error and 0 Metadata", event.Metadata, err)
		}
	}
}

// A save in a transaction wakes followers after the commit, and none after a
// rollback.
func TestLeaderInTransaction(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		var j journal
		p := place{store: gormstore.New(db), db: db}
		r := p.started(t, pipe(app(schoolName, school.New), followerLoop("F", j.policy)))
		dogs := get[*school.TrainingSchool](t, r, schoolName)
		rollback := errors.New("rollback")
		for _, end := range []error{rollback, nil} {
			err := gormstore.Transaction(t.Context(), db, func(ctx context.Context, _ *gorm.DB) error {
				expect.NoError(t, dogs.Register(ctx, "Fido"), dogs.AddTrick(ctx, "Fido", "sit"))
				if got := len(j.events(t)); got != 0 {
					t.Errorf("processed %d events before the commit, want 0", got)
				}
				return end
			})
			if !errors.Is(err, end) {
				t.Fatalf("got %v, want an error that is %v", err, end)
			}
			want := 2
			if end != nil {
				want = 0
			}
			if got := len(j.events(t)); got != want {
				t.Errorf("processed %d events, want %d", got, want)
			}
		}
		if err := r.Err(); err != nil {
			t.Error(err)
		}
	})
}
