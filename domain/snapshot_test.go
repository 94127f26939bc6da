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
)

func TestSnapshot(t *testing.T) {
	dogs := Dogs.WithClock(clock(day(2001), day(2002), day(2003)))
	dog := dogs.Create(uuid.New(), Registered{Name: "Fido"})
	dog.AddTrick("sit")
	snapshot := definitions.Of(dogs).TakeSnapshot(dog)

	data, ok := snapshot.Data.(eventtype.SnapshotState[Dog])
	if !ok || data.CreatedOn != day(2001) || data.ModifiedOn != day(2002) || data.State.Name != "Fido" {
		t.Fatalf("got %+v, want CreatedOn %v, ModifiedOn %v and Name %q", snapshot.Data, day(2001), day(2002), "Fido")
	}
	if got := data.State.Aggregate; !reflect.DeepEqual(got, domain.Aggregate{}) {
		t.Errorf("got %+v in the state, want nothing of what is pending", got)
	}
	want := domain.Event{OriginatorID: dog.ID(), OriginatorVersion: 2, Topic: "Dog", ID: snapshot.ID, Timestamp: day(2003), Data: data}
	if snapshot.ID == uuid.Nil || !reflect.DeepEqual(snapshot, want) {
		t.Errorf("got %+v, want %+v", snapshot, want)
	}
	if got := len(dog.PendingEvents()); got != 2 {
		t.Errorf("got %d pending events, want the snapshot to leave them", got)
	}

	restored, err := definitions.Restore(dogs, snapshot)
	if err != nil {
		t.Fatal(err)
	}
	if restored.ID() != dog.ID() || restored.Version() != 2 || restored.CreatedOn() != day(2001) || restored.ModifiedOn() != day(2002) ||
		restored.Name != "Fido" || !slices.Equal(restored.Tricks, dog.Tricks) || len(restored.PendingEvents()) != 0 {
		t.Errorf("got %+v, want ID %v, Version 2, CreatedOn %v, ModifiedOn %v, Name %q, Tricks %v and 0 PendingEvents", restored, dog.ID(), day(2001), day(2002), "Fido", dog.Tricks)
	}
	domain.Trigger(restored, TrickAdded{Trick: "roll over"}, domain.At(day(2004)))
	if restored.Version() != 3 || restored.CreatedOn() != day(2001) {
		t.Errorf("got version %d, created on %v; want the restored aggregate to go on", restored.Version(), restored.CreatedOn())
	}
}

func TestRestoreErrors(t *testing.T) {
	snapshot := definitions.Of(BankAccounts).TakeSnapshot(OpenAccount("Alice"))
	_, err := definitions.Restore(Dogs, snapshot)
	if got, ok := errors.AsType[*eventtype.PayloadError](err); !ok || got.Definition != "Dog" || got.Topic != "BankAccount" {
		t.Errorf("got %v, want an eventtype.PayloadError", err)
	}
	dogs := domain.Define("Dog", domain.On("Registered", Registered{}),
		domain.State(func(*Dog) string { return "" }, func(string) *Dog { return nil }))
	_, err = definitions.Restore(dogs, definitions.Of(dogs).TakeSnapshot(dogs.Create(uuid.New(), Registered{})))
	if !errors.Is(err, domain.ErrEventSourcing) {
		t.Errorf("got %v, want an error about the State function", err)
	}
}

func TestSnapshotVersion(t *testing.T) {
	dogs := domain.Define("Dog", domain.SnapshotVersion[Dog](3))
	kind := definitions.Of(dogs).SnapshotType()
	if got := kind.Version(); got != 3 {
		t.Errorf("got version %d, want 3", got)
	}
	_, err := kind.Decode(2, decoder(`{}`))
	if got, ok := errors.AsType[*eventtype.VersionError](err); !ok || got.Oldest != 3 || got.Known != 3 || got.Stored != 2 {
		t.Errorf("got %v, want a VersionError", err)
	}
	if got := definitions.Of(Dogs).SnapshotType().Version(); got != 1 {
		t.Errorf("got version %d, want 1", got)
	}
}
