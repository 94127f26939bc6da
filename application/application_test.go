package application_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

func TestSave(t *testing.T) {
	t.Run("returns events with their positions", func(t *testing.T) {
		s := newSchool(t)
		dog := dogWith("Fido", 1)
		pending := dog.PendingEvents()
		var recorded []mapper.Recording
		bridge.Of(s).OnRecorded(func(_ context.Context, recordings []mapper.Recording) { recorded = recordings })
		saved, err := s.Save(t.Context(), dog)
		if err != nil || len(saved.Events) != 2 || saved.Position != 2 || len(recorded) != 2 {
			t.Fatalf("got %+v, %v and %d recordings; want 2 events up to position 2", saved, err, len(recorded))
		}
		for i, event := range saved.Events {
			want := pending[i]
			want.Application, want.NotificationID = "TrainingSchool", int64(i+1)
			if event.ID != want.ID || event.NotificationID != want.NotificationID ||
				event.Application != want.Application || event.Data != want.Data {
				t.Errorf("got %+v, want %+v", event, want)
			}
			n := recorded[i].Notification
			if n.ID != want.NotificationID || n.OriginatorID != dog.ID() || n.OriginatorVersion != want.OriginatorVersion ||
				n.Topic != want.Topic || len(n.State) == 0 {
				t.Errorf("got %+v, want it stored as %+v", n, want)
			}
		}
		if got := dog.PendingEvents(); len(got) != 0 {
			t.Errorf("got %d pending events after the save, want none", len(got))
		}
	})
	t.Run("ids go on with every save", func(t *testing.T) {
		s := newSchool(t)
		fido, rex := school.RegisterDog("Fido"), school.RegisterDog("Rex")
		var ids []int64
		for _, changes := range [][]domain.Changes{{fido}, {rex}, {school.RegisterDog("Bella"), school.RegisterDog("Max")}} {
			for _, event := range s.save(t, changes...) {
				ids = append(ids, event.NotificationID)
			}
		}
		if want := []int64{1, 2, 3, 4}; !slices.Equal(ids, want) {
			t.Errorf("got ids %v, want %v", ids, want)
		}
	})
	t.Run("several aggregates in the order given", func(t *testing.T) {
		s := newSchool(t)
		expect.Must(application.NewRepository(s.Application, Accounts))
		account := Accounts.Create(uuid.New(), Opened{Owner: "Alice"})
		var topics []string
		for _, event := range s.save(t, dogWith("Fido", 1), account, school.RegisterDog("Rex")) {
			topics = append(topics, event.Topic)
		}
		if want := []string{"Dog.Registered", "Dog.TrickAdded", "Account.Opened", "Dog.Registered"}; !slices.Equal(topics, want) {
			t.Errorf("got %v, want %v", topics, want)
		}
	})
	t.Run("of bare events", func(t *testing.T) {
		s := newSchool(t)
		event := school.Dogs.NewEvent(school.DogID("Fido"), 1, school.Registered{Name: "Fido"})
		s.save(t, domain.Events{event})
		if dog := s.get(t, "Fido"); dog.Name != "Fido" {
			t.Errorf("got %+v, want Name %q", dog, "Fido")
		}
		_, err := s.Save(t.Context(), domain.Events{school.Dogs.NewEvent(school.DogID("Fido"), 1, school.Registered{})})
		expect.ErrorAs[*persistence.ConflictError](t, err)
	})
	t.Run("of folds", func(t *testing.T) {
		counts := domain.Define("Count", domain.Evolve("Added", func(n, by int) int { return n + by }))
		app := newApplication(t, "Counts")
		repository := expect.Must(application.NewRepository(app, counts))
		count := domain.StartFold(counts, uuid.New(), 2)
		if err := repository.Save(t.Context(), count); err != nil {
			t.Fatal(err)
		}
		if err := repository.Update(t.Context(), count.ID(), func(f *domain.Fold[int]) error { f.Trigger(3); return nil }); err != nil {
			t.Fatal(err)
		}
		if got, err := repository.Get(t.Context(), count.ID()); err != nil || got.State() != 5 {
			t.Errorf("got %+v, %v, want no error and State 5", got, err)
		}
	})
	t.Run("the same aggregate given twice", func(t *testing.T) {
		s := newSchool(t)
		dog := school.RegisterDog("Fido")
		if got := s.save(t, dog, nil, dog); len(got) != 1 {
			t.Errorf("got %d recordings, want 1", len(got))
		}
	})
}

