package system_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

func TestSingleThreadedLife(t *testing.T) {
	t.Parallel()
	r, err := newSingle(newSystem(t, counting()))
	closing(t, r, err)
	dogs, c := get[*school.TrainingSchool](t, r, schoolName), get[*counters](t, r, countersName)
	register(t, dogs, 1, "Fido")
	if got := r.Sync(t.Context()); !errors.Is(got, persistence.ErrProgramming) || !strings.Contains(fmt.Sprint(got), "not started") {
		t.Errorf("got %v from Sync before Start, want one that says so", got)
	}
	if got := statuses(t, r)[0].State; got != system.Stopped {
		t.Errorf("the follower is %s before Start, want %v", got, system.Stopped)
	}
	start(t, r)
	if got := r.Start(t.Context()); !errors.Is(got, persistence.ErrProgramming) || !strings.Contains(fmt.Sprint(got), "started before") {
		t.Errorf("got %v from a second Start, want one that says so", got)
	}
	expect.NoError(t, r.Close(), r.Close())
	register(t, dogs, 1, "Rex")
	for _, err := range []error{r.Start(t.Context()), r.Sync(t.Context())} {
		if !errors.Is(err, system.ErrStopped) {
			t.Errorf("got %v after Stop, want an error that is %v", err, system.ErrStopped)
		}
	}
	if got := c.counted(t, "sit"); got != 1 {
		t.Errorf("counted %d, want what was there before Stop", got)
	}
	if got := statuses(t, r)[0]; got.State != system.Stopped || got.Lag() != 2 {
		t.Errorf("got %+v after Stop, want State %v and Lag 2", got, system.Stopped)
	}
	expect.NoError(t, r.Close(), r.Close())

	before, err := newSingle(newSystem(t, counting()))
	closing(t, before, err)
	expect.NoError(t, before.Close())
	if err := before.Start(t.Context()); !errors.Is(err, system.ErrStopped) {
		t.Errorf("got %v from Start after Stop, want an error that is %v", err, system.ErrStopped)
	}
}

// Followers of a leader are called in the order of their definition.
func TestSingleThreadedOrder(t *testing.T) {
	t.Parallel()
	var calls []string
	named := func(name string) *node {
		return followerLoop(name, func(context.Context, domain.Event, *collector) error {
			calls = append(calls, name)
			return nil
		})
	}
	leader := app(schoolName, school.New)
	r, err := newSingle(newSystem(t,
		pipe(leader, named("C")), pipe(leader, named("A")), pipe(leader, named("B"))))
	closing(t, r, err)
	start(t, r)
	dogs := get[*school.TrainingSchool](t, r, schoolName)
	expect.NoError(t, dogs.Register(t.Context(), "Fido"), dogs.AddTrick(t.Context(), "Fido", "sit"))
	if want := []string{"C", "A", "B", "C", "A", "B"}; !slices.Equal(calls, want) {
		t.Errorf("got %v, want %v", calls, want)
	}
}

// A save is processed when it returns, also if its ctx has ended by then; but
// the end of Sync's ctx ends Sync, and is no failure of the follower.
func TestSingleThreadedContext(t *testing.T) {
	t.Parallel()
	r, err := newSingle(newSystem(t, counting()))
	closing(t, r, err)
	dogs, c := get[*school.TrainingSchool](t, r, schoolName), get[*counters](t, r, countersName)
	ctx, cancel := context.WithCancel(t.Context())
	expect.NoError(t, r.Start(ctx))
	c.become(func(ctx context.Context, event domain.Event, processing *collector) error {
		cancel()
		return errors.Join(ctx.Err(), c.count(ctx, event, processing))
	})
	dog := school.RegisterDog("Fido")
	dog.AddTrick("sit")
	if _, err := dogs.Save(ctx, dog); err != nil {
		t.Fatal(err)
	}
	if got := c.counted(t, "sit"); got != 1 || r.Err() != nil {
		t.Errorf("counted %d, %v, want 1 and no error", got, r.Err())
	}
	if err := r.Sync(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want an error that is %v", err, context.Canceled)
	}
	if got := statuses(t, r)[0]; got.State != system.Running || got.Err != nil {
		t.Errorf("got %+v, want State %v", got, system.Running)
	}
}

// A handler that calls Sync gets another round, and one that ends its goroutine
// leaves a runner that works.
func TestSingleThreadedReentry(t *testing.T) {
	t.Parallel()
	var r *system.SingleThreadedRunner
	exit := true
	var j journal
	policy := func(ctx context.Context, event domain.Event, processing *collector) error {
		if exit {
			exit = false
			runtime.Goexit()
		}
		return errors.Join(r.Sync(ctx), j.policy(ctx, event, processing))
	}
	made, err := newSingle(newSystem(t, pipe(app(schoolName, school.New), followerLoop("F", policy))))
	r = closing(t, made, err)
	start(t, r)
	dogs := get[*school.TrainingSchool](t, r, schoolName)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = dogs.Register(t.Context(), "Fido") // from which it does not come back
	}()
	<-done
	if err := r.Err(); err == nil || !strings.Contains(err.Error(), "notification 1") || !strings.Contains(err.Error(), "Goexit") {
		t.Errorf("the error is %v, want that of Goexit", err)
	}
	expect.NoError(t, r.Sync(t.Context()), r.Err())
	j.want(t, dogs.Application)
}

// Many save at the same time: when all saves have returned, everything is
// processed.
func TestSingleThreadedConcurrentSaves(t *testing.T) {
	t.Parallel()
	var j journal
	p := place{store: memory.New()}
	r := p.started(t, pipe(app(schoolName, school.New), followerLoop("F", j.policy)))
	dogs := get[*school.TrainingSchool](t, r, schoolName)
	var group sync.WaitGroup
	for w := range 8 {
		group.Go(func() {
			for i := range 50 {
				if err := dogs.Register(t.Context(), fmt.Sprint(w, " ", i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	j.want(t, dogs.Application)
}
