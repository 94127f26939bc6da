package domain_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/definitions"
)

func Example() {
	dog := RegisterDog("Fido")
	dog.AddTrick("roll over")
	fmt.Println(dog.Name, dog.Tricks, "version", dog.Version())
	for _, event := range dog.PendingEvents() {
		fmt.Println(event.OriginatorVersion, event.Topic, event.Data)
	}
	// Output:
	// Fido [roll over] version 2
	// 1 Dog.Registered {Fido}
	// 2 Dog.TrickAdded {roll over}
}

func ExampleDefine() {
	dogs := domain.Define("Dog",
		domain.On("Registered", Registered{}),
		domain.On("TrickAdded", TrickAdded{}),
	)
	for _, kind := range definitions.Of(dogs).EventTypes() {
		fmt.Println(kind.Topic())
	}
	// Output:
	// Dog.Registered
	// Dog.TrickAdded
}

func ExampleTrigger() {
	dog := RegisterDog("Fido")
	domain.Trigger(dog, TrickAdded{Trick: "roll over"})
	fmt.Println(dog.Tricks, "version", dog.Version())
	// Output: [roll over] version 2
}

func ExampleDefinition_Create() {
	id := domain.NewIDv5("/dogs/Fido")
	dog := Dogs.Create(id, Registered{Name: "Fido"})
	fmt.Println(dog.ID(), dog.Name)
	// Output: 1e1d7398-8986-57af-bb01-11a89b2f8b02 Fido
}

func ExampleDefinition_WithClock() {
	noon := time.Date(2024, 1, 2, 12, 0, 0, 0, time.UTC)
	dogs := Dogs.WithClock(func() time.Time { return noon })
	fmt.Println(dogs.Create(uuid.New(), Registered{Name: "Fido"}).CreatedOn())
	// Output: 2024-01-02 12:00:00 +0000 UTC
}

func ExampleAt() {
	found := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	dog := Dogs.Create(uuid.New(), Registered{Name: "Fido"}, domain.At(found))
	fmt.Println(dog.CreatedOn().Year())
	// Output: 2000
}

func ExampleWith() {
	dog := RegisterDog("Fido")
	domain.Trigger(dog, TrickAdded{Trick: "roll over"}, domain.With(domain.Metadata{"trainer": "Alice"}))
	fmt.Println(dog.PendingEvents()[1].Metadata)
	// Output: map[trainer:Alice]
}

func ExampleEvolve() {
	account := domain.StartFold(Accounts, uuid.New(), Opened{})
	account.Trigger(Deposited{Amount: 5})
	account.Trigger(Deposited{Amount: 7})
	fmt.Println(account.State().Balance)
	// Output: 12
}

func ExampleEntry() {
	log := domain.Define("DogLog", domain.Entry("Registered", Registered{}))
	event := log.NewEvent(uuid.New(), 1, Registered{Name: "Fido"})
	fmt.Println(event.Topic, event.Data)
	// Output: DogLog.Registered {Fido}
}

func ExampleUpcast() {
	type trickAddedV1 struct{ Name string }
	dogs := domain.Define("Dog",
		domain.On("TrickAdded", TrickAdded{},
			domain.Upcast(func(e trickAddedV1) TrickAdded { return TrickAdded{Trick: strings.ToLower(e.Name)} }),
		),
	)
	dog := dogs.Create(uuid.New(), TrickAdded{Trick: "roll over"}) // is stored in schema version 2
	fmt.Println(dog.Tricks)
	// Output: [roll over]
}

func ExampleAlias() {
	dogs := domain.Define("Dog",
		domain.On("Admitted", Registered{}, domain.Alias("Dog.Registered")),
		domain.FormerName[Dog]("Hound"),
	)
	// Events that were stored as Dog.Registered or Hound.Admitted are read, too.
	dog := dogs.Create(uuid.New(), Registered{Name: "Fido"})
	fmt.Println(dog.PendingEvents()[0].Topic)
	// Output: Dog.Admitted
}

func ExampleState() {
	type purse struct {
		domain.Aggregate
		coins int // not exported, so it would not be in a snapshot
	}
	purses := domain.Define("Purse", domain.State(
		func(p *purse) int { return p.coins },
		func(coins int) *purse { return &purse{coins: coins} },
	))
	_ = purses // for application.NewRepository
}

func ExampleNewIDv5() {
	fmt.Println(domain.NewIDv5("/dogs/Fido"))
	// Output: 1e1d7398-8986-57af-bb01-11a89b2f8b02
}
