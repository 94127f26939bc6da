package application_test

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/definitions"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

func TestDeleteOriginator(t *testing.T) {
	ctx := t.Context()
	for name, cache := range map[string]application.Option{"no cache": nil, "a cache": cached("10"), "a cache that is not brought up to date": staying("10")} {
		t.Run(name, func(t *testing.T) {
			s := newSchool(t, cache, application.WithStore(memory.New()), application.WithSnapshotting(map[string]int{"Dog": 2}))
			s.save(t, dogWith("Fido", 3))
			s.save(t, dogWith("Rex", 3))
			s.get(t, "Fido")
			deleted, err := s.Log().DeleteOriginator(ctx, school.DogID("Fido"))
			if want := (persistence.DeletedOriginator{Events: 4, Snapshots: 2}); err != nil || deleted != want {
				t.Fatalf("got %+v, %v; want %+v", deleted, err, want)
			}
			if _, err := s.dogs.Get(ctx, school.DogID("Fido")); !errors.Is(err, application.ErrAggregateNotFound) {
				t.Errorf("got %v, want that the dog is not found", err)
			}
			expect.ErrorIs(t, s.dogs.Update(ctx, school.DogID("Fido"), func(d *school.Dog) error { d.AddTrick("sit"); return nil }), application.ErrAggregateNotFound)
			s.save(t, school.RegisterDog("Fido"))
			if got := s.get(t, "Fido"); got.Version() != 1 || len(got.Tricks) != 0 {
				t.Errorf("got %+v, want a new dog", got)
			}
			if got := s.get(t, "Rex"); got.Version() != 4 {
				t.Errorf("got %+v, want Version 4", got)
			}
			s.logs.want(t)
		})
	}
	t.Run("of an unknown id", func(t *testing.T) {
		s := newSchool(t)
		if deleted, err := s.Log().DeleteOriginator(ctx, uuid.New()); err != nil || deleted != (persistence.DeletedOriginator{}) {
			t.Errorf("got %+v, %v, want no error and %v", deleted, err, (persistence.DeletedOriginator{}))
		}
	})
	t.Run("in a store that cannot", func(t *testing.T) {
		if _, err := newSchool(t, application.WithStore(newFaulty())).Log().DeleteOriginator(ctx, school.DogID("Fido")); !errors.Is(err, persistence.ErrNotSupported) {
			t.Errorf("got %v, want an error that is %v", err, persistence.ErrNotSupported)
		}
	})
}

// Another process has deleted the aggregate, or deleted it and saved another
// one under its id.
func TestCacheNoticesADeletion(t *testing.T) {
	for _, copies := range []string{"y", "n"} {
		t.Run("copies "+copies, func(t *testing.T) {
			ctx, store := t.Context(), memory.New()
			s := newSchool(t, application.WithStore(store), cached("10", "DEEPCOPY_FROM_AGGREGATE_CACHE", copies))
			other := newSchool(t, application.WithStore(store))
			s.save(t, dogWith("Fido", 3))
			s.get(t, "Fido")
			if _, err := other.Log().DeleteOriginator(ctx, school.DogID("Fido")); err != nil {
				t.Fatal(err)
			}
			if got, err := s.dogs.Get(ctx, school.DogID("Fido")); !errors.Is(err, application.ErrAggregateNotFound) {
				t.Fatalf("got %+v, %v; want that the dog is not found", got, err)
			}
			for _, tricks := range []int{3, 3, 5, 1} { // as many events as before, more, and fewer
				again := dogWith("Fido", tricks)
				again.Name = "another"
				other.save(t, again)
				got, dogs := s.get(t, "Fido"), definitions.Of(school.Dogs)
				if dogs.LastEventID(got) != dogs.LastEventID(again) || got.Version() != int64(tricks)+1 || len(got.Tricks) != tricks {
					t.Errorf("got %+v, want the dog that was saved last", got)
				}
				if _, err := other.Log().DeleteOriginator(ctx, school.DogID("Fido")); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
