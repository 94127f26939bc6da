package persistence_test

import (
	"context"
	"errors"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/eventsourcing-go/eventsourcing/cipher"
	"github.com/eventsourcing-go/eventsourcing/compressor"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/jsontranscoder"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/persistence/python"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	school = "TrainingSchool"

	keyA = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	keyB = "//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA="
)

var (
	sampleID   = uuid.MustParse("b2723fe2-c01a-40d2-875e-a3aac6a09ff5")
	sampleTime = time.Date(2024, 1, 2, 3, 4, 5, 678901000, time.UTC)
)

// clock is a time of the states that the Python library has written.
func clock(seconds, microseconds int) time.Time {
	return time.Date(2026, 11, 23, 1, 23, seconds, microseconds*1000, time.UTC)
}

// chain says how a mapper makes a state out of what was transcoded: the topics
// of a compressor and of a cipher, or nothing.
type chain struct{ compressor, cipher string }

// chains are all that can be set by environment, and states without either.
func chains() (all []chain) {
	for _, zip := range []string{"", compressor.TopicZlib, compressor.TopicZstd} {
		for _, secret := range []string{"", cipher.TopicAES, cipher.TopicOriginalAES} {
			all = append(all, chain{zip, secret})
		}
	}
	return all
}

func (c chain) String() string {
	or := func(topic string) string {
		if topic == "" {
			return "none"
		}
		return topic
	}
	return or(c.compressor) + "+" + or(c.cipher)
}

// config is the configuration of a mapper with this chain and keyA.
func (c chain) config(tb testing.TB) persistence.MapperConfig {
	tb.Helper()
	config := persistence.MapperConfig{Application: school}
	if c.compressor != "" {
		config.Compressor = newCompressor(tb, c.compressor)
	}
	if c.cipher != "" {
		config.Cipher = newCipher(tb, c.cipher, keyA)
	}
	return config
}

