package domain_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/definitions"
	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
)

// laterDogs is the definition of a program that has no code for tricks.
var laterDogs = domain.Define("Dog",
	domain.On("Registered", Registered{}),
	domain.Retired[Dog]("TrickAdded", domain.Alias("Dog.Taught")),
)

func TestRetiredChangesNoState(t *testing.T) {
	before := Dogs.Create(DogID("Fido"), Registered{Name: "Fido"}, domain.At(day(2001)))
	domain.Trigger(before, TrickAdded{Trick: "roll over"}, domain.At(day(2002)))
	events := before.PendingEvents()
	for _, topic := range []string{"Dog.TrickAdded", "Dog.Taught"} {
		dog := definitions.Blank(laterDogs, before.ID())
		if err := definitions.Of(laterDogs).Apply(dog, events[0]); err != nil {
			t.Fatal(err)
		}
		retired := events[1]
		retired.Topic, retired.Data = topic, domain.RetiredEvent{}
		if err := definitions.Of(laterDogs).Apply(dog, retired); err != nil {
			t.Fatalf("%s: %v", topic, err)
		}
		if dog.Name != "Fido" || len(dog.Tricks) != 0 {
			t.Errorf("%s: got state %q %q, want Name %q and 0 Tricks", topic, dog.Name, dog.Tricks, "Fido")
		}
		if dog.Version() != 2 || definitions.Of(Dogs).LastEventID(dog) != retired.ID || !dog.ModifiedOn().Equal(day(2002)) || !dog.CreatedOn().Equal(day(2001)) {
			t.Errorf("%s: got version %d, id %v, times %v and %v, want Version 2, LastEventID %v, ModifiedOn %v and CreatedOn %v", topic, dog.Version(), definitions.Of(Dogs).LastEventID(dog), dog.CreatedOn(), dog.ModifiedOn(), retired.ID, day(2002), day(2001))
		}
		domain.Trigger(dog, Registered{Name: "Rex"})
		if got := dog.PendingEvents()[0].OriginatorVersion; got != 3 {
			t.Errorf("%s: the next event has version %d, want 3", topic, got)
		}
	}
}

func TestRetiredFirstEvent(t *testing.T) {
	dogs := domain.Define("Dog", domain.Retired[Dog]("Registered"), domain.On("TrickAdded", TrickAdded{}))
	events := RegisterDog("Fido").PendingEvents()
	events[0].Data = domain.RetiredEvent{}
	dog := definitions.Blank(dogs, events[0].OriginatorID)
	if err := definitions.Of(dogs).Apply(dog, events[0]); err != nil {
		t.Fatal(err)
	}
	if dog.Version() != 1 || !dog.CreatedOn().Equal(events[0].Timestamp) {
		t.Errorf("got version %d, created on %v, want Version 1 and CreatedOn %v", dog.Version(), dog.CreatedOn(), events[0].Timestamp)
	}
}

func TestRetiredEventOfAnotherDefinition(t *testing.T) {
	dog := definitions.Blank(laterDogs, uuid.New())
	event := domain.Event{OriginatorID: dog.ID(), OriginatorVersion: 1, Topic: "Cat.Meowed", Data: domain.RetiredEvent{}}
	err := definitions.Of(laterDogs).Apply(dog, event)
	expect.ErrorAs[*eventtype.PayloadError](t, err)
	if dog.Version() != 0 {
		t.Errorf("got version %d, want 0", dog.Version())
	}
}

func TestRetiredType(t *testing.T) {
	kind := definitions.Of(laterDogs).EventTypes()[1]
	if !kind.IsRetired() || kind.Topic() != "Dog.TrickAdded" || !slices.Equal(kind.Aliases(), []string{"Dog.Taught"}) {
		t.Errorf("got %+v, want Topic %q and Aliases %q", kind, "Dog.TrickAdded", []string{"Dog.Taught"})
	}
	for _, version := range []int{0, 1, 7} { // an upcaster is gone, or a newer program wrote it
		data, err := kind.Decode(version, func(any) error { t.Error("the payload is decoded"); return nil })
		if data != (domain.RetiredEvent{}) || err != nil {
			t.Errorf("version %d: got %v, %v, want %v and no error", version, data, err, (domain.RetiredEvent{}))
		}
	}
	if _, ok := definitions.Of(laterDogs).Kind(domain.RetiredEvent{}); ok {
		t.Error("a retired event has a type to be triggered with")
	}
}

func TestRetiredFormerName(t *testing.T) {
	dogs := domain.Define("Hound", domain.Retired[Dog]("Barked"), domain.FormerName[Dog]("Dog"))
	if got, want := definitions.Of(dogs).EventTypes()[0].Aliases(), []string{"Dog.Barked"}; !slices.Equal(got, want) {
		t.Errorf("got aliases %v, want %v", got, want)
	}
}

func TestRetiredFoldAndLog(t *testing.T) {
	accounts := domain.Define("Account",
		domain.Evolve("Opened", func(a Account, _ Opened) Account { return a }),
		domain.Retired[domain.Fold[Account]]("Deposited"),
	)
	account := domain.StartFold(Accounts, uuid.New(), Opened{})
	account.Trigger(Deposited{Amount: 5})
	again := definitions.Blank(accounts, account.ID())
	for i, event := range account.PendingEvents() {
		if i == 1 {
			event.Data = domain.RetiredEvent{}
		}
		if err := definitions.Of(accounts).Apply(again, event); err != nil {
			t.Fatal(err)
		}
	}
	if again.Version() != 2 || again.State().Balance != 0 {
		t.Errorf("got version %d, balance %d, want Version 2 and Balance 0", again.Version(), again.State().Balance)
	}
	log := domain.Define("Log", domain.Entry("Noted", ""), domain.Retired[domain.Log]("Counted"))
	if got := definitions.Of(log).EventTypes()[1]; !got.IsRetired() || got.Topic() != "Log.Counted" {
		t.Errorf("got %+v, want Topic %q", got, "Log.Counted")
	}
	const want = "a retired event cannot be triggered"
	definitionError(t, want, func() { again.Trigger(domain.RetiredEvent{}) })
	definitionError(t, want, func() { log.NewEvent(uuid.New(), 1, domain.RetiredEvent{}) })
}
