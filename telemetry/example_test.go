package telemetry_test

import (
	"context"
	"fmt"
	"log"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/telemetry"
)

// An application that prints what it has saved and loaded.
func ExampleObserver() {
	ctx := context.Background()
	observer := &telemetry.Observer{
		SaveDone: func(_ context.Context, s telemetry.Save) {
			fmt.Println("saved", s.Events, "events:", s.Outcome())
		},
		LoadDone: func(_ context.Context, l telemetry.Load) {
			fmt.Println("loaded version", l.Version, "of a", l.Definition, "from", l.Source)
		},
	}
	dogs, err := school.New(application.WithStore(memory.New()), application.WithObserver(observer))
	if err != nil {
		log.Fatal(err)
	}
	if err := dogs.Register(ctx, "Fido"); err != nil {
		log.Fatal(err)
	}
	if err := dogs.AddTrick(ctx, "Fido", "roll over"); err != nil {
		log.Fatal(err)
	}
	// Output:
	// saved 1 events: ok
	// loaded version 1 of a Dog from events
	// saved 1 events: ok
}
