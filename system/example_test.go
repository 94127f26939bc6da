package system_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// Trick is an aggregate: how many dogs know a trick.
type Trick struct {
	domain.Aggregate
	Dogs int
}

// Learned says that one more dog knows the trick.
type Learned struct{}

// Apply counts the dog.
func (Learned) Apply(t *Trick) { t.Dogs++ }

// Tricks gives the aggregate and its event their stored names.
var Tricks = domain.Define("Trick", domain.On("Learned", Learned{}))

// TrickID makes the id of a trick out of its name.
func TrickID(name string) domain.ID { return domain.NewIDv5("/tricks/" + name) }

// Popularity is a follower of the training school that makes events.
type Popularity struct {
	*system.Follower
	tricks *application.Repository[Trick]
}

// NewPopularity makes the follower.
func NewPopularity(options ...application.Option) (*Popularity, error) {
	app, err := application.New("Popularity", options...)
	if err != nil {
		return nil, err
	}
	p := &Popularity{}
	if p.tricks, err = application.NewRepository(app, Tricks); err != nil {
		return nil, err
	}
	p.Follower, err = system.NewFollower(app, system.On(p.learned))
	return p, err
}

// learned counts a dog that learns a trick. What it saves is stored together
// with the follower's position.
func (p *Popularity) learned(ctx context.Context, e domain.Recorded[school.TrickAdded]) error {
	err := p.tricks.Update(ctx, TrickID(e.Data.Trick), func(t *Trick) error { domain.Trigger(t, Learned{}); return nil })
	if errors.Is(err, application.ErrAggregateNotFound) {
		return p.tricks.Save(ctx, Tricks.Create(TrickID(e.Data.Trick), Learned{}))
	}
	return err
}

// Dogs returns how many dogs know a trick.
func (p *Popularity) Dogs(ctx context.Context, trick string) (int, error) {
	found, err := p.tricks.Get(ctx, TrickID(trick))
	if err != nil {
		return 0, err
	}
	return found.Dogs, nil
}

// For tests and commands: what a save recorded is processed when the save
// returns.
func ExampleNewSingleThreadedRunner() {
	ctx := context.Background()
	store := application.WithStore(memory.New())
	dogs, err := school.New(store)
	if err != nil {
		log.Fatal(err)
	}
	popularity, err := NewPopularity(store)
	if err != nil {
		log.Fatal(err)
	}
	sys, err := system.New(system.Pipe(dogs, popularity))
	if err != nil {
		log.Fatal(err)
	}
	runner, err := system.NewSingleThreadedRunner(sys)
	if err != nil {
		log.Fatal(err)
	}
	defer runner.Close()

	if err := runner.Start(ctx); err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"Fido", "Rex"} {
		if err := errors.Join(dogs.Register(ctx, name), dogs.AddTrick(ctx, name, "roll over")); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(popularity.Dogs(ctx, "roll over"))
	// Output: 2 <nil>
}

// For services: followers run in the background until ctx ends.
func ExampleNewRunner() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	store := application.WithStore(memory.New())
	dogs, err := school.New(store)
	if err != nil {
		log.Fatal(err)
	}
	popularity, err := NewPopularity(store)
	if err != nil {
		log.Fatal(err)
	}
	sys, err := system.New(system.Pipe(dogs, popularity))
	if err != nil {
		log.Fatal(err)
	}
	runner, err := system.NewRunner(sys, system.Config{PollInterval: time.Second})
	if err != nil {
		log.Fatal(err)
	}
	if err := runner.Start(ctx); err != nil { // or Run, which returns when ctx ends
		log.Fatal(err)
	}
	defer runner.Close()

	dog := school.RegisterDog("Fido")
	dog.AddTrick("roll over")
	if _, err := dogs.Save(ctx, dog); err != nil {
		log.Fatal(err)
	}
	if err := runner.WaitFor(ctx, popularity); err != nil {
		log.Fatal(err)
	}
	fmt.Println(popularity.Dogs(ctx, "roll over"))
	// Output: 1 <nil>
}

// A caller that has the position of its save waits for just that.
func ExampleFollower_WaitForPosition() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	store := application.WithStore(memory.New())
	dogs, err := school.New(store)
	if err != nil {
		log.Fatal(err)
	}
	popularity, err := NewPopularity(store)
	if err != nil {
		log.Fatal(err)
	}
	sys, err := system.New(system.Pipe(dogs, popularity))
	if err != nil {
		log.Fatal(err)
	}
	runner, err := system.NewRunner(sys, system.Config{})
	if err != nil {
		log.Fatal(err)
	}
	if err := runner.Start(ctx); err != nil {
		log.Fatal(err)
	}
	defer runner.Close()

	dog := school.RegisterDog("Fido")
	dog.AddTrick("roll over")
	saved, err := dogs.Save(ctx, dog)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(popularity.WaitForPosition(ctx, dogs, saved.Position))
	// Output: <nil>
}
