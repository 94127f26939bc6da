package domain_test

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/definitions"
	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
)

// trained is an event of the past: all the tricks of one lesson, which may have
// given the dog another name.
type trained struct {
	Name   string
	Tricks []string
}

func separate(e trained) (all []any) {
	if e.Name != "" {
		all = append(all, Registered{Name: e.Name})
	}
	for _, trick := range e.Tricks {
		all = append(all, TrickAdded{Trick: trick})
	}
	return all
}

var trainedDogs = domain.Define("Dog",
	domain.On("Registered", Registered{}),
	domain.On("TrickAdded", TrickAdded{}),
	domain.UpcastToMany[Dog]("Trained", []any{Registered{}, TrickAdded{}}, separate, domain.Alias("Dog.Taught"),
		domain.Upcast(func(trick string) trained { return trained{Tricks: []string{trick}} })),
)

// decoding returns a function for Decode that finds this payload.
func decoding(payload any) func(any) error {
	return func(into any) error {
		reflect.ValueOf(into).Elem().Set(reflect.ValueOf(payload))
		return nil
	}
}

func TestUpcastToManyDecodes(t *testing.T) {
	kind := definitions.Of(trainedDogs).EventTypes()[2]
	if kind.Topic() != "Dog.Trained" || kind.Version() != 2 || !kind.IsPast() || kind.IsRetired() {
		t.Errorf("got %+v, want Topic %q and Version 2", kind, "Dog.Trained")
	}
	for _, test := range []struct {
		name    string
		version int
		stored  any
		want    eventtype.Payloads
	}{
		{"several", 2, trained{"Rex", []string{"sit", "roll"}}, eventtype.Payloads{Registered{"Rex"}, TrickAdded{"sit"}, TrickAdded{"roll"}}},
		{"one", 2, trained{"", []string{"sit"}}, eventtype.Payloads{TrickAdded{"sit"}}},
		{"none", 2, trained{}, nil},
		{"an older version", 1, "sit", eventtype.Payloads{TrickAdded{"sit"}}},
	} {
		got, err := kind.Decode(test.version, decoding(test.stored))
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %+v, %v, want %+v", test.name, got, err, test.want)
		}
	}
	_, err := kind.Decode(3, decoding(trained{}))
	expect.ErrorAs[*eventtype.VersionError](t, err)
	failure := errors.New("damaged")
	if _, err := kind.Decode(2, func(any) error { return failure }); !errors.Is(err, failure) {
		t.Errorf("a payload that is damaged: got %v, want an error that is %v", err, failure)
	}
	if _, ok := definitions.Of(trainedDogs).Kind(trained{}); ok {
		t.Error("an event of the past has a type to be triggered with")
	}
}

// An aggregate applies all payloads at the one version of the stored event.
func TestUpcastToManyApplies(t *testing.T) {
	dog := definitions.Blank(trainedDogs, uuid.New())
	event := domain.Event{OriginatorID: dog.ID(), OriginatorVersion: 1, ID: uuid.New(), Timestamp: day(2003)}
	event.Topic, event.Data = "Dog.Taught", eventtype.Payloads{Registered{"Rex"}, TrickAdded{"sit"}, TrickAdded{"roll"}}
	if err := definitions.Of(trainedDogs).Apply(dog, event); err != nil {
		t.Fatal(err)
	}
	if dog.Name != "Rex" || !slices.Equal(dog.Tricks, []string{"sit", "roll"}) {
		t.Errorf("got %q %q, want Name %q and Tricks %q", dog.Name, dog.Tricks, "Rex", []string{"sit", "roll"})
	}
	if dog.Version() != 1 || definitions.Of(Dogs).LastEventID(dog) != event.ID || !dog.CreatedOn().Equal(day(2003)) || !dog.ModifiedOn().Equal(day(2003)) {
		t.Errorf("got version %d, id %v, times %v and %v, want Version 1, LastEventID %v, CreatedOn %v and ModifiedOn %v", dog.Version(), definitions.Of(Dogs).LastEventID(dog), dog.CreatedOn(), dog.ModifiedOn(), event.ID, day(2003), day(2003))
	}
	event.OriginatorVersion, event.Data = 2, eventtype.Payloads(nil)
	if err := definitions.Of(trainedDogs).Apply(dog, event); err != nil || dog.Version() != 2 || len(dog.Tricks) != 2 {
		t.Errorf("no payloads: got %v, version %d, tricks %q, want no error, Version 2 and 2 Tricks", err, dog.Version(), dog.Tricks)
	}
	dog.AddTrick("beg")
	if got := dog.PendingEvents()[0].OriginatorVersion; got != 3 {
		t.Errorf("the next event has version %d, want 3", got)
	}
}

