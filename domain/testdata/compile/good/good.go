// Package good is right, and compiles.
package good

import (
	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
)

type Dog struct{ domain.Aggregate }

type Barked struct{}

func (Barked) Apply(*Dog) {}

type Cat struct{ domain.Aggregate }

type Meowed struct{}

func (Meowed) Apply(*Cat) {}

var Dogs = domain.Define("Dog", domain.On("Barked", Barked{}))

var Cats = domain.Define("Cat", domain.On("Meowed", Meowed{}))

func Bark(id uuid.UUID) *Dog {
	dog := Dogs.Create(id, Barked{})
	domain.Trigger(dog, Barked{})
	return dog
}
