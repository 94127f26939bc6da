package system_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// controller is what both runners do with one follower.
type controller interface {
	runner
	Pause(ctx context.Context, follower system.Member, by string) error
	Resume(ctx context.Context, follower system.Member) error
	Rebuild(ctx context.Context, follower system.Member) error
	WaitFor(ctx context.Context, follower system.Member) error
}

// A follower that is paused while it runs processes nothing until it is
// resumed, and then all that it has missed.
func TestPauseAndResume(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		var j journal
		r := p.started(t, pipe(app(schoolName, school.New), followerLoop("F", j.policy))).(controller)
		dogs, f := get[*school.TrainingSchool](t, r, schoolName), get[*follower](t, r, "F")
		register(t, dogs, 1, "Fido")
		expect.NoError(t, r.WaitFor(t.Context(), f))
		expect.NoError(t, r.Pause(t.Context(), f, "a test"))
		register(t, dogs, 1, "Rex")
		if got := waitForState(t, r, system.Paused); got.PausedBy != "a test" || got.Position != 2 || len(j.events(t)) != 2 {
			t.Errorf("got %+v and %d events, want it paused at 2", got, len(j.events(t)))
		}
		if err := r.WaitFor(t.Context(), f); !errors.Is(err, system.ErrPaused) {
			t.Errorf("got %v from a wait, want ErrPaused", err)
		}
		expect.NoError(t, r.Resume(t.Context(), f))
		p.sync(t, r)
		j.want(t, dogs.Application)
		expect.ErrorIs(t, r.Pause(t.Context(), called("Nobody"), ""), persistence.ErrProgramming)
	})
}

// A projection is rebuilt while its runner runs: what it made is cleared in the
// transaction that resets its position, and made again.
func TestRebuild(t *testing.T) {
	t.Parallel()
	for name, concurrent := range map[string]bool{"single-threaded": false, "concurrent": true} {
		t.Run(name, func(t *testing.T) {
			eachDatabase(t, func(t *testing.T, db *gorm.DB) {
				p := place{store: gormstore.New(db), db: db, concurrent: concurrent}
				fails := errors.New("no eraser")
				broken := true
				clear := func(ctx context.Context, leaders []string) error {
					if len(leaders) != 1 || leaders[0] != schoolName {
						t.Errorf("got %v, want the leader", leaders)
					}
					tx, err := gormstore.Tx(ctx)
					if err != nil {
						return err
					}
					if err := tx.Where("TRUE").Delete(&TrickCount{}).Error; err != nil || !broken {
						return err
					}
					return fails
				}
				r := p.started(t, pipe(app(schoolName, school.New),
					followingWith("F", count, []system.FollowerOption{system.Resettable(clear)}))).(controller)
				dogs, f := get[*school.TrainingSchool](t, r, schoolName), get[*follower](t, r, "F")
				register(t, dogs, 3, "Fido")
				expect.NoError(t, r.WaitFor(t.Context(), f))
				if err := r.Rebuild(t.Context(), f); !errors.Is(err, fails) || tricksCounted(t, db, "sit") != 3 {
					t.Errorf("got %v and %d tricks, want nothing to have changed", err, tricksCounted(t, db, "sit"))
				}
				broken = false
				// The row is not what the events make of it, so it must be made
				// anew.
				expect.NoError(t, db.Exec("UPDATE trick_counts SET n = 99").Error)
				expect.NoError(t, r.Rebuild(t.Context(), f))
				expect.NoError(t, r.WaitFor(t.Context(), f))
				if got := tricksCounted(t, db, "sit"); got != 3 {
					t.Errorf("counted %d tricks after the rebuild, want 3", got)
				}
			})
		})
	}
}

// A follower that does not say how it is reset is not rebuilt.
func TestRebuildIsRefused(t *testing.T) {
	t.Parallel()
	r, err := newSingle(newSystem(t, pipe(app(schoolName, school.New), followerLoop("F", ignore))), application.WithStore(memory.New()))
	closing(t, r, err)
	err = r.Rebuild(t.Context(), called("F"))
	expect.ErrorIs(t, err, persistence.ErrProgramming)
	if text := fmt.Sprint(err); !strings.Contains(text, `"F"`) || !strings.Contains(text, "system.Resettable or system.Replayable") {
		t.Errorf("got %v, want what to give the follower", err)
	}
}

// A clear function that panics resets nothing, and its stack is in the error.
func TestRebuildPanics(t *testing.T) {
	t.Parallel()
	clear := system.Resettable(func(context.Context, []string) error { panic("no table") })
	follower := followingWith("F", ignore, []system.FollowerOption{clear})
	r, err := newSingle(newSystem(t, pipe(app(schoolName, school.New), follower)), application.WithStore(memory.New()))
	closing(t, r, err)
	if err := r.Rebuild(t.Context(), called("F")); !hasPanicked(err) {
		t.Errorf("got %v, want a panic with its stack", err)
	}
}

// A follower starts after the position that it is given, and not beyond the
// log.
func TestStartAtPosition(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store persistence.Factory) {
		dogs, err := school.New(application.WithStore(store))
		expect.NoError(t, err)
		register(t, dogs, 3, "Fido")
		all := ids(t, dogs.Application)
		run := func(name string, start int64) (*journal, error) {
			var j journal
			node := followingWith(name, j.policy, []system.FollowerOption{system.StartAt(start)})
			r, err := newSingle(newSystem(t, pipe(built(dogs), node)), application.WithStore(store))
			closing(t, r, err)
			_, err = r.CatchUp(t.Context(), called(name), nil)
			return &j, err
		}
		j, err := run("F", all[1])
		expect.NoError(t, err)
		if got := j.events(t); len(got) != 2 || got[0].NotificationID != all[2] {
			t.Errorf("got %+v, want the events after %d", got, all[1])
		}
		if _, err := run("G", all[3]+7); err == nil || !strings.Contains(err.Error(), "whose log ends at") {
			t.Errorf("got %v, want the end of the log", err)
		}
	})
}

// A follower that has failed and waits to try again is rebuilt at once.
func TestRebuildDoesNotWaitForARetry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRunner(t, memory.New(), pipe(app(schoolName, school.New),
			followingWith("F", func(context.Context, domain.Event, *collector) error { return errPoison },
				[]system.FollowerOption{system.Replayable()})))
		start(t, r)
		dogs, f := get[*school.TrainingSchool](t, r, schoolName), get[*follower](t, r, "F")
		register(t, dogs, 0, "Fido")
		time.Sleep(10 * time.Minute) // it tries once a minute by now
		f.become(ignore)
		begin := time.Now()
		expect.NoError(t, r.Rebuild(t.Context(), f), r.WaitFor(t.Context(), f))
		if took := time.Since(begin); took > time.Second {
			t.Errorf("it took %v, as if it had waited for the retry, want at most %v", took, time.Second)
		}
	})
}
