package system_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// lockable is a store in memory whose logs can be locked. It notes how long it
// was left alone between two transactions.
type lockable struct {
	slowToLock
	lockWait time.Duration
	locks    int       // how often the log was locked
	ended    time.Time // the last transaction
	pauses   []time.Duration
}

func (s *lockable) Transaction(ctx context.Context, fn func(context.Context) error) error {
	if !s.ended.IsZero() {
		s.pauses = append(s.pauses, time.Since(s.ended))
	}
	defer func() { s.ended = time.Now() }()
	return s.slowToLock.Transaction(ctx, fn)
}

func (s *lockable) ProcessRecorder(application string) (persistence.ProcessRecorder, error) {
	recorder, err := s.Store.ProcessRecorder(application)
	return lockableRecorder{slowRecorder{recorder.(memoryRecorder), s.wait}, s}, err
}

type lockableRecorder struct {
	slowRecorder
	store *lockable
}

func (r lockableRecorder) LockLog(context.Context) error {
	time.Sleep(r.store.lockWait)
	r.store.locks++
	return nil
}

// A follower that conflicts again soon after it has stopped locking its log
// locks it for longer, because a conflict is a batch done twice.
func TestLogIsLockedForLongerAfterEachConflict(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const events = 220
		store := &lockable{slowToLock: newSlowToLock(0)}
		r, err := newConcurrent(newSystem(t, counting()), application.WithStore(store))
		closing(t, r, err)
		r.SetBatchEvents(1)
		conflicts, locks, undisturbed := 0, 0, 0
		get[*counters](t, r, countersName).become(func(context.Context, domain.Event, *collector) error {
			isLocked := store.locks > locks
			locks = store.locks
			switch {
			case isLocked:
			case conflicts < 4:
				conflicts++
				return &persistence.ConflictError{Application: countersName}
			default:
				undisturbed++
			}
			return nil
		})
		register(t, get[*school.TrainingSchool](t, r, schoolName), events-1, "Fido")
		start(t, r)
		waitForHeads(t, r)
		if want := 10 + 40 + 160; conflicts != 4 || store.locks < want || undisturbed > 0 {
			t.Errorf("%d conflicts, %d batches with the lock and %d without it; want a conflict after %d and no more",
				conflicts, store.locks, undisturbed, want)
		}
	})
}

// A save that has waited long, as in a deadlock that ends another writer, is
// contention although it has succeeded: the next batches lock the log.
func TestSaveThatHasWaitedIsContention(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		wait  time.Duration
		locks int
	}{"no wait": {0, 0}, "a wait for a sync": {50 * time.Millisecond, 0}, "a deadlock": {time.Second, 10}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := &lockable{slowToLock: newSlowToLock(test.wait)}
				r, err := newConcurrent(newSystem(t, counting()), application.WithStore(store))
				closing(t, r, err)
				r.SetBatchEvents(1)
				counters := get[*counters](t, r, countersName)
				calls := 0
				counters.become(func(ctx context.Context, event domain.Event, processing *collector) error {
					if calls++; calls > 2 {
						return nil // what saves nothing has no wait
					}
					return counters.count(ctx, event, processing)
				})
				register(t, get[*school.TrainingSchool](t, r, schoolName), 20, "Fido")
				start(t, r)
				waitForHeads(t, r)
				if store.locks != test.locks {
					t.Errorf("%d batches have locked the log, want %d", store.locks, test.locks)
				}
			})
		})
	}
}

// A batch may meet another writer before its handlers save anything, and before
// any batch has: it is repeated as well.
func TestContentionBeforeAnySave(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &victim{lockable: lockable{slowToLock: newSlowToLock(0)}, deadlocks: 1}
		r, err := newConcurrent(newSystem(t, counting()), application.WithStore(store))
		closing(t, r, err)
		register(t, get[*school.TrainingSchool](t, r, schoolName), 4, "Fido")
		start(t, r)
		waitForHeads(t, r)
		if store.locks == 0 || store.transactions < 2 {
			t.Errorf("%d transactions, of which %d have locked the log; want the first one repeated with the lock", store.transactions, store.locks)
		}
	})
}

