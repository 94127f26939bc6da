package mapper_test

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// lessonDogs is the definition of a program that reads a TrickAdded of the past
// as two events.
var lessonDogs = domain.Define("Dog",
	domain.On("Registered", Registered{}),
	domain.On("Learned", learned{}, domain.Alias("Dog.Taught")),
	domain.UpcastToMany[Dog]("TrickAdded", []any{learned{}},
		func(e TrickAdded) []any { return []any{learned(e), learned{e.Trick + " again"}} }),
)

type learned struct{ Trick string }

func (learned) Apply(*Dog) {}

func TestMapperUpcastsToMany(t *testing.T) {
	t.Parallel()
	for _, chain := range chains() {
		config := chain.config(t)
		event := dogEvents("Fido", "sit")[1]
		notification := persistence.Notification{ID: 7, StoredEvent: toStored(t, newMapper(t, config, Dogs), event)}
		m := newMapper(t, config, lessonDogs)
		want := event
		want.Application, want.Data = school, eventtype.Payloads{learned{"sit"}, learned{"sit again"}}
		if got, err := m.ToDomain(notification.StoredEvent); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v: got %+v, %v, want %+v", chain, got, err, want)
		}
		want.NotificationID = 7
		if got, err := m.NotificationToParts(notification); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v: got %+v, %v, want %+v", chain, got, err, want)
		}
	}
}

// A reader that takes one payload of an event would pass over several: it
// stops.
func TestMapperReturnsSeveralOnlyIfAsked(t *testing.T) {
	t.Parallel()
	events := dogEvents("Fido", "sit")
	m := newMapper(t, mapper.Config{Application: school}, lessonDogs)
	for i, event := range events {
		stored := toStored(t, newMapper(t, mapper.Config{Application: school}), event)
		got, err := m.NotificationToDomain(persistence.Notification{ID: 7, StoredEvent: stored})
		if i == 0 {
			if err != nil || got.Data != event.Data {
				t.Errorf("one payload: got %+v, %v, want no error and Data %v", got, err, event.Data)
			}
			continue
		}
		wantMappingError(t, err, "decode", stored, 7)
		if !errors.Is(err, persistence.ErrNewerProgram) || got.Data != nil {
			t.Errorf("several payloads: got %+v, %v, want an error that is %v and Data nil", got, err, persistence.ErrNewerProgram)
		}
	}
}

func TestMapperStoresNoEventsOfThePast(t *testing.T) {
	t.Parallel()
	event := dogEvents("Fido", "sit")[1]
	m := newMapper(t, mapper.Config{Application: school}, lessonDogs)
	for _, data := range []any{event.Data, eventtype.Payloads{learned{"sit"}}} {
		event.Data = data
		_, err := m.ToStored(event)
		expect.ErrorAs[*eventtype.PayloadError](t, err)
	}
}

func TestParts(t *testing.T) {
	event := domain.Event{NotificationID: 7, OriginatorID: uuid.New(), OriginatorVersion: 3, ID: uuid.New(), Topic: "Dog.Trained",
		Data: eventtype.Payloads{learned{"sit"}, learned{"roll"}}}
	first, second := event, event
	first.Data, second.Data, second.Part = learned{"sit"}, learned{"roll"}, 1
	if got, want := slices.Collect(event.Parts()), []domain.Event{first, second}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for range event.Parts() {
		break
	}
	if got := slices.Collect(first.Parts()); !reflect.DeepEqual(got, []domain.Event{first}) {
		t.Errorf("one payload: got %+v, want %v", got, []domain.Event{first})
	}
	event.Data = eventtype.Payloads{}
	if got := slices.Collect(event.Parts()); len(got) != 0 {
		t.Errorf("no payloads: got %+v, want 0 of them", got)
	}
}
