package system_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/doctored"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

func newRunner(t testing.TB, store persistence.Factory, pipes ...chain) *system.Runner {
	t.Helper()
	r, err := newConcurrent(newSystem(t, pipes...), application.WithStore(store))
	return closing(t, r, err)
}

// ended reports whether all followers of a runner have ended.
func ended(r *system.Runner) bool {
	select {
	case <-r.Done():
		return true
	default:
		return false
	}
}

func TestRunnerLife(t *testing.T) {
	t.Parallel()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, live := range map[string]func(t *testing.T, r *system.Runner){
		"start twice": func(t *testing.T, r *system.Runner) {
			start(t, r)
			if got := r.Start(t.Context()); !errors.Is(got, persistence.ErrProgramming) || !strings.Contains(fmt.Sprint(got), "was started before") {
				t.Errorf("got %v from Start, want one that says that it was started before", got)
			}
			if got := r.Run(t.Context()); !errors.Is(got, persistence.ErrProgramming) || !strings.Contains(fmt.Sprint(got), "was started before") {
				t.Errorf("got %v from Run, want one that says that it was started before", got)
			}
			if ended(r) {
				t.Error("the first start has ended")
			}
			expect.NoError(t, r.Stop(t.Context()))
		},
		"stop twice": func(t *testing.T, r *system.Runner) {
			start(t, r)
			expect.NoError(t, r.Stop(t.Context()), r.Stop(t.Context()), r.Stop(cancelled))
			if err := r.Start(t.Context()); !errors.Is(err, system.ErrStopped) {
				t.Errorf("got %v from Start, want an error that is %v", err, system.ErrStopped)
			}
		},
		"stop before start": func(t *testing.T, r *system.Runner) {
			expect.NoError(t, r.Stop(t.Context()), r.Stop(cancelled))
			if err := r.Start(t.Context()); !errors.Is(err, system.ErrStopped) {
				t.Errorf("got %v from Start, want an error that is %v", err, system.ErrStopped)
			}
		},
		"stop from everywhere": func(t *testing.T, r *system.Runner) {
			start(t, r)
			var group sync.WaitGroup
			for range 8 {
				group.Go(func() {
					if err := r.Stop(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
		},
		"run with a ctx that has ended": func(t *testing.T, r *system.Runner) { expect.NoError(t, r.Run(cancelled)) },
		"start with a ctx that has ended": func(t *testing.T, r *system.Runner) {
			expect.NoError(t, r.Start(cancelled))
		},
		"run until stop": func(t *testing.T, r *system.Runner) {
			done := make(chan error)
			go func() { done <- r.Run(t.Context()) }()
			synctest.Wait()
			if ended(r) {
				t.Error("Run has ended by itself")
			}
			expect.NoError(t, r.Stop(t.Context()), <-done)
		},
		"run until ctx ends": func(t *testing.T, r *system.Runner) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			began := time.Now()
			expect.NoError(t, r.Run(ctx))
			if got := time.Since(began); got != time.Hour {
				t.Errorf("ran for %v, want %v", got, time.Hour)
			}
		},
		"close": func(t *testing.T, r *system.Runner) {
			start(t, r)
			expect.NoError(t, r.Close(), r.Close())
			if err := r.Start(t.Context()); !errors.Is(err, system.ErrStopped) {
				t.Errorf("got %v from Start, want an error that is %v", err, system.ErrStopped)
			}
		},
	} {
		for pipe, pipes := range map[string][]chain{
			"followers":    {counting()},
			"no followers": {pipe(app(schoolName, school.New))},
		} {
			t.Run(name+"/"+pipe, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newRunner(t, memory.New(), pipes...)
					live(t, r)
					<-r.Done()
					for _, status := range statuses(t, r) {
						if status.State != system.Stopped {
							t.Errorf("got %+v in the end, want State %v", status, system.Stopped)
						}
					}
				})
			})
		}
	}
}

