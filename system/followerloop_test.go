package system_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
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
			t.Errorf("got %+v before the start", got)
		}
		start(t, r)
		p.sync(t, r)
		register(t, dogs, 2, "Rex", "Bella")
		do(t, dogs.AddTrick(t.Context(), "Rex", "roll over"))
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
		results := followerLoop("Results", execute, application.WithDefinitions(resultsDefinition.Schema))
		r := p.started(t, pipe(commands, results, commands))
		app := get[*follower](t, r, "Commands").Application
		repository := must(application.NewRepository(app, commandsDefinition))
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
			t.Errorf("%d events passed the filter", got)
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
		app, err := application.New("Cats", application.WithStore(store), application.WithDefinitions(definition.Schema))
		do(t, err)
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

// A handler that ends its goroutine is one that fails.
func TestGoexitInPolicy(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		r := newRunner(t, gormstore.New(db), pipe(app(schoolName, school.New),
			followerLoop("F", func(context.Context, domain.Event, *collector) error {
				runtime.Goexit()
				return nil
			})))
		start(t, r)
		register(t, get[*school.TrainingSchool](t, r, schoolName), 0, "Fido")
		if status := waitForState(t, r, system.Retrying); !strings.Contains(status.Err.Error(), "Goexit") {
			t.Errorf("got %v", status.Err)
		}
		f := get[*follower](t, r, "F")
		f.become(ignore)
		reached(t, f.Application, head(t, get[*school.TrainingSchool](t, r, schoolName).Application))
	})
}

// What waits for the commit and panics does not end the process, nor keep the
// rest from its turn.
func TestPanicAfterTheCommit(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		var mails atomic.Int64
		r := p.started(t, pipe(app(schoolName, school.New),
			followerLoop("F", func(ctx context.Context, event domain.Event, _ *collector) error {
				persistence.OnCommit(ctx, func(context.Context) {
					mails.Add(1)
					if event.NotificationID == 1 {
						panic("no mail")
					}
				})
				return nil
			})))
		register(t, get[*school.TrainingSchool](t, r, schoolName), 4, "Fido")
		p.sync(t, r)
		if got := mails.Load(); got != 5 {
			t.Errorf("%d of 5 mails", got)
		}
	})
}

func TestExactlyOnce(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		r := p.runner(t, counting())
		dogs, c := get[*school.TrainingSchool](t, r, schoolName), get[*counters](t, r, countersName)
		boom := errors.New("boom")
		var mu sync.Mutex
		failures := 2
		c.become(func(ctx context.Context, event domain.Event, processing *collector) error {
			if p.db != nil {
				if err := count(ctx, event, processing); err != nil {
					return err
				}
			}
			if err := c.count(ctx, event, processing); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if failures > 0 && event.OriginatorVersion == 3 {
				failures--
				return boom
			}
			return nil
		})
		register(t, dogs, 5, "Fido")
		if err := r.Start(t.Context()); p.concurrent != (err == nil) {
			t.Fatal(err)
		}
		if p.concurrent {
			waitForState(t, r, system.Retrying)
		} else if !errors.Is(r.Err(), boom) {
			t.Errorf("got %v", r.Err())
		}
		for single, ok := r.(*system.SingleThreadedRunner); ok && single.Sync(t.Context()) != nil; {
		}
		p.sync(t, r)
		if got := c.counted(t, "sit"); got != 5 {
			t.Errorf("counted %d, want 5", got)
		}
		if p.db == nil {
			return
		}
		if got := tricksCounted(t, p.db, "sit"); got != 5 {
			t.Errorf("counted %d in the table, want 5", got)
		}
	})
}

// A handler of a store without transactions has none to write to.
func TestNoTransaction(t *testing.T) {
	t.Parallel()
	r, err := newSingle(newSystem(t, pipe(app(schoolName, school.New), followerLoop("F", count))))
	closing(t, r, err)
	start(t, r)
	register(t, get[*school.TrainingSchool](t, r, schoolName), 1, "Fido")
	if !errors.Is(r.Err(), persistence.ErrNoTransaction) {
		t.Errorf("got %v", r.Err())
	}
}