// What is not of the definition changes nothing, not even by the payloads
// before it.
func TestUpcastToManyRefuses(t *testing.T) {
	for _, event := range []domain.Event{
		{Topic: "Cat.Trained", Data: eventtype.Payloads{TrickAdded{"sit"}}},
		{Topic: "Dog.TrickAdded", Data: eventtype.Payloads{TrickAdded{"sit"}}},
		{Topic: "Dog.Trained", Data: eventtype.Payloads{TrickAdded{"sit"}, Transacted{}}},
		{Topic: "Dog.Trained", Data: trained{}},
	} {
		dog := definitions.Blank(trainedDogs, uuid.New())
		event.OriginatorID, event.OriginatorVersion = dog.ID(), 1
		err := definitions.Of(trainedDogs).Apply(dog, event)
		if _, ok := errors.AsType[*eventtype.PayloadError](err); !ok || dog.Version() != 0 || len(dog.Tricks) != 0 {
			t.Errorf("%s with %T: got %v, version %d, tricks %q, want Version 0 and 0 Tricks", event.Topic, event.Data, err, dog.Version(), dog.Tricks)
		}
	}
	wrong := domain.Define("Dog", domain.On("Registered", Registered{}), domain.On("TrickAdded", TrickAdded{}),
		domain.UpcastToMany[Dog]("Trained", []any{TrickAdded{}}, separate))
	_, err := definitions.Of(wrong).EventTypes()[2].Decode(1, decoding(trained{Name: "Rex"}))
	const want = "event sourcing error: UpcastToMany of Dog.Trained returned a payload of type domain_test.Registered; add it to the types that it makes"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestUpcastToManyOfAFold(t *testing.T) {
	accounts := domain.Define("Account",
		domain.Evolve("Deposited", func(a Account, e Deposited) Account { a.Balance += e.Amount; return a }),
		domain.UpcastToMany[domain.Fold[Account]]("Collected", []any{Deposited{}},
			func(amounts []int) (all []any) {
				for _, amount := range amounts {
					all = append(all, Deposited{Amount: amount})
				}
				return all
			}))
	account := definitions.Blank(accounts, uuid.New())
	err := definitions.Of(accounts).Apply(account, domain.Event{OriginatorID: account.ID(), OriginatorVersion: 1, Topic: "Account.Collected",
		Data: eventtype.Payloads{Deposited{1}, Deposited{2}}})
	if err != nil || account.State().Balance != 3 || account.Version() != 1 {
		t.Errorf("got %v, balance %d, version %d, want no error, Balance 3 and Version 1", err, account.State().Balance, account.Version())
	}
}

func TestUpcastToManyPanics(t *testing.T) {
	on := domain.On("Registered", Registered{})
	many := func(types []any, options ...domain.TypeOption) func() {
		return func() { domain.Define("Dog", on, domain.UpcastToMany[Dog]("Trained", types, separate, options...)) }
	}
	for _, test := range []struct {
		name, want string
		f          func()
	}{
		{"no types", "UpcastToMany of Dog.Trained needs the types that it makes", many(nil)},
		{"payload that is not defined", "UpcastToMany of Dog.Trained makes domain_test.TrickAdded, which is not defined; add domain.On",
			many([]any{Registered{}, TrickAdded{}})},
		{"payload that is not defined, of a fold", "UpcastToMany of Account.Old makes int, which is not defined; add domain.Evolve", func() {
			domain.Define("Account", domain.UpcastToMany[domain.Fold[Account]]("Old", []any{0}, func(string) []any { return nil }))
		}},
		{"payload that is nil", "UpcastToMany of Dog.Trained makes <nil>", many([]any{nil})},
		{"topic of another event", `topic "Dog.Registered" is given to both domain_test.Registered and domain_test.trained`,
			many([]any{Registered{}}, domain.Alias("Dog.Registered"))},
		{"of a log", "Log.Old is an event of a log, and those mean one event each; UpcastToMany is for aggregates", func() {
			domain.Define("Log", domain.Entry("A", 0), domain.UpcastToMany[domain.Log]("Old", []any{0}, func(string) []any { return nil }))
		}},
		{"retired as well", `topic "Dog.Trained" is retired and defined as domain_test.trained at once`, func() {
			domain.Define("Dog", on, domain.Retired[Dog]("Trained"), domain.UpcastToMany[Dog]("Trained", []any{Registered{}}, separate))
		}},
		{"upcasters that do not fit", "upcaster 1 of Dog.Trained returns int", many([]any{Registered{}},
			domain.Upcast(func(string) int { return 0 }))},
	} {
		t.Run(test.name, func(t *testing.T) { definitionError(t, test.want, test.f) })
	}
	dog := trainedDogs.Create(uuid.New(), Registered{})
	definitionError(t, "events of Dog.Trained are only read, by UpcastToMany; new events of it cannot be made",
		func() { trainedDogs.NewEvent(dog.ID(), 2, trained{}) })
	definitionError(t, "is not defined", func() { trainedDogs.NewEvent(dog.ID(), 2, eventtype.Payloads{}) })
}