// A batch that locks the log may be the victim of deadlocks all the same. It is
// repeated without a failure, but not for ever.
func TestDeadlocksUnderTheLock(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		deadlocks int
		fails     bool
	}{"a few": {11, false}, "too many": {12, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var logged syncBuffer
				store := &victim{lockable: lockable{slowToLock: newSlowToLock(0)}, deadlocks: test.deadlocks}
				r, err := newConcurrent(newSystem(t, counting()), application.WithStore(store),
					application.WithLogger(slog.New(slog.NewTextHandler(&logged, nil))))
				closing(t, r, err)
				register(t, get[*school.TrainingSchool](t, r, schoolName), 4, "Fido")
				start(t, r)
				waitForHeads(t, r)
				if got := strings.Contains(logged.String(), "level=WARN"); got != test.fails {
					t.Errorf("after %d deadlocks a failure was logged: %t, want %t: %s", test.deadlocks, got, test.fails, &logged)
				}
			})
		})
	}
}

// victim is a store whose first transactions end as the victims of deadlocks,
// before they do anything.
type victim struct {
	lockable
	deadlocks    int
	transactions int
}

func (s *victim) Transaction(ctx context.Context, fn func(context.Context) error) error {
	if s.transactions++; s.transactions <= s.deadlocks {
		return &persistence.Error{Class: persistence.ErrRetryTransaction, Op: "lock the position", Err: errors.New("deadlock")}
	}
	return s.lockable.Transaction(ctx, fn)
}

// A batch that has waited for the lock of its log works for longer than it has
// waited, also after the batch before, and then leaves the log alone for about
// as long as it has waited for the lock.
func TestLockedBatchWorksForLongerThanItHasWaited(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		wait  time.Duration
		sizes []int // of the batches after the conflict, at 15 ms an event
		pause time.Duration
	}{
		"no wait":     {0, []int{2, 2}, 10 * time.Millisecond},
		"a wait":      {30 * time.Millisecond, []int{6, 9}, 30 * time.Millisecond},
		"a long wait": {time.Second, []int{14, 14}, 40 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := &lockable{slowToLock: newSlowToLock(0), lockWait: test.wait}
				r, err := newConcurrent(newSystem(t, counting()), application.WithStore(store))
				closing(t, r, err)
				var sizes []int
				locks := -1
				get[*counters](t, r, countersName).become(func(context.Context, domain.Event, *collector) error {
					time.Sleep(15 * time.Millisecond)
					if locks < 0 {
						locks = 0
						return &persistence.ConflictError{Application: countersName}
					}
					if store.locks > locks {
						locks, sizes = store.locks, append(sizes, 0)
					}
					sizes[len(sizes)-1]++
					return nil
				})
				register(t, get[*school.TrainingSchool](t, r, schoolName), 40, "Fido")
				start(t, r)
				waitForHeads(t, r)
				if got := sizes[:2]; !slices.Equal(got, test.sizes) {
					t.Errorf("batches of %v events, want %v first", sizes, test.sizes)
				}
				if got := store.pauses[1]; got != test.pause {
					t.Errorf("the log was left alone for %v after a batch, want %v", got, test.pause)
				}
			})
		})
	}
}

// A follower that locks its log leaves it to other writers after each batch:
// those that have waited need the time to read and save again.
func TestPauseAfterLockedBatch(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		conflicts int
		want      time.Duration
	}{
		"alone":     {0, 0},
		"contended": {1, 10 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := &lockable{slowToLock: newSlowToLock(0)}
				r, err := newConcurrent(newSystem(t, counting()), application.WithStore(store))
				closing(t, r, err)
				conflicts := test.conflicts
				get[*counters](t, r, countersName).become(func(context.Context, domain.Event, *collector) error {
					time.Sleep(15 * time.Millisecond)
					if conflicts > 0 {
						conflicts--
						return &persistence.ConflictError{Application: countersName}
					}
					return nil
				})
				register(t, get[*school.TrainingSchool](t, r, schoolName), 8, "Fido")
				start(t, r)
				waitForHeads(t, r)
				if err := r.Stop(t.Context()); err != nil {
					t.Fatal(err)
				}
				if len(store.pauses) < 3 {
					t.Fatalf("%d pauses, want at least 3", len(store.pauses))
				}
				for _, pause := range store.pauses {
					if pause != test.want {
						t.Errorf("the log was left alone for %v after a batch, want %v: %v", pause, test.want, store.pauses)
					}
				}
			})
		})
	}
}
