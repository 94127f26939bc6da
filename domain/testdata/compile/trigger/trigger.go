// Package trigger triggers an event of another aggregate.
package trigger

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

func Bark(dog *Dog, _ uuid.UUID) { domain.Trigger(dog, Meowed{}) }
