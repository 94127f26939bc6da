package application_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/txscope"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

func TestUpdate(t *testing.T) {
	addTrick := func(d *school.Dog) error { d.AddTrick("mine"); return nil }

	t.Run("loads, changes and saves", func(t *testing.T) {
		s := newSchool(t)
		s.save(t, school.RegisterDog("Fido"))
		if err := s.dogs.Update(t.Context(), school.DogID("Fido"), addTrick); err != nil {
			t.Fatal(err)
		}
		if dog := s.get(t, "Fido"); fmt.Sprint(dog.Tricks) != "[mine]" {
			t.Errorf("got %+v, want Tricks %q", dog, "[mine]")
		}
	})
	t.Run("of an unknown aggregate", func(t *testing.T) {
		s := newSchool(t)
		err := s.dogs.Update(t.Context(), school.DogID("Fido"), func(*school.Dog) error { t.Error("change was called"); return nil })
		expect.ErrorIs(t, err, application.ErrAggregateNotFound)
	})
	t.Run("of nothing", func(t *testing.T) {
		s := newSchool(t)
		s.save(t, school.RegisterDog("Fido"))
		if err := s.dogs.Update(t.Context(), school.DogID("Fido"), func(*school.Dog) error { return nil }); err != nil {
			t.Error(err)
		}
	})
	t.Run("an error of change is returned as it is and nothing is saved", func(t *testing.T) {
		for name, options := range map[string][]application.Option{
			"no cache": nil, "cache": {cached("10")},
		} {
			s := newSchool(t, options...)
			s.save(t, school.RegisterDog("Fido"))
			s.get(t, "Fido")
			broken := errors.New("a rule is broken")
			err := s.dogs.Update(t.Context(), school.DogID("Fido"), func(d *school.Dog) error { d.AddTrick("mine"); return broken })
			if err != broken {
				t.Errorf("%s: got %v, want %v itself", name, err, broken)
			}
			if dog := s.get(t, "Fido"); dog.Version() != 1 || len(dog.Tricks) != 0 || len(dog.PendingEvents()) != 0 {
				t.Errorf("%s: got %+v, want the dog as it was", name, dog)
			}
		}
	})
	t.Run("repeats after a conflict", func(t *testing.T) {
		for name, options := range map[string][]application.Option{
			"no cache": nil, "cache": {cached("10")}, "stale cache": {cached("10", "AGGREGATE_CACHE_FASTFORWARD", "n")},
		} {
			synctest.Test(t, func(t *testing.T) {
				store := memory.New()
				s := newSchool(t, append(options, application.WithStore(store))...)
				s.save(t, school.RegisterDog("Fido"))
				calls := 0
				err := s.dogs.Update(t.Context(), school.DogID("Fido"), func(d *school.Dog) error {
					if calls++; calls <= 3 {
						addTricks(t, store, "Fido", fmt.Sprint("rival ", calls))
					}
					return addTrick(d)
				})
				if err != nil || calls != 4 {
					t.Errorf("%s: got %v after %d calls, want success after 4", name, err, calls)
				}
				if dog := s.get(t, "Fido"); fmt.Sprint(dog.Tricks) != "[rival 1 rival 2 rival 3 mine]" {
					t.Errorf("%s: got tricks %v, want %q", name, dog.Tricks, "[rival 1 rival 2 rival 3 mine]")
				}
			})
		}
	})
	t.Run("repeats when the database asks for it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			store := newFaulty()
			s := newSchool(t, application.WithStore(store))
			s.save(t, school.RegisterDog("Fido"))
			store.failNext(&persistence.Error{Class: persistence.ErrRetryTransaction, Op: "insert"})
			if err := s.dogs.Update(t.Context(), school.DogID("Fido"), addTrick); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("does not repeat other errors", func(t *testing.T) {
		store := newFaulty()
		s := newSchool(t, application.WithStore(store))
		s.save(t, school.RegisterDog("Fido"))
		for _, class := range []error{persistence.ErrOperational, persistence.ErrOutcomeUnknown} {
			store.failNext(&persistence.Error{Class: class, Op: "insert"})
			if err := s.dogs.Update(t.Context(), school.DogID("Fido"), addTrick); !errors.Is(err, class) {
				t.Errorf("got %v, want %v", err, class)
			}
		}
	})
	t.Run("gives up after 100 attempts, with growing pauses", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			store := memory.New()
			s := newSchool(t, application.WithStore(store))
			s.save(t, school.RegisterDog("Fido"))
			start := time.Now()
			var pauses []time.Duration
			err := s.dogs.Update(t.Context(), school.DogID("Fido"), func(d *school.Dog) error {
				pauses = append(pauses, time.Since(start))
				start = time.Now()
				addTricks(t, store, "Fido", "rival")
				return addTrick(d)
			})
			if !persistence.IsConflict(err) || len(pauses) != 100 {
				t.Errorf("got %v after %d attempts, want a conflict after 100", err, len(pauses))
			}
			window := time.Millisecond
			for i, pause := range pauses[1:] {
				if window = min(2*window, 64*time.Millisecond); pause < 0 || pause >= window {
					t.Errorf("pause %d: got %v, want less than %v", i+1, pause, window)
				}
			}
		})
	})
	t.Run("ends with its context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			store := memory.New()
			s := newSchool(t, application.WithStore(store))
			s.save(t, school.RegisterDog("Fido"))
			bored := errors.New("bored")
			ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, bored)
			defer cancel()
			start := time.Now()
			err := s.dogs.Update(ctx, school.DogID("Fido"), func(d *school.Dog) error {
				addTricks(t, store, "Fido", "rival")
				return addTrick(d)
			})
			if !errors.Is(err, bored) || !persistence.IsConflict(err) {
				t.Errorf("got %v, want the last error and the cause", err)
			}
			if got := time.Since(start); got != 100*time.Millisecond {
				t.Errorf("took %v, want 100ms", got)
			}
		})
	})
	t.Run("has one attempt inside a transaction", func(t *testing.T) {
		store := memory.New()
		s := newSchool(t, application.WithStore(store))
		s.save(t, school.RegisterDog("Fido"))
		ctx, tx := txscope.New(t.Context())
		defer tx.RolledBack(t.Context())
		calls := 0
		err := s.dogs.Update(ctx, school.DogID("Fido"), func(d *school.Dog) error {
			calls++
			addTricks(t, store, "Fido", "rival")
			return addTrick(d)
		})
		if !persistence.IsConflict(err) || calls != 1 {
			t.Errorf("got %v after %d calls, want a conflict after one", err, calls)
		}
	})
	t.Run("of many goroutines loses nothing", func(t *testing.T) {
		for name, options := range map[string][]application.Option{"no cache": nil, "cache": {cached("10")}} {
			s := newSchool(t, options...)
			s.save(t, school.RegisterDog("Fido"))
			var wait sync.WaitGroup
			for i := range 10 {
				wait.Go(func() {
					err := s.dogs.Update(t.Context(), school.DogID("Fido"), func(d *school.Dog) error { d.AddTrick(fmt.Sprint(i)); return nil })
					if err != nil {
						t.Error(err)
					}
				})
			}
			wait.Wait()
			if dog := s.get(t, "Fido"); len(dog.Tricks) != 10 {
				t.Errorf("%s: got %d tricks, want 10", name, len(dog.Tricks))
			}
		}
	})
}

