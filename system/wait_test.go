package system_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

func TestWaitFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		var j journal
		r := newRunner(t, memory.New(), pipe(app(schoolName, school.New), followerLoop("F", j.policy)))
		dogs, f := get[*school.TrainingSchool](t, r, schoolName), get[*follower](t, r, "F")
		start(t, r)
		for range 2 {
			register(t, dogs, 1, "Fido "+time.Now().String())
			expect.NoError(t, r.WaitFor(ctx, f))
			j.want(t, dogs.Application)
			time.Sleep(time.Second)
		}
		expect.NoError(t, f.WaitForPosition(ctx, dogs, 0), f.WaitForPosition(ctx, dogs, head(t, dogs.Application)))

		soon, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		expect.ErrorIs(t, f.WaitForPosition(soon, dogs, 1000), context.DeadlineExceeded, persistence.ErrOperational)
		for want, err := range map[string]error{
			`system: application "F": it does not follow Kennel; it follows TrainingSchool`: f.WaitForPosition(ctx, called("Kennel"), 1),
			`system: application "Nobody": there is no such follower; followers are F`:      r.WaitFor(ctx, called("Nobody")),
			`system: application "F": the leader is nil`:                                    f.WaitForPosition(ctx, nil, 1),
		} {
			expect.ErrorIs(t, err, persistence.ErrProgramming)
			expect.ErrorText(t, err, want)
		}

		f.become(func(context.Context, domain.Event, *collector) error { return errPoison })
		register(t, dogs, 0, "Rex")
		for name, err := range map[string]error{"WaitFor": r.WaitFor(ctx, f), "WaitForPosition": f.WaitForPosition(ctx, dogs, 1000)} {
			if !errors.Is(err, errPoison) {
				t.Errorf("%s: got %v, want the error of the policy", name, err)
			}
		}
		f.become(ignore)
		time.Sleep(2 * time.Second)
		stopped := make(chan error, 1)
		go func() { stopped <- f.WaitForPosition(ctx, dogs, 1000) }()
		synctest.Wait()
		expect.NoError(t, r.WaitFor(ctx, f), r.Stop(ctx))
		for name, err := range map[string]error{"WaitFor": r.WaitFor(ctx, f), "WaitForPosition": <-stopped} {
			if !errors.Is(err, system.ErrStopped) {
				t.Errorf("%s: got %v, want ErrStopped", name, err)
			}
		}
	})
}

// Without a runner in this process, a position is looked for in the store, and
// so it is after the runner has ended.
func TestWaitForPositionOfAnotherProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		store := memory.New()
		plan := pipe(app(schoolName, school.New), followerLoop("F", ignore))
		here, there := newRunner(t, store, plan), newRunner(t, store, plan)
		dogs, f := get[*school.TrainingSchool](t, here, schoolName), get[*follower](t, here, "F")
		start(t, there)
		polls := func() {
			register(t, dogs, 1, "Fido "+time.Now().String())
			expect.NoError(t, f.WaitForPosition(ctx, dogs, head(t, dogs.Application)))
			soon, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			expect.ErrorIs(t, f.WaitForPosition(soon, dogs, 1000), context.DeadlineExceeded, persistence.ErrOperational)
		}
		polls()
		start(t, here)
		expect.NoError(t, here.Stop(ctx))
		polls()
		expect.NoError(t, there.Stop(ctx))
	})
}

// A single-threaded runner processes what there is to process.
func TestWaitForPositionWithASingleThreadedRunner(t *testing.T) {
	t.Parallel()
	store := application.WithStore(memory.New())
	sys := newSystem(t, pipe(app(schoolName, school.New), followerLoop("F", ignore)))
	r, err := newSingle(sys, store)
	closing(t, r, err)
	start(t, r)
	other := expect.Must(school.New(store)) // as another process, whose saves the runner does not see
	register(t, other, 1, "Fido")
	f := get[*follower](t, r, "F")
	expect.NoError(t, f.WaitForPosition(t.Context(), called(schoolName), head(t, other.Application)))
}

// A follower sees nothing of a transaction before its commit, and could wait
// for a lock or a connection that it has.
func TestWaitForInATransactionIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var j journal
		store := memory.New()
		r := newRunner(t, store, pipe(app(schoolName, school.New), followerLoop("F", j.policy)))
		dogs, f := get[*school.TrainingSchool](t, r, schoolName), get[*follower](t, r, "F")
		start(t, r)
		err := store.Transaction(t.Context(), func(ctx context.Context) error {
			for name, err := range map[string]error{
				"WaitFor": r.WaitFor(ctx, f), "WaitForPosition": f.WaitForPosition(ctx, dogs, 1),
			} {
				if !errors.Is(err, persistence.ErrProgramming) {
					t.Errorf("%s: got %v, want an ErrProgramming", name, err)
				}
			}
			return nil
		})
		expect.NoError(t, err, r.Stop(t.Context()))
	})
}
