package domain_test

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/definitions"
	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
	"github.com/eventsourcing-go/eventsourcing/internal/saving"
)

func TestCreate(t *testing.T) {
	before := time.Now().UTC().Truncate(time.Microsecond)
	dog := RegisterDog("Fido")
	after := time.Now()

	if got, want := dog.ID(), DogID("Fido"); got != want {
		t.Errorf("got id %v, want %v", got, want)
	}
	if got := dog.Version(); got != 1 {
		t.Errorf("got version %d, want 1", got)
	}
	if dog.CreatedOn() != dog.ModifiedOn() {
		t.Errorf("got created on %v and modified on %v, want the same", dog.CreatedOn(), dog.ModifiedOn())
	}
	if got := dog.CreatedOn(); got.Before(before) || got.After(after) {
		t.Errorf("got created on %v, want it from %v to %v", got, before, after)
	}
	if dog.Name != "Fido" {
		t.Errorf("got name %q, want Fido", dog.Name)
	}
	pending := dog.PendingEvents()
	if len(pending) != 1 {
		t.Fatalf("got %d pending events, want 1", len(pending))
	}
	if pending[0].ID == uuid.Nil {
		t.Errorf("the event has no id: got %v, want ID other than %v", pending[0].ID, uuid.Nil)
	}
	want := domain.Event{OriginatorID: DogID("Fido"), OriginatorVersion: 1, Topic: "Dog.Registered",
		ID: pending[0].ID, Timestamp: dog.CreatedOn(), Data: Registered{Name: "Fido"}}
	if !reflect.DeepEqual(pending[0], want) {
		t.Errorf("got event %+v, want %+v", pending[0], want)
	}
}

func TestCreateWithIDs(t *testing.T) {
	t.Run("random ids differ", func(t *testing.T) {
		if a, b := OpenAccount("Alice"), OpenAccount("Alice"); a.ID() == b.ID() {
			t.Errorf("got the same id %v twice", a.ID())
		}
	})
	t.Run("ids made of a name are the same", func(t *testing.T) {
		if a, b := RegisterDog("Fido"), RegisterDog("Fido"); a.ID() != b.ID() || a.ID() != DogID("Fido") {
			t.Errorf("got %v and %v, want %v", a.ID(), b.ID(), DogID("Fido"))
		}
	})
	t.Run("any id is taken as it is", func(t *testing.T) {
		id := uuid.MustParse("b2723fe2-c01a-40d2-875e-a3aac6a09ff5")
		if dog := Dogs.Create(id, Registered{}); dog.ID() != id {
			t.Errorf("got %v, want %v", dog.ID(), id)
		}
	})
	t.Run("event ids differ", func(t *testing.T) {
		dog := RegisterDog("Fido")
		dog.AddTrick("sit")
		if events := dog.PendingEvents(); events[0].ID == events[1].ID {
			t.Errorf("got the same event id %v twice", events[0].ID)
		}
	})
}

func TestFirstVersion(t *testing.T) {
	for _, first := range []int64{0, 1, 2, 7} {
		dogs := domain.Define("Dog", domain.FirstVersion[Dog](first),
			domain.On("Registered", Registered{}), domain.On("TrickAdded", TrickAdded{}))
		if got := definitions.Of(dogs).First(); got != first {
			t.Errorf("got first version %d, want %d", got, first)
		}
		dog := dogs.Create(uuid.New(), Registered{Name: "Fido"})
		dog.AddTrick("sit")
		events := dog.PendingEvents()
		if got := []int64{events[0].OriginatorVersion, events[1].OriginatorVersion, dog.Version()}; !reflect.DeepEqual(got, []int64{first, first + 1, first + 1}) {
			t.Errorf("first version %d: got versions %v, want %v", first, got, []int64{first, first + 1, first + 1})
		}
		again := definitions.Blank(dogs, dog.ID())
		for _, event := range events {
			if err := definitions.Of(dogs).Apply(again, event); err != nil {
				t.Errorf("first version %d: %v", first, err)
			}
		}
		if again.Version() != dog.Version() {
			t.Errorf("first version %d: got version %d after replay, want %d", first, again.Version(), dog.Version())
		}
	}
	definitionError(t, "versions cannot be negative", func() { domain.Define("Dog", domain.FirstVersion[Dog](-1)) })
}