// The crash between effect and position, played by a panic. With both in one
// transaction the effect is there once. The control keeps the position
// elsewhere, as frameworks do whose followers have separate transactions: there
// it is twice.
func TestEffectAndPositionAreOneTransaction(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		run := func(trick string, effect policyFunc, options ...application.Option) {
			t.Helper()
			crashed := false
			crashing := func(ctx context.Context, event domain.Event, processing *collector) error {
				if err := effect(ctx, event, processing); err != nil {
					return err
				}
				if _, ok := event.Data.(school.TrickAdded); ok && !crashed {
					crashed = true
					panic("crash")
				}
				return nil
			}
			leader, err := school.New()
			do(t, err)
			r, err := newSingle(newSystem(t, pipe(built(leader), followerLoop("F", crashing, options...))))
			closing(t, r, err)
			start(t, r)
			do(t, leader.Register(t.Context(), "Fido"), leader.AddTrick(t.Context(), "Fido", trick))
			if !errors.Is(r.Err(), system.ErrHandlerPanic) {
				t.Fatalf("got %v, want a crash", r.Err())
			}
			do(t, r.Sync(t.Context()))
		}
		run("one transaction", count, application.WithStore(gormstore.New(db)))
		if got := tricksCounted(t, db, "one transaction"); got != 1 {
			t.Errorf("the effect is there %d times, want once", got)
		}
		run("two transactions", func(_ context.Context, event domain.Event, _ *collector) error {
			if added, ok := event.Data.(school.TrickAdded); ok {
				return addOne(db, added.Trick)
			}
			return nil
		})
		if got := tricksCounted(t, db, "two transactions"); got != 2 {
			t.Errorf("control: the effect is there %d times; the crash was not where it should be", got)
		}
	})
}

// An error of a handler is none of the save's. The follower has processed what
// comes before, stops at the event, and says so; when the cause is gone it goes
// on.
func TestErrorInPolicy(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		poison := errors.New("poison")
		r := p.runner(t, counting())
		dogs, c := get[*school.TrainingSchool](t, r, schoolName), get[*counters](t, r, countersName)
		c.become(func(ctx context.Context, event domain.Event, processing *collector) error {
			if err := c.count(ctx, event, processing); err != nil {
				return err
			}
			if added, ok := event.Data.(school.TrickAdded); ok && added.Trick == "bite" {
				return poison
			}
			return nil
		})
		dog := school.RegisterDog("Fido")
		for _, trick := range []string{"sit", "sit", "bite", "sit"} {
			dog.AddTrick(trick)
		}
		events := save(t, dogs.Application, dog)
		if err := r.Start(t.Context()); !p.concurrent && !errors.Is(err, poison) {
			t.Errorf("got %v, want the poison", err)
		}
		register(t, dogs, 1, "Rex") // which succeeds

		status := waitForState(t, r, system.Retrying)
		at, before := events[3].NotificationID, events[2].NotificationID
		if status.NotificationID != at || status.Position != before || status.Lag() <= 0 || status.Since.IsZero() {
			t.Errorf("got %+v, want it at notification %d", status, at)
		}
		if p.concurrent != status.NextRetry.After(status.Since) {
			t.Errorf("the next retry is at %v, after the failure at %v", status.NextRetry, status.Since)
		}
		failed := wantError[*system.ProcessingError](t, status.Err)
		if failed.Follower != countersName || failed.Leader != schoolName || failed.Topic != "Dog.TrickAdded" ||
			failed.NotificationID != at || !errors.Is(failed, poison) || !errors.Is(failed, domain.ErrEventSourcing) {
			t.Errorf("got %+v", failed)
		}
		if !errors.Is(r.Err(), poison) {
			t.Errorf("got %v", r.Err())
		}
		if got := c.counted(t, "sit"); got != 2 {
			t.Errorf("counted %d tricks before the poison, want 2", got)
		}

		c.become(c.count)
		p.sync(t, r)
		if sit, bite := c.counted(t, "sit"), c.counted(t, "bite"); sit != 4 || bite != 1 {
			t.Errorf("counted %d and %d, want 4 and 1", sit, bite)
		}
		status = waitForState(t, r, system.Running)
		if err := r.Err(); err != nil || status.Err != nil || !status.Since.IsZero() || status.NotificationID != 0 {
			t.Errorf("got %v and %+v after the recovery", err, status)
		}
	})
}

func TestPanicInPolicy(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		cause := errors.New("the cause")
		r := p.started(t, pipe(app(schoolName, school.New),
			followerLoop("F", func(context.Context, domain.Event, *collector) error { panicking(cause); return nil })))
		register(t, get[*school.TrainingSchool](t, r, schoolName), 0, "Fido")
		err := waitForState(t, r, system.Retrying).Err
		if !errors.Is(err, system.ErrHandlerPanic) || !errors.Is(err, cause) {
			t.Errorf("got %v", err)
		}
		if got := wantError[*system.PanicError](t, err); got.Value != cause || !slices.Contains(words(string(got.Stack)), "panicking") {
			t.Errorf("got %v with the stack\n%s", got.Value, got.Stack)
		}
	})
}

func panicking(value any) { panic(value) }

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
			t.Errorf("a handler that failed has stored something")
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
		repository := must(application.NewRepository(dogs.Application, school.Dogs))
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
		foreign := wantError[*application.ForeignAggregateError](t, waitForState(t, r, system.Retrying).Err)
		if foreign.Application != countersName || foreign.LoadedFrom != schoolName {
			t.Errorf("got %+v, want both applications", foreign)
		}
	})
}

