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
	"testing/synctest"
	"time"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// A call that fails keeps later events from being recorded, but not from being
// called, and their calls are not repeated.
func TestEffectFails(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func() (string, error){
		"error":  func() (string, error) { return "", errPoison },
		"panic":  func() (string, error) { panic("broken") },
		"goexit": func() (string, error) { runtime.Goexit(); return "", nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var healed bool
				var mu sync.Mutex
				m := &mailer{}
				m.send = func(_ context.Context, e domain.Recorded[school.TrickAdded]) (string, error) {
					mu.Lock()
					broken := e.Data.Trick == "Rex 1" && !healed
					mu.Unlock()
					if broken {
						time.Sleep(10 * time.Millisecond) // so that the calls have an order
						return fail()
					}
					if e.Data.Trick == "Max 1" {
						time.Sleep(20 * time.Millisecond)
					}
					return e.Data.Trick, nil
				}
				r := newRunner(t, memory.New(), pipe(app(schoolName, school.New), mailing(m)))
				dogs := get[*school.TrainingSchool](t, r, schoolName)
				learn(t, dogs, "Fido", 1)
				learn(t, dogs, "Rex", 2)
				learn(t, dogs, "Max", 1)
				start(t, r)
				time.Sleep(500 * time.Millisecond)
				m.mu.Lock()
				slices.Sort(m.called)
				m.mu.Unlock()
				m.want(t, []string{"Fido 1", "Max 1", "Rex 1"}, []string{"Fido 1"})
				if failed := expect.ErrorAs[*system.ProcessingError](t, r.Err()); failed.NotificationID != 4 {
					t.Errorf("got %v, want NotificationID 4", failed)
				}
				mu.Lock()
				healed = true
				mu.Unlock()
				time.Sleep(2 * time.Second)
				expect.NoError(t, r.Err())
				m.mu.Lock()
				m.called = m.called[3:]
				m.mu.Unlock()
				m.want(t, []string{"Rex 1", "Rex 2"}, []string{"Fido 1", "Rex 1", "Rex 2", "Max 1"})
			})
		})
	}
}

// A result that could not be recorded is recorded later, without another call;
// a new process calls again.
func TestEffectIsNotRecorded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		m := &mailer{commit: func(context.Context) error { return errPoison }}
		r := newRunner(t, store, pipe(app(schoolName, school.New), mailing(m)))
		learn(t, get[*school.TrainingSchool](t, r, schoolName), "Fido", 1)
		start(t, r)
		time.Sleep(10 * time.Second)
		m.want(t, []string{"Fido 1"}, nil)
		expect.NoError(t, r.Stop(t.Context()))

		again := &mailer{}
		next := newRunner(t, store, pipe(app(schoolName, school.New), mailing(again)))
		start(t, next)
		expect.NoError(t, next.WaitFor(t.Context(), again))
		again.want(t, []string{"Fido 1"}, []string{"sent Fido 1"})
	})
}

// An event whose call fails can be parked, and is called again when it is
// retried.
func TestEffectParks(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		var healed bool
		m := &mailer{}
		m.send = func(_ context.Context, e domain.Recorded[school.TrickAdded]) (string, error) {
			if strings.HasPrefix(e.Data.Trick, "Rex") && !healed {
				return "", errPoison
			}
			return e.Data.Trick, nil
		}
		parks := system.Park(func(persistence.Notification, error, int) bool { return true })
		r := place{store: gormstore.New(db)}.started(t, pipe(app(schoolName, school.New), mailing(m, parks))).(*system.SingleThreadedRunner)
		dogs := get[*school.TrainingSchool](t, r, schoolName)
		learn(t, dogs, "Rex", 2)
		learn(t, dogs, "Fido", 1)
		expect.NoError(t, r.Sync(t.Context()), r.Err())
		m.want(t, []string{"Rex 1", "Fido 1"}, []string{"Fido 1"})
		healed = true
		n, err := r.RetryParked(t.Context(), m)
		if n != 2 || err != nil {
			t.Errorf("got %d, %v, want 2 and no error", n, err)
		}
		m.want(t, []string{"Rex 1", "Fido 1", "Rex 1", "Rex 2"}, []string{"Fido 1", "Rex 1", "Rex 2"})
	})
}

