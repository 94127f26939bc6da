package domaintest_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/domain/domaintest"
)

type Dog struct {
	domain.Aggregate
	Name   string
	Tricks []string
}

type Registered struct{ Name string }

func (e Registered) Apply(d *Dog) { d.Name = e.Name }

type TrickAdded struct{ Trick string }

func (e TrickAdded) Apply(d *Dog) { d.Tricks = append(d.Tricks, e.Trick) }

var Dogs = domain.Define("Dog", domain.On("Registered", Registered{}), domain.On("TrickAdded", TrickAdded{}))

var errKnown = errors.New("the dog knows that trick")

func RegisterDog(name string) (*Dog, error) {
	if name == "" {
		return nil, errors.New("a dog needs a name")
	}
	return Dogs.Create(uuid.New(), Registered{Name: name}), nil
}

func (d *Dog) AddTrick(trick string) error {
	for _, known := range d.Tricks {
		if known == trick {
			return fmt.Errorf("%w: %s", errKnown, trick)
		}
	}
	domain.Trigger(d, TrickAdded{Trick: trick})
	return nil
}

func addTrick(trick string) func(*Dog) error {
	return func(d *Dog) error { return d.AddTrick(trick) }
}

func TestScenarios(t *testing.T) {
	t.Run("a command that makes the aggregate", func(t *testing.T) {
		domaintest.Create(t, Dogs, func() (*Dog, error) { return RegisterDog("Fido") }).Then(Registered{Name: "Fido"})
	})
	t.Run("a command that refuses to make it", func(t *testing.T) {
		outcome := domaintest.Create(t, Dogs, func() (*Dog, error) { return RegisterDog("") })
		if outcome.Err() == nil || outcome.Aggregate() != nil || outcome.Events() != nil {
			t.Errorf("got %v, %v, %v, want an error alone", outcome.Err(), outcome.Aggregate(), outcome.Events())
		}
	})
	t.Run("a command", func(t *testing.T) {
		outcome := domaintest.Given(t, Dogs, Registered{Name: "Fido"}).When(addTrick("sit")).Then(TrickAdded{Trick: "sit"})
		if got := outcome.Aggregate(); got.ID() != domaintest.ID || got.Version() != 2 || got.Name != "Fido" {
			t.Errorf("got %+v, want ID %v, Version 2 and Name %q", got, domaintest.ID, "Fido")
		}
		if got := outcome.Events(); len(got) != 1 || got[0].OriginatorVersion != 2 || got[0].Topic != "Dog.TrickAdded" {
			t.Errorf("got %+v, want 1 of them, OriginatorVersion 2 and Topic %q", got, "Dog.TrickAdded")
		}
	})
	t.Run("a broken rule", func(t *testing.T) {
		domaintest.Given(t, Dogs, Registered{Name: "Fido"}, TrickAdded{Trick: "sit"}).When(addTrick("sit")).ThenError(errKnown)
	})
	t.Run("nothing to do", func(t *testing.T) {
		domaintest.Given(t, Dogs, Registered{Name: "Fido"}).When(func(*Dog) error { return nil }).Then()
	})
	t.Run("times by the definition's clock", func(t *testing.T) {
		noon := time.Date(2024, 1, 2, 12, 0, 0, 0, time.UTC)
		dogs := Dogs.WithClock(func() time.Time { return noon })
		outcome := domaintest.Given(t, dogs, Registered{Name: "Fido"}).When(addTrick("sit"))
		if got, want := outcome.Aggregate().CreatedOn(), noon; !got.Equal(want) {
			t.Errorf("got created on %v, want %v", got, want)
		}
		if got, want := outcome.Events()[0].Timestamp, noon.Add(time.Microsecond); !got.Equal(want) {
			t.Errorf("got time %v, want %v", got, want)
		}
	})
	t.Run("a fold", func(t *testing.T) {
		accounts := domain.Define("Account", domain.Evolve("Deposited", func(balance int, amount int) int { return balance + amount }))
		domaintest.Given(t, accounts, 3).
			When(func(f *domain.Fold[int]) error { f.Trigger(f.State() * 2); return nil }).
			Then(6)
	})
	t.Run("versions from another one than 1", func(t *testing.T) {
		dogs := domain.Define("Dog", domain.FirstVersion[Dog](0), domain.On("Registered", Registered{}))
		outcome := domaintest.Given(t, dogs, Registered{Name: "Fido"}).When(func(*Dog) error { return nil }).Then()
		if got := outcome.Aggregate().Version(); got != 0 {
			t.Errorf("got version %d, want 0", got)
		}
	})
}

// recorder is a testing.TB that keeps what a test reports.
type recorder struct {
	testing.TB
	reports []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.reports = append(r.reports, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// reports runs a test that is to fail.
func reports(test func(tb testing.TB)) string {
	r := &recorder{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		test(r)
	}()
	<-done
	return strings.Join(r.reports, "\n")
}

func TestFailures(t *testing.T) {
	fido := Registered{Name: "Fido"}
	for _, test := range []struct {
		name string
		test func(tb testing.TB)
		want string
	}{
		{"another event", func(tb testing.TB) {
			domaintest.Given(tb, Dogs, fido).When(addTrick("sit")).Then(TrickAdded{Trick: "roll over"})
		}, `got events 
	domaintest_test.TrickAdded{Trick:"sit"}, want 
	domaintest_test.TrickAdded{Trick:"roll over"}`},
		{"too few events", func(tb testing.TB) {
			domaintest.Given(tb, Dogs, fido).When(func(*Dog) error { return nil }).Then(TrickAdded{Trick: "sit"})
		}, "got events none"},
		{"too many events", func(tb testing.TB) {
			domaintest.Given(tb, Dogs, fido).When(addTrick("sit")).Then()
		}, "want none"},
		{"an error instead of events", func(tb testing.TB) {
			domaintest.Given(tb, Dogs, fido, TrickAdded{Trick: "sit"}).When(addTrick("sit")).Then(TrickAdded{Trick: "sit"})
		}, `got error "the dog knows that trick: sit"`},
		{"another error", func(tb testing.TB) {
			domaintest.Given(tb, Dogs, fido).When(func(*Dog) error { return errors.New("other") }).ThenError(errKnown)
		}, "got error other, want the dog knows that trick"},
		{"events instead of an error", func(tb testing.TB) {
			domaintest.Given(tb, Dogs, fido).When(addTrick("sit")).ThenError(errKnown)
		}, "got error <nil>"},
		{"events beside an error", func(tb testing.TB) {
			domaintest.Given(tb, Dogs, fido).When(func(d *Dog) error { _ = d.AddTrick("sit"); return errKnown }).ThenError(errKnown)
		}, "want none"},
		{"a command that assigns to a field", func(tb testing.TB) {
			domaintest.Given(tb, Dogs, fido).When(func(d *Dog) error { d.Name = "Rex"; return nil }).Then()
		}, "does not change by its events alone"},
		{"a given event that is not defined", func(tb testing.TB) {
			domaintest.Given(tb, Dogs, "a string")
		}, "given event string cannot be made"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := reports(test.test); !strings.Contains(got, test.want) {
				t.Errorf("got %q, want it to contain %q", got, test.want)
			}
		})
	}
}