func TestUpdateAt(t *testing.T) {
	for name, options := range map[string][]application.Option{
		"no cache": nil, "stale cache": {cached("10", "AGGREGATE_CACHE_FASTFORWARD", "n")},
	} {
		t.Run(name, func(t *testing.T) {
			store := memory.New()
			s := newSchool(t, append(options, application.WithStore(store))...)
			s.save(t, school.RegisterDog("Fido"))
			s.get(t, "Fido")
			addTricks(t, store, "Fido", "sit")
			calls := 0
			change := func(d *school.Dog) error { calls++; d.AddTrick("mine"); return nil }

			conflict := func(version, current int64) {
				t.Helper()
				err := s.dogs.UpdateAt(t.Context(), school.DogID("Fido"), version, change)
				got := expect.ErrorAs[*persistence.ConflictError](t, err)
				if got.Version != version+1 || got.Current != current || !got.Stale || got.OriginatorID != school.DogID("Fido") {
					t.Errorf("got %+v, want a conflict of version %d with %d", got, version+1, current)
				}
			}
			conflict(1, 2)
			conflict(3, 2)
			if calls != 0 {
				t.Errorf("change was called %d times with an aggregate at another version, want 0", calls)
			}
			if err := s.dogs.UpdateAt(t.Context(), school.DogID("Fido"), 2, change); err != nil || calls != 1 {
				t.Fatalf("got %v after %d calls, want success after 1", err, calls)
			}
			broken := errors.New("a rule is broken")
			if err := s.dogs.UpdateAt(t.Context(), school.DogID("Fido"), 3, func(*school.Dog) error { return broken }); err != broken {
				t.Errorf("got %v, want %v itself", err, broken)
			}
			err := s.dogs.UpdateAt(t.Context(), school.DogID("Fido"), 3, func(d *school.Dog) error {
				addTricks(t, store, "Fido", "rival")
				return change(d)
			})
			if got := expect.ErrorAs[*persistence.ConflictError](t, err); got.Version != 4 || !got.Stale || calls != 2 {
				t.Errorf("got %+v after %d calls, want a conflict of version 4 and no repetition", got, calls)
			}
			expect.ErrorIs(t, s.dogs.UpdateAt(t.Context(), school.DogID("Rex"), 1, change), application.ErrAggregateNotFound)
		})
	}
}
