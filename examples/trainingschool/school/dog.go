package school

import "github.com/eventsourcing-go/eventsourcing/domain"

// Dog is an aggregate: what is known of one dog at the school.
type Dog struct {
	domain.Aggregate
	Name   string   `json:"name"`
	Tricks []string `json:"tricks"`
}

// Registered is the first event of every dog.
type Registered struct {
	Name string `json:"name"`
}

// Apply gives the dog its name.
func (e Registered) Apply(d *Dog) { d.Name = e.Name }

// TrickAdded says that the dog has learned a trick.
type TrickAdded struct {
	Trick string `json:"trick"`
}

// Apply adds the trick to those the dog knows.
func (e TrickAdded) Apply(d *Dog) { d.Tricks = append(d.Tricks, e.Trick) }

// Dogs gives the aggregate and its events the names that they are stored under:
// "Dog.Registered" and "Dog.TrickAdded". The Go types can be renamed at any
// time; these names cannot. A database of the Python library has the events of
// its school under the path of its class.
var Dogs = domain.Define("Dog", domain.On("Registered", Registered{}), domain.On("TrickAdded", TrickAdded{}),
	domain.FormerName[Dog]("training_school.domain:Dog")) // its name in Python

// DogID makes the id of a dog out of its name, so that a dog can be found by
// name.
func DogID(name string) domain.ID { return domain.NewIDv5("/dogs/" + name) }

// RegisterDog makes a new dog.
func RegisterDog(name string) *Dog { return Dogs.Create(DogID(name), Registered{Name: name}) }

// AddTrick has the dog learn a trick.
func (d *Dog) AddTrick(trick string) { domain.Trigger(d, TrickAdded{Trick: trick}) }
