package system_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
	"github.com/eventsourcing-go/eventsourcing/telemetry"
)

// A wait that begins after a follower was resumed, by whatever process, is not
// ended by the pause.
func TestWaitForAfterResume(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		var j journal
		chain := pipe(app(schoolName, school.New), followerLoop("F", j.policy))
		r := p.started(t, chain).(controller)
		elsewhere := p.runner(t, chain).(controller) // never started
		dogs, f := get[*school.TrainingSchool](t, r, schoolName), get[*follower](t, r, "F")
		for n, by := range []controller{r, elsewhere, r} {
			expect.NoError(t, r.Pause(t.Context(), f, "a test"))
			register(t, dogs, 1, []string{"Fido", "Rex", "Toby"}[n])
			if err := r.WaitFor(t.Context(), f); !errors.Is(err, system.ErrPaused) {
				t.Errorf("got %v while it is paused, want ErrPaused", err)
			}
			expect.NoError(t, by.Resume(t.Context(), f))
			if err := r.WaitFor(t.Context(), f); err != nil || len(j.events(t)) != 2*(n+1) {
				t.Errorf("got %v and %d events after it was resumed, want %d", err, len(j.events(t)), 2*(n+1))
			}
		}
	})
}

// A wait that begins when an event was parked, or while it is tried again, is
// not ended by the failure before.
func TestWaitForAfterParking(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var runner *system.Runner
	var follower *system.Follower
	var before []error // what waits return that began then
	observer := &telemetry.Observer{EventParked: func(context.Context, telemetry.Parked) {
		before = append(before, runner.WaitFor(ended, follower))
	}}
	store := gormstore.New(migrated(t, testdb.SQLiteMemory(t)))
	dogs, err := school.New(application.WithStore(store))
	expect.NoError(t, err)
	fails, err := application.New("F", application.WithStore(store), application.WithObserver(observer))
	expect.NoError(t, err)
	attempts := make(chan int, 10)
	follower, err = system.NewFollower(fails,
		system.On(func(context.Context, domain.Recorded[school.Registered]) error { return errPoison }),
		system.Park(func(_ persistence.Notification, _ error, n int) bool {
			if n == 2 {
				before = append(before, runner.WaitFor(ended, follower))
			}
			attempts <- n
			return n == 2
		}))
	expect.NoError(t, err)
	sys, err := system.New(system.Pipe(dogs, follower))
	expect.NoError(t, err)
	runner, err = system.NewRunner(sys, system.Config{ShortestRetry: 50 * time.Millisecond})
	expect.NoError(t, err)
	expect.NoError(t, dogs.Register(t.Context(), "Fido"))
	expect.NoError(t, runner.Start(t.Context()))
	defer runner.Close()
	<-attempts
	if err := runner.WaitFor(t.Context(), follower); !errors.Is(err, errPoison) && err != nil {
		// The error may be that of the second attempt.
		t.Errorf("got %v after the first attempt, want no error or errPoison", err)
	}
	<-attempts
	expect.NoError(t, runner.WaitFor(t.Context(), follower))
	expect.NoError(t, runner.Close())
	if len(before) != 2 {
		t.Fatalf("got %v, want 2 of them", before)
	}
	for _, err := range before {
		if !errors.Is(err, context.Canceled) || errors.Is(err, errPoison) {
			t.Errorf("got %v, want it to go on", err)
		}
	}
}