func TestTrigger(t *testing.T) {
	dog := RegisterDog("Fido")
	dog.AddTrick("roll over")
	pending := dog.PendingEvents()
	if len(pending) != 2 || pending[0].OriginatorVersion != 1 || pending[1].OriginatorVersion != 2 {
		t.Errorf("got pending events %+v, want versions 1 and 2", pending)
	}
	if got, want := pending[1].Data, any(TrickAdded{Trick: "roll over"}); got != want {
		t.Errorf("got payload %#v, want %#v", got, want)
	}
	if dog.Version() != 2 || !reflect.DeepEqual(dog.Tricks, []string{"roll over"}) {
		t.Errorf("got version %d and tricks %v, want Version 2 and Tricks %q", dog.Version(), dog.Tricks, []string{"roll over"})
	}
	if !dog.ModifiedOn().After(dog.CreatedOn()) {
		t.Errorf("got modified on %v, want it after %v", dog.ModifiedOn(), dog.CreatedOn())
	}
	if got := pending[1].Timestamp; got != dog.ModifiedOn() {
		t.Errorf("got event time %v, want that of the modification %v", got, dog.ModifiedOn())
	}
}

// unknownEvent is an event of Dog that Dogs does not define.
type unknownEvent struct{}

func (unknownEvent) Apply(d *Dog) { d.Name = "changed" }

func TestTriggerPanics(t *testing.T) {
	t.Run("event not in Define", func(t *testing.T) {
		dog := RegisterDog("Fido")
		definitionError(t, `definition "Dog": event type domain_test.unknownEvent is not defined; add domain.On`, func() {
			domain.Trigger(dog, unknownEvent{})
		})
		assertUntouched(t, dog)
	})
	t.Run("event of a fold not in Define", func(t *testing.T) {
		accounts := domain.Define("Account", domain.Evolve("Deposited", func(a Account, _ Deposited) Account { return a }),
			domain.Retired[domain.Fold[Account]]("Closed"))
		definitionError(t, "is not defined; add domain.Evolve to Define", func() { accounts.NewEvent(uuid.New(), 1, unknownEvent{}) })
		definitionError(t, "add a new event with domain.Evolve", func() { accounts.NewEvent(uuid.New(), 1, domain.RetiredEvent{}) })
	})
	t.Run("event of a log not in Define", func(t *testing.T) {
		entries := domain.Define("Entries", domain.Entry("Deposited", Deposited{}), domain.Retired[domain.Log]("Closed"))
		definitionError(t, "is not defined; add domain.Entry to Define", func() { entries.NewEvent(uuid.New(), 1, unknownEvent{}) })
		definitionError(t, "add a new event with domain.Entry", func() { entries.NewEvent(uuid.New(), 1, domain.RetiredEvent{}) })
	})
	t.Run("created with an event not in Define", func(t *testing.T) {
		definitionError(t, "is not defined", func() { Dogs.Create(uuid.New(), unknownEvent{}) })
	})
	t.Run("no event", func(t *testing.T) {
		definitionError(t, "event type <nil> is not defined", func() { domain.Trigger(RegisterDog("Fido"), nil) })
	})
	t.Run("aggregate not made by its Definition", func(t *testing.T) {
		dog := &Dog{Name: "Fido"}
		definitionError(t, "use Definition.Create or a repository", func() { domain.Trigger(dog, TrickAdded{}) })
		if dog.Version() != 0 || len(dog.PendingEvents()) != 0 {
			t.Errorf("got version %d and %d pending events, want none", dog.Version(), len(dog.PendingEvents()))
		}
	})
	t.Run("pointer event", func(t *testing.T) {
		dog := RegisterDog("Fido")
		definitionError(t, "events are values: trigger domain_test.TrickAdded, not a pointer to it", func() {
			domain.Trigger(dog, &TrickAdded{Trick: "sit"})
		})
		assertUntouched(t, dog)
	})
}

