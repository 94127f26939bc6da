package application_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/telemetry"
)

// puppy is the Dog of a program whose state has one field more.
type puppy struct {
	domain.Aggregate
	Name   string
	Tricks []string
	Count  int
}

type puppyRegistered struct{ Name string }

func (e puppyRegistered) Apply(d *puppy) { d.Name = e.Name }

type puppyTrick struct{ Trick string }

func (e puppyTrick) Apply(d *puppy) { d.Tricks = append(d.Tricks, e.Trick); d.Count++ }

var puppies = domain.Define("Dog", domain.On("Registered", puppyRegistered{}), domain.On("TrickAdded", puppyTrick{}))

func TestSnapshotOfAStateWithOtherFieldsIsNotUsed(t *testing.T) {
	ctx, store := t.Context(), &counting{faulty: newFaulty()}
	older := newSchool(t, application.WithStore(store.Store), application.WithSnapshotting(nil))
	for _, name := range []string{"Fido", "Rex"} {
		older.save(t, dogWith(name, 3))
		if err := older.dogs.TakeSnapshot(ctx, school.DogID(name)); err != nil {
			t.Fatal(err)
		}
	}
	logs := &logs{}
	seen := &taken{}
	app := newApplication(t, "TrainingSchool", application.WithStore(store.Store), application.WithSnapshotting(nil),
		application.WithLogger(logs.logger()), seen.option())
	newer := expect.Must(application.NewRepository(app, puppies))
	for range 3 {
		for _, name := range []string{"Fido", "Rex"} {
			if got, err := newer.Get(ctx, school.DogID(name)); err != nil || got.Count != 3 || len(got.Tricks) != 3 {
				t.Fatalf("got %+v, %v; want the dog of the events", got, err)
			}
		}
	}
	logs.want(t, "level=WARN", "passed over", "other fields", "definition=Dog")
	if n := strings.Count(logs.String(), "passed over"); n != 1 {
		t.Errorf("reported %d times, want once for the definition:\n%s", n, logs)
	}
	if t.Run("and not by the older program either", func(t *testing.T) {
		expect.NoError(t, newer.TakeSnapshot(ctx, school.DogID("Fido")))
		seen.want(t, "replaced 4")
		if got := older.get(t, "Fido"); got.Name != "Fido" || len(got.Tricks) != 3 {
			t.Errorf("got %+v, want Name %q and 3 Tricks", got, "Fido")
		}
		older.logs.want(t, "passed over", "other fields")
	}); t.Failed() {
		return
	}
	app = newApplication(t, "TrainingSchool", application.WithStore(store), application.WithSnapshotting(nil))
	newer = expect.Must(application.NewRepository(app, puppies))
	if got, err := newer.Get(ctx, school.DogID("Fido")); err != nil || got.Count != 3 || store.read != 1 {
		t.Errorf("got %+v, %v by %d events; want the new snapshot to be used", got, err, store.read)
	}
}

// A snapshot that a program without fingerprints has taken may lack fields, and
// is the usual case after an upgrade.
func TestSnapshotWithoutFingerprintIsPassedOverQuietly(t *testing.T) {
	ctx, store := t.Context(), memory.New()
	seen := &taken{}
	s := newSchool(t, application.WithStore(store), application.WithSnapshotting(nil), seen.option())
	s.save(t, dogWith("Fido", 2))
	state := bytes.NewBuffer([]byte{1})
	state.Write(make([]byte, 16+8)) // the event's id and the time
	state.Write(binary.AppendUvarint(nil, 1))
	state.WriteByte(0)
	state.WriteString(`{"CreatedOn":"2020-01-01T00:00:00Z","ModifiedOn":"2020-01-01T00:00:00Z","State":{"Name":"Old"}}`)
	plantSnapshot(t, store, school.DogID("Fido"), 3, state.Bytes())
	if got := s.get(t, "Fido"); got.Name != "Fido" || len(got.Tricks) != 2 {
		t.Errorf("got %+v, want the dog of the events", got)
	}
	expect.NoError(t, s.dogs.TakeSnapshot(ctx, school.DogID("Fido")))
	seen.want(t, "replaced 3")
	s.logs.want(t)
}

