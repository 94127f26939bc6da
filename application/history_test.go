package application_test

import (
	"context"
	"errors"
	"iter"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/definitions"
	"github.com/eventsourcing-go/eventsourcing/internal/doctored"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

// atOnce is a store that reads a snapshot and events at once, and counts what
// is read otherwise.
type atOnce struct {
	doctored.HistoryStore
	reads int
}

func newAtOnce() *atOnce {
	return &atOnce{HistoryStore: doctored.HistoryStore{Store: memory.New()}}
}

func (s *atOnce) ProcessRecorder(name string) (persistence.ProcessRecorder, error) {
	r, err := s.HistoryStore.ProcessRecorder(name)
	if err != nil {
		return nil, err
	}
	return &atOnceRecorder{r.(*doctored.HistoryRecorder), s}, nil
}

func (s *atOnce) SnapshotRecorder(name string) (persistence.AggregateRecorder, error) {
	r, err := s.HistoryStore.SnapshotRecorder(name)
	return &countedSnapshots{r, s}, err
}

type atOnceRecorder struct {
	*doctored.HistoryRecorder
	store *atOnce
}

func (r *atOnceRecorder) SelectEvents(ctx context.Context, id uuid.UUID, want persistence.EventRange) iter.Seq2[persistence.StoredEvent, error] {
	r.store.reads++
	return r.HistoryRecorder.SelectEvents(ctx, id, want)
}

type countedSnapshots struct {
	persistence.AggregateRecorder
	store *atOnce
}

func (r *countedSnapshots) SelectEvents(ctx context.Context, id uuid.UUID, want persistence.EventRange) iter.Seq2[persistence.StoredEvent, error] {
	r.store.reads++
	return r.AggregateRecorder.SelectEvents(ctx, id, want)
}

// A load reads once what it needs, and more only if the newest snapshot cannot
// be used.
func TestLoadReadsOnce(t *testing.T) {
	const tricks = 9 // of Fido, whose version is 10
	zero := domain.Define("Zero", domain.FirstVersion[school.Dog](0), domain.On("Registered", school.Registered{}))
	snapshotAt := func(t *testing.T, s *testSchool, version int64) {
		if err := s.dogs.TakeSnapshotAt(t.Context(), school.DogID("Fido"), version); err != nil {
			t.Fatal(err)
		}
	}
	plantAhead := func(t *testing.T, s *testSchool) {
		snapshot := definitions.Of(school.Dogs).TakeSnapshot(s.get(t, "Fido"))
		snapshot.OriginatorVersion = 99
		if err := bridge.Of(s).Snapshots().Put(t.Context(), snapshot); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		prepare func(t *testing.T, s *testSchool, store *atOnce)
		version int64 // 0 is the latest
		reads   int   // beside that of the history
		logged  []string
	}{
		"no snapshot": {},
		"a snapshot":  {prepare: func(t *testing.T, s *testSchool, _ *atOnce) { snapshotAt(t, s, 4) }},
		"a snapshot of the last version": {prepare: func(t *testing.T, s *testSchool, _ *atOnce) {
			snapshotAt(t, s, 10)
		}},
		"a version before the snapshot": {prepare: func(t *testing.T, s *testSchool, _ *atOnce) {
			snapshotAt(t, s, 8)
		}, version: 7},
		"a version between snapshots": {prepare: func(t *testing.T, s *testSchool, _ *atOnce) {
			snapshotAt(t, s, 3)
			snapshotAt(t, s, 8)
		}, version: 6},
		"the version of a snapshot": {prepare: func(t *testing.T, s *testSchool, _ *atOnce) {
			snapshotAt(t, s, 8)
		}, version: 8},
		"a damaged snapshot": {prepare: func(t *testing.T, s *testSchool, store *atOnce) {
			plantSnapshot(t, store.Store, school.DogID("Fido"), 10, []byte("abc"))
		}, reads: 2, logged: []string{"passed over", "damaged"}},
		"a damaged snapshot, and an older one": {prepare: func(t *testing.T, s *testSchool, store *atOnce) {
			snapshotAt(t, s, 4)
			plantSnapshot(t, store.Store, school.DogID("Fido"), 10, []byte("abc"))
		}, reads: 2, logged: []string{"passed over", "damaged"}},
		"a snapshot whose event is gone": {prepare: func(t *testing.T, s *testSchool, _ *atOnce) {
			plantAhead(t, s)
		}, reads: 2, logged: []string{"passed over", "not among the stored events"}},
		"a snapshot whose event is gone, and an older one": {prepare: func(t *testing.T, s *testSchool, _ *atOnce) {
			snapshotAt(t, s, 4)
			plantAhead(t, s)
		}, reads: 2, logged: []string{"passed over", "not among the stored events"}},
	} {
		t.Run(name, func(t *testing.T) {
			store := newAtOnce()
			s := newSchool(t, application.WithStore(store), application.WithSnapshotting(nil))
			saved := dogWith("Fido", tricks)
			s.save(t, saved)
			if test.prepare != nil {
				test.prepare(t, s, store)
			}
			fresh := newSchool(t, application.WithStore(store), application.WithSnapshotting(nil))
			store.reads = 0
			got, want := (*school.Dog)(nil), saved.Version()
			err := error(nil)
			if test.version == 0 {
				got, err = fresh.dogs.Get(t.Context(), school.DogID("Fido"))
			} else {
				want = test.version
				got, err = fresh.dogs.GetAt(t.Context(), school.DogID("Fido"), test.version)
			}
			if err != nil || got.Version() != want || !slices.Equal(got.Tricks, saved.Tricks[:want-1]) {
				t.Fatalf("got %+v, %v; want version %d", got, err, want)
			}
			if store.reads != test.reads {
				t.Errorf("got %d further reads, want %d", store.reads, test.reads)
			}
			fresh.logs.want(t, test.logged...)
		})
	}
	t.Run("an unknown aggregate", func(t *testing.T) {
		store := newAtOnce()
		s := newSchool(t, application.WithStore(store), application.WithSnapshotting(nil))
		_, err := s.dogs.Get(t.Context(), school.DogID("Nobody"))
		expect.ErrorIs(t, err, application.ErrAggregateNotFound)
		s.save(t, school.RegisterDog("Fido"))
		store.reads = 0
		_, err = s.dogs.GetAt(t.Context(), school.DogID("Fido"), 2)
		expect.ErrorIs(t, err, application.ErrAggregateNotFound)
		expect.Contains(t, err.Error(), "it is at version 1")
		expect.Equal(t, "further reads", store.reads, 0)
	})
	t.Run("a damaged snapshot of version 0", func(t *testing.T) {
		store := newAtOnce()
		app := newApplication(t, "TrainingSchool", application.WithStore(store), application.WithSnapshotting(nil),
			application.WithLogger((&logs{}).logger()))
		dogs := expect.Must(application.NewRepository(app, zero))
		if err := dogs.Save(t.Context(), zero.Create(school.DogID("Fido"), school.Registered{Name: "Fido"})); err != nil {
			t.Fatal(err)
		}
		plantSnapshot(t, store.Store, school.DogID("Fido"), 0, []byte("abc"))
		store.reads = 0
		if got, err := dogs.Get(t.Context(), school.DogID("Fido")); err != nil || got.Name != "Fido" || store.reads != 1 {
			t.Errorf("got %+v, %v and %d further reads, want one of the events", got, err, store.reads)
		}
	})
	t.Run("without snapshots", func(t *testing.T) {
		store := newAtOnce()
		store.Select = func(context.Context, *doctored.HistoryRecorder, uuid.UUID, int64) (
			*persistence.StoredEvent, iter.Seq2[persistence.StoredEvent, error], error,
		) {
			return nil, nil, doctored.ErrBroken
		}
		s := newSchool(t, application.WithStore(store))
		s.save(t, school.RegisterDog("Fido"))
		s.get(t, "Fido")
	})
}

// An error of the store is not taken for an aggregate without a snapshot, nor
// for one without events.
func TestLoadThatFailsToReadOnce(t *testing.T) {
	store := newAtOnce()
	s := newSchool(t, application.WithStore(store), application.WithSnapshotting(nil))
	s.save(t, dogWith("Fido", 3))
	if err := s.dogs.TakeSnapshotAt(t.Context(), school.DogID("Fido"), 2); err != nil {
		t.Fatal(err)
	}
	for name, broken := range map[string]bool{"at once": false, "later": true} {
		store.Select = func(ctx context.Context, r *doctored.HistoryRecorder, id uuid.UUID, before int64) (
			*persistence.StoredEvent, iter.Seq2[persistence.StoredEvent, error], error,
		) {
			if !broken {
				return nil, nil, doctored.ErrBroken
			}
			snapshot, events, err := r.Read(ctx, id, before)
			for first := range events {
				return snapshot, doctored.Broken(doctored.ErrBroken, first), err
			}
			return nil, nil, err
		}
		if got, err := s.dogs.Get(t.Context(), school.DogID("Fido")); !errors.Is(err, doctored.ErrBroken) {
			t.Errorf("%s: got %+v and the error %v, want that of the store", name, got, err)
		}
	}
}