// assertUntouched requires that the dog has no event but its first.
func assertUntouched(t *testing.T, dog *Dog) {
	t.Helper()
	if dog.Version() != 1 || dog.ModifiedOn() != dog.CreatedOn() || len(dog.PendingEvents()) != 1 || dog.Name != "Fido" {
		t.Errorf("got %+v, want the dog as it was registered", dog)
	}
}

// Mischief is an aggregate whose events misbehave.
type Mischief struct {
	domain.Aggregate
	Done string
}

type begun struct{}

func (begun) Apply(m *Mischief) { m.Done = "begun" }

type panics struct{}

func (panics) Apply(*Mischief) { panic("in Apply") }

type triggers struct{}

func (triggers) Apply(m *Mischief) { domain.Trigger(m, begun{}) }

var Mischiefs = domain.Define("Mischief", domain.On("Begun", begun{}), domain.On("Panics", panics{}), domain.On("Triggers", triggers{}))

func TestApplyPanics(t *testing.T) {
	m := Mischiefs.Create(uuid.New(), begun{})
	modified := m.ModifiedOn()
	func() {
		defer func() {
			if got := recover(); got != "in Apply" {
				t.Errorf("got panic value %v, want the one of Apply", got)
			}
		}()
		domain.Trigger(m, panics{})
	}()
	if m.Version() != 1 || m.ModifiedOn() != modified || len(m.PendingEvents()) != 1 {
		t.Errorf("got version %d, modified on %v, %d pending events, want Version 1, ModifiedOn %v and 1 PendingEvents", m.Version(), m.ModifiedOn(), len(m.PendingEvents()), modified)
	}
	domain.Trigger(m, begun{}) // the aggregate can still be used
	if m.Version() != 2 || len(m.PendingEvents()) != 2 {
		t.Errorf("got version %d and %d pending events, want 2 and 2", m.Version(), len(m.PendingEvents()))
	}
}

func TestTriggerInsideApply(t *testing.T) {
	m := Mischiefs.Create(uuid.New(), begun{})
	definitionError(t, "Apply must not trigger events: Mischief.Begun", func() { domain.Trigger(m, triggers{}) })
	if m.Version() != 1 || len(m.PendingEvents()) != 1 {
		t.Errorf("got version %d and %d pending events, want 1 and 1", m.Version(), len(m.PendingEvents()))
	}
	stored := Mischiefs.NewEvent(m.ID(), 2, triggers{})
	definitionError(t, "Apply must not trigger events", func() { _ = definitions.Of(Mischiefs).Apply(m, stored) })
	if m.Version() != 1 {
		t.Errorf("got version %d after a replay that panicked, want 1", m.Version())
	}
}

// wantRefusal requires the error of an event that cannot be applied.
func wantRefusal(t *testing.T, err error, text string) {
	t.Helper()
	if want := "event sourcing error: " + text; err == nil || err.Error() != want || !errors.Is(err, domain.ErrEventSourcing) {
		t.Errorf("got error %v, want %s", err, want)
	}
}

func TestApplyErrors(t *testing.T) {
	dog := RegisterDog("Fido")
	event := func(id uuid.UUID, version int64) domain.Event {
		return Dogs.NewEvent(id, version, TrickAdded{Trick: "sit"})
	}
	t.Run("originator id", func(t *testing.T) {
		other := uuid.New()
		err := definitions.Of(Dogs).Apply(dog, event(other, 2))
		wantRefusal(t, err, fmt.Sprintf("event of originator %s cannot be applied to aggregate %s", other, dog.ID()))
	})
	for _, version := range []int64{0, 1, 3, -1} {
		err := definitions.Of(Dogs).Apply(dog, event(dog.ID(), version))
		wantRefusal(t, err, fmt.Sprintf("aggregate %s expects version 2 next and got version %d", dog.ID(), version))
	}
	t.Run("id is checked before version", func(t *testing.T) {
		other := uuid.New()
		err := definitions.Of(Dogs).Apply(dog, event(other, 9))
		wantRefusal(t, err, fmt.Sprintf("event of originator %s cannot be applied to aggregate %s", other, dog.ID()))
	})
	t.Run("payload of another definition", func(t *testing.T) {
		stored := BankAccounts.NewEvent(dog.ID(), 2, Transacted{Amount: 1})
		err := definitions.Of(Dogs).Apply(dog, stored)
		got, ok := errors.AsType[*eventtype.PayloadError](err)
		if !ok || got.Definition != "Dog" || got.Topic != "BankAccount.Transacted" || got.Payload != reflect.TypeFor[Transacted]() {
			t.Errorf("got %v, want an eventtype.PayloadError", err)
		}
	})
	assertUntouched(t, dog)
	if err := definitions.Of(Dogs).Apply(dog, event(dog.ID(), 2)); err != nil || dog.Version() != 2 || len(dog.PendingEvents()) != 1 {
		t.Errorf("got %v, version %d, %d pending events; want a stored event to be applied and not to be pending",
			err, dog.Version(), len(dog.PendingEvents()))
	}
}

