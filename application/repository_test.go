package application_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

func TestGet(t *testing.T) {
	s := newSchool(t)
	saved := dogWith("Fido", 2)
	s.save(t, saved)
	dog := s.get(t, "Fido")
	if dog == saved {
		t.Error("got the aggregate that was saved, want one of its own")
	}
	if dog.ID() != saved.ID() || dog.Version() != 3 || dog.Name != "Fido" || fmt.Sprint(dog.Tricks) != "[trick 1 trick 2]" ||
		dog.CreatedOn() != saved.CreatedOn() || dog.ModifiedOn() != saved.ModifiedOn() || len(dog.PendingEvents()) != 0 {
		t.Errorf("got %+v, want %+v", dog, saved)
	}
}

func TestGetUnknown(t *testing.T) {
	s := newSchool(t)
	id := uuid.New()
	_, err := s.dogs.Get(t.Context(), id)
	if !errors.Is(err, application.ErrAggregateNotFound) || !errors.Is(err, domain.ErrEventSourcing) {
		t.Errorf("%v is no ErrAggregateNotFound", err)
	}
	expect.ErrorText(t, err, fmt.Sprintf("TrainingSchool: Dog %s not found", id))
}

func TestGetOfAnotherKind(t *testing.T) {
	s := newSchool(t)
	accounts := expect.Must(application.NewRepository(s.Application, Accounts))
	account := Accounts.Create(uuid.New(), Opened{Owner: "Alice"})
	s.save(t, account)
	_, err := s.dogs.Get(t.Context(), account.ID())
	if got := expect.ErrorAs[*eventtype.PayloadError](t, err); got.Topic != "Account.Opened" || got.Definition != "Dog" {
		t.Errorf("got %+v, want Topic %q and Definition %q", got, "Account.Opened", "Dog")
	}
	if _, err := accounts.Get(t.Context(), account.ID()); err != nil {
		t.Error(err)
	}
}

func TestGetAt(t *testing.T) {
	for name, options := range map[string][]application.Option{
		"without snapshots": nil,
		"with snapshots":    {application.WithSnapshotting(map[string]int{"Dog": 2})},
		"with a cache":      {cached("10")},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSchool(t, options...)
			ctx, id := t.Context(), school.DogID("Fido")
			s.save(t, dogWith("Fido", 3))
			check := func(current int64) {
				t.Helper()
				for version := int64(1); version <= current; version++ {
					dog, err := s.dogs.GetAt(ctx, id, version)
					if err != nil || dog.Version() != version || int64(len(dog.Tricks)) != version-1 {
						t.Errorf("version %d: got %+v, %v, want no error and %v", version, dog, err, version-1)
					}
				}
				if dog := s.get(t, "Fido"); dog.Version() != current || int64(len(dog.Tricks)) != current-1 {
					t.Errorf("got %+v, want version %d", dog, current)
				}
			}
			check(4)
			if err := s.dogs.Update(ctx, id, func(d *school.Dog) error { d.AddTrick("trick 4"); return nil }); err != nil {
				t.Fatal(err)
			}
			check(5)
			for _, version := range []int64{6, 100, math.MaxInt64} {
				_, err := s.dogs.GetAt(ctx, id, version)
				expect.ErrorIs(t, err, application.ErrAggregateNotFound)
				expect.ErrorText(t, err, fmt.Sprintf("TrainingSchool: Dog %s not found at version %d: it is at version 5", id, version))
			}
			for _, version := range []int64{0, -1, math.MinInt64} {
				_, err := s.dogs.GetAt(ctx, id, version)
				expect.ErrorAs[*invalid.Error](t, err)
				if !errors.Is(err, persistence.ErrProgramming) {
					t.Errorf("version %d: %v is no ErrProgramming", version, err)
				}
			}
			unknown := uuid.New()
			_, err := s.dogs.GetAt(ctx, unknown, 1)
			expect.ErrorIs(t, err, application.ErrAggregateNotFound)
			expect.ErrorText(t, err, fmt.Sprintf("TrainingSchool: Dog %s not found", unknown))
			s.logs.want(t)
		})
	}
}