// taken has the outcomes and versions of the snapshots that an application took.
type taken struct{ all []string }

func (s *taken) option() application.Option {
	return application.WithObserver(&telemetry.Observer{SnapshotDone: func(_ context.Context, done telemetry.Snapshot) {
		s.all = append(s.all, fmt.Sprint(done.Outcome, " ", done.Version))
	}})
}

func (s *taken) want(t *testing.T, outcomes ...string) {
	t.Helper()
	if !slices.Equal(s.all, outcomes) {
		t.Errorf("got snapshots that were %q, want %q", s.all, outcomes)
	}
}

// plantSnapshot stores a snapshot past the application.
func plantSnapshot(t *testing.T, store persistence.Factory, id uuid.UUID, version int64, state []byte) {
	t.Helper()
	recorder, err := store.SnapshotRecorder("TrainingSchool")
	if err != nil {
		t.Fatal(err)
	}
	planted := persistence.StoredEvent{OriginatorID: id, OriginatorVersion: version, Topic: "Dog", State: state}
	if _, err := recorder.InsertEvents(t.Context(), []persistence.StoredEvent{planted}); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedSnapshotIsReplaced(t *testing.T) {
	ctx, store := t.Context(), &counting{faulty: newFaulty()}
	seen := &taken{}
	s := newSchool(t, application.WithStore(store.Store), application.WithSnapshotting(nil), seen.option())
	s.save(t, dogWith("Fido", 4))
	plantSnapshot(t, store.Store, school.DogID("Fido"), 5, []byte("abc"))
	for range 3 {
		s.get(t, "Fido")
	}
	if n := strings.Count(s.logs.String(), "passed over"); n != 1 {
		t.Errorf("reported %d times, want once for the snapshot:\n%s", n, s.logs)
	}
	for range 2 {
		expect.NoError(t, s.dogs.TakeSnapshot(ctx, school.DogID("Fido")))
	}
	seen.want(t, "replaced 5", "present 5")
	reads := newSchool(t, application.WithStore(store), application.WithSnapshotting(nil))
	store.read = 0
	if reads.get(t, "Fido"); store.read != 1 {
		t.Errorf("read %d events, want the new snapshot to be used", store.read)
	}
	reads.logs.want(t)
}

// If the newest snapshot cannot be used, the one before it is: not all events
// have to be read again.
func TestOlderSnapshotIsUsedInPlaceOfADamagedOne(t *testing.T) {
	ctx, store := t.Context(), &counting{faulty: newFaulty()}
	s := newSchool(t, application.WithStore(store), application.WithSnapshotting(nil))
	s.save(t, dogWith("Fido", 9))
	if err := s.dogs.TakeSnapshotAt(ctx, school.DogID("Fido"), 8); err != nil {
		t.Fatal(err)
	}
	plantSnapshot(t, store, school.DogID("Fido"), 10, []byte("abc"))
	store.read = 0
	if got := s.get(t, "Fido"); got.Version() != 10 || len(got.Tricks) != 9 || store.read != 3 {
		t.Errorf("got %+v by %d events, want 3", got, store.read)
	}
}

// A snapshot of events that were deleted is not used for those that were saved
// under the same id afterwards.
func TestSnapshotOfOtherEventsIsNotUsed(t *testing.T) {
	ctx := t.Context()
	before := memory.New()
	s := newSchool(t, application.WithStore(before), application.WithSnapshotting(nil))
	s.save(t, dogWith("Fido", 3))
	if err := s.dogs.TakeSnapshot(ctx, school.DogID("Fido")); err != nil {
		t.Fatal(err)
	}
	recorder, err := before.SnapshotRecorder("TrainingSchool")
	if err != nil {
		t.Fatal(err)
	}
	after := memory.New()
	for snapshot, err := range recorder.SelectEvents(ctx, school.DogID("Fido"), persistence.EventRange{}) {
		if err != nil {
			t.Fatal(err)
		}
		plantSnapshot(t, after, school.DogID("Fido"), snapshot.OriginatorVersion, snapshot.State)
	}
	s = newSchool(t, application.WithStore(after), application.WithSnapshotting(nil))
	dog := school.RegisterDog("Fido")
	for i := range 4 {
		dog.AddTrick(fmt.Sprint("new trick ", i))
	}
	s.save(t, dog)
	if got := s.get(t, "Fido"); !slices.Equal(got.Tricks, dog.Tricks) {
		t.Errorf("got %v, want %v", got.Tricks, dog.Tricks)
	}
	s.logs.want(t, "passed over", "another one")
	if err := s.dogs.TakeSnapshot(ctx, school.DogID("Fido")); err != nil {
		t.Fatal(err)
	}
	if err := s.dogs.TakeSnapshotAt(ctx, school.DogID("Fido"), 4); err != nil {
		t.Fatal(err)
	}
	if got, err := s.dogs.GetAt(ctx, school.DogID("Fido"), 4); err != nil || !slices.Equal(got.Tricks, dog.Tricks[:3]) {
		t.Errorf("got %+v, %v, want no error and Tricks %v", got, err, dog.Tricks[:3])
	}
	if n := strings.Count(s.logs.String(), "passed over"); n != 1 {
		t.Errorf("passed over %d times, want that the snapshot was replaced:\n%s", n, s.logs)
	}
}

func TestNewestSnapshotsAreKept(t *testing.T) {
	for name, test := range map[string]struct {
		options []application.Option
		want    []int64
	}{
		"two by default": {nil, []int64{8, 10}},
		"by code":        {[]application.Option{application.WithSnapshotsKept(3)}, []int64{6, 8, 10}},
		"by environment": {[]application.Option{env("SNAPSHOTS_KEPT", "1")}, []int64{10}},
		"all":            {[]application.Option{env("SNAPSHOTS_KEPT", "0")}, []int64{2, 4, 6, 8, 10}},
		"code wins":      {[]application.Option{env("SNAPSHOTS_KEPT", "1"), application.WithSnapshotsKept(2)}, []int64{8, 10}},
	} {
		for _, together := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", in one save ", together), func(t *testing.T) {
				store := memory.New()
				s := newSchool(t, append(test.options, application.WithStore(store),
					application.WithSnapshotting(map[string]int{"Dog": 2}))...)
				dog := school.RegisterDog("Fido")
				for i := range 10 {
					if !together {
						s.save(t, dog)
					}
					dog.AddTrick(fmt.Sprint(i))
				}
				s.save(t, dog)
				wantSnapshots(t, store, "Fido", test.want...)
				for version := int64(1); version <= 11; version++ {
					if got, err := s.dogs.GetAt(t.Context(), school.DogID("Fido"), version); err != nil || len(got.Tricks) != int(version)-1 {
						t.Errorf("version %d: got %+v, %v, want no error and %v Tricks", version, got, err, int(version)-1)
					}
				}
			})
		}
	}
	for _, option := range []application.Option{application.WithSnapshotsKept(-1), env("SNAPSHOTS_KEPT", "-1"), env("SNAPSHOTS_KEPT", "all")} {
		if _, err := application.New("TrainingSchool", application.WithLookup(nothing), option); err == nil {
			t.Error("got no error")
		}
	}
}

func TestSnapshotThatIsTooLargeIsReportedOnce(t *testing.T) {
	s := newSchool(t, application.WithSnapshotting(map[string]int{"Dog": 1}))
	dog := school.Dogs.Create(school.DogID("Fido"), school.Registered{Name: strings.Repeat("x", 9<<20)})
	dog.AddTrick(strings.Repeat("y", 9<<20))
	s.save(t, dog)
	for i := range 3 {
		dog.AddTrick(fmt.Sprint(i))
		s.save(t, dog)
	}
	if n := strings.Count(s.logs.String(), "snapshot was not taken"); n != 1 {
		t.Errorf("reported %d times, want once", n)
	}
	s.logs.want(t, "at most 16777216 can be stored")
}
