package system_test

import (
	"context"
	"fmt"
	"log"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// Applause follows the training school and claps for every trick.
type Applause struct{ *application.Application }

// NewApplause makes the follower.
func NewApplause(options ...application.Option) (*Applause, error) {
	app, err := application.New("Applause", options...)
	if err != nil {
		return nil, err
	}
	return &Applause{app}, nil
}

// Policy implements system.Follower.
func (a *Applause) Policy(_ context.Context, event domain.Event, _ *application.ProcessingEvent) error {
	if added, ok := event.Data.(school.TrickAdded); ok {
		fmt.Println("applause for:", added.Trick)
	}
	return nil
}

// A follower processes what a save has recorded, before the save returns.
func ExampleNewSingleThreadedRunner() {
	ctx := context.Background()
	sys, err := system.New(system.Pipe(system.App("TrainingSchool", school.New), system.App("Applause", NewApplause)))
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
	dogs, err := system.Get[*school.TrainingSchool](runner)
	if err != nil {
		log.Fatal(err)
	}
	if err := dogs.Register(ctx, "Fido"); err != nil {
		log.Fatal(err)
	}
	if err := dogs.AddTrick(ctx, "Fido", "roll over"); err != nil {
		log.Fatal(err)
	}
	// Output: applause for: roll over
}
