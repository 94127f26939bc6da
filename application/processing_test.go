package application_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

func TestRecord(t *testing.T) {
	ctx := t.Context()
	s := newSchool(t)
	reached := func(want int64) {
		t.Helper()
		if got, err := s.Recorder().MaxTrackingID(ctx, "Upstream"); got != want || err != nil {
			t.Errorf("got position %d, %v; want %d", got, err, want)
		}
	}
	at := func(id int64, changes ...domain.Changes) *application.ProcessingEvent {
		p := application.NewProcessingEvent(persistence.Tracking{ApplicationName: "Upstream", NotificationID: id})
		p.Collect(changes...)
		return p
	}
	if got, want := at(21).Tracking(), (persistence.Tracking{ApplicationName: "Upstream", NotificationID: 21}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}

	t.Run("events together with the position", func(t *testing.T) {
		var woken []persistence.Recording
		s.OnRecorded(func(_ context.Context, recordings []persistence.Recording) { woken = recordings })
		dog := RegisterDog("Fido")
		p := at(1)
		p.Collect(dog)
		p.Collect(nil, (*Dog)(nil), dog) // a policy may come across it twice
		recordings, err := s.Record(ctx, p)
		if err != nil || len(recordings) != 1 || recordings[0].Notification.ID != 1 || len(woken) != 1 {
			t.Errorf("got %+v, %v and %+v", recordings, err, woken)
		}
		if len(dog.PendingEvents()) != 0 {
			t.Error("the events are still pending")
		}
		reached(1)
	})
	t.Run("a position without events", func(t *testing.T) {
		if recordings, err := s.Record(ctx, at(3)); recordings != nil || err != nil {
			t.Errorf("got %v, %v", recordings, err)
		}
		reached(3)
	})
	t.Run("a position that is there already", func(t *testing.T) {
		for _, id := range []int64{1, 2, 3} {
			rex := RegisterDog("Rex")
			_, err := s.Record(ctx, at(id, rex))
			got := wantError[*persistence.TrackingError](t, err)
			if *got != (persistence.TrackingError{Application: "TrainingSchool", Upstream: "Upstream", NotificationID: id, Current: 3}) {
				t.Errorf("got %+v", got)
			}
			if len(rex.PendingEvents()) != 1 {
				t.Error("pending events are lost")
			}
		}
		if ok, err := s.dogs.Contains(ctx, DogID("Rex")); ok || err != nil {
			t.Errorf("got %v, %v; want nothing of it stored", ok, err)
		}
	})
	t.Run("events that conflict leave the position", func(t *testing.T) {
		_, err := s.Record(ctx, at(4, RegisterDog("Fido")))
		wantError[*persistence.ConflictError](t, err)
		reached(3)
	})
	t.Run("a position that cannot be", func(t *testing.T) {
		for _, id := range []int64{0, -1} {
			_, err := s.Record(ctx, at(id))
			wantError[*persistence.InvalidError](t, err)
		}
	})
}

// A policy that follows a school and congratulates every dog by an event of its own.
func TestProcessingPolicy(t *testing.T) {
	ctx := t.Context()
	s := newSchool(t)
	follower := newApplication(t, "Congratulations")
	greetings := domain.Define("Greeting", domain.Evolve("Sent", func(sent []string, name string) []string { return append(sent[:len(sent):len(sent)], name) }))
	repository := application.NewRepository(follower, greetings)
	policy := func(event domain.Event, p *application.ProcessingEvent) {
		if data, ok := event.Data.(Registered); ok {
			p.Collect(domain.StartFold(greetings, uuid.NewSHA1(event.OriginatorID, nil), data.Name))
		}
	}
	pull := func() (processed int) {
		t.Helper()
		after, err := follower.Recorder().MaxTrackingID(ctx, s.Name())
		if err != nil {
			t.Fatal(err)
		}
		page, err := s.NotificationLog().Select(ctx, persistence.NotificationRange{After: after, Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range page {
			event, err := s.Mapper().NotificationToDomain(n)
			if err != nil {
				t.Fatal(err)
			}
			if event.Application != "TrainingSchool" || event.NotificationID != n.ID {
				t.Errorf("got %+v", event)
			}
			p := application.NewProcessingEvent(persistence.Tracking{ApplicationName: s.Name(), NotificationID: n.ID})
			policy(event, p)
			if _, err := follower.Record(ctx, p); err != nil {
				t.Fatal(err)
			}
		}
		return len(page)
	}
	s.save(t, dogWith("Fido", 1))
	for _, want := range []int{2, 0} {
		if got := pull(); got != want {
			t.Errorf("processed %d events, want %d", got, want)
		}
	}
	s.save(t, RegisterDog("Rex"))
	if got := pull(); got != 1 {
		t.Errorf("processed %d events, want 1", got)
	}
	for _, name := range []string{"Fido", "Rex"} {
		greeting, err := repository.Get(ctx, uuid.NewSHA1(DogID(name), nil))
		if err != nil || len(greeting.State()) != 1 || greeting.State()[0] != name {
			t.Errorf("got %+v, %v", greeting, err)
		}
	}
	if got, err := follower.Recorder().MaxNotificationID(ctx); got != 2 || err != nil {
		t.Errorf("got %d events of the follower, %v; want 2", got, err)
	}
}

func TestWaitFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSchool(t)
		if err := persistence.WaitFor(t.Context(), s.Recorder(), "Upstream", 0); err != nil {
			t.Errorf("waiting for nothing: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		err := persistence.WaitFor(ctx, s.Recorder(), "Upstream", 1)
		if got := wantError[*persistence.WaitError](t, err); got.Upstream != "Upstream" || got.NotificationID != 1 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %+v", got)
		}
		if got := time.Since(start); got != time.Second {
			t.Errorf("waited %v, want 1s", got)
		}

		done := make(chan error)
		go func() { done <- persistence.WaitFor(t.Context(), s.Recorder(), "Upstream", 2) }()
		synctest.Wait()
		for _, id := range []int64{1, 3} {
			p := application.NewProcessingEvent(persistence.Tracking{ApplicationName: "Upstream", NotificationID: id})
			if _, err := s.Record(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			if id == 1 {
				synctest.Wait()
			}
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		for id, want := range map[int64]bool{0: true, 1: true, 2: true, 3: true, 4: false} {
			if got, err := persistence.HasTracked(t.Context(), s.Recorder(), "Upstream", id); got != want || err != nil {
				t.Errorf("%d: got %v, %v; want %v", id, got, err, want)
			}
		}
	})
}
