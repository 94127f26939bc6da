package system_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

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
		expect.NoError(t, r.WaitForPosition(ctx, f, dogs, 0), r.WaitForPosition(ctx, f, dogs, head(t, dogs.Application)))
		// A process that does not run F does this.
		expect.NoError(t, f.WaitForPosition(ctx, dogs, head(t, dogs.Application)))

		soon, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		late := r.WaitForPosition(soon, f, dogs, 1000)
		expect.ErrorIs(t, late, context.DeadlineExceeded, persistence.ErrOperational)
		alone := f.WaitForPosition(soon, dogs, 1000)
		expect.ErrorIs(t, alone, context.DeadlineExceeded, persistence.ErrOperational)
		for follower, want := range map[string]string{
			"F":      `system: application "F": it does not follow Kennel; it follows TrainingSchool`,
			"Nobody": `system: application "Nobody": there is no such follower; followers are F`,
		} {
			err := r.WaitForPosition(ctx, called(follower), called("Kennel"), 1)
			expect.ErrorIs(t, err, persistence.ErrProgramming)
			expect.ErrorText(t, err, want)
		}

		f.become(func(context.Context, domain.Event, *collector) error { return errPoison })
		register(t, dogs, 0, "Rex")
		if err := r.WaitFor(ctx, f); !errors.Is(err, errPoison) {
			t.Errorf("got %v, want the error of the policy", err)
		}
		f.become(ignore)
		time.Sleep(2 * time.Second)
		expect.NoError(t, r.WaitFor(ctx, f), r.Stop(ctx))
		if err := r.WaitForPosition(ctx, f, dogs, 1000); !errors.Is(err, system.ErrStopped) {
			t.Errorf("got %v, want ErrStopped", err)
		}
	})
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
				"WaitFor": r.WaitFor(ctx, f), "WaitForPosition": r.WaitForPosition(ctx, f, dogs, 1),
				"WaitForPosition of the follower": f.WaitForPosition(ctx, dogs, 1),
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
