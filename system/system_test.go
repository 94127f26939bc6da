package system_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"

	"gorm.io/gorm"
)

type Counter struct {
	domain.Aggregate
	N int
}
type Counted struct{}

func (Counted) Apply(c *Counter) { c.N++ }

var Counters = domain.Define("Counter", domain.On("Counted", Counted{}))

type counting struct {
	*application.Application
	counters *application.Repository[Counter]
	fail     func(domain.Event) error
}

func newCounting(options ...application.Option) (*counting, error) {
	app, err := application.New("Counting", options...)
	if err != nil {
		return nil, err
	}
	return &counting{Application: app, counters: application.NewRepository(app, Counters)}, nil
}

func (c *counting) Policy(ctx context.Context, e domain.Event, p *application.ProcessingEvent) error {
	if c.fail != nil {
		if err := c.fail(e); err != nil {
			return err
		}
	}
	added, ok := e.Data.(school.TrickAdded)
	if !ok {
		return nil
	}
	counter, err := c.counters.Get(ctx, domain.NewIDv5(added.Trick))
	if errors.Is(err, application.ErrAggregateNotFound) {
		p.Collect(Counters.Create(domain.NewIDv5(added.Trick), Counted{}))
		return nil
	}
	if err != nil {
		return err
	}
	domain.Trigger(counter, Counted{})
	p.Collect(counter)
	return nil
}

func (c *counting) count(t *testing.T, trick string) int {
	counter, err := c.counters.Get(t.Context(), domain.NewIDv5(trick))
	if errors.Is(err, application.ErrAggregateNotFound) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return counter.N
}

func newSystem(t *testing.T) *system.System {
	s, err := system.New(system.Pipe(system.App("TrainingSchool", school.New), system.App("Counting", newCounting)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func each(t *testing.T, test func(t *testing.T, store persistence.Factory)) {
	t.Run("memory", func(t *testing.T) { test(t, memory.New()) })
	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		db := open(t)
		if err := gormstore.AutoMigrate(db); err != nil {
			t.Fatal(err)
		}
		test(t, gormstore.New(db))
	})
}

func TestSingleThreaded(t *testing.T) {
	each(t, func(t *testing.T, store persistence.Factory) {
		r, err := system.NewSingleThreadedRunner(newSystem(t), application.WithStore(store))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		dogs, _ := system.Get[*school.TrainingSchool](r)
		counts, err := system.Get[*counting](r)
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		if err := dogs.Register(ctx, "Fido"); err != nil {
			t.Fatal(err)
		}
		if err := dogs.AddTrick(ctx, "Fido", "sit"); err != nil {
			t.Fatal(err)
		}
		if err := r.Start(ctx); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := dogs.AddTrick(ctx, "Fido", "sit"); err != nil {
				t.Fatal(err)
			}
		}
		if n := counts.count(t, "sit"); n != 4 {
			t.Fatal(n, r.Err())
		}
		poison := errors.New("poison")
		counts.fail = func(e domain.Event) error {
			if added, ok := e.Data.(school.TrickAdded); ok && added.Trick == "bite" {
				return poison
			}
			return nil
		}
		for _, trick := range []string{"sit", "bite", "sit"} {
			if err := dogs.AddTrick(ctx, "Fido", trick); err != nil {
				t.Fatal(err)
			}
		}
		if n := counts.count(t, "sit"); n != 5 {
			t.Fatal(n)
		}
		if err := r.Err(); !errors.Is(err, poison) {
			t.Fatal(err)
		}
		statuses, err := r.Statuses(ctx)
		if err != nil || statuses[0].State != system.Retrying || statuses[0].Lag() < 2 {
			t.Fatal(statuses, err)
		}
		counts.fail = nil
		if err := r.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		if n := counts.count(t, "sit"); n != 6 {
			t.Fatal(n)
		}
	})
}

func TestConcurrent(t *testing.T) {
	each(t, func(t *testing.T, store persistence.Factory) {
		r, err := system.NewRunner(newSystem(t), application.WithStore(store))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		dogs, _ := system.Get[*school.TrainingSchool](r)
		counts, _ := system.Get[*counting](r)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := dogs.Register(ctx, "Fido"); err != nil {
			t.Fatal(err)
		}
		if err := r.Start(ctx); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if err := dogs.AddTrick(ctx, "Fido", "sit"); err != nil {
				t.Fatal(err)
			}
		}
		head, err := dogs.Recorder().MaxNotificationID(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := persistence.WaitFor(ctx, counts.Recorder(), "TrainingSchool", head); err != nil {
			t.Fatal(err)
		}
		if n := counts.count(t, "sit"); n != 20 {
			t.Fatal(n)
		}
		if err := r.Stop(ctx); err != nil {
			t.Fatal(err)
		}
	})
}
