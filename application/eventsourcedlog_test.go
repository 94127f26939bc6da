package application_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

type (
	DogListed   struct{ DogID uuid.UUID }
	DogUnlisted struct{ DogID uuid.UUID }
)

var dogLog = domain.Define("DogLog", domain.Entry("Listed", DogListed{}), domain.Entry("Unlisted", DogUnlisted{}))

func TestEventSourcedLog(t *testing.T) {
	ctx := t.Context()
	s := newSchool(t)
	logID := uuid.New()
	log := expect.Must(application.NewEventSourcedLog(s.Application, dogLog, logID))
	fido, rex := school.DogID("Fido"), school.DogID("Rex")

	for name, get := range map[string]func() (domain.Event, bool, error){
		"first": func() (domain.Event, bool, error) { return log.First(ctx) },
		"last":  func() (domain.Event, bool, error) { return log.Last(ctx) },
	} {
		if event, ok, err := get(); ok || err != nil {
			t.Errorf("%s of an empty log: got %+v, %v, %v, want no event and no error", name, event, ok, err)
		}
	}
	trigger := func(data any) domain.Events {
		t.Helper()
		events, err := log.Trigger(ctx, data)
		if err != nil {
			t.Fatal(err)
		}
		return events
	}

	t.Run("is not stored until it is saved", func(t *testing.T) {
		if got := trigger(DogListed{fido}); got[0].OriginatorVersion != 1 || got[0].Topic != "DogLog.Listed" {
			t.Errorf("got %+v, want OriginatorVersion 1 and Topic %q", got, "DogLog.Listed")
		}
		if _, ok, err := log.Last(ctx); ok || err != nil {
			t.Errorf("got %v, %v, want no event and no error", ok, err)
		}
	})
	t.Run("is saved together with the aggregate", func(t *testing.T) {
		if got := s.save(t, school.RegisterDog("Fido"), trigger(DogListed{fido})); len(got) != 2 || got[1].Topic != "DogLog.Listed" {
			t.Errorf("got %+v, want 2 of them and Topic %q", got, "DogLog.Listed")
		}
	})
	t.Run("is not saved without the aggregate", func(t *testing.T) {
		if _, err := s.Save(ctx, school.RegisterDog("Fido"), trigger(DogListed{fido})); !persistence.IsConflict(err) {
			t.Errorf("got %v, want a conflict", err)
		}
		if last, _, err := log.Last(ctx); err != nil || last.OriginatorVersion != 1 {
			t.Errorf("got %+v, %v, want no error and OriginatorVersion 1", last, err)
		}
	})
	t.Run("with versions of the caller's", func(t *testing.T) {
		s.save(t, domain.Events{dogLog.NewEvent(logID, 2, DogListed{rex}, domain.At(day(2000))),
			dogLog.NewEvent(logID, 3, DogUnlisted{fido})})
		s.save(t, trigger(DogListed{fido}))
	})
	t.Run("first and last", func(t *testing.T) {
		first, ok, err := log.First(ctx)
		if err != nil || !ok || first.Data != any(DogListed{fido}) || first.OriginatorVersion != 1 {
			t.Errorf("got %+v, %v, %v, want Fido at version 1", first, ok, err)
		}
		last, ok, err := log.Last(ctx)
		if err != nil || !ok || last.Data != any(DogListed{fido}) || last.OriginatorVersion != 4 {
			t.Errorf("got %+v, %v, %v, want Fido at version 4", last, ok, err)
		}
	})
	t.Run("get", func(t *testing.T) {
		for _, test := range []struct {
			r    persistence.EventRange
			want string
		}{
			{persistence.EventRange{}, "[1 2 3 4]"},
			{persistence.EventRange{From: 3}, "[3 4]"},
			{persistence.EventRange{Before: 3}, "[1 2]"},
			{persistence.EventRange{From: 2, Before: 4}, "[2 3]"},
			{persistence.EventRange{Limit: 1}, "[1]"},
			{persistence.EventRange{Descending: true}, "[4 3 2 1]"},
			{persistence.EventRange{Descending: true, Limit: 2, Before: 4}, "[3 2]"},
		} {
			var got []int64
			for event, err := range log.Get(ctx, test.r) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, event.OriginatorVersion)
			}
			if fmt.Sprint(got) != test.want {
				t.Errorf("%+v: got %v, want %s", test.r, got, test.want)
			}
		}
	})
	t.Run("several types of events", func(t *testing.T) {
		listed := map[uuid.UUID]bool{}
		for event, err := range log.Get(ctx, persistence.EventRange{Before: 4}) {
			if err != nil {
				t.Fatal(err)
			}
			switch data := event.Data.(type) {
			case DogListed:
				listed[data.DogID] = true
			case DogUnlisted:
				delete(listed, data.DogID)
			}
		}
		if len(listed) != 1 || !listed[rex] {
			t.Errorf("got %v, want only Rex", listed)
		}
	})
	t.Run("two writers conflict", func(t *testing.T) {
		a, b := trigger(DogListed{fido}), trigger(DogListed{rex})
		s.save(t, a)
		_, err := s.Save(ctx, b)
		if got := expect.ErrorAs[*persistence.ConflictError](t, err); got.Version != 5 || got.Current != 5 {
			t.Errorf("got %+v, want Version 5 and Current 5", got)
		}
		s.save(t, trigger(DogListed{rex}))
	})
	t.Run("refuses what is not in its schema", func(t *testing.T) {
		defer func() {
			got := recover()
			if err, ok := got.(error); !ok || !strings.Contains(err.Error(), "event type string is not defined") {
				t.Errorf("got the panic %v, want that the event type is not defined", got)
			}
		}()
		_, _ = log.Trigger(ctx, "text")
	})
	t.Run("of another id is another log", func(t *testing.T) {
		other := expect.Must(application.NewEventSourcedLog(s.Application, dogLog, uuid.New()))
		if _, ok, err := other.First(ctx); ok || err != nil {
			t.Errorf("got %v, %v, want no event and no error", ok, err)
		}
	})
}

