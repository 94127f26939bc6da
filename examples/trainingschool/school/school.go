// Package school is the training school for dogs: the aggregate Dog (dog.go)
// and the application TrainingSchool (school.go). It knows nothing of
// databases; the program around it chooses the store of its events.
package school

import (
	"context"

	"github.com/eventsourcing-go/eventsourcing/application"
)

// TrainingSchool is the application: its methods are all that can be done with
// dogs and asked about them.
type TrainingSchool struct {
	*application.Application
	dogs *application.Repository[Dog]
}

// New makes the application. Its store is up to the options and the
// environment.
func New(options ...application.Option) (*TrainingSchool, error) {
	app, err := application.New("TrainingSchool", options...)
	if err != nil {
		return nil, err
	}
	dogs, err := application.NewRepository(app, Dogs)
	return &TrainingSchool{app, dogs}, err
}

// Register makes a dog known to the school. A dog that is known already is a
// *persistence.ConflictError.
func (s *TrainingSchool) Register(ctx context.Context, name string) error {
	return s.dogs.Save(ctx, RegisterDog(name))
}

// AddTrick has a dog learn a trick. A dog that is not known is an
// application.ErrAggregateNotFound.
func (s *TrainingSchool) AddTrick(ctx context.Context, name, trick string) error {
	return s.dogs.Update(ctx, DogID(name), func(d *Dog) error { d.AddTrick(trick); return nil })
}

// Tricks returns the tricks that a dog knows, in the order in which it learned
// them.
func (s *TrainingSchool) Tricks(ctx context.Context, name string) ([]string, error) {
	dog, err := s.dogs.Get(ctx, DogID(name))
	if err != nil {
		return nil, err
	}
	return dog.Tricks, nil
}