func TestFirstVersions(t *testing.T) {
	for _, first := range []int64{0, 2} {
		t.Run(fmt.Sprint(first), func(t *testing.T) {
			dogs := domain.Define("Dog", domain.FirstVersion[school.Dog](first), domain.On("Registered", school.Registered{}), domain.On("TrickAdded", school.TrickAdded{}))
			app := newApplication(t, "TrainingSchool", application.WithSnapshotting(nil), cached("10"))
			repository := expect.Must(application.NewRepository(app, dogs))
			id, ctx := uuid.New(), t.Context()
			_, err := repository.Get(ctx, id)
			expect.ErrorIs(t, err, application.ErrAggregateNotFound)
			if err := repository.Save(ctx, dogs.Create(id, school.Registered{Name: "Fido"})); err != nil {
				t.Fatal(err)
			}
			if err := repository.TakeSnapshot(ctx, id); err != nil {
				t.Fatal(err)
			}
			if err := repository.Update(ctx, id, func(d *school.Dog) error { d.AddTrick("sit"); return nil }); err != nil {
				t.Fatal(err)
			}
			if dog, err := repository.Get(ctx, id); err != nil || dog.Version() != first+1 {
				t.Errorf("got %+v, %v, want no error and Version %v", dog, err, first+1)
			}
			if dog, err := repository.GetAt(ctx, id, first); err != nil || dog.Version() != first || dog.Name != "Fido" {
				t.Errorf("got %+v, %v, want no error, Version %v and Name %q", dog, err, first, "Fido")
			}
			_, err = repository.GetAt(ctx, id, first-1)
			expect.ErrorAs[*invalid.Error](t, err)
			_, err = repository.GetAt(ctx, id, first+2)
			expect.ErrorIs(t, err, application.ErrAggregateNotFound)
			expect.Contains(t, err.Error(), fmt.Sprintf("it is at version %d", first+1))
		})
	}
}

func TestContains(t *testing.T) {
	store := newFaulty()
	s := newSchool(t, application.WithStore(store))
	s.save(t, school.RegisterDog("Fido"))
	for name, want := range map[string]bool{"Fido": true, "Rex": false} {
		if got, err := s.dogs.Contains(t.Context(), school.DogID(name)); got != want || err != nil {
			t.Errorf("%s: got %v, %v; want %v", name, got, err, want)
		}
	}
	t.Run("decodes nothing", func(t *testing.T) {
		unknowing := newApplication(t, "TrainingSchool", application.WithStore(store), env("CIPHER_KEY", testKey))
		other := expect.Must(application.NewRepository(unknowing, domain.Define("Cat", domain.On("Registered", school.Registered{}))))
		if got, err := other.Contains(t.Context(), school.DogID("Fido")); !got || err != nil {
			t.Errorf("got %v, %v; want true", got, err)
		}
	})
	t.Run("reports trouble", func(t *testing.T) {
		down := errors.New("down")
		store.beforeRead(func() error { return down })
		if got, err := s.dogs.Contains(t.Context(), school.DogID("Fido")); got || !errors.Is(err, down) {
			t.Errorf("got %v, %v; want %v", got, err, down)
		}
		if _, err := s.dogs.Get(t.Context(), school.DogID("Fido")); !errors.Is(err, down) {
			t.Errorf("got %v, want %v", err, down)
		}
	})
}

func TestEndedContext(t *testing.T) {
	s := newSchool(t, application.WithSnapshotting(nil), cached("10"))
	s.save(t, school.RegisterDog("Fido"))
	s.get(t, "Fido")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	id, rex := school.DogID("Fido"), school.RegisterDog("Rex")
	for name, use := range map[string]func() error{
		"Save":         func() error { _, err := s.Save(ctx, rex); return err },
		"Get":          func() error { _, err := s.dogs.Get(ctx, id); return err },
		"GetAt":        func() error { _, err := s.dogs.GetAt(ctx, id, 1); return err },
		"Contains":     func() error { _, err := s.dogs.Contains(ctx, id); return err },
		"TakeSnapshot": func() error { return s.dogs.TakeSnapshot(ctx, id) },
		"Update":       func() error { return s.dogs.Update(ctx, id, func(*school.Dog) error { return nil }) },
	} {
		if err := use(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want %v", name, err, context.Canceled)
		}
	}
	if n := len(rex.PendingEvents()); n != 1 {
		t.Errorf("got %d pending events, want 1", n)
	}
}