// A follower that fails is tried again after growing times, up to a minute; and
// after it has recovered, soon again.
func TestRetrySchedule(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sys := expect.Must(newSystem(t, counting()).system(application.WithStore(memory.New())))
		// A longer batch is tried again at once.
		r, err := system.NewRunner(sys, system.Config{BatchEvents: 1})
		closing(t, r, err)
		dogs, c := get[*school.TrainingSchool](t, r, schoolName), get[*counters](t, r, countersName)
		var mu sync.Mutex
		var times []time.Time
		fail := func(context.Context, domain.Event, *collector) error {
			mu.Lock()
			defer mu.Unlock()
			times = append(times, time.Now())
			return errors.New("fail")
		}
		c.become(fail)
		start(t, r)
		register(t, dogs, 0, "Fido")
		began := time.Now()
		for range 30 {
			time.Sleep(10 * time.Second)
			// This wakes the follower, which is not to be hurried by it.
			register(t, dogs, 0, time.Now().String())
		}
		mu.Lock()
		want := time.Second
		for i := 1; i < len(times); i++ {
			if got := times[i].Sub(times[i-1]); got < want*3/4 || got > want {
				t.Errorf("retry %d came after %v, want at most %v", i, got, want)
			}
			want = min(2*want, time.Minute)
		}
		if len(times) < 9 || len(times) > 13 || !times[0].Equal(began) {
			t.Errorf("got %d attempts, the first after %v, want at least 9 times, at most 13 times and %v", len(times), times[0].Sub(began), began)
		}
		last := times[len(times)-1]
		times = nil
		mu.Unlock()
		if got := statuses(t, r)[0]; !got.Since.Equal(began) || got.NextRetry.Sub(last) < 45*time.Second || got.NextRetry.Sub(last) > time.Minute {
			t.Errorf("got %+v, want it to fail since %v", got, began)
		}

		c.become(c.count)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := statuses(t, r)[0]; got.State != system.Running || got.Lag() != 0 {
			t.Errorf("got %+v, want it to have recovered", got)
		}
		c.become(fail)
		register(t, dogs, 0, "Rex")
		time.Sleep(time.Second)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if len(times) != 2 {
			t.Errorf("got %d attempts in the first second of another failure, want 2", len(times))
		}
	})
}

// A follower that is waiting for a retry ends at once, by ctx and by Stop.
func TestEndWhileRetrying(t *testing.T) {
	t.Parallel()
	for _, stop := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRunner(t, memory.New(), counting())
			boom := errors.New("boom")
			get[*counters](t, r, countersName).become(func(context.Context, domain.Event, *collector) error { return boom })
			register(t, get[*school.TrainingSchool](t, r, schoolName), 0, "Fido")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			expect.NoError(t, r.Start(ctx))
			time.Sleep(10 * time.Second)
			began := time.Now()
			if stop {
				expect.NoError(t, r.Stop(t.Context()))
			} else {
				cancel()
				<-r.Done()
			}
			if got := time.Since(began); got != 0 {
				t.Errorf("it took %v to end, want 0", got)
			}
			// The status still tells why it stood still.
			if got := statuses(t, r)[0]; got.State != system.Stopped || !errors.Is(got.Err, boom) || !got.NextRetry.IsZero() {
				t.Errorf("got %+v, want State %v and an error that is %v", got, system.Stopped, boom)
			}
		})
	}
}

// Stop lets the batch finish; when its ctx ends first, handlers are cancelled,
// which is no failure.
func TestStopDrains(t *testing.T) {
	t.Parallel()
	for _, patient := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			r := newRunner(t, memory.New(), counting())
			dogs, c := get[*school.TrainingSchool](t, r, schoolName), get[*counters](t, r, countersName)
			c.become(func(ctx context.Context, event domain.Event, processing *collector) error {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(time.Minute):
					return c.count(ctx, event, processing)
				}
			})
			register(t, dogs, 2, "Fido")
			r.SetBatchTime(time.Hour)
			start(t, r)
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if patient {
				ctx = t.Context()
			}
			err := r.Stop(ctx)
			if status := statuses(t, r)[0]; status.Err != nil || status.State != system.Stopped {
				t.Errorf("got %+v, want State %v", status, system.Stopped)
			}
			if n := c.counted(t, "sit"); patient && (err != nil || n != 2) || !patient && (!errors.Is(err, context.DeadlineExceeded) || n != 0) {
				t.Errorf("counted %d, %v, want 2 if Stop is patient, and otherwise 0 and DeadlineExceeded", n, err)
			}
		})
	}
}

// Starting and stopping leaves no goroutine, nor anything with an application
// that outlives the runner.
func TestStartAndStopOften(t *testing.T) {
	leak := goleak.IgnoreCurrent()
	dogs, err := school.New()
	expect.NoError(t, err)
	for i := range testdb.Figure(100, 1000) {
		var j journal
		r, err := newConcurrent(newSystem(t, pipe(built(dogs), followerLoop("F", j.policy), followerLoop("G", ignore))))
		expect.NoError(t, err)
		start(t, r)
		register(t, dogs, 0, fmt.Sprint("Fido ", i))
		reached(t, get[*follower](t, r, "F").Application, head(t, dogs.Application))
		if i%2 == 0 {
			expect.NoError(t, r.Stop(t.Context()))
		}
		expect.NoError(t, r.Close())
		register(t, dogs, 0, fmt.Sprint("Rex ", i))
		if got, want := len(j.events(t)), 2*i+1; got != want {
			t.Fatalf("processed %d events, want %d", got, want)
		}
	}
	expect.NoError(t, dogs.Close())
	goleak.VerifyNone(t, leak)
}