// A pause, which both processes see end, is no moment at which both call. Nor
// is one at which there is nothing to do.
func TestEffectsAfterAPause(t *testing.T) {
	t.Parallel()
	for _, backend := range []testdb.Backend{
		{Name: "sqlite", Open: testdb.SQLiteFile}, {Name: "postgres", Open: testdb.OpenPostgres},
	} {
		t.Run(backend.Name, func(t *testing.T) {
			t.Parallel()
			db := migrated(t, backend.Open(t))
			store := gormstore.New(db)
			calls, release := make(chan string, 10), make(chan struct{})
			var runners []*system.Runner
			var mailers []*mailer
			for i := range 2 {
				m := &mailer{send: func(_ context.Context, e domain.Recorded[school.TrickAdded]) (string, error) {
					calls <- fmt.Sprint(i, " ", e.Data.Trick)
					<-release
					return e.Data.Trick, nil
				}}
				r := newRunner(t, gormstore.New(db), pipe(app(schoolName, school.New), mailing(m)))
				start(t, r)
				waitForState(t, r, []system.State{system.Running, system.StandingBy}[i])
				runners, mailers = append(runners, r), append(mailers, m)
			}
			before, err := capability.Of(store).Statuses.FollowerStatuses(t.Context())
			expect.NoError(t, err, runners[0].Pause(t.Context(), mailers[0], "a test"))
			learn(t, get[*school.TrainingSchool](t, runners[0], schoolName), "Fido", 1)
			waitForState(t, runners[0], system.Paused)
			expect.NoError(t, runners[0].Resume(t.Context(), mailers[0]))
			first := <-calls
			waitForState(t, runners[1], system.StandingBy)
			after, err := capability.Of(store).Statuses.FollowerStatuses(t.Context())
			expect.NoError(t, err)
			if len(before) != 1 || len(after) != 1 || before[0].Process != after[0].Process {
				t.Errorf("got statuses %+v, then %+v, want 1 of them, 1 of them and Process %v", before, after, after[0].Process)
			}
			close(release)
			for i, r := range runners { // also by the one that stands by
				expect.NoError(t, r.WaitFor(t.Context(), mailers[i]))
			}
			if len(calls) > 0 || first != "0 Fido 1" {
				t.Errorf("got the call %q and %d others, want 0 calls and %q", first, len(calls), "0 Fido 1")
			}
		})
	}
}

// What an ended context has made of a call says nothing about the event.
func TestEffectIsCanceled(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		ctx, cancel := context.WithCancel(t.Context())
		waiting := make(chan struct{}, 2)
		m := &mailer{}
		m.send = func(ctx context.Context, e domain.Recorded[school.TrickAdded]) (string, error) {
			waiting <- struct{}{}
			<-ctx.Done()
			return "", ctx.Err()
		}
		parks := system.Park(func(persistence.Notification, error, int) bool { return true })
		r := place{store: gormstore.New(db)}.runner(t, pipe(app(schoolName, school.New), mailing(m, parks))).(*system.SingleThreadedRunner)
		dogs := get[*school.TrainingSchool](t, r, schoolName)
		learn(t, dogs, "Fido", 1)
		learn(t, dogs, "Rex", 1)
		go func() {
			<-waiting
			<-waiting
			cancel()
		}()
		if err := r.Start(ctx); err == nil {
			t.Error("a canceled call is no error")
		}
		m.send = nil
		expect.NoError(t, r.Sync(t.Context()))
		m.want(t, m.called, []string{"sent Fido 1", "sent Rex 1"})
	})
}

// A parked event of a paused follower is not called.
func TestEffectOfAPausedFollower(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		m := &mailer{send: func(context.Context, domain.Recorded[school.TrickAdded]) (string, error) { return "", errPoison }}
		parks := system.Park(func(persistence.Notification, error, int) bool { return true })
		r := place{store: gormstore.New(db)}.started(t, pipe(app(schoolName, school.New), mailing(m, parks))).(*system.SingleThreadedRunner)
		learn(t, get[*school.TrainingSchool](t, r, schoolName), "Fido", 1)
		expect.NoError(t, r.Sync(t.Context()), r.Pause(t.Context(), m, "a test"))
		m.send = nil
		if n, err := r.RetryParked(t.Context(), m); n != 0 || !errors.Is(err, system.ErrPaused) {
			t.Errorf("got %d, %v, want 0 and an error that is %v", n, err, system.ErrPaused)
		}
		m.want(t, []string{"Fido 1"}, nil)
	})
}

// The error of a call may look like one of the follower's own.
func TestEffectFailsLikeAFollower(t *testing.T) {
	t.Parallel()
	for _, looks := range []error{persistence.ErrPositionLocked, system.ErrPaused} {
		synctest.Test(t, func(t *testing.T) {
			m := &mailer{send: func(context.Context, domain.Recorded[school.TrickAdded]) (string, error) {
				return "", fmt.Errorf("another system: %w", looks)
			}}
			r := newRunner(t, memory.New(), pipe(app(schoolName, school.New), mailing(m)))
			learn(t, get[*school.TrainingSchool](t, r, schoolName), "Fido", 1)
			start(t, r)
			time.Sleep(10 * time.Second)
			if state := statuses(t, r)[0].State; state != system.Retrying || r.Err() == nil || len(m.called) > 20 {
				t.Errorf("%v: the follower is %s after %d calls, with error %v, want %v and at most 20 called", looks, state, len(m.called), r.Err(), system.Retrying)
			}
		})
	}
}