func TestRepositoryPanics(t *testing.T) {
	type lossy struct {
		domain.Aggregate
		Name   string
		secret int
	}
	lossies := domain.Define[lossy]("Lossy")
	for _, test := range []struct {
		name    string
		want    string
		options []application.Option
		f       func(app *application.Application) error
	}{
		{"topic of another definition", `topic "Dog.Registered" is defined for both`, nil, func(app *application.Application) error {
			expect.Must(application.NewRepository(app, school.Dogs))
			_, err := application.NewRepository(app, domain.Define("Hound", domain.On("In", Opened{}, domain.StoredAs("Dog.Registered"))))
			return err
		}},
		{"snapshot topic of another definition", `topic "Dog" is defined for both`, nil, func(app *application.Application) error {
			expect.Must(application.NewRepository(app, school.Dogs))
			_, err := application.NewRepository(app, domain.Define("Hound", domain.FormerName[Account]("Dog")))
			return err
		}},
		{"log with a topic of another definition", `topic "Dog.Registered" is defined for both`, nil, func(app *application.Application) error {
			expect.Must(application.NewRepository(app, school.Dogs))
			_, err := application.NewEventSourcedLog(app, domain.Define("Dog", domain.Entry("Registered", "")), uuid.New())
			return err
		}},
		{"repository of a log", `definition "DogLog" cannot be used: it is of a log, which has no aggregates; use application.NewEventSourcedLog`, nil,
			func(app *application.Application) error {
				_, err := application.NewRepository(app, dogLog)
				return err
			}},
		{"state that snapshots would lose", "application.WithSnapshotting needs it: turn that off",
			[]application.Option{application.WithSnapshotting(nil)},
			func(app *application.Application) error {
				_, err := application.NewRepository(app, lossies)
				return err
			}},
		{"state that the cache would lose", "lossy.secret cannot be stored", []application.Option{cached("1")},
			func(app *application.Application) error {
				_, err := application.NewRepository(app, lossies)
				return err
			}},
		{"state that snapshots of the environment would lose", "SCHOOL_IS_SNAPSHOTTING_ENABLED needs it: turn that off, or give the definition a domain.State",
			[]application.Option{application.WithEnv(map[string]string{"TRAININGSCHOOL_IS_SNAPSHOTTING_ENABLED": "y"})},
			func(app *application.Application) error {
				_, err := application.NewRepository(app, lossies)
				return err
			}},
		{"setting of the cache", "; AGGREGATE_CACHE_MAXSIZE needs it: turn that off", []application.Option{cached("1")},
			func(app *application.Application) error {
				_, err := application.NewRepository(app, lossies)
				return err
			}},
		{"event that would lose a field", "cannot be stored", nil, func(app *application.Application) error {
			_, err := application.NewRepository(app, domain.Define("Fold", domain.Evolve("E", func(s int, _ struct{ hidden int }) int { return s })))
			return err
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			app := newApplication(t, "TrainingSchool", test.options...)
			err := expect.ErrorAs[*invalid.Error](t, test.f(app))
			if !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.What, "TrainingSchool: definition ") {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
			if !errors.Is(err, domain.ErrEventSourcing) || !errors.Is(err, persistence.ErrProgramming) {
				t.Errorf("%v has not its classes, want an error that is %v and that is %v", err, domain.ErrEventSourcing, persistence.ErrProgramming)
			}
		})
	}
	t.Run("not where nothing is lost", func(t *testing.T) {
		expect.Must(application.NewRepository(newApplication(t, "TrainingSchool"), lossies))
	})
	t.Run("not with State functions", func(t *testing.T) {
		type state struct {
			Name   string
			Secret int
		}
		cured := domain.Define("Lossy",
			domain.State(func(l *lossy) state { return state{l.Name, l.secret} }, func(s state) *lossy { return &lossy{Name: s.Name, secret: s.Secret} }))
		expect.Must(application.NewRepository(newApplication(t, "TrainingSchool", cached("1"), application.WithSnapshotting(nil)), cured))
	})
	t.Run("not for the same definition again", func(t *testing.T) {
		s := newSchool(t)
		expect.Must(application.NewRepository(s.Application, school.Dogs))
		expect.Must(application.NewRepository(s.Application, school.Dogs.WithClock(time.Now)))
	})
}
