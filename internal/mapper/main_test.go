package mapper_test

import (
	"iter"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/eventsourcing-go/eventsourcing/cipher"
	"github.com/eventsourcing-go/eventsourcing/compressor"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
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
	for _, zip := range []string{"", "zlib", "zstd"} {
		for _, secret := range []string{"", "aes", "eventsourcing.cipher:AESCipher"} {
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
func (c chain) config(tb testing.TB) mapper.Config {
	tb.Helper()
	config := mapper.Config{Application: school}
	if c.compressor != "" {
		config.Compressor = newCompressor(tb, c.compressor)
	}
	if c.cipher != "" {
		config.Cipher = newCipher(tb, c.cipher, keyA)
	}
	return config
}

func newCompressor(tb testing.TB, topic string, options ...compressor.Option) (c persistence.Compressor) {
	tb.Helper()
	var err error
	if topic == "zstd" {
		c, err = compressor.NewZstd(options...)
	} else {
		c, err = compressor.NewZlib(options...)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func newCipher(tb testing.TB, topic, key string) (c persistence.Cipher) {
	tb.Helper()
	keys, err := cipher.ParseKeys(key)
	if err != nil {
		tb.Fatal(err)
	}
	if topic == "aes" {
		c, err = cipher.NewAES(keys...)
	} else {
		c, err = cipher.NewPythonAES(keys...)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// newMapper makes a mapper that knows the definitions; without any it knows
// dogs.
func newMapper(tb testing.TB, config mapper.Config, schemas ...domain.Schema) *mapper.Mapper {
	tb.Helper()
	if len(schemas) == 0 {
		schemas = append(schemas, Dogs)
	}
	if config.Transcoder == nil {
		config.Transcoder = jsontranscoder.New(python.Transcodings()...)
	}
	m := mapper.New(config)
	for _, schema := range schemas {
		if err := m.Add(schema); err != nil {
			tb.Fatal(err)
		}
	}
	return m
}

// dogEvents are the events of a new dog that learns the tricks.
func dogEvents(name string, tricks ...string) []domain.Event {
	dog := Dogs.Create(DogID(name), Registered{Name: name}, domain.At(sampleTime))
	for i, trick := range tricks {
		domain.Trigger(dog, TrickAdded{Trick: trick}, domain.At(sampleTime.Add(time.Duration(i+1)*time.Second)))
	}
	return dog.PendingEvents()
}

func toStored(tb testing.TB, m *mapper.Mapper, event domain.Event) persistence.StoredEvent {
	tb.Helper()
	stored, err := m.ToStored(event)
	if err != nil {
		tb.Fatal(err)
	}
	return stored
}

// newRecorder makes a recorder of dogs in memory, and one of their snapshots.
func newRecorder() (persistence.ProcessRecorder, persistence.AggregateRecorder) {
	store := memory.New()
	return expect.Must(store.ProcessRecorder(school)), expect.Must(store.SnapshotRecorder(school))
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
