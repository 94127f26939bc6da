package school

import "github.com/eventsourcing-go/eventsourcing/domain"

// Dog is an aggregate: what is known of one dog at the school.
type Dog struct {
	domain.Aggregate
	Name   string
	Tricks []string
}

// Registered is the first event of every dog.
type Registered struct{ Name string }

// Apply gives the dog its name.
func (e Registered) Apply(d *Dog) { d.Name = e.Name }

// TrickAdded says that the dog has learned a trick.
type TrickAdded struct{ Trick string }

// Apply adds the trick to those the dog knows.
func (e TrickAdded) Apply(d *Dog) { d.Tricks = append(d.Tricks, e.Trick) }

// Dogs gives the aggregate and its events the names that they are stored under:
// "Dog.Registered" and "Dog.TrickAdded". The Go types can be renamed at any
// time; these names cannot.
var Dogs = domain.Define("Dog", domain.On("Registered", Registered{}), domain.On("TrickAdded", TrickAdded{}))

// DogID makes the id of a dog out of its name, so that a dog can be found by
// name.
func DogID(name string) domain.ID { return domain.NewIDv5("/dogs/" + name) }

// RegisterDog makes a new dog.
func RegisterDog(name string) *Dog { return Dogs.Create(DogID(name), Registered{Name: name}) }

// AddTrick has the dog learn a trick.
func (d *Dog) AddTrick(trick string) { domain.Trigger(d, TrickAdded{Trick: trick}) }
