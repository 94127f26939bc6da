package application_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

// TrainingSchool is an application with commands and queries.
type TrainingSchool struct {
	*application.Application
	dogs *application.Repository[school.Dog]
}

func NewTrainingSchool(options ...application.Option) (*TrainingSchool, error) {
	app, err := application.New("TrainingSchool", options...)
	if err != nil {
		return nil, err
	}
	dogs, err := application.NewRepository(app, school.Dogs)
	return &TrainingSchool{Application: app, dogs: dogs}, err
}

func (s *TrainingSchool) Register(ctx context.Context, name string) error {
	return s.dogs.Save(ctx, school.RegisterDog(name))
}

func (s *TrainingSchool) AddTrick(ctx context.Context, name, trick string) error {
	return s.dogs.Update(ctx, school.DogID(name), func(d *school.Dog) error { d.AddTrick(trick); return nil })
}

func (s *TrainingSchool) Tricks(ctx context.Context, name string) ([]string, error) {
	dog, err := s.dogs.Get(ctx, school.DogID(name))
	if err != nil {
		return nil, err
	}
	return dog.Tricks, nil
}

// newTrainingSchool is for examples that are about something else.
func newTrainingSchool(options ...application.Option) *TrainingSchool {
	app, err := NewTrainingSchool(options...)
	if err != nil {
		log.Fatal(err)
	}
	return app
}

func Example() {
	ctx := context.Background()
	app, err := NewTrainingSchool()
	if err != nil {
		log.Fatal(err)
	}
	defer app.Close()
	if err := app.Register(ctx, "Fido"); err != nil {
		log.Fatal(err)
	}
	for _, trick := range []string{"roll over", "fetch ball"} {
		if err := app.AddTrick(ctx, "Fido", trick); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(app.Tricks(ctx, "Fido"))
	// Output: [roll over fetch ball] <nil>
}

func ExampleNew() {
	_, err := application.New("TrainingSchool", application.WithEnv(map[string]string{
		"TRAININGSCHOOL_AGGREGATE_CACHE_MAXSIZE": "1e3",
		"IS_SNAPSHOTTING_ENABLED":                "maybe",
	}))
	fmt.Println(err)
	// Output:
	// application "TrainingSchool": IS_SNAPSHOTTING_ENABLED: "maybe" is not a truth value; use y or n
	// TRAININGSCHOOL_AGGREGATE_CACHE_MAXSIZE: "1e3" is not a whole number from 1 to 10000000
}

func ExampleWithStore() {
	ctx, store := context.Background(), memory.New() // or gormstore.New(db)
	defer store.Close()
	if err := newTrainingSchool(application.WithStore(store)).Register(ctx, "Fido"); err != nil {
		log.Fatal(err)
	}
	again := newTrainingSchool(application.WithStore(store)) // another process
	fmt.Println(again.dogs.Contains(ctx, school.DogID("Fido")))
	// Output: true <nil>
}

func ExampleApplication_Save() {
	app := newTrainingSchool()
	defer app.Close()
	saved, err := app.Save(context.Background(), school.RegisterDog("Fido"), school.RegisterDog("Rex"))
	for _, event := range saved.Events {
		fmt.Println(event.NotificationID, event.Topic, event.Data)
	}
	fmt.Println(saved.Position, err)
	// Output:
	// 1 Dog.Registered {Fido}
	// 2 Dog.Registered {Rex}
	// 2 <nil>
}

func ExampleRepository_Get() {
	ctx, app := context.Background(), newTrainingSchool()
	defer app.Close()
	if err := app.Register(ctx, "Fido"); err != nil {
		log.Fatal(err)
	}
	dog, err := app.dogs.Get(ctx, school.DogID("Fido"))
	fmt.Println(dog.Name, err)
	_, err = app.dogs.Get(ctx, school.DogID("Rex"))
	fmt.Println(errors.Is(err, application.ErrAggregateNotFound))
	// Output:
	// Fido <nil>
	// true
}

func ExampleRepository_GetAt() {
	ctx, app := context.Background(), newTrainingSchool()
	defer app.Close()
	if err := app.dogs.Save(ctx, dogWith("Fido", 3)); err != nil {
		log.Fatal(err)
	}
	dog, err := app.dogs.GetAt(ctx, school.DogID("Fido"), 2)
	fmt.Println(dog.Tricks, err)
	// Output: [trick 1] <nil>
}

func ExampleRepository_Update() {
	ctx, app := context.Background(), newTrainingSchool()
	defer app.Close()
	if err := app.Register(ctx, "Fido"); err != nil {
		log.Fatal(err)
	}
	attempts := 0
	err := app.dogs.Update(ctx, school.DogID("Fido"), func(d *school.Dog) error {
		if attempts++; attempts == 1 { // another writer is faster
			if err := app.AddTrick(ctx, "Fido", "fetch ball"); err != nil {
				return err
			}
		}
		d.AddTrick("roll over")
		return nil
	})
	fmt.Println(attempts, "attempts", err)
	fmt.Println(app.Tricks(ctx, "Fido"))
	// Output:
	// 2 attempts <nil>
	// [fetch ball roll over] <nil>
}

func ExampleWithSnapshotting() {
	ctx := context.Background()
	app := newTrainingSchool(application.WithSnapshotting(map[string]int{"Dog": 5}))
	defer app.Close()
	if err := app.dogs.Save(ctx, dogWith("Fido", 12)); err != nil {
		log.Fatal(err)
	}
	for snapshot, err := range bridge.Of(app).Snapshots().Get(ctx, school.DogID("Fido"), persistence.EventRange{}) {
		fmt.Println(snapshot.Topic, snapshot.OriginatorVersion, err)
	}
	// Output:
	// Dog 5 <nil>
	// Dog 10 <nil>
}

func ExampleWithEnv() {
	_, err := application.New("TrainingSchool", application.WithEnv(map[string]string{
		"COMPRESSOR_TOPIC":                      "zlib",
		"TRAININGSCHOOL_SNAPSHOTTING_INTERVALS": "Dog=50",
		"CIPHER_TOPIC":                          "aes",
	}))
	fmt.Println(err)
	// Output: application "TrainingSchool": CIPHER_TOPIC cannot be used: a cipher needs a key: set CIPHER_KEY or CIPHER_KEY_FILE
}

func ExampleWithMetadata() {
	app := newTrainingSchool()
	defer app.Close()
	ctx := application.WithMetadata(context.Background(), domain.Metadata{domain.CorrelationID: "request 42"})
	saved, err := app.Save(ctx, school.RegisterDog("Fido"))
	fmt.Println(saved.Events[0].Metadata, err)
	// Output: map[correlation_id:request 42] <nil>
}

func ExampleNewEventSourcedLog() {
	ctx, app := context.Background(), newTrainingSchool()
	defer app.Close()
	registrations := domain.Define("DogLog", domain.Entry("Registered", "name of the dog"))
	all, err := application.NewEventSourcedLog(app.Application, registrations, uuid.New())
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"Fido", "Rex"} {
		entry, err := all.Trigger(ctx, name)
		if err != nil {
			log.Fatal(err)
		}
		if _, err := app.Save(ctx, school.RegisterDog(name), entry); err != nil {
			log.Fatal(err)
		}
	}
	for event, err := range all.Get(ctx, persistence.EventRange{}) {
		fmt.Println(event.OriginatorVersion, event.Data, err)
	}
	// Output:
	// 1 Fido <nil>
	// 2 Rex <nil>
}
