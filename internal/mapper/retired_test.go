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
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// laterDogs is the definition of a program that has no code for tricks.
var laterDogs = domain.Define("Dog",
	domain.On("Registered", Registered{}),
	domain.Retired[Dog]("TrickAdded", domain.Alias("Dog.Taught")),
)

func TestMapperReadsRetiredEvents(t *testing.T) {
	t.Parallel()
	for _, chain := range chains() {
		for _, original := range []bool{false, true} {
			config := chain.config(t)
			config.PythonLayout = original
			event := dogEvents("Fido", "roll over")[1]
			event.Metadata = domain.Metadata{domain.CausationID: "c"}
			stored := toStored(t, newMapper(t, config, Dogs), event)
			m := newMapper(t, config, laterDogs)
			got, err := m.NotificationToDomain(persistence.Notification{ID: 7, StoredEvent: stored})
			if err != nil {
				t.Fatalf("%v, original layout %v: %v", chain, original, err)
			}
			want := event
			want.Application, want.NotificationID, want.Data = school, 7, domain.RetiredEvent{}
			if original {
				want.ID, want.Metadata = uuid.Nil, nil
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%v, original layout %v: got %+v, want %+v", chain, original, got, want)
			}
		}
	}
}

// undecodable is a transcoder for payloads that there is no code for.
type undecodable struct{ persistence.Transcoder }

func (undecodable) Decode([]byte, any) error     { return errors.New("there is no code") }
func (undecodable) CheckType(reflect.Type) error { return errors.New("there is no code") }

func TestMapperDecodesNoRetiredPayload(t *testing.T) {
	t.Parallel()
	stored := toStored(t, newMapper(t, mapper.Config{Application: school}), dogEvents("Fido", "roll over")[1])
	retired := domain.Define("Dog", domain.Retired[domain.Log]("TrickAdded"))
	m := newMapper(t, mapper.Config{Application: school, Transcoder: undecodable{}}, retired)
	if got, err := m.ToDomain(stored); err != nil || got.Data != (domain.RetiredEvent{}) {
		t.Errorf("got %v, %v, want no error and Data %v", got.Data, err, (domain.RetiredEvent{}))
	}
}

func TestMapperStoresNoRetiredEvents(t *testing.T) {
	t.Parallel()
	event := dogEvents("Fido", "roll over")[1]
	for _, data := range []any{domain.RetiredEvent{}, event.Data} {
		event.Data = data
		m := newMapper(t, mapper.Config{Application: school}, laterDogs)
		stored, err := m.ToStored(event)
		if got := expect.ErrorAs[*eventtype.PayloadError](t, err); got.Topic != "Dog.TrickAdded" || len(stored.State) > 0 {
			t.Errorf("got %v and a state of %d bytes, want Topic %q and 0 State", err, len(stored.State), "Dog.TrickAdded")
		}
	}
}

func TestMapperKnowsRetiredTopics(t *testing.T) {
	t.Parallel()
	m := newMapper(t, mapper.Config{Application: school}, laterDogs)
	if got := m.KnownTopics(); len(got) != 3 || !slices.Contains(got, "Dog.TrickAdded") || !slices.Contains(got, "Dog.Taught") {
		t.Errorf("got known topics %v, want 3 of them", got)
	}
	wrong := domain.Define("Log", domain.Retired[domain.Log]("Old", domain.StoredAs("Dog.Registered")))
	conflict := expect.ErrorAs[*invalid.Error](t, m.Add(wrong))
	expect.ErrorText(t, conflict, `topic "Dog.Registered" is defined for both mapper_test.Registered and domain.RetiredEvent`)
	again := domain.Define("Log", domain.Retired[domain.Log]("Old", domain.StoredAs("Dog.TrickAdded")))
	expect.ErrorAs[*invalid.Error](t, m.Add(again))
}
