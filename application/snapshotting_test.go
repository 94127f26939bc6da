package application_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/definitions"
	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

// snapshotVersions are the versions that an originator has snapshots of.
func snapshotVersions(tb testing.TB, store persistence.Factory, id uuid.UUID) []int64 {
	tb.Helper()
	recorder, err := store.SnapshotRecorder("TrainingSchool")
	if err != nil {
		tb.Fatal(err)
	}
	versions := []int64{}
	for snapshot, err := range recorder.SelectEvents(tb.Context(), id, persistence.EventRange{}) {
		if err != nil {
			tb.Fatal(err)
		}
		versions = append(versions, snapshot.OriginatorVersion)
	}
	return versions
}

func wantSnapshots(t *testing.T, store persistence.Factory, name string, want ...int64) {
	t.Helper()
	if got := snapshotVersions(t, store, school.DogID(name)); !slices.Equal(got, want) {
		t.Errorf("got snapshots of %s at %v, want %v", name, got, want)
	}
}

func TestTakeSnapshot(t *testing.T) {
	ctx, id := t.Context(), school.DogID("Fido")
	store := &counting{faulty: newFaulty()}
	s := newSchool(t, application.WithStore(store), env("IS_SNAPSHOTTING_ENABLED", "y"))
	saved := dogWith("Fido", 4)
	s.save(t, saved)
	wantSnapshots(t, store, "Fido")

	if err := s.dogs.TakeSnapshot(ctx, id); err != nil {
		t.Fatal(err)
	}
	if err := s.dogs.TakeSnapshotAt(ctx, id, 2); err != nil {
		t.Fatal(err)
	}
	wantSnapshots(t, store, "Fido", 2, 5)

	t.Run("is used", func(t *testing.T) {
		store.read = 0
		dog := s.get(t, "Fido")
		if store.read != 1 || dog.Version() != 5 || len(dog.Tricks) != 4 || dog.CreatedOn() != saved.CreatedOn() || dog.ModifiedOn() != saved.ModifiedOn() {
			t.Errorf("read %d events and got %+v, want the snapshot's own and %+v", store.read, dog, saved)
		}
		for version, want := range map[int64]int{1: 1, 2: 1, 3: 2, 4: 3, 5: 1} {
			store.read = 0
			dog, err := s.dogs.GetAt(ctx, id, version)
			if err != nil || store.read != want || dog.Version() != version || len(dog.Tricks) != int(version)-1 {
				t.Errorf("version %d: read %d events and got %+v, %v; want %d events", version, store.read, dog, err, want)
			}
		}
	})
	t.Run("goes on with newer events", func(t *testing.T) {
		addTricks(t, store, "Fido", "one more")
		if dog := s.get(t, "Fido"); dog.Version() != 6 || len(dog.Tricks) != 5 {
			t.Errorf("got %+v, want Version 6 and 5 Tricks", dog)
		}
	})
	t.Run("of the same version twice is a success", func(t *testing.T) {
		if err := s.dogs.TakeSnapshotAt(ctx, id, 2); err != nil {
			t.Error(err)
		}
		wantSnapshots(t, store, "Fido", 2, 5)
	})
	t.Run("has nothing of what is pending", func(t *testing.T) {
		for snapshot, err := range bridge.Of(s).Snapshots().Get(ctx, id, persistence.EventRange{Limit: 1}) {
			if err != nil {
				t.Fatal(err)
			}
			if state := snapshot.Data.(eventtype.SnapshotState[school.Dog]).State; len(state.PendingEvents()) != 0 || len(state.Tricks) != 1 {
				t.Errorf("got %+v, want 0 PendingEvents and 1 Tricks", state)
			}
		}
	})
}

func TestTakeSnapshotErrors(t *testing.T) {
	ctx, id := t.Context(), school.DogID("Fido")
	t.Run("where there is no store for it", func(t *testing.T) {
		s := newSchool(t)
		s.save(t, school.RegisterDog("Fido"))
		if bridge.Of(s).Snapshots() != nil {
			t.Error("got a snapshot store")
		}
		for _, err := range []error{s.dogs.TakeSnapshot(ctx, id), s.dogs.TakeSnapshotAt(ctx, id, 1)} {
			expect.ErrorIs(t, err, persistence.ErrNotSupported, domain.ErrEventSourcing)
			expect.Contains(t, err.Error(), "TrainingSchool: take a snapshot of Dog "+id.String(),
				"IS_SNAPSHOTTING_ENABLED=y", "SNAPSHOTTING_INTERVALS", "WithSnapshotting")
		}
	})
	store := newFaulty()
	s := newSchool(t, application.WithStore(store), application.WithSnapshotting(nil))
	s.save(t, school.RegisterDog("Fido"))
	t.Run("of an unknown aggregate", func(t *testing.T) {
		expect.ErrorIs(t, s.dogs.TakeSnapshot(ctx, uuid.New()), application.ErrAggregateNotFound)
	})
	t.Run("of a version that never was", func(t *testing.T) {
		expect.ErrorIs(t, s.dogs.TakeSnapshotAt(ctx, id, 2), application.ErrAggregateNotFound)
		expect.ErrorAs[*invalid.Error](t, s.dogs.TakeSnapshotAt(ctx, id, 0))
	})
	t.Run("of the store", func(t *testing.T) {
		down := errors.New("down")
		store.beforeSnapshot(func() error { return down })
		if err := s.dogs.TakeSnapshot(ctx, id); !errors.Is(err, down) {
			t.Errorf("got %v, want %v", err, down)
		}
	})
}

