package domain_test

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
)

type Dog struct {
	domain.Aggregate
	Name   string
	Tricks []string
}

type Registered struct{ Name string }

func (e Registered) Apply(d *Dog) { d.Name = e.Name }

type TrickAdded struct{ Trick string }

func (e TrickAdded) Apply(d *Dog) { d.Tricks = append(d.Tricks, e.Trick) }

var Dogs = domain.Define("Dog",
	domain.On("Registered", Registered{}),
	domain.On("TrickAdded", TrickAdded{}),
)

type Account struct{ Balance int }

type Opened struct{}
type Deposited struct{ Amount int }

var Accounts = domain.Define("Account",
	domain.Evolve("Opened", func(a Account, _ Opened) Account { return a }),
	domain.Evolve("Deposited", func(a Account, e Deposited) Account { a.Balance += e.Amount; return a }),
)

func Example() {
	dog := Dogs.Create(uuid.NewSHA1(uuid.NameSpaceURL, []byte("/dogs/Fido")), Registered{Name: "Fido"})
	domain.Trigger(dog, TrickAdded{Trick: "roll over"})
	fmt.Println(dog.Name, dog.Tricks, "version", dog.Version())
	for _, event := range dog.PendingEvents() {
		fmt.Println(event.OriginatorVersion, event.Topic)
	}
	// Output:
	// Fido [roll over] version 2
	// 1 Dog.Registered
	// 2 Dog.TrickAdded
}

func ExampleEvolve() {
	account := domain.StartFold(Accounts, uuid.New(), Opened{})
	account.Trigger(Deposited{Amount: 5})
	fmt.Println(account.State().Balance)
	// Output: 5
}
