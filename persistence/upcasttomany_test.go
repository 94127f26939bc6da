package persistence_test

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// lessonDogs is the definition of a program that reads a TrickAdded of the past
// as two events.
var lessonDogs = domain.Define("Dog",
	domain.On("Registered", Registered{}),
	domain.On("Learned", learned{}, domain.Alias("Dog.Taught")),
	domain.UpcastToMany[Dog]("TrickAdded",
		func(e TrickAdded) []any { return []any{learned(e), learned{e.Trick + " again"}} },
		domain.Into(learned{})),
)

type learned struct{ Trick string }

func (learned) Apply(*Dog) {}

func TestMapperUpcastsToMany(t *testing.T) {
	t.Parallel()
	for _, chain := range chains() {
		config := chain.config(t)
		event := dogEvents("Fido", "sit")[1]
		notification := persistence.Notification{ID: 7, StoredEvent: toStored(t, newMapper(t, config, Dogs.Schema), event)}
		mapper := newMapper(t, config, lessonDogs.Schema)
		want := event
		want.Application, want.Data = school, domain.Payloads{learned{"sit"}, learned{"sit again"}}
		if got, err := mapper.ToDomain(notification.StoredEvent); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v: got %+v, %v, want %+v", chain, got, err, want)
		}
		want.NotificationID = 7
		if got, err := mapper.NotificationToParts(notification); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v: got %+v, %v, want %+v", chain, got, err, want)
		}
	}
}

// A reader that takes one payload of an event would pass over several: it
// stops.
func TestMapperReturnsSeveralOnlyIfAsked(t *testing.T) {
	t.Parallel()
	events := dogEvents("Fido", "sit")
	mapper := newMapper(t, persistence.MapperConfig{Application: school}, lessonDogs.Schema)
	for i, event := range events {
		stored := toStored(t, newMapper(t, persistence.MapperConfig{Application: school}), event)
		got, err := mapper.NotificationToDomain(persistence.Notification{ID: 7, StoredEvent: stored})
		if i == 0 {
			if err != nil || got.Data != event.Data {
				t.Errorf("one payload: got %+v, %v", got, err)
			}
			continue
		}
		wantMappingError(t, err, "decode", stored, 7)
		if !errors.Is(err, persistence.ErrNewerProgram) || got.Data != nil {
			t.Errorf("several payloads: got %+v, %v", got, err)
		}
	}
}

func TestMapperStoresNoEventsOfThePast(t *testing.T) {
	t.Parallel()
	event := dogEvents("Fido", "sit")[1]
	mapper := newMapper(t, persistence.MapperConfig{Application: school}, lessonDogs.Schema)
	for _, data := range []any{event.Data, domain.Payloads{learned{"sit"}}} {
		event.Data = data
		_, err := mapper.ToStored(event)
		wantError[*domain.PayloadError](t, err)
	}
}

func TestMapperTopicsOfUpcastToMany(t *testing.T) {
	t.Parallel()
	mapper := newMapper(t, persistence.MapperConfig{Application: school}, lessonDogs.Schema)
	for topic, want := range map[string][]string{
		"Dog.Taught":     {"Dog.Learned", "Dog.Taught", "Dog.TrickAdded"},
		"Dog.TrickAdded": {"Dog.TrickAdded"},
		"Dog.Registered": {"Dog.Registered"},
	} {
		if got := mapper.TopicsOf(topic); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", topic, got, want)
		}
	}
}