func TestSaveNothing(t *testing.T) {
	s := newSchool(t)
	saved := school.RegisterDog("Fido")
	s.save(t, saved)
	for name, changes := range map[string][]domain.Changes{
		"no changes":               nil,
		"nil":                      {nil},
		"typed nil":                {(*school.Dog)(nil), (*domain.Fold[int])(nil), domain.Events(nil)},
		"aggregate without events": {saved},
		"an aggregate saved twice": {saved, saved},
	} {
		if got, err := s.Save(t.Context(), changes...); got.Position != 0 || got.Events != nil || err != nil {
			t.Errorf("%s: got %+v, %v; want the zero Saved, nil", name, got, err)
		}
	}
	if err := s.dogs.Save(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.dogs.Save(t.Context(), nil, saved); err != nil {
		t.Error(err)
	}
	if got, err := bridge.Of(s).Recorder().MaxNotificationID(t.Context()); got != 1 || err != nil {
		t.Errorf("got %d, %v; want nothing to be recorded", got, err)
	}
}

// To repeat the save would not help, so it is no conflict.
func TestTwoCopiesAreNotSavedTogether(t *testing.T) {
	s := newSchool(t)
	dog := school.RegisterDog("Fido")
	s.save(t, dog)
	from, to := expect.Must(s.dogs.Get(t.Context(), dog.ID())), expect.Must(s.dogs.Get(t.Context(), dog.ID()))
	from.AddTrick("sit")
	to.AddTrick("roll over")
	_, err := s.Save(t.Context(), from, to)
	if !errors.Is(err, persistence.ErrProgramming) || persistence.IsConflict(err) {
		t.Fatalf("got %v, want an ErrProgramming that is no conflict", err)
	}
	if text := err.Error(); !strings.Contains(text, dog.ID().String()) || !strings.Contains(text, "two copies") {
		t.Errorf("got %q, want it to name the aggregate and the two copies", text)
	}
	s.save(t, from, dog) // a copy that has not changed does not matter
}

func TestSaveIsAtomic(t *testing.T) {
	s := newSchool(t)
	s.save(t, school.RegisterDog("Fido"))
	rex, rival := school.RegisterDog("Rex"), school.RegisterDog("Fido")
	saved, err := s.Save(t.Context(), rex, rival)
	if saved.Events != nil || !persistence.IsConflict(err) {
		t.Fatalf("got %+v, %v; want a conflict", saved, err)
	}
	if ok, err := s.dogs.Contains(t.Context(), rex.ID()); ok || err != nil {
		t.Errorf("got %v, %v; want nothing of the save to be stored", ok, err)
	}
	if a, b := len(rex.PendingEvents()), len(rival.PendingEvents()); a != 1 || b != 1 {
		t.Errorf("got %d and %d pending events, want 1 of each", a, b)
	}
	s.save(t, rex) // without the rival it can be saved
}

func TestSaveAgainAfterFailure(t *testing.T) {
	store := newFaulty()
	s := newSchool(t, application.WithStore(store))
	down := &persistence.Error{Class: persistence.ErrOperational, Op: "insert"}
	store.failNext(down)
	dog := dogWith("Fido", 2)
	pending := dog.PendingEvents()
	if _, err := s.Save(t.Context(), dog); !errors.Is(err, down) {
		t.Fatalf("got %v, want %v", err, down)
	}
	if got := dog.PendingEvents(); len(got) != 3 || got[0].ID != pending[0].ID {
		t.Fatalf("got %+v, want the pending events to stay", got)
	}
	dog.AddTrick("one more")
	if got := s.save(t, dog); len(got) != 4 || got[0].ID != pending[0].ID {
		t.Errorf("got %+v, want all four events", got)
	}
	if got := s.get(t, "Fido"); got.Version() != 4 {
		t.Errorf("got version %d, want 4", got.Version())
	}
}

func TestConflict(t *testing.T) {
	s := newSchool(t)
	s.save(t, school.RegisterDog("Fido"))
	late := s.get(t, "Fido")
	rival := s.get(t, "Fido")
	rival.AddTrick("sit")
	rival.AddTrick("roll over")
	s.save(t, rival)
	late.AddTrick("sit")
	_, err := s.Save(t.Context(), late)
	conflict := expect.ErrorAs[*persistence.ConflictError](t, err)
	if conflict.Application != "TrainingSchool" || conflict.OriginatorID != late.ID() || conflict.Version != 2 || conflict.Current != 3 {
		t.Errorf("got %+v, want version 2 and current version 3", conflict)
	}
	if !errors.Is(err, persistence.ErrIntegrity) || !errors.Is(err, domain.ErrEventSourcing) {
		t.Errorf("%v is no ErrIntegrity", err)
	}
}

// lostReply stores the events and then says that they exist already, as a
// driver does that repeats a statement whose answer was lost.
func lostReply(ctx context.Context, events []persistence.StoredEvent, store insertFunc) ([]int64, error) {
	if _, err := store(ctx, events); err != nil {
		return nil, err
	}
	return store(ctx, events)
}

func TestSaveAfterLostReply(t *testing.T) {
	t.Run("is a success with the ids", func(t *testing.T) {
		store := newFaulty()
		s := newSchool(t, application.WithStore(store))
		s.save(t, school.RegisterDog("Rex"))
		store.onInsert(lostReply)
		dog := dogWith("Fido", 1)
		events := s.save(t, dog)
		if len(events) != 2 || events[0].NotificationID != 2 || events[1].NotificationID != 3 {
			t.Errorf("got %+v, want ids 2 and 3", events)
		}
		if got := dog.PendingEvents(); len(got) != 0 {
			t.Errorf("got %d pending events, want none", len(got))
		}
	})
	t.Run("repeated by the caller", func(t *testing.T) {
		store := newFaulty()
		s := newSchool(t, application.WithStore(store))
		store.onInsert(func(ctx context.Context, events []persistence.StoredEvent, insert insertFunc) ([]int64, error) {
			store.onInsert(nil)
			if _, err := insert(ctx, events); err != nil {
				return nil, err
			}
			return nil, &persistence.Error{Class: persistence.ErrOutcomeUnknown, Op: "insert"}
		})
		dog := dogWith("Fido", 1)
		if _, err := s.Save(t.Context(), dog); !errors.Is(err, persistence.ErrOutcomeUnknown) || len(dog.PendingEvents()) != 2 {
			t.Fatalf("got %v and %d pending events, want an error that is %v and 2 PendingEvents", err, len(dog.PendingEvents()), persistence.ErrOutcomeUnknown)
		}
		if got := s.save(t, dog); len(got) != 2 || got[1].NotificationID != 2 {
			t.Errorf("got %+v, want the ids of the first attempt", got)
		}
		if got, err := bridge.Of(s).Recorder().MaxNotificationID(t.Context()); got != 2 || err != nil {
			t.Errorf("got highest id %d, %v; want 2: nothing is stored twice", got, err)
		}
	})
	t.Run("in the original's layout is unknown", func(t *testing.T) {
		store := newFaulty()
		s := newSchool(t, application.WithStore(store), application.WithPythonLayout())
		store.onInsert(lostReply)
		dog := school.RegisterDog("Fido")
		_, err := s.Save(t.Context(), dog)
		if !errors.Is(err, persistence.ErrOutcomeUnknown) {
			t.Fatalf("got %v, want %v", err, persistence.ErrOutcomeUnknown)
		}
		expect.ErrorAs[*persistence.ConflictError](t, err)
		if n := len(dog.PendingEvents()); n != 1 {
			t.Errorf("got %d pending events, want 1", n)
		}
	})
	t.Run("with a rival's events is a conflict", func(t *testing.T) {
		s := newSchool(t)
		s.save(t, school.RegisterDog("Fido"))
		_, err := s.Save(t.Context(), school.RegisterDog("Fido"))
		conflict := expect.ErrorAs[*persistence.ConflictError](t, err)
		if len(conflict.Stored) != 1 || conflict.Stored[0].ID != 1 {
			t.Errorf("got %+v, want the stored event", conflict.Stored)
		}
	})
}

func TestMetadata(t *testing.T) {
	s := newSchool(t)
	ctx := application.WithMetadata(t.Context(), domain.Metadata{"user": "alice", "ip": "::1"})
	ctx = application.WithMetadata(ctx, domain.Metadata{domain.CorrelationID: "conversation", domain.CausationID: "command"})
	dog := school.RegisterDog("Fido")
	domain.Trigger(dog, school.TrickAdded{Trick: "sit"}, domain.With(domain.Metadata{"user": "bob"}))
	saved, err := s.Save(ctx, dog)
	if err != nil {
		t.Fatal(err)
	}
	want := domain.Metadata{"user": "alice", "ip": "::1", domain.CorrelationID: "conversation", domain.CausationID: "command"}
	var read []domain.Event
	for event, err := range bridge.Of(s).Events().Get(t.Context(), dog.ID(), persistence.EventRange{}) {
		if err != nil {
			t.Fatal(err)
		}
		read = append(read, event)
	}
	for i, user := range []string{"alice", "bob"} {
		want["user"] = user
		for _, got := range []domain.Metadata{saved.Events[i].Metadata, read[i].Metadata} {
			if len(got) != len(want) {
				t.Errorf("event %d: got %v, want %v", i, got, want)
			}
			for key, value := range want {
				if got[key] != value {
					t.Errorf("event %d: got %s %q, want %q", i, key, got[key], value)
				}
			}
		}
		if read[i].ID != saved.Events[i].ID || read[i].Timestamp != saved.Events[i].Timestamp {
			t.Errorf("event %d: got %+v, want %+v", i, read[i], saved.Events[i])
		}
	}
	if got := application.MetadataFrom(t.Context()); got != nil {
		t.Errorf("got %v, want none in a context without", got)
	}
}

func TestOnRecorded(t *testing.T) {
	s := newSchool(t)
	var first, second []mapper.Recording
	bridge.Of(s).OnRecorded(func(_ context.Context, recordings []mapper.Recording) { first = append(first, recordings...) })
	bridge.Of(s).OnRecorded(func(_ context.Context, recordings []mapper.Recording) { second = append(second, recordings...) })
	s.save(t)
	if first != nil {
		t.Errorf("got %+v for a save of nothing, want nil", first)
	}
	s.save(t, dogWith("Fido", 1))
	if _, err := s.Save(t.Context(), school.RegisterDog("Fido")); err == nil {
		t.Fatal("got no error, want a conflict")
	}
	if len(first) != 2 || len(second) != 2 || first[1].Notification.ID != 2 {
		t.Errorf("got %+v and %+v, want the two recordings of the save that succeeded", first, second)
	}
}

func TestClose(t *testing.T) {
	closed := func(t *testing.T, s *testSchool) {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("closing again: %v", err)
		}
		log := expect.Must(application.NewEventSourcedLog(s.Application, domain.Define("Log", domain.Entry("Note", "")), uuid.New()))
		ctx, id := t.Context(), school.DogID("Fido")
		for name, use := range map[string]func() error{
			"Save":           func() error { _, err := s.Save(ctx, school.RegisterDog("Rex")); return err },
			"Save nothing":   func() error { _, err := s.Save(ctx); return err },
			"Get":            func() error { _, err := s.dogs.Get(ctx, id); return err },
			"GetAt":          func() error { _, err := s.dogs.GetAt(ctx, id, 1); return err },
			"Contains":       func() error { _, err := s.dogs.Contains(ctx, id); return err },
			"Update":         func() error { return s.dogs.Update(ctx, id, func(*school.Dog) error { return nil }) },
			"Repository":     func() error { return s.dogs.Save(ctx, school.RegisterDog("Rex")) },
			"TakeSnapshot":   func() error { return s.dogs.TakeSnapshot(ctx, id) },
			"TakeSnapshotAt": func() error { return s.dogs.TakeSnapshotAt(ctx, id, 1) },
			"log First":      func() error { _, _, err := log.First(ctx); return err },
			"log Trigger":    func() error { _, err := log.Trigger(ctx, "text"); return err },
		} {
			if err := use(); !errors.Is(err, persistence.ErrClosed) || !errors.Is(err, persistence.ErrInterface) {
				t.Errorf("%s: got %v, want %v", name, err, persistence.ErrClosed)
			}
		}
	}
	t.Run("closes the store it opened", func(t *testing.T) {
		s := newSchool(t, application.WithSnapshotting(nil))
		s.save(t, school.RegisterDog("Fido"))
		closed(t, s)
		if _, err := bridge.Of(s).Factory().ProcessRecorder("TrainingSchool"); !errors.Is(err, persistence.ErrClosed) {
			t.Errorf("got %v, want the store to be closed", err)
		}
	})
	t.Run("leaves the store it was given", func(t *testing.T) {
		store := memory.New()
		s := newSchool(t, application.WithStore(store), application.WithSnapshotting(nil))
		s.save(t, school.RegisterDog("Fido"))
		closed(t, s)
		other := newSchool(t, application.WithStore(store))
		if dog := other.get(t, "Fido"); dog.Name != "Fido" {
			t.Errorf("got %+v, want Name %q", dog, "Fido")
		}
	})
}

