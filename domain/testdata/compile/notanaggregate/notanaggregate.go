// Package notanaggregate defines a struct without an embedded Aggregate.
package notanaggregate

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

type Stone struct{ Weight int }

var Stones = domain.Define[Stone]("Stone")

func Lift(uuid.UUID) {}
