package system_test

import (
	"context"
	"fmt"
	"log"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// Diplomas has a printer print a diploma for each trick, and keeps its number.
type Diplomas struct {
	*system.Follower
	printed int
	numbers map[string]int
}

// print calls the printer, outside of any transaction.
func (d *Diplomas) print(_ context.Context, e domain.Recorded[school.TrickAdded]) (number int, err error) {
	d.printed++
	fmt.Println("printing a diploma for", e.Data.Trick)
	return d.printed, nil
}

// keep is called with the number in the transaction that moves the position.
func (d *Diplomas) keep(_ context.Context, e domain.Recorded[school.TrickAdded], number int) error {
	d.numbers[e.Data.Trick] = number
	return nil
}

func newDiplomas(options ...application.Option) (*Diplomas, error) {
	app, err := application.New("Diplomas", options...)
	if err != nil {
		return nil, err
	}
	d := &Diplomas{numbers: map[string]int{}}
	d.Follower, err = system.NewFollower(app, system.Effect(d.print, d.keep))
	return d, err
}

// A follower calls another service and keeps what it answers.
func ExampleEffect() {
	ctx := context.Background()
	store := application.WithStore(memory.New())
	dogs, err := school.New(store)
	if err != nil {
		log.Fatal(err)
	}
	diplomas, err := newDiplomas(store)
	if err != nil {
		log.Fatal(err)
	}
	sys, err := system.New(system.Pipe(dogs, diplomas))
	if err != nil {
		log.Fatal(err)
	}
	runner, err := system.NewSingleThreadedRunner(sys)
	if err != nil {
		log.Fatal(err)
	}
	if err := runner.Start(ctx); err != nil {
		log.Fatal(err)
	}
	defer runner.Close()

	if err := dogs.Register(ctx, "Fido"); err != nil {
		log.Fatal(err)
	}
	if err := dogs.AddTrick(ctx, "Fido", "roll over"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(diplomas.numbers, runner.Err())
	// Output:
	// printing a diploma for roll over
	// map[roll over:1] <nil>
}
