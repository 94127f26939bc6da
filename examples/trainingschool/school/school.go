// Package school has the aggregate Dog and the application TrainingSchool. It
// knows nothing of databases: the program around it chooses one.
package school

import (
	"context"

	"github.com/eventsourcing-go/eventsourcing/application"
)

// TrainingSchool is the application. Its methods are what the school does.
type TrainingSchool struct {
	*application.Application
	dogs *application.Repository[Dog]
}

// New makes the application, whose store the options or the environment choose.
func New(options ...application.Option) (*TrainingSchool, error) {
	app, err := application.New("TrainingSchool", options...)
	if err != nil {
		return nil, err
	}
	dogs, err := application.NewRepository(app, Dogs)
	return &TrainingSchool{app, dogs}, err
}

// Register makes a dog known. One that is known is a *persistence.ConflictError.
func (s *TrainingSchool) Register(ctx context.Context, name string) error {
	return s.dogs.Save(ctx, RegisterDog(name))
}

// AddTrick has a dog learn a trick. One that is not known is an
// application.ErrAggregateNotFound.
func (s *TrainingSchool) AddTrick(ctx context.Context, name, trick string) error {
	return s.dogs.Update(ctx, DogID(name), func(d *Dog) error { d.AddTrick(trick); return nil })
}

// Tricks returns the tricks that a dog knows, oldest first.
func (s *TrainingSchool) Tricks(ctx context.Context, name string) ([]string, error) {
	dog, err := s.dogs.Get(ctx, DogID(name))
	if err != nil {
		return nil, err
	}
	return dog.Tricks, nil
}