func TestAutomaticSnapshots(t *testing.T) {
	for name, option := range map[string]application.Option{
		"by code":            application.WithSnapshotting(map[string]int{"Dog": 5}),
		"by environment":     env("SNAPSHOTTING_INTERVALS", "Dog=5"),
		"all by code":        application.WithSnapshotting(map[string]int{"": 5, "Account": 100}),
		"all by environment": env("SNAPSHOTTING_INTERVALS", " 5 , Account = 100 "),
	} {
		t.Run(name, func(t *testing.T) {
			store := memory.New()
			s := newSchool(t, application.WithStore(store), option)
			accounts := expect.Must(application.NewRepository(s.Application, Accounts))
			account := Accounts.Create(uuid.New(), Opened{Owner: "Alice"})
			for range 9 {
				domain.Trigger(account, Credited{Amount: 1})
			}
			if err := accounts.Save(t.Context(), account); err != nil {
				t.Fatal(err)
			}
			dog := school.RegisterDog("Fido")
			s.save(t, dog)
			for i := range 12 { // some in one save, some alone
				dog.AddTrick(fmt.Sprint(i))
				if i%3 != 0 {
					s.save(t, dog)
				}
			}
			s.save(t, dog)
			wantSnapshots(t, store, "Fido", 5, 10)
			if got := snapshotVersions(t, store, account.ID()); len(got) != 0 {
				t.Errorf("got snapshots of an account at %v, want none", got)
			}
			if got := s.get(t, "Fido"); got.Version() != 13 || len(got.Tricks) != 12 {
				t.Errorf("got %+v, want Version 13 and 12 Tricks", got)
			}
			if got, err := s.dogs.GetAt(t.Context(), school.DogID("Fido"), 5); err != nil || len(got.Tricks) != 4 {
				t.Errorf("got %+v, %v; want the state at version 5 and no later one", got, err)
			}
			s.logs.want(t)
		})
	}
	t.Run("in one save of all events", func(t *testing.T) {
		store := memory.New()
		s := newSchool(t, application.WithStore(store), application.WithSnapshotting(map[string]int{"Dog": 5}))
		s.save(t, dogWith("Fido", 12))
		wantSnapshots(t, store, "Fido", 5, 10)
	})
	t.Run("not of bare events", func(t *testing.T) {
		store := memory.New()
		s := newSchool(t, application.WithStore(store), application.WithSnapshotting(map[string]int{"Dog": 1}))
		s.save(t, domain.Events(school.RegisterDog("Fido").PendingEvents()))
		wantSnapshots(t, store, "Fido")
	})
	t.Run("not without intervals", func(t *testing.T) {
		for _, option := range []application.Option{application.WithSnapshotting(nil), env("IS_SNAPSHOTTING_ENABLED", "yes")} {
			store := memory.New()
			s := newSchool(t, application.WithStore(store), option)
			s.save(t, dogWith("Fido", 12))
			wantSnapshots(t, store, "Fido")
		}
	})
	t.Run("of folds", func(t *testing.T) {
		store := memory.New()
		counts := domain.Define("Count", domain.Evolve("Added", func(n, by int) int { return n + by }))
		app := newApplication(t, "TrainingSchool", application.WithStore(store), application.WithSnapshotting(map[string]int{"": 2}))
		repository := expect.Must(application.NewRepository(app, counts))
		count := domain.StartFold(counts, uuid.New(), 1)
		for range 4 {
			count.Trigger(1)
		}
		if err := repository.Save(t.Context(), count); err != nil {
			t.Fatal(err)
		}
		if got := snapshotVersions(t, store, count.ID()); !slices.Equal(got, []int64{2, 4}) {
			t.Errorf("got %v, want [2 4]", got)
		}
		if got, err := repository.Get(t.Context(), count.ID()); err != nil || got.State() != 5 {
			t.Errorf("got %+v, %v, want no error and State 5", got, err)
		}
	})
	t.Run("that fail do not fail the save, and followers are woken", func(t *testing.T) {
		store := newFaulty()
		store.beforeSnapshot(func() error { return errors.New("disk on fire") })
		s := newSchool(t, application.WithStore(store), application.WithSnapshotting(map[string]int{"Dog": 1}))
		woken := false
		bridge.Of(s).OnRecorded(func(context.Context, []mapper.Recording) { woken = true })
		dog := school.RegisterDog("Fido")
		s.save(t, dog)
		if !woken || len(dog.PendingEvents()) != 0 {
			t.Errorf("got woken %v and %d pending events, want 0 PendingEvents", woken, len(dog.PendingEvents()))
		}
		s.logs.want(t, "level=WARN", "snapshot was not taken", "disk on fire", dog.ID().String(), "version=1")
	})
}

