package application_test

import (
	"context"
	"fmt"
	"log"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

type van struct {
	domain.Aggregate
	Street string
	Number int
}

type (
	vanMovedV1 struct{ Street string }
	vanMoved   struct {
		Street string
		Number int
	}
)

func (e vanMovedV1) Apply(v *van) { v.Street = e.Street }
func (e vanMoved) Apply(v *van)   { v.Street, v.Number = e.Street, e.Number }

// The programs that run one after the other, and side by side during a
// deployment.
var (
	vansBefore = domain.Define("Van", domain.On("Moved", vanMovedV1{}))

	vansFirst = domain.Define("Van", domain.On("Moved", vanMoved{},
		domain.Upcast(func(e vanMovedV1) vanMoved { return vanMoved{Street: e.Street} }),
		domain.Downcast(func(e vanMoved) vanMovedV1 { return vanMovedV1{Street: e.Street} })))

	vansSecond = domain.Define("Van", domain.On("Moved", vanMoved{},
		domain.Upcast(func(e vanMovedV1) vanMoved { return vanMoved{Street: e.Street} })))
)

// A new schema version is rolled out in two deployments without a stop. The
// first one reads it and writes the old one, the second one writes it.
func Example_rollingDeployment() {
	ctx, store, id := context.Background(), memory.New(), uuid.New()
	program := func(definition *domain.Definition[van]) *application.Repository[van] {
		app, err := application.New("Fleet", application.WithStore(store))
		if err != nil {
			log.Fatal(err)
		}
		vans, err := application.NewRepository(app, definition)
		if err != nil {
			log.Fatal(err)
		}
		return vans
	}
	move := func(street string, number int) func(*van) error {
		return func(v *van) error { domain.Trigger(v, vanMoved{street, number}); return nil }
	}
	before, first, second := program(vansBefore), program(vansFirst), program(vansSecond)
	if err := before.Save(ctx, vansBefore.Create(id, vanMovedV1{"Elm St"})); err != nil {
		log.Fatal(err)
	}

	fmt.Println("first:", first.Update(ctx, id, move("Oak St", 0)))
	v, err := before.Get(ctx, id) // beside the first deployment
	fmt.Println("before:", v.Street, err)
	err = first.Update(ctx, id, move("Oak St", 7)) // which the old version cannot hold
	fmt.Println("first:", err != nil)

	fmt.Println("second:", second.Update(ctx, id, move("Oak St", 7)))
	v, err = first.Get(ctx, id) // beside the second deployment
	fmt.Println("first:", v.Street, v.Number, err)
	_, err = before.Get(ctx, id) // none runs any more
	fmt.Println("before:", persistence.IsRetryable(err), err != nil)
	// Output:
	// first: <nil>
	// before: Oak St <nil>
	// first: true
	// second: <nil>
	// first: Oak St 7 <nil>
	// before: false true
}
