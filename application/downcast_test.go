package application_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

// firstOfTwo is the second program of versions in its first deployment: it
// writes the events of version 1.
var firstOfTwo = domain.Define("Thing",
	domain.On("Created", createdV2{}, append(slices.Clone(upcastEvents[:1]),
		domain.Downcast(func(e createdV2) createdV1 { return createdV1{A: strings.ToLower(e.AA)} }))...),
	domain.State(func(t *thing) stateV2 { return stateV2{t.AA} }, func(s stateV2) *thing { return &thing{stateV4: stateV4{AA: s.AA}} }, upcastStates[:1]...))

// The old program and the first deployment work on the same aggregates, with
// snapshots and caches of both, and each has its own state of them.
func TestDowncastBesideTheOldProgram(t *testing.T) {
	for name, option := range map[string]application.Option{
		"events": application.WithSnapshotting(map[string]int{}), "snapshots": application.WithSnapshotting(map[string]int{"Thing": 2}), "cache": cached("10"),
	} {
		t.Run(name, func(t *testing.T) {
			ctx, store, id := t.Context(), memory.New(), uuid.New()
			program := func(definition *domain.Definition[thing]) *application.Repository[thing] {
				return expect.Must(application.NewRepository(newApplication(t, "Things", application.WithStore(store), option), definition))
			}
			before, first := program(versions[0].definition), program(firstOfTwo)
			if err := before.Save(ctx, versions[0].definition.Create(id, createdV1{A: "text 1"})); err != nil {
				t.Fatal(err)
			}
			for range 4 {
				if err := first.Update(ctx, id, func(th *thing) error { domain.Trigger(th, createdV2{AA: th.AA + " NEW"}); return nil }); err != nil {
					t.Fatal(err)
				}
				if err := before.Update(ctx, id, func(th *thing) error { domain.Trigger(th, createdV1{A: th.AA + " old"}); return nil }); err != nil {
					t.Fatal(err)
				}
			}
			want := "text 1" + strings.Repeat(" new old", 4)
			old, err := before.Get(ctx, id)
			if err != nil || old.AA != want {
				t.Errorf("the old program: got %+v, %v, want %q", old, err, want)
			}
			today, err := first.Get(ctx, id)
			if err != nil || today.AA != strings.ToUpper(want) {
				t.Errorf("the first deployment: got %+v, %v, want %q", today, err, strings.ToUpper(want))
			}
			refused := first.Update(ctx, id, func(th *thing) error { domain.Trigger(th, createdV2{AA: "Mixed"}); return nil })
			if _, ok := expect.ErrorAs[*persistence.MappingError](t, refused).Err.(*invalid.Error); !ok {
				t.Errorf("got %v, want an *invalid.Error in it", refused)
			}
			again, err := first.Get(ctx, id)
			if err != nil || !reflect.DeepEqual(again.stateV4, today.stateV4) || again.Version() != today.Version() {
				t.Errorf("after a save that was refused: got %+v, %v, want %+v", again, err, today)
			}
		})
	}
}

// The entries of a log are written in the earlier version as well.
func TestDowncastOfALog(t *testing.T) {
	ctx, store, id := t.Context(), memory.New(), uuid.New()
	program := func(log *domain.Definition[domain.Log]) *application.EventSourcedLog {
		return expect.Must(application.NewEventSourcedLog(newApplication(t, "Things", application.WithStore(store)), log, id))
	}
	before := program(domain.Define("Log", domain.Entry("Created", createdV1{})))
	app := newApplication(t, "Things", application.WithStore(store))
	first := expect.Must(application.NewEventSourcedLog(app, domain.Define("Log", domain.Entry("Created", createdV2{}, upcastEvents[0],
		domain.Downcast(func(e createdV2) createdV1 { return createdV1{A: strings.ToLower(e.AA)} }))), id))
	entry, err := first.Trigger(ctx, createdV2{AA: "TEXT"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.Save(ctx, entry); err != nil {
		t.Fatal(err)
	}
	if last, ok, err := before.Last(ctx); !ok || err != nil || last.Data != any(createdV1{A: "text"}) {
		t.Errorf("the old program: got %+v, %v, %v, want A \"text\"", last, ok, err)
	}
	if last, ok, err := first.Last(ctx); !ok || err != nil || last.Data != any(createdV2{AA: "TEXT"}) {
		t.Errorf("the first deployment: got %+v, %v, %v, want AA \"TEXT\"", last, ok, err)
	}
}
