package system_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
)

func TestCatchUp(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		ctx, store := t.Context(), gormstore.New(db)
		poisoned := true
		policy := func(ctx context.Context, event domain.Event, p *collector) error {
			if poisoned {
				return countOrFail(ctx, event, p)
			}
			return count(ctx, event, p)
		}
		sys := newSystem(t, pipe(app(schoolName, school.New), followerLoop("F", policy)))
		r, err := newSingle(sys, application.WithStore(store))
		closing(t, r, err)
		dogs := get[*school.TrainingSchool](t, r, schoolName)
		dog := school.RegisterDog("Fido")
		for _, trick := range []string{"sit", "bite", "sit"} {
			dog.AddTrick(trick)
		}
		events := save(t, dogs.Application, dog)
		at := func(i int) int64 { return events[i].NotificationID }
		check := func(got []system.Processed, events int, position int64) {
			t.Helper()
			if want := []system.Processed{{Leader: schoolName, Events: events, Position: position, Head: at(3)}}; !slices.Equal(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		}

		got, err := r.CatchUp(ctx, called("F"), nil)
		if !errors.Is(err, errPoison) {
			t.Errorf("got %v, want the poison", err)
		}
		check(got, 2, at(1))

		poisoned = false
		undo := errors.New("dry run")
		err = store.Transaction(ctx, func(ctx context.Context) error {
			got, err := r.CatchUp(ctx, called("F"), nil)
			expect.NoError(t, err)
			check(got, 2, at(3))
			return undo
		})
		if n := tricksCounted(t, db, "sit"); !errors.Is(err, undo) || n != 1 {
			t.Errorf("%v; counted %d tricks after a dry run, want 1", err, n)
		}

		var reports []system.Processed
		got, err = r.CatchUp(ctx, called("F"), func(p system.Processed) { reports = append(reports, p) })
		expect.NoError(t, err)
		check(got, 2, at(3))
		check(reports[len(reports)-1:], 2, at(3))
		got, err = r.CatchUp(ctx, called("F"), nil)
		expect.NoError(t, err)
		check(got, 0, at(3))

		_, err = r.CatchUp(ctx, called("Nobody"), nil)
		expect.ErrorIs(t, err, persistence.ErrProgramming)
		expect.NoError(t, r.Close())
		got, err = r.CatchUp(ctx, called("F"), nil)
		expect.NoError(t, err)
		check(got, 0, at(3))
	})
}

// What CatchUp has failed with is kept for other processes, until a CatchUp
// succeeds. One in a transaction of the caller's, such as a dry run, keeps
// nothing, and a runner that is alive keeps its place.
func TestCatchUpKeepsItsError(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		ctx, store := t.Context(), gormstore.New(db)
		fails := errors.New("no stamps")
		exits := false
		policy := func(context.Context, domain.Event, *collector) error {
			if exits {
				runtime.Goexit()
			}
			return fails
		}
		r, err := newSingle(newSystem(t, pipe(app(schoolName, school.New), followerLoop("F", policy))),
			application.WithStore(store))
		closing(t, r, err)
		dogs := get[*school.TrainingSchool](t, r, schoolName)
		register(t, dogs, 0, "Fido")
		kept := func() []capability.FollowerStatus {
			t.Helper()
			statuses, err := capability.Of(store).Statuses.FollowerStatuses(ctx)
			expect.NoError(t, err)
			return statuses
		}
		catchUp := func(ctx context.Context) error {
			_, err := r.CatchUp(ctx, called("F"), nil)
			return err
		}
		_ = store.Transaction(ctx, catchUp) // is rolled back, as it fails
		if got := kept(); len(got) != 0 {
			t.Errorf("a dry run has kept %+v, want 0 of them", got)
		}
		if err := catchUp(ctx); !errors.Is(err, fails) {
			t.Fatalf("got %v, want an error that is %v", err, fails)
		}
		if got := kept(); len(got) != 1 || !strings.Contains(got[0].Error, "no stamps") || got[0].NotificationID != 1 ||
			got[0].State != string(system.Stopped) || got[0].Since.IsZero() {
			t.Errorf("kept is %+v, want 1 of them, Error to contain %q, NotificationID 1 and State %v", got, "no stamps", string(system.Stopped))
		}

		// A runner that is alive is not replaced.
		alive := capability.FollowerStatus{ApplicationName: "F", UpstreamApplicationName: schoolName, State: "running",
			Heartbeat: time.Now(), Process: "another:1:1", Ahead: capability.KeepAhead}
		expect.NoError(t, capability.Of(store).Statuses.RecordStatus(ctx, alive), ignored(catchUp(ctx)))
		if got := kept(); len(got) != 1 || got[0].State != "running" || got[0].Process != alive.Process || got[0].Error != "" {
			t.Errorf("beside a runner: %+v, want 1 of them, State %q and Process %v", got, "running", alive.Process)
		}
		alive.State = "stopped"
		alive.Error = "cannot read the log"
		expect.NoError(t, capability.Of(store).Statuses.RecordStatus(ctx, alive))

		// A handler that ends the goroutine has failed as well.
		exits = true
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = catchUp(ctx)
		}()
		<-ended
		if got := kept(); !strings.Contains(got[0].Error, "Goexit") || got[0].NotificationID != 1 {
			t.Errorf("after Goexit: %+v, want NotificationID 1", got)
		}
		exits = false
		alive.Error, alive.NotificationID = "cannot read the log", 0
		alive.State, alive.Ahead = "running", -1
		expect.NoError(t, capability.Of(store).Statuses.RecordStatus(ctx, alive))
		alive.State = "stopped"
		expect.NoError(t, capability.Of(store).Statuses.RecordStatus(ctx, alive))

		// A success ends an error that is about no event.
		fails = nil
		expect.NoError(t, catchUp(ctx))
		if got := kept(); len(got) != 1 || got[0].Error != "" || got[0].State != string(system.Stopped) {
			t.Errorf("after a success: %+v, want 1 of them and State %v", got, string(system.Stopped))
		}
	})
}

// ignored is for an error that is the point of a test elsewhere.
func ignored(error) error { return nil }