func TestPendingEvents(t *testing.T) {
	dog := RegisterDog("Fido")
	dog.AddTrick("sit")
	dog.AddTrick("roll over")
	all := dog.PendingEvents()

	t.Run("are a copy", func(t *testing.T) {
		dog.PendingEvents()[0].Topic = "changed"
		if got := dog.PendingEvents()[0].Topic; got != "Dog.Registered" {
			t.Errorf("got topic %q, want Dog.Registered", got)
		}
	})
	t.Run("stay until they are saved", func(t *testing.T) {
		if got := dog.PendingEvents(); !reflect.DeepEqual(got, all) {
			t.Errorf("got %+v, want %+v", got, all)
		}
	})
	t.Run("oldest first, and only so many", func(t *testing.T) {
		saving.MarkSaved(dog, 2)
		if got := dog.PendingEvents(); !reflect.DeepEqual(got, all[2:]) {
			t.Errorf("got %+v, want %+v", got, all[2:])
		}
		saving.MarkSaved(dog, 9)
		if got := dog.PendingEvents(); len(got) != 0 {
			t.Errorf("got %+v, want none", got)
		}
	})
	t.Run("come back in order", func(t *testing.T) {
		dog.AddTrick("fetch ball")
		saving.MarkUnsaved(dog, all)
		var versions []int64
		for _, event := range dog.PendingEvents() {
			versions = append(versions, event.OriginatorVersion)
		}
		if want := []int64{1, 2, 3, 4}; !reflect.DeepEqual(versions, want) {
			t.Errorf("got versions %v, want %v", versions, want)
		}
	})
}

// Aggregates have no Equal method: two are equal where their snapshots are.
func TestEqualState(t *testing.T) {
	dog := RegisterDog("Fido")
	state := func(d *Dog) any { return definitions.Of(Dogs).TakeSnapshot(d).Data }
	rebuilt := func() *Dog {
		again := definitions.Blank(Dogs, dog.ID())
		for _, event := range dog.PendingEvents() {
			if err := definitions.Of(Dogs).Apply(again, event); err != nil {
				t.Fatal(err)
			}
		}
		return again
	}
	if got, want := state(rebuilt()), state(dog); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if a, b := rebuilt(), rebuilt(); !reflect.DeepEqual(a, b) {
		t.Errorf("got %+v and %+v, want two copies to be deeply equal", a, b)
	}
	earlier := rebuilt()
	dog.AddTrick("sit")
	later := rebuilt()
	saving.MarkSaved(dog, 2)
	if reflect.DeepEqual(state(earlier), state(dog)) {
		t.Error("the state after a further event is equal to the one before")
	}
	if got, want := state(later), state(dog); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v: what is pending is no part of the state", got, want)
	}
}