func TestUnusableSnapshot(t *testing.T) {
	saved := dogWith("Fido", 4)
	for name, later := range map[string]struct {
		definition *domain.Definition[school.Dog]
		options    []application.Option
		want       string
	}{
		"of another schema version": {
			definition: domain.Define("Dog", domain.SnapshotVersion[school.Dog](2), domain.On("Registered", school.Registered{}), domain.On("TrickAdded", school.TrickAdded{})),
			want:       "schema version",
		},
		"of another state type": {
			definition: domain.Define("Dog", domain.On("Registered", school.Registered{}), domain.On("TrickAdded", school.TrickAdded{}),
				domain.State(func(d *school.Dog) []string { return d.Tricks }, func([]string) *school.Dog { return &school.Dog{} })),
			want: "decode",
		},
		"under an unknown name": {
			definition: domain.Define("Hound", domain.On("Registered", school.Registered{}, domain.StoredAs("Dog.Registered")),
				domain.On("TrickAdded", school.TrickAdded{}, domain.StoredAs("Dog.TrickAdded"))),
			want: "is not defined",
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := memory.New()
			s := newSchool(t, application.WithStore(store), application.WithSnapshotting(map[string]int{"Dog": 2}))
			s.save(t, domain.Events(saved.PendingEvents()))
			if err := s.dogs.TakeSnapshot(t.Context(), saved.ID()); err != nil {
				t.Fatal(err)
			}
			logs := &logs{}
			app := newApplication(t, "TrainingSchool", append(later.options, application.WithStore(store),
				application.WithSnapshotting(nil), application.WithLogger(logs.logger()))...)
			dog, err := expect.Must(application.NewRepository(app, later.definition)).Get(t.Context(), saved.ID())
			if err != nil || dog.Version() != 5 || !slices.Equal(dog.Tricks, saved.Tricks) || dog.Name != "Fido" {
				t.Errorf("got %+v, %v; want the dog of the events", dog, err)
			}
			logs.want(t, "level=WARN", "snapshot was passed over", later.want, saved.ID().String())
			if strings.Contains(logs.String(), "trick 1") {
				t.Errorf("got log %q, want nothing of the state in it", logs)
			}
		})
	}
	t.Run("damaged", func(t *testing.T) {
		store := memory.New()
		s := newSchool(t, application.WithStore(store), application.WithSnapshotting(nil))
		s.save(t, domain.Events(saved.PendingEvents()))
		recorder, err := store.SnapshotRecorder("TrainingSchool")
		if err != nil {
			t.Fatal(err)
		}
		damaged := persistence.StoredEvent{OriginatorID: saved.ID(), OriginatorVersion: 5, Topic: "Dog", State: []byte("\x01rubbish")}
		if _, err := recorder.InsertEvents(t.Context(), []persistence.StoredEvent{damaged}); err != nil {
			t.Fatal(err)
		}
		if dog := s.get(t, "Fido"); !slices.Equal(dog.Tricks, saved.Tricks) {
			t.Errorf("got %+v, want Tricks %v", dog, saved.Tricks)
		}
		s.logs.want(t, "snapshot was passed over", "damaged")
		if strings.Contains(s.logs.String(), "rubbish") {
			t.Errorf("got log %q, want nothing of the state in it", s.logs)
		}
	})
}

func TestSnapshotStoreThatFails(t *testing.T) {
	store := &brokenSnapshots{memory.New()}
	s := newSchool(t, application.WithStore(store), application.WithSnapshotting(nil))
	s.save(t, school.RegisterDog("Fido"))
	if _, err := s.dogs.Get(t.Context(), school.DogID("Fido")); !errors.Is(err, persistence.ErrOperational) {
		t.Errorf("got %v, want trouble with the database to be reported", err)
	}
}

// A snapshot of a version that its aggregate does not have is passed over: what
// would be saved on it could never be read.
func TestSnapshotAheadOfItsEventsIsPassedOver(t *testing.T) {
	s := newSchool(t, application.WithSnapshotting(nil))
	s.save(t, school.RegisterDog("Fido"))
	snapshot := definitions.Of(school.Dogs).TakeSnapshot(s.get(t, "Fido"))
	snapshot.OriginatorVersion = 99
	if err := bridge.Of(s).Snapshots().Put(t.Context(), snapshot); err != nil {
		t.Fatal(err)
	}
	if dog := s.get(t, "Fido"); dog.Version() != 1 {
		t.Errorf("got version %d, want 1", dog.Version())
	}
	s.logs.want(t, "passed over")
}
