package application_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

type ledger struct {
	domain.Aggregate
	Owner string
}

type ledgerOpened struct{ Owner string }

func (e ledgerOpened) Apply(l *ledger) { l.Owner = e.Owner }

type till struct {
	domain.Aggregate
	Place string
}

type tillPlaced struct{ Place string }

func (e tillPlaced) Apply(t *till) { t.Place = e.Place }

type entry struct{ Text string }

// TestOneIDForTwoDefinitions saves aggregates of two definitions under one id.
func TestOneIDForTwoDefinitions(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	app, err := application.New("Shop", application.WithStore(memory.New()))
	if err != nil {
		t.Fatal(err)
	}
	ledgers := domain.Define("Ledger", domain.On("Opened", ledgerOpened{}))
	tills := domain.Define("Till", domain.On("Placed", tillPlaced{}))
	first, second := expect.Must(application.NewRepository(app, ledgers)), expect.Must(application.NewRepository(app, tills))
	id := uuid.New()
	if err := first.Save(ctx, ledgers.Create(id, ledgerOpened{"Ada"})); err != nil {
		t.Fatal(err)
	}

	want := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, persistence.ErrOriginatorType) || persistence.IsConflict(err) {
			t.Fatalf("%s: got %v, want ErrOriginatorType that is no conflict", what, err)
		}
		for _, word := range []string{"Shop", id.String(), "it is a Ledger", "NewIDv5"} {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: got %v, want %s in its text", what, err, word)
			}
		}
	}
	want("save", second.Save(ctx, tills.Create(id, tillPlaced{"hall"})))
	_, err = second.Get(ctx, id)
	want("get", err)
	calls := 0
	want("update", second.Update(ctx, id, func(*till) error { calls++; return nil }))
	if calls != 0 {
		t.Errorf("Update called its function %d times, want 0", calls)
	}
	log := expect.Must(application.NewEventSourcedLog(app, domain.Define("Journal", domain.Entry("Entry", entry{})), id))
	_, err = log.Trigger(ctx, entry{"x"})
	want("log", err)

	if contains, err := second.Contains(ctx, id); contains || err != nil {
		t.Errorf("the second repository contains the id: %v, %v", contains, err)
	}
	if contains, err := first.Contains(ctx, id); !contains || err != nil {
		t.Errorf("the first repository contains the id: %v, %v", contains, err)
	}
	if l, err := first.Get(ctx, id); err != nil || l.Owner != "Ada" || l.Version() != 1 {
		t.Errorf("got %+v, %v, want no error, Owner %q and Version 1", l, err, "Ada")
	}
}

// sum is the state of two definitions, and of their events' types.
type sum struct{ N int }

// TestOneIDForTwoDefinitionsOfOnePayload is the same for definitions whose
// payloads and states have the same types: only topics tell them apart.
func TestOneIDForTwoDefinitionsOfOnePayload(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]application.Option{
		"from events":    nil,
		"from snapshots": {application.WithSnapshotting(map[string]int{"": 1})},
		"from the cache": {application.WithEnv(map[string]string{"AGGREGATE_CACHE_MAXSIZE": "10"})},
	} {
		t.Run(name, func(t *testing.T) {
			app, err := application.New("Shop", append(options, application.WithStore(memory.New()))...)
			expect.NoError(t, err)
			carts := domain.Define("Cart", domain.Evolve("Added", func(s, e sum) sum { return sum{s.N + e.N} }))
			orders := domain.Define("Order", domain.Evolve("Added", func(s, e sum) sum { return sum{s.N - e.N} }))
			log := domain.Define("Sums", domain.Entry("Added", sum{}))
			first, second := expect.Must(application.NewRepository(app, carts)), expect.Must(application.NewRepository(app, orders))
			id, logID := uuid.New(), uuid.New()
			entries := expect.Must(application.NewEventSourcedLog(app, log, logID))
			_, err = app.Save(t.Context(), domain.StartFold(carts, id, sum{7}), domain.Events{log.NewEvent(logID, 1, sum{1})})
			expect.NoError(t, err)
			for _, other := range []uuid.UUID{id, logID} {
				if _, err := second.Get(t.Context(), other); !errors.Is(err, persistence.ErrOriginatorType) {
					t.Errorf("got %v, want ErrOriginatorType", err)
				}
			}
			if cart := expect.Must(first.Get(t.Context(), id)); cart.State().N != 7 {
				t.Errorf("got %+v, want N 7", cart.State())
			}
			if _, ok, err := entries.Last(t.Context()); !ok || err != nil {
				t.Errorf("got %v, %v; want an entry", ok, err)
			}
		})
	}
}

// TestOneIDAfterARename reads under a new name what was stored under a former
// one: that is one definition.
func TestOneIDAfterARename(t *testing.T) {
	t.Parallel()
	ctx, store, id := t.Context(), memory.New(), uuid.New()
	old := domain.Define("Ledger", domain.On("Opened", ledgerOpened{}))
	before, err := application.New("Shop", application.WithStore(store))
	if err != nil {
		t.Fatal(err)
	}
	if err := expect.Must(application.NewRepository(before, old)).Save(ctx, old.Create(id, ledgerOpened{"Ada"})); err != nil {
		t.Fatal(err)
	}
	renamed := domain.Define("Book", domain.FormerName[ledger]("Ledger"), domain.On("Opened", ledgerOpened{}))
	after, err := application.New("Shop", application.WithStore(store))
	if err != nil {
		t.Fatal(err)
	}
	books := expect.Must(application.NewRepository(after, renamed))
	if contains, err := books.Contains(ctx, id); !contains || err != nil {
		t.Errorf("contains: %v, %v", contains, err)
	}
	if err := books.Save(ctx, renamed.Create(id, ledgerOpened{"Ada"})); !persistence.IsConflict(err) {
		t.Errorf("save: got %v, want a conflict", err)
	}
}