// The example application of the original: open an account, credit it, read it
// back, and page through its log.
func TestExampleApplication(t *testing.T) {
	for name, options := range map[string][]application.Option{
		"plain":      nil,
		"cache":      {cached("100")},
		"encrypted":  {env("CIPHER_KEY", testKey, "COMPRESSOR_TOPIC", "zlib")},
		"original":   {application.WithPythonLayout()},
		"compressed": {env("COMPRESSOR_TOPIC", "zstd")},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			app := newApplication(t, "BankAccounts", append(options, env("IS_SNAPSHOTTING_ENABLED", "y"))...)
			accounts := expect.Must(application.NewRepository(app, Accounts))
			credit := func(id uuid.UUID, amount int) {
				t.Helper()
				err := accounts.Update(ctx, id, func(a *Account) error { domain.Trigger(a, Credited{Amount: amount}); return nil })
				if err != nil {
					t.Fatal(err)
				}
			}
			balance := func(want int, get func() (*Account, error)) {
				t.Helper()
				if account, err := get(); err != nil || account.Balance != want {
					t.Errorf("got %+v, %v; want balance %d", account, err, want)
				}
			}
			id := uuid.New()
			_, err := accounts.Get(ctx, id)
			expect.ErrorIs(t, err, application.ErrAggregateNotFound)
			if err := accounts.Save(ctx, Accounts.Create(id, Opened{Owner: "Alice"})); err != nil {
				t.Fatal(err)
			}
			for _, amount := range []int{10, 25, 30} {
				credit(id, amount)
			}
			balance(65, func() (*Account, error) { return accounts.Get(ctx, id) })
			if head, err := app.Log().Head(ctx); err != nil || head != 4 {
				t.Errorf("got head %d, %v; want 4", head, err)
			}
			if err := accounts.TakeSnapshotAt(ctx, id, 2); err != nil {
				t.Fatal(err)
			}
			if err := accounts.TakeSnapshot(ctx, id); err != nil {
				t.Fatal(err)
			}
			balance(35, func() (*Account, error) { return accounts.GetAt(ctx, id, 3) })
			balance(65, func() (*Account, error) { return accounts.GetAt(ctx, id, 4) })
			balance(65, func() (*Account, error) { return accounts.Get(ctx, id) })
		})
	}
}

// What an event causes has its id and its conversation, beside what ctx has
// already.
func TestWithCause(t *testing.T) {
	t.Parallel()
	event := domain.Event{ID: uuid.New(), Metadata: domain.Metadata{domain.CorrelationID: "conversation", "user": "bob"}}
	ctx := application.WithMetadata(t.Context(), domain.Metadata{"ip": "::1", domain.CorrelationID: "another"})
	ctx = application.WithMetadata(bridge.WithCause(ctx, event, nil), domain.Metadata{"late": "yes"})
	want := domain.Metadata{"ip": "::1", "late": "yes", domain.CorrelationID: "conversation", domain.CausationID: event.ID.String()}
	if got := application.MetadataFrom(ctx); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	event.Metadata = domain.Metadata{domain.CorrelationID: "M\xfcller"} // of an earlier version
	if got := application.MetadataFrom(bridge.WithCause(t.Context(), event, nil))[domain.CorrelationID]; got != "M\uFFFDller" {
		t.Errorf("got the correlation id %q, want one that can be stored", got)
	}
	if got := application.MetadataFrom(bridge.WithCause(t.Context(), domain.Event{}, nil)); len(got) > 0 {
		t.Errorf("an event of the original: got %v, want none", got)
	}
}
