package system_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
	"github.com/eventsourcing-go/eventsourcing/telemetry"
)

// twoSchools are two leaders, with an event each, and a follower.
type twoSchools struct {
	leaders  []*application.Application
	saved    []int64 // the position of each leader's event
	follower *system.Follower
}

func newTwoSchools(t testing.TB, options ...application.Option) (s twoSchools) {
	t.Helper()
	store := application.WithStore(memory.New())
	for _, name := range []string{"A", "B"} {
		leader := expect.Must(application.New(name, store, application.WithDefinitions(school.Dogs)))
		saved := expect.Must(leader.Save(t.Context(), school.Dogs.Create(uuid.New(), school.Registered{Name: "Fido"})))
		s.leaders, s.saved = append(s.leaders, leader), append(s.saved, saved.Position)
	}
	app := expect.Must(application.New("F", append(options, store)...))
	s.follower = expect.Must(system.NewFollower(app, system.OnEvery(func(context.Context, domain.Event) error { return nil })))
	return s
}

// While a runner stops, and while it reports the end of one of the leaders, a
// wait for each leader's log reads the position.
func TestWaitForPositionWhileARunnerStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, ends := t.Context(), 0
		var s twoSchools
		s = newTwoSchools(t, application.WithObserver(&telemetry.Observer{FollowerChanged: func(_ context.Context, c telemetry.Change) {
			if c.To != string(system.Stopped) {
				return
			}
			ends++
			for i, leader := range s.leaders {
				soon, cancel := context.WithTimeout(ctx, time.Second)
				if err := s.follower.WaitForPosition(soon, leader, s.saved[i]); err != nil {
					t.Errorf("%s: got error %v, want none", leader.Name(), err)
				}
				expect.ErrorIs(t, s.follower.WaitForPosition(soon, leader, s.saved[i]+1), context.DeadlineExceeded)
				cancel()
			}
		}}))
		sys := expect.Must(system.New(system.Pipe(s.leaders[0], s.follower), system.Pipe(s.leaders[1], s.follower)))
		r, err := system.NewRunner(sys, system.Config{})
		start(t, closing(t, r, err))
		for i, leader := range s.leaders {
			expect.NoError(t, s.follower.WaitForPosition(ctx, leader, s.saved[i]))
		}
		expect.NoError(t, r.Stop(ctx))
		expect.Equal(t, "ends of the follower that were observed", ends, len(s.leaders))
	})
}

// A follower that is in two systems follows the leaders of both. While the
// runner of one of them runs, a wait in the other's log reads the position.
func TestWaitForPositionInAnotherSystem(t *testing.T) {
	t.Parallel()
	for name, newRunner := range map[string]func(*system.System) (runner, error){
		"single":     func(s *system.System) (runner, error) { return system.NewSingleThreadedRunner(s) },
		"concurrent": func(s *system.System) (runner, error) { return system.NewRunner(s, system.Config{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newTwoSchools(t)
				first := expect.Must(system.New(system.Pipe(s.leaders[0], s.follower)))
				second := expect.Must(system.New(system.Pipe(s.leaders[1], s.follower)))
				r, err := newRunner(first)
				start(t, closing(t, r, err))
				soon, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				expect.NoError(t, s.follower.WaitForPosition(soon, s.leaders[0], s.saved[0]))
				err = s.follower.WaitForPosition(soon, called("Kennel"), 1)
				expect.ErrorIs(t, err, persistence.ErrProgramming)
				expect.ErrorText(t, err, `system: application "F": it does not follow Kennel; it follows A, B`)
				err = s.follower.WaitForPosition(soon, s.leaders[1], s.saved[1])
				expect.ErrorIs(t, err, context.DeadlineExceeded, persistence.ErrOperational)
				other, err := newRunner(second)
				start(t, closing(t, other, err))
				expect.NoError(t, s.follower.WaitForPosition(t.Context(), s.leaders[1], s.saved[1]), r.Close(), other.Close())
			})
		})
	}
}