// An event that cannot be decoded stops the followers that want it, and no
// other.
func TestUndecodableEvent(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		var tricks, all journal
		leader := app(schoolName, school.New)
		r := p.runner(t, pipe(leader, followerLoop("All", all.policy)), pipe(leader, filtering("Tricks", tricks.policy, "Dog.TrickAdded")))
		dogs := get[*school.TrainingSchool](t, r, schoolName)
		register(t, dogs, 1, "Fido")
		broken, err := bridge.Of(dogs).Recorder().InsertEvents(t.Context(), []persistence.StoredEvent{{
			OriginatorID: uuid.New(), OriginatorVersion: 1, Topic: "Dog.Registered", State: []byte("{")}})
		do(t, err)
		register(t, dogs, 1, "Rex")
		_ = r.Start(t.Context())
		status := waitForState(t, r, system.Retrying)
		if _, ok := errors.AsType[*persistence.MappingError](status.Err); !ok || status.Follower != "All" || status.NotificationID != broken[0] {
			t.Errorf("got %+v", status)
		}
		reached(t, get[*follower](t, r, "Tricks").Application, head(t, dogs.Application))
		if a, b := len(all.events(t)), len(tricks.events(t)); a < 2 || b != 2 {
			t.Errorf("processed %d and %d events", a, b)
		}
		if got := statuses(t, r)[1]; got.State != system.Running || got.Err != nil {
			t.Errorf("got %+v", got)
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
	do(t, polling.WaitFor(ctx, bridge.Of(app).Recorder(), leader, id))
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
		do(t, bridge.Of(f).Recorder().InsertTracking(t.Context(), persistence.Tracking{ApplicationName: schoolName, NotificationID: at}))
		_ = r.Start(t.Context())
		status := waitForState(t, r, system.Stopped)
		if got := wantError[*system.AheadError](t, status.Err); got.Follower != "F" || got.Leader != schoolName || got.Position != at || got.Head != at-2 {
			t.Errorf("got %+v", got)
		}
		register(t, dogs, 4, "Rex")
		if single, ok := r.(*system.SingleThreadedRunner); ok {
			wantError[*system.AheadError](t, single.Sync(t.Context()))
		}
		wantError[*system.AheadError](t, r.Err())
		if got := len(j.events(t)); got != 0 {
			t.Errorf("processed %d events", got)
		}
		if single, ok := r.(*system.SingleThreadedRunner); ok && p.db != nil {
			do(t, p.db.Exec("DELETE FROM notification_tracking").Error, single.Sync(t.Context()), single.Err())
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
		ctx := application.WithMetadata(application.WithCorrelationID(t.Context(), "conversation"), domain.Metadata{"user": "Ann"})
		first, second := school.RegisterDog("Fido"), school.RegisterDog("Rex")
		first.AddTrick("sit")
		second.AddTrick("roll over")
		with, err := dogs.Save(ctx, first)
		do(t, err)
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
			t.Errorf("the policy was called in the conversation %q", got)
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
			t.Errorf("got %v, %v", event.Metadata, err)
		}
	}
}

