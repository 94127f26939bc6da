// Package domain defines event-sourced aggregates: their events, the names that
// these are stored under, and how they change the aggregate. Nothing in it knows
// a database, so aggregates are tested without one.
//
// # Events and aggregates
//
// An aggregate is a struct that embeds [Aggregate]. An event is a struct, too,
// which says how it changes the aggregate:
//
//	type Dog struct {
//		domain.Aggregate
//		Name   string   `json:"name"`
//		Tricks []string `json:"tricks"`
//	}
//
//	type Registered struct {
//		Name string `json:"name"`
//	}
//
//	func (e Registered) Apply(d *Dog) { d.Name = e.Name }
//
//	type TrickAdded struct {
//		Trick string `json:"trick"`
//	}
//
//	func (e TrickAdded) Apply(d *Dog) { d.Tricks = append(d.Tricks, e.Trick) }
//
// Apply only assigns. It is called when the event happens, and again whenever
// the aggregate is read from its events, so it must not fail, look at a clock
// or reach outside the aggregate.
//
// # Definitions
//
// [Define] gives the aggregate and its events the names that they are stored
// under, once, as a package variable:
//
//	var Dogs = domain.Define("Dog",
//		domain.On("Registered", Registered{}),
//		domain.On("TrickAdded", TrickAdded{}),
//	)
//
// The stored names here are "Dog", "Dog.Registered" and "Dog.TrickAdded". Names
// of Go types are not stored, so those can be changed freely. An event of
// another aggregate does not compile, neither here nor below.
//
// # Creating and triggering
//
// [Definition.Create] makes an aggregate with its first event, [Trigger] makes
// the next one:
//
//	func RegisterDog(name string) *Dog { return Dogs.Create(DogID(name), Registered{Name: name}) }
//
//	func (d *Dog) AddTrick(trick string) { domain.Trigger(d, TrickAdded{Trick: trick}) }
//
// Triggering cannot fail. A command with business rules checks them first, and
// returns an error if one is broken:
//
//	func (d *Dog) Rename(name string) error {
//		if name == "" {
//			return ErrNoName
//		}
//		domain.Trigger(d, Renamed{Name: name})
//		return nil
//	}
//
// Trigger panics if the program itself is wrong: the event is missing from
// Define, the aggregate was made by other means than its Definition, or an Apply
// triggers.
//
// An id may be random (uuid.New), or made out of a name, so that the aggregate
// can be found by it:
//
//	func DogID(name string) domain.ID { return domain.NewIDv5("/dogs/" + name) }
//
// New events are pending until an application has saved the aggregate. [At]
// gives an event its time, [With] gives it metadata, and [Definition.WithClock]
// replaces the clock. The times that the clock gives to the events of one
// aggregate always increase, even if the clock goes backwards. Times describe
// events; they never order them.
//
// # Folds
//
// If a struct with methods is more than is needed, a [Fold] has any type as its
// state, and each event has a function from the old state to the new one:
//
//	var Accounts = domain.Define("Account",
//		domain.Evolve("Opened", func(a Account, _ Opened) Account { return a }),
//		domain.Evolve("Deposited", func(a Account, e Deposited) Account { a.Balance += e.Amount; return a }),
//	)
//
//	account := domain.StartFold(Accounts, id, Opened{})
//	account.Trigger(Deposited{Amount: 5})
//
// # Logs
//
// A log is a sequence of events that is read as a sequence, and has no state:
// the ids of all dogs, for example. [Entry] names its events in a Definition of
// a [Log]; the application package has the log itself.
//
// # Snapshots
//
// A snapshot is the state of an aggregate at one version, so that reading it
// need not begin with its first event. The aggregate itself is stored, which is
// right if all its fields are exported. [State] is for all others: it says what
// to keep and how to make the aggregate of it.
//
//	domain.State(
//		func(d *Dog) dogState { return dogState{Name: d.name} },
//		func(s dogState) *Dog { return &Dog{name: s.Name} },
//	)
//
// A snapshot of a state with other fields is passed over: the aggregate is read
// from its events. Raise [SnapshotVersion] if the meaning of an event changes,
// because the state in older snapshots is what the events meant before: it
// lacks, for example, what an upcaster has added since.
//
// # When events change: upcasting
//
// What is stored is never rewritten. If an event gets another shape, keep the
// old type, and say with [Upcast] how it becomes the new one. Versions are
// counted by the upcasters, oldest first:
//
//	domain.On("TrickAdded", TrickAdded{},
//		domain.Upcast(func(e trickAddedV1) trickAddedV2 { return trickAddedV2{Trick: e.Name} }),
//		domain.Upcast(func(e trickAddedV2) TrickAdded { return TrickAdded{Trick: e.Trick, Level: 1} }),
//	)
//
// This does not renew snapshots that were taken before: raise
// [SnapshotVersion], so that they are passed over. State takes upcasters in the
// same way, for snapshots. A field that is only added, and whose zero value is
// right for old events, needs none of this.
//
// A program that does not know the new version stops at it with a
// persistence.ErrNewerProgram. To deploy without a stop, deploy twice: the first
// program has a [Downcast] too, so it reads the new version and still writes the
// old one; the second has only the Upcast, and writes the new one.
//
// # When one event becomes several
//
// [UpcastToMany] reads each stored event of an old kind as several of today:
//
//	domain.UpcastToMany[Dog]("Moved", []any{Left{}, Entered{}},
//		func(e movedV1) []any { return []any{Left{From: e.From}, Entered{To: e.To}} })
//
// The stored event stays one: an aggregate applies all of it at one version.
// Handlers and readers of the log get the events that it means, which differ in
// their Data and in Event.Part.
//
// # When code goes: retiring
//
// The code of an event can be deleted although events of it are stored.
// [Retired] takes the place of its On, so that aggregates and followers pass
// over these events:
//
//	domain.Retired[Dog]("Barked")
//
// Their payloads are not read, and their Data is a [RetiredEvent]. If the event
// changed the state, raise [SnapshotVersion].
//
// # When names change: renaming
//
// A Go type may be renamed at any time. If the stored name of an event changes,
// [Alias] keeps its history readable, in full: domain.Alias("Dog.TrickAdded").
// If the stored name of the aggregate changes, [FormerName] does so for all its
// events and snapshots. [StoredAs] sets the whole name of new events, for
// databases that another program reads, too.
//
// # Errors
//
// Every error that an application, a store or a follower makes is an
// [ErrEventSourcing]. A mistake in a definition, or in how it is used, is a panic:
// no input can cause it.
//
// # Tests
//
// The package domaintest tests aggregates by their events: given these, when
// this command, then those.
package domain