func newCompressor(tb testing.TB, topic string, options ...compressor.Option) compressor.Compressor {
	tb.Helper()
	c, err := compressor.New(topic, options...)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func newCipher(tb testing.TB, topic, key string) cipher.Cipher {
	tb.Helper()
	keys, err := cipher.ParseKeys(key)
	if err != nil {
		tb.Fatal(err)
	}
	c, err := cipher.New(topic, keys...)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// newMapper makes a mapper that knows the definitions; without any it knows
// dogs.
func newMapper(tb testing.TB, config persistence.MapperConfig, schemas ...*domain.Schema) *persistence.Mapper {
	tb.Helper()
	if len(schemas) == 0 {
		schemas = append(schemas, Dogs.Schema)
	}
	if config.Transcoder == nil {
		config.Transcoder = jsontranscoder.New(python.Transcodings()...)
	}
	mapper := persistence.NewMapper(config)
	for _, schema := range schemas {
		if err := mapper.Add(schema); err != nil {
			tb.Fatal(err)
		}
	}
	return mapper
}

// dogEvents are the events of a new dog that learns the tricks.
func dogEvents(name string, tricks ...string) []domain.Event {
	dog := Dogs.Create(DogID(name), Registered{Name: name}, domain.At(sampleTime))
	for i, trick := range tricks {
		domain.Trigger(dog, TrickAdded{Trick: trick}, domain.At(sampleTime.Add(time.Duration(i+1)*time.Second)))
	}
	return dog.PendingEvents()
}

func toStored(tb testing.TB, mapper *persistence.Mapper, event domain.Event) persistence.StoredEvent {
	tb.Helper()
	stored, err := mapper.ToStored(event)
	if err != nil {
		tb.Fatal(err)
	}
	return stored
}

// newRecorder makes a recorder of dogs in memory, and one of their snapshots.
func newRecorder(tb testing.TB) (persistence.ProcessRecorder, persistence.AggregateRecorder) {
	tb.Helper()
	store := memory.New()
	recorder, err := store.ProcessRecorder(school)
	if err != nil {
		tb.Fatal(err)
	}
	snapshots, err := store.SnapshotRecorder(school)
	if err != nil {
		tb.Fatal(err)
	}
	return recorder, snapshots
}

// doctored is a recorder of which some methods are replaced.
type doctored struct {
	persistence.ProcessRecorder
	insert    func(context.Context, []persistence.StoredEvent) ([]int64, error)
	processed func(context.Context, []persistence.StoredEvent, persistence.Tracking) ([]int64, error)
	stream    func(uuid.UUID, persistence.EventRange) iter.Seq2[persistence.StoredEvent, error]
	page      func(context.Context, persistence.NotificationRange) ([]persistence.Notification, error)
	head      func(context.Context) (int64, error)
	position  func(context.Context, string) (int64, error)
}

func (d *doctored) InsertEvents(ctx context.Context, events []persistence.StoredEvent) ([]int64, error) {
	if d.insert != nil {
		return d.insert(ctx, events)
	}
	return d.ProcessRecorder.InsertEvents(ctx, events)
}

func (d *doctored) InsertProcessed(
	ctx context.Context, events []persistence.StoredEvent, tracking persistence.Tracking,
) ([]int64, error) {
	if d.processed != nil {
		return d.processed(ctx, events, tracking)
	}
	return d.ProcessRecorder.InsertProcessed(ctx, events, tracking)
}

func (d *doctored) SelectEvents(
	ctx context.Context, id uuid.UUID, r persistence.EventRange,
) iter.Seq2[persistence.StoredEvent, error] {
	if d.stream != nil {
		return d.stream(id, r)
	}
	return d.ProcessRecorder.SelectEvents(ctx, id, r)
}

func (d *doctored) SelectNotifications(
	ctx context.Context, r persistence.NotificationRange,
) ([]persistence.Notification, error) {
	if d.page != nil {
		return d.page(ctx, r)
	}
	return d.ProcessRecorder.SelectNotifications(ctx, r)
}

func (d *doctored) MaxNotificationID(ctx context.Context) (int64, error) {
	if d.head != nil {
		return d.head(ctx)
	}
	return d.ProcessRecorder.MaxNotificationID(ctx)
}

func (d *doctored) MaxTrackingID(ctx context.Context, upstream string) (int64, error) {
	if d.position != nil {
		return d.position(ctx, upstream)
	}
	return d.ProcessRecorder.MaxTrackingID(ctx, upstream)
}

// errBroken is the error of a recorder that does not work.
var errBroken = errors.New("recorder is broken")

// brokenAfter is a stream that is an error after some events.
func brokenAfter(err error, events ...persistence.StoredEvent) iter.Seq2[persistence.StoredEvent, error] {
	return func(yield func(persistence.StoredEvent, error) bool) {
		for _, e := range events {
			if !yield(e, nil) {
				return
			}
		}
		yield(persistence.StoredEvent{}, err)
	}
}

// wantError requires an error of type E, and returns it.
func wantError[E error](tb testing.TB, err error) E {
	tb.Helper()
	e, ok := errors.AsType[E](err)
	if !ok {
		tb.Fatalf("got error %v (%T), want a %T", err, err, e)
	}
	return e
}

// wantText requires the text of an error.
func wantText(tb testing.TB, err error, want string) {
	tb.Helper()
	if err == nil || err.Error() != want {
		tb.Errorf("got error %v\nwant      %s", err, want)
	}
}

// wantWords requires that a text contains all the words.
func wantWords(tb testing.TB, text string, words ...string) {
	tb.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			tb.Errorf("got %q, want it to contain %q", text, word)
		}
	}
}

// collect reads a stream to its end, or to its first error.
func collect[T any](stream iter.Seq2[T, error]) (all []T, err error) {
	for value, err := range stream {
		if err != nil {
			return all, err
		}
		all = append(all, value)
	}
	return all, nil
}
