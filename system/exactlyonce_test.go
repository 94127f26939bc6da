package system_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
)

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
			t.Errorf("got %v, want an error that contains %q", status.Err, "Goexit")
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
			t.Errorf("%d of 5 mails, want 5", got)
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
			t.Errorf("got %v, want an error that is %v", r.Err(), boom)
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
	expect.ErrorIs(t, r.Err(), persistence.ErrNoTransaction)
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
			expect.NoError(t, err)
			r, err := newSingle(newSystem(t, pipe(built(leader), followerLoop("F", crashing, options...))))
			closing(t, r, err)
			start(t, r)
			expect.NoError(t, leader.Register(t.Context(), "Fido"), leader.AddTrick(t.Context(), "Fido", trick))
			if !hasPanicked(r.Err()) {
				t.Fatalf("got %v, want a crash", r.Err())
			}
			expect.NoError(t, r.Sync(t.Context()))
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
			t.Errorf("the next retry is at %v, after the failure at %v, want it later if the runner retries", status.NextRetry, status.Since)
		}
		failed := expect.ErrorAs[*system.ProcessingError](t, status.Err)
		if failed.Follower != countersName || failed.Leader != schoolName || failed.Topic != "Dog.TrickAdded" ||
			failed.NotificationID != at || !errors.Is(failed, poison) || !errors.Is(failed, domain.ErrEventSourcing) {
			t.Errorf("got %+v, want Follower %v, Leader %v, Topic %q, NotificationID %v, an error that is %v and that is %v", failed, countersName, schoolName, "Dog.TrickAdded", at, poison, domain.ErrEventSourcing)
		}
		expect.ErrorIs(t, r.Err(), poison)
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
			t.Errorf("got %v and %+v after the recovery, want no error, no error and NotificationID 0", err, status)
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
		expect.ErrorIs(t, err, cause)
		if got := expect.ErrorAs[*system.ProcessingError](t, err); !slices.Contains(words(string(got.Stack)), "panicking") {
			t.Errorf("got %v, want the stack of the handler\n%s", got, got.Stack)
		}
	})
}

// hasPanicked reports whether an error says that a handler has panicked.
func hasPanicked(err error) bool {
	failed, ok := errors.AsType[*system.ProcessingError](err)
	return ok && failed.Stack != nil && strings.Contains(err.Error(), "panicked: ")
}

func panicking(value any) { panic(value) }

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
		expect.NoError(t, err)
		register(t, dogs, 1, "Rex")
		_ = r.Start(t.Context())
		status := waitForState(t, r, system.Retrying)
		if _, ok := errors.AsType[*persistence.MappingError](status.Err); !ok || status.Follower != "All" || status.NotificationID != broken[0] {
			t.Errorf("got %+v, want Follower %q and NotificationID %v", status, "All", broken[0])
		}
		reached(t, get[*follower](t, r, "Tricks").Application, head(t, dogs.Application))
		if a, b := len(all.events(t)), len(tricks.events(t)); a < 2 || b != 2 {
			t.Errorf("processed %d and %d events, want at least 2 and 2", a, b)
		}
		if got := statuses(t, r)[1]; got.State != system.Running || got.Err != nil {
			t.Errorf("got %+v, want State %v", got, system.Running)
		}
	})
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
		{system.AheadOf("F", "L", 7, 5), "F: position 7 is ahead of the log of L, which ends at 5; " +
			"reset the follower, or restore both from the same backup and restart; if its newest events were deleted with delete_originator and nothing was restored, run followers continue"},
		{system.Panicked("no dog"), "handler panicked: no dog"},
	} {
		if got := test.err.Error(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
		if !errors.Is(test.err, domain.ErrEventSourcing) {
			t.Errorf("%q is no error of the framework, want an error that is %v", test.err, domain.ErrEventSourcing)
		}
	}
}
