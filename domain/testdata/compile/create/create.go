// Package create creates an aggregate with an event of another one.
package create

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

func Bark(id uuid.UUID) *Dog { return Dogs.Create(id, Meowed{}) }
