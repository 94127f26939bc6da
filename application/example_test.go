package application_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

// TrainingSchool is an application with commands and queries.
type TrainingSchool struct {
	*application.Application
	dogs *application.Repository[Dog]
}

func NewTrainingSchool(options ...application.Option) (*TrainingSchool, error) {
	app, err := application.New("TrainingSchool", options...)
	if err != nil {
		return nil, err
	}
	dogs, err := application.NewRepository(app, Dogs)
	return &TrainingSchool{Application: app, dogs: dogs}, err
}

func (s *TrainingSchool) Register(ctx context.Context, name string) error {
	return s.dogs.Save(ctx, RegisterDog(name))
}

func (s *TrainingSchool) AddTrick(ctx context.Context, name, trick string) error {
	return s.dogs.Update(ctx, DogID(name), func(d *Dog) error { d.AddTrick(trick); return nil })
}

func (s *TrainingSchool) Tricks(ctx context.Context, name string) ([]string, error) {
	dog, err := s.dogs.Get(ctx, DogID(name))
	if err != nil {
		return nil, err
	}
	return dog.Tricks, nil
}

// newTrainingSchool is for examples that are about something else.
func newTrainingSchool(options ...application.Option) *TrainingSchool {
	school, err := NewTrainingSchool(options...)
	if err != nil {
		log.Fatal(err)
	}
	return school
}

func Example() {
	ctx := context.Background()
	school, err := NewTrainingSchool()
	if err != nil {
		log.Fatal(err)
	}
	defer school.Close()
	if err := school.Register(ctx, "Fido"); err != nil {
		log.Fatal(err)
	}
	for _, trick := range []string{"roll over", "fetch ball"} {
		if err := school.AddTrick(ctx, "Fido", trick); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(school.Tricks(ctx, "Fido"))
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
	fmt.Println(again.dogs.Contains(ctx, DogID("Fido")))
	// Output: true <nil>
}

func ExampleApplication_Save() {
	school := newTrainingSchool()
	defer school.Close()
	saved, err := school.Save(context.Background(), RegisterDog("Fido"), RegisterDog("Rex"))
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
	ctx, school := context.Background(), newTrainingSchool()
	defer school.Close()
	if err := school.Register(ctx, "Fido"); err != nil {
		log.Fatal(err)
	}
	dog, err := school.dogs.Get(ctx, DogID("Fido"))
	fmt.Println(dog.Name, err)
	_, err = school.dogs.Get(ctx, DogID("Rex"))
	fmt.Println(errors.Is(err, application.ErrAggregateNotFound))
	// Output:
	// Fido <nil>
	// true
}

func ExampleRepository_GetAt() {
	ctx, school := context.Background(), newTrainingSchool()
	defer school.Close()
	if err := school.dogs.Save(ctx, dogWith("Fido", 3)); err != nil {
		log.Fatal(err)
	}
	dog, err := school.dogs.GetAt(ctx, DogID("Fido"), 2)
	fmt.Println(dog.Tricks, err)
	// Output: [trick 1] <nil>
}

func ExampleRepository_Update() {
	ctx, school := context.Background(), newTrainingSchool()
	defer school.Close()
	if err := school.Register(ctx, "Fido"); err != nil {
		log.Fatal(err)
	}
	attempts := 0
	err := school.dogs.Update(ctx, DogID("Fido"), func(d *Dog) error {
		if attempts++; attempts == 1 { // another writer is faster
			if err := school.AddTrick(ctx, "Fido", "fetch ball"); err != nil {
				return err
			}
		}
		d.AddTrick("roll over")
		return nil
	})
	fmt.Println(attempts, "attempts", err)
	fmt.Println(school.Tricks(ctx, "Fido"))
	// Output:
	// 2 attempts <nil>
	// [fetch ball roll over] <nil>
}

func ExampleWithSnapshotting() {
	ctx := context.Background()
	school := newTrainingSchool(application.WithSnapshotting(map[string]int{"Dog": 5}))
	defer school.Close()
	if err := school.dogs.Save(ctx, dogWith("Fido", 12)); err != nil {
		log.Fatal(err)
	}
	for snapshot, err := range bridge.Of(school).Snapshots().Get(ctx, DogID("Fido"), persistence.EventRange{}) {
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

func ExampleWithCorrelationID() {
	school := newTrainingSchool()
	defer school.Close()
	ctx := application.WithCorrelationID(context.Background(), "request 42")
	saved, err := school.Save(ctx, RegisterDog("Fido"))
	fmt.Println(saved.Events[0].Metadata, err)
	// Output: map[correlation_id:request 42] <nil>
}

func ExampleNewEventSourcedLog() {
	ctx, school := context.Background(), newTrainingSchool()
	defer school.Close()
	registrations := domain.DefineLog("DogLog", domain.Entry("Registered", "name of the dog"))
	all, err := application.NewEventSourcedLog(school.Application, registrations, uuid.New())
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"Fido", "Rex"} {
		entry, err := all.Trigger(ctx, name)
		if err != nil {
			log.Fatal(err)
		}
		if _, err := school.Save(ctx, RegisterDog(name), entry); err != nil {
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