func TestErrorTexts(t *testing.T) {
	t.Parallel()
	cause := errors.New("no such table")
	for _, test := range []struct {
		err  error
		want string
	}{
		{&system.ProcessingError{Follower: "F", Leader: "L", Err: cause}, "F: cannot follow L: no such table"},
		{&system.ProcessingError{Follower: "F", Leader: "L", NotificationID: 7, Topic: "Dog.Registered", Err: cause},
			"F: cannot process notification 7 (Dog.Registered) of L: no such table"},
		{&system.AheadError{Follower: "F", Leader: "L", Position: 7, Head: 5}, "F: position 7 is ahead of the log of L, which ends at 5; " +
			"reset the follower, or restore both from the same backup and restart; if its newest events were deleted with delete_originator and nothing was restored, run followers continue"},
		{&system.PanicError{Value: "no dog"}, "handler panicked: no dog"},
		{&system.Error{Name: "A", Problem: "it has no constructor"}, `system: application "A": it has no constructor`},
	} {
		if got := test.err.Error(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
		if !errors.Is(test.err, domain.ErrEventSourcing) {
			t.Errorf("%q is no error of the framework", test.err)
		}
	}
}

// With snapshots, and a cache that hands out its own aggregates. A handler that
// fails leaves nothing of what it changed.
func TestSnapshotsAndCache(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		r := p.runner(t, counting(application.WithSnapshotting(map[string]int{"Counter": 2}), application.WithEnv(map[string]string{
			"AGGREGATE_CACHE_MAXSIZE": "10", "DEEPCOPY_FROM_AGGREGATE_CACHE": "n", "AGGREGATE_CACHE_FASTFORWARD": "n"})))
		dogs, c := get[*school.TrainingSchool](t, r, schoolName), get[*counters](t, r, countersName)
		var mu sync.Mutex
		failed := map[int64]bool{}
		c.become(func(ctx context.Context, event domain.Event, processing *collector) error {
			if err := c.count(ctx, event, processing); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if event.OriginatorVersion%4 == 0 && !failed[event.NotificationID] {
				failed[event.NotificationID] = true
				return errors.New("the first attempt fails")
			}
			return nil
		})
		register(t, dogs, 7, "Fido")
		_ = r.Start(t.Context())
		for single, ok := r.(*system.SingleThreadedRunner); ok && single.Sync(t.Context()) != nil; {
		}
		p.sync(t, r)
		if got := c.counted(t, "sit"); got != 7 {
			t.Errorf("counted %d, want 7", got)
		}
		for snapshot, err := range bridge.Of(c).Snapshots().Get(t.Context(), counterID("sit"), persistence.EventRange{Descending: true, Limit: 1}) {
			if err != nil || snapshot.OriginatorVersion != 6 {
				t.Errorf("the newest snapshot is of version %d, %v; want 6", snapshot.OriginatorVersion, err)
			}
		}
	})
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
				do(t, dogs.Register(ctx, "Fido"), dogs.AddTrick(ctx, "Fido", "sit"))
				if got := len(j.events(t)); got != 0 {
					t.Errorf("processed %d events before the commit", got)
				}
				return end
			})
			if !errors.Is(err, end) {
				t.Fatal(err)
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

// commits takes down which events were committed together.
type commits struct {
	mu      sync.Mutex // protects what follows
	pending []int64
	batches [][]int64
}

func (c *commits) policy(ctx context.Context, event domain.Event, _ *collector) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) == 0 {
		persistence.OnRollback(ctx, func(context.Context) { c.end(false) })
		persistence.OnCommit(ctx, func(context.Context) { c.end(true) })
	}
	c.pending = append(c.pending, event.NotificationID)
	return nil
}

func (c *commits) end(committed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if committed {
		c.batches = append(c.batches, c.pending)
	}
	c.pending = nil
}

func (c *commits) sizes() (sizes []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, batch := range c.batches {
		sizes = append(sizes, len(batch))
	}
	return sizes
}

// Events are processed in batches with one commit. After an error they are
// processed one at a time up to the end that the batch would have had, and then
// in batches again.
func TestBatches(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		var c commits
		r, err := newSingle(newSystem(t, counting()), application.WithStore(gormstore.New(db)))
		closing(t, r, err)
		dogs, counters := get[*school.TrainingSchool](t, r, schoolName), get[*counters](t, r, countersName)
		fail := errors.New("fail")
		failing := true
		counters.become(func(ctx context.Context, event domain.Event, processing *collector) error {
			if failing && event.OriginatorVersion == 2 { // before which a batch may end by time
				return fail
			}
			return errors.Join(c.policy(ctx, event, processing), counters.count(ctx, event, processing))
		})
		register(t, dogs, 4, "Fido")
		if err := r.Start(t.Context()); !errors.Is(err, fail) {
			t.Fatal(err)
		}
		failing = false
		register(t, dogs, 9, "Rex")
		if got, want := c.sizes()[:5], []int{1, 1, 1, 1, 1}; !slices.Equal(got, want) {
			t.Errorf("got batches of %v, want %v", got, want)
		}
		// Later events of a batch see what was made of earlier ones. A slow
		// machine may need more batches.
		if rest := c.sizes()[5:]; len(rest) == 10 {
			t.Errorf("got batches of %v, want larger ones", rest)
		}
		if got := counters.counted(t, "sit"); got != 13 {
			t.Errorf("counted %d, want 13", got)
		}
	})
}

// A batch whose handlers take long ends early, so that others can write.
func TestBatchEndsByTime(t *testing.T) {
	t.Parallel()
	var c commits
	slow := func(ctx context.Context, event domain.Event, processing *collector) error {
		time.Sleep(30 * time.Millisecond) // the work of the handler
		return c.policy(ctx, event, processing)
	}
	r, err := newSingle(newSystem(t, pipe(app(schoolName, school.New), followerLoop("F", slow))),
		application.WithStore(gormstore.New(migrated(t, testdb.SQLiteMemory(t)))))
	closing(t, r, err)
	dogs := get[*school.TrainingSchool](t, r, schoolName)
	register(t, dogs, 3, "Fido")
	start(t, r)
	if got := c.sizes(); !slices.Equal(got, []int{1, 1, 1, 1}) {
		t.Errorf("got batches of %v, want each event by itself", got)
	}
	if got := position(t, get[*follower](t, r, "F").Application, schoolName); got != head(t, dogs.Application) {
		t.Errorf("the position is %d, want %d", got, head(t, dogs.Application))
	}
}
