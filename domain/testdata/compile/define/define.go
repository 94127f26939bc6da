// Package define defines an event of another aggregate.
package define

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

var Dogs = domain.Define("Dog", domain.On("Barked", Barked{}), domain.On("Meowed", Meowed{}))

func Bark(id uuid.UUID) *Dog { return Dogs.Create(id, Barked{}) }