func TestEventSourcedLogOfBrokenStore(t *testing.T) {
	store := newFaulty()
	s := newSchool(t, application.WithStore(store))
	log := expect.Must(application.NewEventSourcedLog(s.Application, dogLog, uuid.New()))
	down := fmt.Errorf("down")
	store.beforeRead(func() error { return down })
	if events, err := log.Trigger(t.Context(), DogListed{}); events != nil || err != down {
		t.Errorf("got %v, %v; want %v", events, err, down)
	}
}

// A log with the definition of an aggregate is the aggregate's history.
func TestEventSourcedLogOfAnAggregate(t *testing.T) {
	ctx, store := t.Context(), memory.New()
	s, id := newSchool(t, application.WithStore(store)), school.DogID("Fido")
	s.save(t, dogWith("Fido", 2))
	history := func(definition domain.Schema) *application.EventSourcedLog {
		app := newApplication(t, s.Name(), application.WithStore(store))
		return expect.Must(application.NewEventSourcedLog(app, definition, id))
	}
	// A program of today makes two events of each TrickAdded, or none.
	silent := domain.Define("Dog", domain.On("Registered", school.Registered{}), domain.On("Praised", praised{}),
		domain.UpcastToMany[school.Dog]("TrickAdded", []any{praised{}}, func(school.TrickAdded) []any { return nil }))
	const registered = "1 school.Registered"
	for _, test := range []struct {
		name        string
		definition  domain.Schema
		events      []string
		first, last string
	}{
		{"as stored", school.Dogs, []string{registered, "2 school.TrickAdded", "3 school.TrickAdded"}, registered, "3 school.TrickAdded"},
		{"upcast to many", praisedDogs, []string{registered, "2 application_test.learned", "2 application_test.praised",
			"3 application_test.learned", "3 application_test.praised"}, registered, "3 application_test.praised"},
		{"upcast to none", silent, []string{registered}, registered, registered},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := history(test.definition)
			show := func(e domain.Event) string { return fmt.Sprintf("%d %T", e.OriginatorVersion, e.Data) }
			read := func(r persistence.EventRange) (events []string) {
				for event, err := range log.Get(ctx, r) {
					if err != nil {
						t.Fatal(err)
					}
					events = append(events, show(event))
				}
				return events
			}
			if got := read(persistence.EventRange{}); !slices.Equal(got, test.events) {
				t.Errorf("got %q, want %q", got, test.events)
			}
			backward := slices.Clone(test.events)
			slices.Reverse(backward)
			if got := read(persistence.EventRange{Descending: true}); !slices.Equal(got, backward) {
				t.Errorf("descending: got %q, want %q", got, backward)
			}
			first, ok, err := log.First(ctx)
			if !ok || err != nil || show(first) != test.first {
				t.Errorf("first: got %s, %v, %v, want %s", show(first), ok, err, test.first)
			}
			last, ok, err := log.Last(ctx)
			if !ok || err != nil || show(last) != test.last {
				t.Errorf("last: got %s, %v, %v, want %s", show(last), ok, err, test.last)
			}
			events, err := log.Trigger(ctx, school.TrickAdded{Trick: "sit"})
			if events != nil || !errors.Is(err, persistence.ErrProgramming) {
				t.Errorf("trigger: got %v, %v, want a persistence.ErrProgramming", events, err)
			}
			expect.ErrorText(t, err, `TrainingSchool: trigger an event of the definition "Dog": ProgrammingError: `+
				"it is of an aggregate, which a log only reads; trigger events of the aggregate itself")
		})
	}
}