// An error that passes, as one of the database, is not held against the events;
// and its end ends it.
func TestTroubleWithTheLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &troubled{Store: memory.New()}
		r := newRunner(t, store, counting())
		store.err.Store(&persistence.Error{Class: persistence.ErrOperational, Op: "read"})
		start(t, r)
		time.Sleep(time.Minute)
		err := r.Err()
		if got := expect.ErrorAs[*system.ProcessingError](t, err); got.NotificationID != 0 || !errors.Is(err, persistence.ErrOperational) {
			t.Errorf("got %v, want NotificationID 0 and an error that is %v", err, persistence.ErrOperational)
		}
		if all, err := r.Statuses(t.Context()); !errors.Is(err, persistence.ErrOperational) || all[0].State != system.Retrying || all[0].Follower != countersName {
			t.Errorf("got %+v, %v, want an error that is %v, State %v and Follower %v", all, err, persistence.ErrOperational, system.Retrying, countersName)
		}
		// A follower that lost a race for a lock is not made to wait longer
		// each time.
		store.err.Store(&persistence.Error{Class: persistence.ErrLockTimeout, Op: "lock"})
		time.Sleep(time.Minute)
		store.calls.Store(0)
		time.Sleep(time.Minute)
		if got := store.calls.Load(); got < 60 {
			t.Errorf("got %d attempts in a minute, want at least 60", got)
		}
		store.err.Store(nil)
		dogs := get[*school.TrainingSchool](t, r, schoolName)
		register(t, dogs, 1, "Fido")
		time.Sleep(time.Second)
		synctest.Wait()
		if got := get[*counters](t, r, countersName).counted(t, "sit"); got != 1 || r.Err() != nil {
			t.Errorf("counted %d, %v, want 1 and no error", got, r.Err())
		}
	})
}

// troubled is a store whose logs cannot be read.
type troubled struct {
	*memory.Store
	err   atomic.Pointer[persistence.Error]
	calls atomic.Int64
}

func (s *troubled) ProcessRecorder(name string) (persistence.ProcessRecorder, error) {
	r, err := s.Store.ProcessRecorder(name)
	return &troubledRecorder{r.(memoryRecorder), s}, err
}

type troubledRecorder struct {
	memoryRecorder
	store *troubled
}

func (r *troubledRecorder) MaxNotificationID(ctx context.Context) (int64, error) {
	r.store.calls.Add(1)
	if err := r.store.err.Load(); err != nil {
		return 0, err
	}
	return r.memoryRecorder.MaxNotificationID(ctx)
}

func (r *troubledRecorder) NewestNotificationID(ctx context.Context) (int64, error) {
	return r.MaxNotificationID(ctx)
}

// A caller reads its own writes from a follower's view.
func TestReadYourWrites(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		r := newRunner(t, gormstore.New(db), pipe(app(schoolName, school.New), followerLoop("F", count)))
		start(t, r)
		dogs, f := get[*school.TrainingSchool](t, r, schoolName), get[*follower](t, r, "F")
		dog := school.RegisterDog("Fido")
		for i := range 20 {
			dog.AddTrick("sit")
			recordings := save(t, dogs.Application, dog)
			reached(t, f.Application, recordings[len(recordings)-1].NotificationID)
			if got := tricksCounted(t, db, "sit"); got != i+1 {
				t.Fatalf("read %d, want %d", got, i+1)
			}
		}
	})
}

// courteous is a store with one writer at a time.
type courteous struct {
	*memory.Store
	capability.Provider
}

func newCourteous() *courteous {
	s := &courteous{Store: memory.New()}
	s.Provider = doctored.Capabilities(s.Store, func(c *capability.Store) { c.Yielder = s })
	return s
}

func (*courteous) YieldTime() time.Duration { return 25 * time.Millisecond }

// After a batch that took long a follower lets others write, if they would not
// find the moment otherwise.
func TestCourtesy(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		takes, gap time.Duration
	}{
		"long batches":  {15 * time.Millisecond, 25 * time.Millisecond},
		"short batches": {time.Millisecond, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := make(chan time.Time, 10)
				slow := func(context.Context, domain.Event, *collector) error {
					began <- time.Now()
					time.Sleep(test.takes)
					return nil
				}
				r := newRunner(t, newCourteous(), pipe(app(schoolName, school.New), followerLoop("F", slow)))
				dogs := get[*school.TrainingSchool](t, r, schoolName)
				start(t, r)
				synctest.Wait()
				register(t, dogs, 0, "Fido")
				synctest.Wait() // it is being processed
				register(t, dogs, 0, "Rex")
				first, second := <-began, <-began
				if got := second.Sub(first) - test.takes; got != test.gap {
					t.Errorf("a gap of %v, want %v", got, test.gap)
				}
			})
		})
	}
}
