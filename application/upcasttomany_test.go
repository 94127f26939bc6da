package application_test

import (
	"slices"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/checker"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

type praised struct{}

func (praised) Apply(d *school.Dog) { d.Tricks = append(d.Tricks, "praise") }

type learned struct{ Trick string }

func (e learned) Apply(d *school.Dog) { d.Tricks = append(d.Tricks, e.Trick) }

// praisedDogs is the definition of a program that reads each TrickAdded of the
// past as two events.
var praisedDogs = domain.Define("Dog",
	domain.On("Registered", school.Registered{}),
	domain.On("Learned", learned{}),
	domain.On("Praised", praised{}),
	domain.UpcastToMany[school.Dog]("TrickAdded", []any{learned{}, praised{}},
		func(e school.TrickAdded) []any { return []any{learned(e), praised{}} }),
	domain.SnapshotVersion[school.Dog](2),
)

// Aggregates keep the versions of their stored events, however they are loaded.
func TestUpcastToMany(t *testing.T) {
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
			dogs := expect.Must(application.NewRepository(app, praisedDogs))
			tricks := []string{"trick 1", "praise", "trick 2", "praise"}
			for version := int64(3); version <= 5; version++ { // each round saves one event more
				dog, err := dogs.Get(ctx, school.DogID("Fido"))
				if err != nil {
					t.Fatal(err)
				}
				if dog.Version() != version || !slices.Equal(dog.Tricks, tricks) {
					t.Errorf("got version %d, tricks %q, want version %d, tricks %q", dog.Version(), dog.Tricks, version, tricks)
				}
				domain.Trigger(dog, praised{})
				if err := dogs.Save(ctx, dog); err != nil {
					t.Fatal(err)
				}
				tricks = append(tricks, "praise")
				if name != "snapshots" {
					continue
				}
				// Version 2 is an event that means two.
				if err := dogs.TakeSnapshotAt(ctx, school.DogID("Fido"), 2); err != nil {
					t.Fatal(err)
				}
				if err := dogs.TakeSnapshot(ctx, school.DogID("Fido")); err != nil {
					t.Fatal(err)
				}
			}
			if dog, err := dogs.GetAt(ctx, school.DogID("Fido"), 2); err != nil || !slices.Equal(dog.Tricks, tricks[:2]) {
				t.Errorf("at version 2: got %q, %v, want no error and Tricks %v", dog.Tricks, err, tricks[:2])
			}
			// A writer that has read an older version meets a conflict, as
			// ever.
			stale := school.RegisterDog("Fido")
			if err := before.dogs.Save(ctx, stale); !persistence.IsConflict(err) {
				t.Errorf("got %v, want a conflict", err)
			}
			problems, err := checker.Check(ctx, checker.Target{Application: app.Name(), Recorder: bridge.Of(app).Recorder(), Mapper: bridge.Of(app).Mapper()})
			if err != nil || len(problems) > 0 {
				t.Errorf("check: %v, %v, want no error and 0 problems", problems, err)
			}
		})
	}
}
