package domain_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/definitions"
)

// Account is the state of a fold.
type Account struct{ Balance int }

type Opened struct{}

type Deposited struct{ Amount int }

var Accounts = domain.Define("Account",
	domain.Evolve("Opened", func(a Account, _ Opened) Account { return a }),
	domain.Evolve("Deposited", func(a Account, e Deposited) Account { a.Balance += e.Amount; return a }),
)

func TestFold(t *testing.T) {
	id := uuid.New()
	account := domain.StartFold(Accounts, id, Opened{}, domain.At(day(2000)))
	before := account.State()
	account.Trigger(Deposited{Amount: 5})
	account.Trigger(Deposited{Amount: 7})
	if before.Balance != 0 || account.State().Balance != 12 {
		t.Errorf("got balances %d and %d, want 0 and 12", before.Balance, account.State().Balance)
	}
	if account.ID() != id || account.Version() != 3 || !account.CreatedOn().Equal(day(2000)) {
		t.Errorf("got id %v, version %d, created on %v, want ID %v, Version 3 and CreatedOn %v", account.ID(), account.Version(), account.CreatedOn(), id, day(2000))
	}
	events := account.PendingEvents()
	if got, want := events[2].Topic, "Account.Deposited"; got != want {
		t.Errorf("got topic %q, want %q", got, want)
	}
	again := definitions.Blank(Accounts, id)
	for _, event := range events {
		if err := definitions.Of(Accounts).Apply(again, event); err != nil {
			t.Fatal(err)
		}
	}
	if again.State() != account.State() || again.Version() != 3 {
		t.Errorf("got %+v at version %d after replay, want %+v at 3", again.State(), again.Version(), account.State())
	}
	again.Trigger(Deposited{Amount: 1})
	if again.State().Balance != 13 {
		t.Errorf("got balance %d, want 13", again.State().Balance)
	}
}

func TestFoldPanics(t *testing.T) {
	definitionError(t, "event type domain_test.Transacted is not defined", func() { domain.StartFold(Accounts, uuid.New(), Transacted{}) })
	account := domain.StartFold(Accounts, uuid.New(), Opened{})
	definitionError(t, "not a pointer to it", func() { account.Trigger(&Deposited{Amount: 1}) })
	definitionError(t, "is not defined", func() { account.Trigger(nil) })
	definitionError(t, "was not made by its Definition", func() { new(domain.Fold[Account]).Trigger(Opened{}) })
	if account.Version() != 1 || len(account.PendingEvents()) != 1 {
		t.Errorf("got version %d and %d pending events, want 1 and 1", account.Version(), len(account.PendingEvents()))
	}
}

func TestFoldSnapshot(t *testing.T) {
	account := domain.StartFold(Accounts, uuid.New(), Opened{})
	account.Trigger(Deposited{Amount: 5})
	if got, want := definitions.Of(Accounts).StateType(), reflect.TypeFor[Account](); got != want {
		t.Errorf("got state type %v, want %v", got, want)
	}
	restored, err := definitions.Restore(Accounts, definitions.Of(Accounts).TakeSnapshot(account))
	if err != nil {
		t.Fatal(err)
	}
	restored.Trigger(Deposited{Amount: 1})
	if restored.State().Balance != 6 || restored.Version() != 3 || account.State().Balance != 5 {
		t.Errorf("got %+v at version %d and %+v, want Balance 6, Version 3 and Balance 5", restored.State(), restored.Version(), account.State())
	}
}

func TestFoldOverAnyState(t *testing.T) {
	counts := domain.Define("Counts",
		domain.Evolve("Counted", func(n int, by int8) int { return n + int(by) }),
		domain.Evolve("Reset", func(int, struct{}) int { return 0 }))
	count := domain.StartFold(counts, uuid.New(), int8(3))
	count.Trigger(int8(4))
	if count.State() != 7 {
		t.Errorf("got %d, want 7", count.State())
	}
	count.Trigger(struct{}{})
	if count.State() != 0 {
		t.Errorf("got %d, want 0", count.State())
	}
}

func TestLog(t *testing.T) {
	log := domain.Define("DogLog", domain.Entry("Registered", Registered{}), domain.Entry("Note", "", domain.StoredAs("note"), domain.Alias("Note")))
	if definitions.Of(log).SnapshotType() != nil {
		t.Error("a log has a snapshot type")
	}
	if definitions.Of(log).First() != 1 {
		t.Errorf("got first version %d, want 1", definitions.Of(log).First())
	}
	id := uuid.New()
	event := log.NewEvent(id, 4, "text", domain.At(day(2000)), domain.With(domain.Metadata{"k": "v"}))
	want := domain.Event{OriginatorID: id, OriginatorVersion: 4, Topic: "note", ID: event.ID,
		Timestamp: day(2000), Metadata: domain.Metadata{"k": "v"}, Data: "text"}
	if event.ID == uuid.Nil || !reflect.DeepEqual(event, want) {
		t.Errorf("got %+v, want %+v", event, want)
	}
	definitionError(t, "event type int is not defined", func() { log.NewEvent(id, 4, 1) })
	renamed := definitions.Of(domain.Define("Kennel", domain.Entry("Registered", Registered{}), domain.FormerName[domain.Log]("DogLog")))
	if got := renamed.EventTypes()[0].Aliases(); !slices.Equal(got, []string{"DogLog.Registered"}) || renamed.SnapshotType() != nil {
		t.Errorf("a log with a former name: got aliases %q and a snapshot type %v, want its former topic and none", got, renamed.SnapshotType())
	}
	kind, _ := definitions.Of(log).Kind("")
	data, err := kind.Decode(1, func(into any) error { return json.Unmarshal([]byte(`"text"`), into) })
	if err != nil || data != "text" {
		t.Errorf("got %v, %v, want no error and %q", data, err, "text")
	}
}
