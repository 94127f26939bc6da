// Package fold evolves a fold by a function of another state.
package fold

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

var Counts = domain.Define("Count",
	domain.Evolve("Added", func(n int, by int8) int { return n + int(by) }),
	domain.Evolve("Named", func(s string, name string) string { return name }))

func Count(uuid.UUID) {}
