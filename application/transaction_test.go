package application_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/internal/txscope"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

// The memory store has no transactions: these tests are about what the
// application does when one ends.

func TestCommit(t *testing.T) {
	store := memory.New()
	s := newSchool(t, application.WithStore(store), application.WithSnapshotting(map[string]int{"Dog": 2}))
	var woken int
	bridge.Of(s).OnRecorded(func(ctx context.Context, recordings []mapper.Recording) {
		woken += len(recordings)
		if txscope.From(ctx) != nil {
			t.Error("the context after the commit carries the transaction")
		}
	})
	ctx, tx := txscope.New(t.Context())
	dog := dogWith("Fido", 1)
	saved, err := s.Save(ctx, dog)
	if err != nil || len(saved.Events) != 2 || saved.Events[0].NotificationID != 1 {
		t.Fatalf("got %+v, %v; want the ids at once", saved, err)
	}
	if n := len(dog.PendingEvents()); n != 0 {
		t.Errorf("got %d pending events, want 0, so that the next save in the transaction goes on", n)
	}
	dog.AddTrick("one more")
	if _, err := s.Save(ctx, dog); err != nil {
		t.Fatal(err)
	}
	if woken != 0 {
		t.Errorf("followers are woken before the commit: got %v, want 0", woken)
	}
	wantSnapshots(t, store, "Fido")
	tx.Committed(t.Context())
	if woken != 3 {
		t.Errorf("got %d recordings after the commit, want 3", woken)
	}
	wantSnapshots(t, store, "Fido", 2)
}

func TestRollback(t *testing.T) {
	store := memory.New()
	s := newSchool(t, application.WithStore(store), application.WithSnapshotting(map[string]int{"Dog": 1}))
	bridge.Of(s).OnRecorded(func(context.Context, []mapper.Recording) { t.Error("followers are woken after a rollback") })
	ctx, tx := txscope.New(t.Context())
	dog, rex := school.RegisterDog("Fido"), school.RegisterDog("Rex")
	var want []string
	for i := range 3 {
		dog.AddTrick(fmt.Sprint(i))
		if _, err := s.Save(ctx, dog, rex); err != nil {
			t.Fatal(err)
		}
	}
	dog.AddTrick("after the last save")
	tx.RolledBack(t.Context())
	var got []string
	for _, event := range dog.PendingEvents() {
		got = append(got, fmt.Sprint(event.OriginatorVersion, event.Data))
	}
	want = []string{"1 {Fido}", "2 {0}", "3 {1}", "4 {2}", "5 {after the last save}"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got pending events %v, want %v", got, want)
	}
	if len(rex.PendingEvents()) != 1 {
		t.Errorf("got %d pending events of Rex, want 1", len(rex.PendingEvents()))
	}
	wantSnapshots(t, store, "Fido")
}

func TestNestedTransaction(t *testing.T) {
	s := newSchool(t)
	var woken []int
	bridge.Of(s).OnRecorded(func(_ context.Context, recordings []mapper.Recording) { woken = append(woken, len(recordings)) })
	outer, outerTx := txscope.New(t.Context())
	fido, rex, bella := school.RegisterDog("Fido"), school.RegisterDog("Rex"), school.RegisterDog("Bella")
	save := func(ctx context.Context, dog *school.Dog) {
		t.Helper()
		if _, err := s.Save(ctx, dog); err != nil {
			t.Fatal(err)
		}
	}
	save(outer, fido)
	inner, innerTx := txscope.New(outer)
	save(inner, rex)
	innerTx.RolledBack(outer)
	if len(fido.PendingEvents()) != 0 || len(rex.PendingEvents()) != 1 {
		t.Errorf("got %d and %d pending events, want 0 and 1", len(fido.PendingEvents()), len(rex.PendingEvents()))
	}
	inner, innerTx = txscope.New(outer)
	save(inner, bella)
	innerTx.Committed(outer)
	if woken != nil {
		t.Error("followers are woken before the outer commit")
	}
	outerTx.Committed(t.Context())
	if fmt.Sprint(woken) != "[1 1]" {
		t.Errorf("got saves of %v events after the commit, want those of Fido and Bella", woken)
	}
}
