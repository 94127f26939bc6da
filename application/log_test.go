package application_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

// hearing is a store whose listener a test rings.
type hearing struct {
	*memory.Store
	wake chan func(string)
}

func (h *hearing) Listen(ctx context.Context, wake func(string)) error {
	h.wake <- wake
	<-ctx.Done()
	return nil
}

func TestSubscribeToEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &hearing{Store: memory.New(), wake: make(chan func(string), 1)}
		s, other := newSchool(t, application.WithStore(store)), newSchool(t, application.WithStore(store))
		save := func(s *school, names ...string) {
			for _, name := range names {
				if _, err := s.Save(t.Context(), RegisterDog(name)); err != nil {
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
					t.Errorf("got %+v, %v", event, err)
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
	dog := RegisterDog("Fido")
	dog.AddTrick("sit")
	if _, err := s.Save(t.Context(), dog); err != nil {
		t.Fatal(err)
	}
	for event, err := range s.Log().Subscribe(t.Context(), 0, "Dog.TrickAdded") {
		if err != nil || event.Topic != "Dog.TrickAdded" {
			t.Errorf("got %+v, %v", event, err)
		}
		break
	}
}

func TestSubscribeToWhatCannotBeDecoded(t *testing.T) {
	s := newSchool(t)
	dog := RegisterDog("Fido")
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
		wantError[*persistence.MappingError](t, err)
	}
	if n != 1 {
		t.Errorf("the stream went on after its error: %d", n)
	}
}
