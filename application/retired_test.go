package application_test

import (
	"testing"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/checker"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

// laterDogs is the definition of a program that has no code for tricks, and
// whose snapshots are made anew for that reason.
var laterDogs = domain.Define("Dog",
	domain.On("Registered", school.Registered{}),
	domain.Retired[school.Dog]("TrickAdded"),
	domain.SnapshotVersion[school.Dog](2),
)

// A program that has retired an event reads what older ones have stored, from
// the events, a snapshot and the cache, and goes on from there.
func TestRetiredEvents(t *testing.T) {
	for name, options := range map[string][]application.Option{
		"events":    nil,
		"snapshots": {application.WithSnapshotting(nil)},
		"cache":     {cached("10")},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, store, logs := t.Context(), memory.New(), &logs{}
			options := append(options, application.WithStore(store), application.WithLogger(logs.logger()))
			before := newSchool(t, options...)
			before.save(t, dogWith("Fido", 2))
			if name == "snapshots" {
				if err := before.dogs.TakeSnapshot(ctx, school.DogID("Fido")); err != nil {
					t.Fatal(err)
				}
			}
			app := newApplication(t, before.Name(), options...)
			dogs := expect.Must(application.NewRepository(app, laterDogs))
			for want := int64(3); want <= 5; want++ { // each round saves one event more
				dog, err := dogs.Get(ctx, school.DogID("Fido"))
				if err != nil {
					t.Fatal(err)
				}
				if dog.Version() != want || len(dog.Tricks) != 0 || dog.Name == "" {
					t.Errorf("got version %d, tricks %v, want version %d and no tricks", dog.Version(), dog.Tricks, want)
				}
				domain.Trigger(dog, school.Registered{Name: "Rex"})
				if err := dogs.Save(ctx, dog); err != nil {
					t.Fatal(err)
				}
				if name != "snapshots" {
					continue
				}
				if err := dogs.TakeSnapshot(ctx, school.DogID("Fido")); err != nil {
					t.Fatal(err)
				}
			}
			if dog, err := dogs.GetAt(ctx, school.DogID("Fido"), 2); err != nil || dog.Version() != 2 || len(dog.Tricks) != 0 {
				t.Errorf("got %+v, %v, want no error, Version 2 and 0 Tricks", dog, err)
			}
			problems, err := checker.Check(ctx, checker.Target{Application: app.Name(), Recorder: bridge.Of(app).Recorder(), Mapper: bridge.Of(app).Mapper()})
			if err != nil || len(problems) > 0 {
				t.Errorf("check: %v, %v, want no error and 0 problems", problems, err)
			}
		})
	}
}