func TestBankAccount(t *testing.T) {
	account := OpenAccount("Alice")
	transact := func(amount int, want error, balance int) {
		t.Helper()
		pending := len(account.PendingEvents())
		if err := account.Transact(amount); !errors.Is(err, want) {
			t.Errorf("transacting %d: got %v, want %v", amount, err, want)
		} else if err == nil {
			pending++
		}
		if account.Balance != balance {
			t.Errorf("transacting %d: got balance %d, want %d", amount, account.Balance, balance)
		}
		if got := len(account.PendingEvents()); got != pending {
			t.Errorf("transacting %d: got %d pending events, want %d", amount, got, pending)
		}
	}
	transact(1000, nil, 1000)
	transact(-900, nil, 100)
	transact(-200, errInsufficientFunds, 100)
	if err := account.SetOverdraftLimit(50000); err != nil {
		t.Error(err)
	}
	transact(-200, nil, -100)
	account.Close()
	transact(1000, errClosed, -100)
	if err := account.SetOverdraftLimit(1); !errors.Is(err, errClosed) {
		t.Errorf("got %v, want %v", err, errClosed)
	}
	if got := account.Version(); got != 6 {
		t.Errorf("got version %d, want 6: broken rules make no events", got)
	}
}

// Order is the aggregate with one command that calls another one if a rule
// holds.
type Order struct {
	domain.Aggregate
	Name             string
	Confirmed, Ready time.Time
}

type OrderStarted struct{ Name string }

func (e OrderStarted) Apply(o *Order) { o.Name = e.Name }

type OrderConfirmed struct{ At time.Time }

func (e OrderConfirmed) Apply(o *Order) { o.Confirmed = e.At }

type OrderPickedUp struct{ At time.Time }

func (e OrderPickedUp) Apply(o *Order) { o.Ready = e.At }

var Orders = domain.Define("Order", domain.On("Started", OrderStarted{}),
	domain.On("Confirmed", OrderConfirmed{}), domain.On("PickedUp", OrderPickedUp{}))

var errNotConfirmed = errors.New("order is not confirmed")

func (o *Order) Confirm(at time.Time) { domain.Trigger(o, OrderConfirmed{At: at}, domain.At(at)) }

func (o *Order) PickUp(at time.Time) error {
	if o.Confirmed.IsZero() {
		return errNotConfirmed
	}
	domain.Trigger(o, OrderPickedUp{At: at})
	return nil
}

func TestCommandsWithRules(t *testing.T) {
	order := Orders.Create(uuid.New(), OrderStarted{Name: "name"})
	if err := order.PickUp(day(2001)); !errors.Is(err, errNotConfirmed) || len(order.PendingEvents()) != 1 {
		t.Errorf("got %v and %d pending events, want %v and 1", err, len(order.PendingEvents()), errNotConfirmed)
	}
	order.Confirm(day(2000))
	if err := order.PickUp(day(2001)); err != nil || !order.Ready.Equal(day(2001)) {
		t.Errorf("got %v and %v, want no error and Ready %v", err, order.Ready, day(2001))
	}
	events := order.PendingEvents()
	again := definitions.Blank(Orders, order.ID())
	for _, event := range events {
		if err := definitions.Of(Orders).Apply(again, event); err != nil {
			t.Fatal(err)
		}
	}
	if again.Name != "name" || !again.Confirmed.Equal(day(2000)) || !again.Ready.Equal(day(2001)) || again.Version() != 3 {
		t.Errorf("got %+v after replay, want Name %q, Confirmed %v, Ready %v and Version 3", again, "name", day(2000), day(2001))
	}
}

// A copy of an aggregate has its own pending events from the next one on, so
// neither writes over the other's.
func TestCopiesDoNotSharePendingEvents(t *testing.T) {
	dog := RegisterDog("Fido")
	dog.AddTrick("sit")
	twin := *dog
	dog.AddTrick("the original's")
	twin.AddTrick("the copy's")
	saving.MarkSaved(&twin, 1)
	pending := dog.PendingEvents()
	if len(pending) != 3 || pending[2].Data != (TrickAdded{Trick: "the original's"}) || pending[0].Topic != "Dog.Registered" {
		t.Errorf("got %v, want 3 of them, Data %v and Topic %q", pending, (TrickAdded{Trick: "the original's"}), "Dog.Registered")
	}
	if pending := twin.PendingEvents(); len(pending) != 2 || pending[1].Data != (TrickAdded{Trick: "the copy's"}) {
		t.Errorf("got %v of the copy, want 2 of them and Data %v", pending, (TrickAdded{Trick: "the copy's"}))
	}
}
