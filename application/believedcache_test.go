package application_test

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

type initial struct {
	domain.Aggregate
	Letter any
}

type named struct{ Name string }

// Apply cuts the name inside of a character.
func (e named) Apply(i *initial) { i.Letter = e.Name[:2] }

var initials = domain.Define("Initial", domain.On("Named", named{}))

// An aggregate whose state cannot be encoded is read with a cache as it is
// without one.
func TestCacheOfAStateThatCannotBeEncoded(t *testing.T) {
	t.Parallel()
	var log logs
	app, err := application.New("School", application.WithStore(memory.New()), application.WithLogger(log.logger()),
		application.WithEnv(map[string]string{"AGGREGATE_CACHE_MAXSIZE": "10"}))
	if err != nil {
		t.Fatal(err)
	}
	repository := expect.Must(application.NewRepository(app, initials))
	id := uuid.New()
	if err := repository.Save(t.Context(), initials.Create(id, named{"Müller"})); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if got, err := repository.Get(t.Context(), id); err != nil || got.Letter != "M\xc3" {
			t.Fatalf("got %v, %v; want the state as it is", got, err)
		}
	}
	log.want(t, "not cached", id.String())
}

// A stream that was deleted and made anew is read anew, also in the layout that
// has no event ids.
func TestRewrittenStreamWithoutEventIDs(t *testing.T) {
	t.Parallel()
	ctx, store := t.Context(), memory.New()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	dogs := school.Dogs.WithClock(func() time.Time { now = now.Add(time.Second); return now })
	open := func(environment map[string]string) (*application.Application, *application.Repository[school.Dog]) {
		app, err := application.New("School", application.WithStore(store), application.WithPythonLayout(), application.WithEnv(environment))
		if err != nil {
			t.Fatal(err)
		}
		return app, expect.Must(application.NewRepository(app, dogs))
	}
	save := func(r *application.Repository[school.Dog], id uuid.UUID, name string) {
		dog := dogs.Create(id, school.Registered{Name: name})
		domain.Trigger(dog, school.TrickAdded{Trick: "sit"})
		if err := r.Save(ctx, dog); err != nil {
			t.Fatal(err)
		}
	}
	_, here := open(map[string]string{"AGGREGATE_CACHE_MAXSIZE": "10"})
	elsewhere, there := open(nil)
	id := uuid.New()
	save(here, id, "Fido")
	if dog, err := here.Get(ctx, id); err != nil || dog.Name != "Fido" {
		t.Fatalf("got %v, %v; want Fido", dog, err)
	}
	if _, err := elsewhere.Log().DeleteOriginator(ctx, id); err != nil {
		t.Fatal(err)
	}
	save(there, id, "Rex")
	if dog, err := here.Get(ctx, id); err != nil || dog.Name != "Rex" {
		t.Errorf("got %v, %v; want Rex", dog, err)
	}
}
