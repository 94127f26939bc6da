package mapper_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/definitions"
	"github.com/eventsourcing-go/eventsourcing/internal/doctored"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

func newEventStore(t *testing.T, config mapper.Config) (*mapper.EventStore, persistence.ProcessRecorder) {
	t.Helper()
	recorder, _ := newRecorder()
	config.Application = school
	return mapper.NewEventStore(newMapper(t, config), recorder), recorder
}

// put stores events, and returns their ids.
func put(t *testing.T, store *mapper.EventStore, events []domain.Event) []int64 {
	t.Helper()
	recordings, err := store.Put(t.Context(), events)
	if err != nil {
		t.Fatal(err)
	}
	return idsOf(recordings)
}

func idsOf(recordings []mapper.Recording) (ids []int64) {
	for _, recording := range recordings {
		ids = append(ids, recording.Notification.ID)
	}
	return ids
}

func TestEventStorePut(t *testing.T) {
	t.Parallel()
	store, recorder := newEventStore(t, mapper.Config{})
	events := append(dogEvents("Fido", "roll over"), dogEvents("Rex")...)
	recordings, err := store.Put(t.Context(), events)
	if err != nil || len(recordings) != len(events) {
		t.Fatalf("got %d recordings, error %v, want no error and %v recordings", len(recordings), err, len(events))
	}
	log, err := recorder.SelectNotifications(t.Context(), persistence.NotificationRange{Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	for i, recording := range recordings {
		want := events[i]
		want.Application, want.NotificationID = school, int64(i+1)
		if !reflect.DeepEqual(recording.Event, want) || !reflect.DeepEqual(recording.Notification, log[i]) {
			t.Errorf("got  %+v\nwant %+v, %+v", recording, want, log[i])
		}
	}
	if events[0].Application != "" || events[0].NotificationID != 0 {
		t.Errorf("Put changed the caller's events: %+v, want NotificationID 0", events[0])
	}
}

func TestEventStorePutNothing(t *testing.T) {
	t.Parallel()
	store, _ := newEventStore(t, mapper.Config{})
	if recordings, err := store.Put(t.Context(), nil); len(recordings) != 0 || err != nil {
		t.Errorf("got %v, error %v, want 0 recordings and no error", recordings, err)
	}
}

// A recorder of snapshots returns no ids, and one of another store may not
// either.
func TestEventStorePutWithoutIDs(t *testing.T) {
	t.Parallel()
	recorder, _ := newRecorder()
	store := mapper.NewEventStore(newMapper(t, mapper.Config{Application: school}), &doctored.Recorder{ProcessRecorder: recorder,
		Insert: func(context.Context, []persistence.StoredEvent) ([]int64, error) { return nil, nil }})
	if got := put(t, store, dogEvents("Fido", "roll over")); !reflect.DeepEqual(got, []int64{0, 0}) {
		t.Errorf("got ids %v, want %v", got, []int64{0, 0})
	}
}

// What cannot be mapped stops a save before the recorder is asked.
func TestEventStorePutUnmappable(t *testing.T) {
	t.Parallel()
	recorder, _ := newRecorder()
	store := mapper.NewEventStore(newMapper(t, mapper.Config{Application: school}), &doctored.Recorder{ProcessRecorder: recorder,
		Insert: func(context.Context, []persistence.StoredEvent) ([]int64, error) {
			t.Error("the recorder was asked")
			return nil, nil
		}})
	events := dogEvents("Fido", "roll over")
	events[1].Topic = "Dog.Unknown"
	_, err := store.Put(t.Context(), events)
	expect.ErrorAs[*mapper.UnknownTopicError](t, err)
}

func TestEventStorePutFails(t *testing.T) {
	t.Parallel()
	recorder, _ := newRecorder()
	store := mapper.NewEventStore(newMapper(t, mapper.Config{Application: school}), &doctored.Recorder{ProcessRecorder: recorder,
		Insert: func(context.Context, []persistence.StoredEvent) ([]int64, error) { return nil, doctored.ErrBroken }})
	if recordings, err := store.Put(t.Context(), dogEvents("Fido")); recordings != nil || err != doctored.ErrBroken {
		t.Errorf("got %v, error %v, want nil and %v", recordings, err, doctored.ErrBroken)
	}
}

// TestEventStorePutAgain puts the same events twice, as after an answer that
// was lost. They are recognised by their event ids, whatever the states look
// like.
func TestEventStorePutAgain(t *testing.T) {
	t.Parallel()
	for _, chain := range chains() {
		t.Run(chain.String(), func(t *testing.T) {
			t.Parallel()
			store, recorder := newEventStore(t, chain.config(t))
			put(t, store, dogEvents("Bella"))
			fido, rex := dogEvents("Fido", "roll over"), dogEvents("Rex")
			events := []domain.Event{fido[0], rex[0], fido[1]}
			first := put(t, store, events)
			if again := put(t, store, events); !reflect.DeepEqual(again, first) || !reflect.DeepEqual(first, []int64{2, 3, 4}) {
				t.Errorf("got ids %v, then %v, want %v", first, again, []int64{2, 3, 4})
			}
			if head, err := recorder.MaxNotificationID(t.Context()); head != 4 || err != nil {
				t.Errorf("got head %d, error %v: something was stored twice, want 4 and no error", head, err)
			}
		})
	}
}

// TestEventStoreConflicts is about conflicts with events that are not ours, or
// not all ours.
func TestEventStoreConflicts(t *testing.T) {
	t.Parallel()
	stored, rival := dogEvents("Fido", "roll over"), dogEvents("Fido", "roll over")
	tests := map[string][]domain.Event{
		"a rival's events":            rival,
		"one of a rival's":            {stored[0], rival[1]},
		"another one of a rival's":    {rival[0], stored[1]},
		"one more than is stored":     append(stored[:2:2], dogEvents("Fido", "roll over", "sit")[2]),
		"the same with another dog's": append(stored[:2:2], dogEvents("Rex")...),
		"the same event twice":        {stored[0], stored[0]},
	}
	for name, events := range tests {
		for _, topic := range []string{"", "aes"} {
			t.Run(name+topic, func(t *testing.T) {
				t.Parallel()
				store, recorder := newEventStore(t, chain{cipher: topic}.config(t))
				put(t, store, stored)
				recordings, err := store.Put(t.Context(), events)
				if recordings != nil || !persistence.IsConflict(err) {
					t.Errorf("got %v, error %v, want a conflict", recordings, err)
				}
				if head, err := recorder.MaxNotificationID(t.Context()); head != 2 || err != nil {
					t.Errorf("got head %d, error %v, want 2 and no error", head, err)
				}
			})
		}
	}
}

// A conflict may come wrapped, and may be about other places than those that
// were asked for.
func TestEventStoreConflictOfRecorder(t *testing.T) {
	t.Parallel()
	recorder, _ := newRecorder()
	m := newMapper(t, mapper.Config{Application: school})
	events := dogEvents("Fido")
	mine := toStored(t, m, events[0])
	elsewhere, unreadable, foreign := mine, mine, toStored(t, m, dogEvents("Fido")[0])
	elsewhere.OriginatorVersion = 2
	unreadable.State = []byte("damaged")
	for name, test := range map[string]struct {
		stored persistence.StoredEvent
		want   []int64
	}{
		"the same": {mine, []int64{7}}, "elsewhere": {elsewhere, nil}, "unreadable": {unreadable, nil}, "foreign": {foreign, nil},
	} {
		conflict := &persistence.ConflictError{Application: school, Stored: []persistence.Notification{{ID: 7, StoredEvent: test.stored}}}
		store := mapper.NewEventStore(m, &doctored.Recorder{ProcessRecorder: recorder,
			Insert: func(context.Context, []persistence.StoredEvent) ([]int64, error) {
				return nil, fmt.Errorf("insert: %w", conflict)
			}})
		recordings, err := store.Put(t.Context(), events)
		if !reflect.DeepEqual(idsOf(recordings), test.want) || (err == nil) != (test.want != nil) {
			t.Errorf("%s: got %v, error %v, want ids %v", name, recordings, err, test.want)
		}
		if err != nil && !errors.Is(err, conflict) {
			t.Errorf("%s: got error %v, want the conflict", name, err)
		}
	}
}

// TestEventStorePythonLayout puts events twice that have no event id to be
// recognised by.
func TestEventStorePythonLayout(t *testing.T) {
	t.Parallel()
	for _, chain := range chains() {
		t.Run(chain.String(), func(t *testing.T) {
			t.Parallel()
			config := chain.config(t)
			config.PythonLayout = true
			store, _ := newEventStore(t, config)
			events := dogEvents("Fido", "roll over")
			put(t, store, events)
			_, err := store.Put(t.Context(), events)
			if !errors.Is(err, persistence.ErrOutcomeUnknown) || persistence.IsRetryable(err) || persistence.IsConflict(err) {
				t.Errorf("equal events: got %v, want ErrOutcomeUnknown, which is neither retryable nor a conflict", err)
			}
			expect.Contains(t, err.Error(), school+": save: outcome unknown: ", "no event ids")
			expect.ErrorAs[*persistence.ConflictError](t, err)

			// One equal event does not make the others so.
			_, err = store.Put(t.Context(), dogEvents("Fido", "sit"))
			if errors.Is(err, persistence.ErrOutcomeUnknown) || !persistence.IsConflict(err) {
				t.Errorf("other events: got %v, want a conflict", err)
			}
		})
	}
}

// The database may have events of the other layout from before.
func TestEventStoreConflictAcrossLayouts(t *testing.T) {
	t.Parallel()
	recorder, _ := newRecorder()
	ours := mapper.NewEventStore(newMapper(t, mapper.Config{Application: school}), recorder)
	theirs := mapper.NewEventStore(newMapper(t, mapper.Config{Application: school, PythonLayout: true}), recorder)
	fido, rex := dogEvents("Fido"), dogEvents("Rex")
	put(t, ours, fido)
	put(t, theirs, rex)
	_, first := theirs.Put(t.Context(), fido)
	_, second := ours.Put(t.Context(), rex)
	for _, err := range []error{first, second} {
		if !persistence.IsConflict(err) || errors.Is(err, persistence.ErrOutcomeUnknown) {
			t.Errorf("got %v, want a conflict", err)
		}
	}
}

func TestEventStoreGet(t *testing.T) {
	t.Parallel()
	store, _ := newEventStore(t, chain{"zlib", "aes"}.config(t))
	fido := dogEvents("Fido", "roll over", "fetch", "sit")
	put(t, store, append(dogEvents("Rex"), fido...))
	tests := []struct {
		name string
		id   uuid.UUID
		r    persistence.EventRange
		want []domain.Event
	}{
		{"all", DogID("Fido"), persistence.EventRange{}, fido},
		{"the last one", DogID("Fido"), persistence.EventRange{Descending: true, Limit: 1}, fido[3:]},
		{"the last one before", DogID("Fido"), persistence.EventRange{Before: 4, Descending: true, Limit: 1}, fido[2:3]},
		{"a range", DogID("Fido"), persistence.EventRange{From: 2, Before: 4}, fido[1:3]},
		{"an unknown dog", DogID("Bella"), persistence.EventRange{}, nil},
	}
	for _, test := range tests {
		got, err := collect(store.Get(t.Context(), test.id, test.r))
		for i := range got {
			got[i].Application = ""
		}
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got  %+v, error %v\nwant %+v", test.name, got, err, test.want)
		}
	}
}

// The first error ends the stream, from the mapper or the recorder, and a loop
// may be left.
func TestEventStoreGetEnds(t *testing.T) {
	t.Parallel()
	recorder, _ := newRecorder()
	m := newMapper(t, mapper.Config{Application: school})
	var stored []persistence.StoredEvent
	for _, event := range dogEvents("Fido", "roll over", "sit") {
		stored = append(stored, toStored(t, m, event))
	}
	damaged := stored[1]
	damaged.State = []byte("damaged")
	for name, test := range map[string]struct {
		stream iter.Seq2[persistence.StoredEvent, error]
		leave  int
		want   string
	}{
		"a broken recorder": {doctored.Broken(doctored.ErrBroken, stored[0]), -1, "1 error"},
		"a damaged state":   {doctored.Broken(doctored.ErrBroken, stored[0], damaged, stored[2]), -1, "1 error"},
		"a loop that ends":  {doctored.Broken(doctored.ErrBroken, stored...), 2, "1 2"},
	} {
		store := mapper.NewEventStore(m, &doctored.Recorder{ProcessRecorder: recorder,
			Stream: func(uuid.UUID, persistence.EventRange) iter.Seq2[persistence.StoredEvent, error] { return test.stream }})
		got := ""
		for event, err := range store.Get(t.Context(), DogID("Fido"), persistence.EventRange{}) {
			if err != nil {
				got += " error"
				if !reflect.DeepEqual(event, domain.Event{}) {
					t.Errorf("%s: got an event with the error: %+v, want %v", name, event, domain.Event{})
				}
				continue
			}
			got += fmt.Sprint(" ", event.OriginatorVersion)
			if event.OriginatorVersion == int64(test.leave) {
				break
			}
		}
		if got != " "+test.want {
			t.Errorf("%s: got%s, want %s", name, got, test.want)
		}
	}
}

func TestSnapshotStore(t *testing.T) {
	t.Parallel()
	_, recorder := newRecorder()
	store := mapper.NewSnapshotStore(newMapper(t, chain{"zstd", "aes"}.config(t)), recorder)
	dog := RegisterDog("Fido")
	first := definitions.Of(Dogs).TakeSnapshot(dog)
	dog.AddTrick("roll over")
	second := definitions.Of(Dogs).TakeSnapshot(dog)
	// The last two are stored already.
	for _, snapshot := range []domain.Event{first, second, second, definitions.Of(Dogs).TakeSnapshot(dog)} {
		if err := store.Put(t.Context(), snapshot); err != nil {
			t.Fatal(err)
		}
	}
	first.Application, second.Application = school, school
	got, err := collect(store.Get(t.Context(), DogID("Fido"), persistence.EventRange{Descending: true}))
	if want := []domain.Event{second, first}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, error %v\nwant %+v", got, err, want)
	}
}

func TestSnapshotStoreFails(t *testing.T) {
	t.Parallel()
	recorder, _ := newRecorder()
	snapshot := definitions.Of(Dogs).TakeSnapshot(RegisterDog("Fido"))
	broken := &doctored.Recorder{ProcessRecorder: recorder,
		Insert: func(context.Context, []persistence.StoredEvent) ([]int64, error) { return nil, doctored.ErrBroken }}
	store := mapper.NewSnapshotStore(newMapper(t, mapper.Config{Application: school}), broken)
	if err := store.Put(t.Context(), snapshot); err != doctored.ErrBroken {
		t.Errorf("got %v, want %v", err, doctored.ErrBroken)
	}
	snapshot.Topic = "Cat"
	expect.ErrorAs[*mapper.UnknownTopicError](t, store.Put(t.Context(), snapshot))
}
