package application_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/doctored"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

// hearing is a store whose listener a test rings.
type hearing struct {
	*memory.Store
	capability.Provider
	wake chan func(string)
}

func newHearing() *hearing {
	h := &hearing{Store: memory.New(), wake: make(chan func(string), 1)}
	h.Provider = doctored.Capabilities(h.Store, func(c *capability.Store) { c.Listener = h })
	return h
}

func (h *hearing) Listen(ctx context.Context, wake func(string)) error {
	h.wake <- wake
	<-ctx.Done()
	return nil
}

// Events ends at the head, on an empty log at once, and says if it could not.
func TestEventsUpToTheHead(t *testing.T) {
	s := newSchool(t, application.WithStore(memory.New()))
	read := func(ctx context.Context, after int64, topics ...string) (ids []int64, err error) {
		for event, err := range s.Log().Events(ctx, after, topics...) {
			if err != nil {
				return ids, err
			}
			if event.NotificationID == 1 {
				s.save(t, school.RegisterDog("Bello")) // is after the head
			}
			ids = append(ids, event.NotificationID)
		}
		return ids, nil
	}
	want := func(got []int64, err error, want ...int64) {
		t.Helper()
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("got %v, %v; want %v", got, err, want)
		}
	}
	none, err := read(t.Context(), 0)
	want(none, err)
	for i := range 1200 { // several pages
		s.save(t, school.RegisterDog(fmt.Sprint("dog ", i)))
	}
	all, err := read(t.Context(), 0)
	if err != nil || len(all) != 1200 || all[0] != 1 || all[1199] != 1200 {
		t.Errorf("got %d events, %v; want 1 to 1200", len(all), err)
	}
	last, err := read(t.Context(), 1199)
	want(last, err, 1200, 1201)
	other, err := read(t.Context(), 0, "Dog.TrickAdded")
	want(other, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, err = range s.Log().Events(ctx, 0) {
		cancel()
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v after the context ended, want its error", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := read(t.Context(), 0); err == nil {
		t.Error("got no error of a closed application")
	}
}

func TestSubscribeToEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newHearing()
		s, other := newSchool(t, application.WithStore(store)), newSchool(t, application.WithStore(store))
		save := func(s *testSchool, names ...string) {
			for _, name := range names {
				if _, err := s.Save(t.Context(), school.RegisterDog(name)); err != nil {
					t.Error(err)
				}
			}
		}
		save(s, "Fido", "Rex")
		ctx, cancel := context.WithCancel(t.Context())
		seen := make(chan int64)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for event, err := range s.Log().Subscribe(ctx, 1) {
				if err != nil || event.Application != s.Name() {
					t.Errorf("got %+v, %v, want no error and Application %v", event, err, s.Name())
				}
				seen <- event.NotificationID
			}
		}()
		begin := time.Now()
		wake := <-store.wake
		got := []int64{<-seen}
		synctest.Wait()
		save(s, "Lassie")
		got = append(got, <-seen)
		synctest.Wait()
		save(other, "Bello")
		wake(other.Name())
		got = append(got, <-seen)
		if want := []int64{2, 3, 4}; !slices.Equal(got, want) || time.Now() != begin {
			t.Errorf("got %v after %v, want %v at once", got, time.Since(begin), want)
		}
		cancel()
		<-done
	})
}

func TestSubscribeToTopics(t *testing.T) {
	s := newSchool(t)
	dog := school.RegisterDog("Fido")
	dog.AddTrick("sit")
	if _, err := s.Save(t.Context(), dog); err != nil {
		t.Fatal(err)
	}
	for event, err := range s.Log().Subscribe(t.Context(), 0, "Dog.TrickAdded") {
		if err != nil || event.Topic != "Dog.TrickAdded" {
			t.Errorf("got %+v, %v, want no error and Topic %q", event, err, "Dog.TrickAdded")
		}
		break
	}
}

type (
	arrived struct{ Name string }
	moved   struct{ To string }
	left    struct{}
	entered struct{ To string }
)

// A topic chooses events whatever they were stored under: under a former name,
// or as one that means several today.
func TestTopicsOfThePast(t *testing.T) {
	ctx, store, id := t.Context(), memory.New(), uuid.New()
	before := domain.Define("OldDog", domain.Entry("Arrived", arrived{}), domain.Entry("Moved", moved{}))
	after := domain.Define("Dog", domain.Evolve("Arrived", func(s int, _ arrived) int { return s }),
		domain.Evolve("Left", func(s int, _ left) int { return s }), domain.Evolve("Entered", func(s int, _ entered) int { return s }),
		domain.UpcastToMany[domain.Fold[int]]("Moved", []any{left{}, entered{}}, func(m moved) []any { return []any{left{}, entered(m)} }),
		domain.FormerName[domain.Fold[int]]("OldDog"))
	old := expect.Must(application.New("School", application.WithStore(store), application.WithDefinitions(before)))
	app := expect.Must(application.New("School", application.WithStore(store), application.WithDefinitions(after)))
	_, err := old.Save(ctx, domain.Events{before.NewEvent(id, 1, arrived{"Fido"}), before.NewEvent(id, 2, moved{"hall"})})
	expect.NoError(t, err)
	for topic, want := range map[string][]any{
		"Dog.Arrived":    {arrived{"Fido"}},
		"OldDog.Arrived": {arrived{"Fido"}},
		"Dog.Entered":    {entered{"hall"}},
		"Dog.Moved":      {left{}, entered{"hall"}},
		"Dog.Barked":     nil,
		"":               {arrived{"Fido"}, left{}, entered{"hall"}},
	} {
		topics := []string{topic}
		if topic == "" {
			topics = nil
		}
		var read, heard []any
		for event, err := range app.Log().Events(ctx, 0, topics...) {
			expect.NoError(t, err)
			read = append(read, event.Data)
		}
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for event, err := range app.Log().Subscribe(ctx, 0, topics...) {
				expect.NoError(t, err)
				heard = append(heard, event.Data)
			}
		})
		expect.Equal(t, "Events of "+topic, read, want)
		expect.Equal(t, "Subscribe to "+topic, heard, want)
	}
}

func TestSubscribeToWhatCannotBeDecoded(t *testing.T) {
	s := newSchool(t)
	dog := school.RegisterDog("Fido")
	if _, err := s.Save(t.Context(), dog); err != nil {
		t.Fatal(err)
	}
	stranger, err := application.New(s.Name(), application.WithStore(bridge.Of(s).Factory()))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range stranger.Log().Subscribe(t.Context(), 0) {
		n++
		expect.ErrorAs[*persistence.MappingError](t, err)
	}
	if n != 1 {
		t.Errorf("the stream went on after its error: %d, want 1", n)
	}
}
