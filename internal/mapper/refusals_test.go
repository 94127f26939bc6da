package mapper_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/cipher"
	"github.com/eventsourcing-go/eventsourcing/compressor"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// newerDogs are the dogs of a newer program, which has changed the payload of
// an event.
var newerDogs = domain.Define("Dog",
	domain.On("Registered", registeredNow{}, domain.Upcast(func(e Registered) registeredNow { return registeredNow{e.Name, ""} })))

type registeredNow struct{ Name, Breed string }

func (e registeredNow) Apply(d *Dog) { d.Name = e.Name }

func cut(state []byte) []byte { return state[:len(state)-1] }

func flip(state []byte) []byte {
	state[len(state)/2] ^= 0x10
	return state
}

func keep(state []byte) []byte { return state }

// bomb replaces a state by a small one that becomes a large one.
func bomb(tb testing.TB, topic string) func([]byte) []byte {
	return func([]byte) []byte {
		state, err := newCompressor(tb, topic).Compress(nil, make([]byte, 1<<20))
		if err != nil || len(state) > 4<<10 {
			tb.Errorf("got a bomb of %d bytes, error %v, want no error and at most %v of them", len(state), err, 4<<10)
		}
		return state
	}
}

// TestMapperRefuses is what cannot be read, and the stage that fails.
func TestMapperRefuses(t *testing.T) {
	t.Parallel()
	plain, zlib, zstd := chain{}, chain{compressor: "zlib"}, chain{compressor: "zstd"}
	aes, both := chain{cipher: "aes"}, chain{"zlib", "aes"}
	original := chain{cipher: "eventsourcing.cipher:AESCipher"}
	withKey := func(c chain, key string) mapper.Config {
		config := c.config(t)
		config.Cipher = newCipher(t, c.cipher, key)
		return config
	}
	withLimit := func(topic string, limit int) mapper.Config {
		return mapper.Config{Application: school, Compressor: newCompressor(t, topic, compressor.WithLimit(limit))}
	}
	tests := []struct {
		name    string
		written mapper.Config
		change  func([]byte) []byte
		read    mapper.Config
		stage   string
		cause   error // if it can be compared
		text    string
	}{
		{"unknown key", aes.config(t), keep, withKey(aes, keyB), "decrypt", nil, "is not available"},
		{"wrong key of the same name", withKey(aes, "k:"+keyA), keep, withKey(aes, "k:"+keyB), "decrypt", cipher.ErrDecrypt, ""},
		{"wrong key, original", original.config(t), keep, withKey(original, keyB), "decrypt", cipher.ErrDecrypt, ""},
		{"cut ciphertext", aes.config(t), cut, aes.config(t), "decrypt", cipher.ErrDecrypt, ""},
		{"flipped ciphertext", both.config(t), flip, both.config(t), "decrypt", cipher.ErrDecrypt, ""},
		{"plain with cipher", plain.config(t), keep, aes.config(t), "decrypt", cipher.ErrNotEnvelope, "stored without the cipher"},
		{"compressed with cipher", zlib.config(t), keep, both.config(t), "decrypt", cipher.ErrNotEnvelope, ""},
		{"original's cipher with aes", original.config(t), keep, aes.config(t), "decrypt", cipher.ErrNotEnvelope, ""},
		{"empty with cipher", plain.config(t), func([]byte) []byte { return nil }, aes.config(t), "decrypt", cipher.ErrNotEnvelope, ""},
		{"encrypted without cipher", aes.config(t), keep, plain.config(t), "decrypt", nil, "no cipher is configured"},
		{"encrypted without cipher, with compressor", aes.config(t), keep, zlib.config(t), "decrypt", nil, "no cipher is configured"},
		{"zlib without compressor", zlib.config(t), keep, plain.config(t), "decode", nil, "stored with a compressor"},
		{"zstd without compressor", zstd.config(t), keep, plain.config(t), "decode", nil, "stored with a compressor"},
		{"zlib and aes without compressor", both.config(t), keep, aes.config(t), "decode", nil, "stored with a compressor"},
		{"zlib with zstd", zlib.config(t), keep, zstd.config(t), "decompress", compressor.ErrDamaged, ""},
		{"zstd with zlib", zstd.config(t), keep, zlib.config(t), "decompress", compressor.ErrDamaged, ""},
		{"cut zlib", zlib.config(t), cut, zlib.config(t), "decompress", compressor.ErrDamaged, ""},
		{"flipped zlib", zlib.config(t), flip, zlib.config(t), "decompress", compressor.ErrDamaged, ""},
		{"cut zstd", zstd.config(t), cut, zstd.config(t), "decompress", compressor.ErrDamaged, ""},
		{"bomb of zlib", zlib.config(t), bomb(t, "zlib"), withLimit("zlib", 64<<10), "decompress", nil, "larger than the limit of 65536 bytes"},
		{"bomb of zstd", zstd.config(t), bomb(t, "zstd"), withLimit("zstd", 64<<10), "decompress", nil, "larger than the limit of 65536 bytes"},
		{"compressed twice", mapper.Config{Compressor: disguise{0}}, func(s []byte) []byte { return append([]byte{0}, s...) },
			mapper.Config{Application: school, Compressor: disguise{0}}, "decode", nil, "or it is damaged"},
		{"empty", plain.config(t), func([]byte) []byte { return []byte{} }, plain.config(t), "decode", nil, "or it is damaged"},
		{"half a header", plain.config(t), func(s []byte) []byte { return s[:20] }, plain.config(t), "decode", nil, "header of the state is damaged"},
		{"half a payload", plain.config(t), cut, plain.config(t), "decode", persistence.ErrData, ""},
		{"no JSON", plain.config(t), func([]byte) []byte { return []byte("{" + canary) }, plain.config(t), "decode", persistence.ErrData, ""},
		{"another type", plain.config(t), func(s []byte) []byte { return bytes.ReplaceAll(s, []byte(`"canary`), []byte(`["canary`)) },
			plain.config(t), "decode", persistence.ErrData, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.written.Application = school
			stored := toStored(t, newMapper(t, test.written), dogEvents(canary)[0])
			stored.State = test.change(slices.Clone(stored.State))
			event, err := newMapper(t, test.read).NotificationToDomain(persistence.Notification{ID: 42, StoredEvent: stored})
			if !reflect.DeepEqual(event, domain.Event{}) {
				t.Errorf("got an event with the error: %+v, want %v", event, domain.Event{})
			}
			wantMappingError(t, err, test.stage, stored, 42)
			if test.cause != nil && !errors.Is(err, test.cause) {
				t.Errorf("got error %v, want one of %v", err, test.cause)
			}
			expect.Contains(t, err.Error(), test.text)
		})
	}
}

// wantMappingError requires a *MappingError that names its row, and neither
// what is in it nor a key.
func wantMappingError(t *testing.T, err error, stage string, stored persistence.StoredEvent, id int64) {
	t.Helper()
	got := expect.ErrorAs[*persistence.MappingError](t, err)
	want := &persistence.MappingError{
		Application: school, OriginatorID: stored.OriginatorID, OriginatorVersion: stored.OriginatorVersion,
		NotificationID: id, Topic: stored.Topic, Stage: stage, Err: got.Err,
	}
	if !reflect.DeepEqual(got, want) || got.Err == nil {
		t.Errorf("got  %#v\nwant %#v", got, want)
	}
	if !errors.Is(err, persistence.ErrPersistence) || !errors.Is(err, domain.ErrEventSourcing) {
		t.Errorf("%v is not an ErrPersistence", err)
	}
	text := err.Error()
	expect.Contains(t, text, school+": cannot ", stored.OriginatorID.String(), fmt.Sprint("version ", stored.OriginatorVersion), stored.Topic)
	if id > 0 {
		expect.Contains(t, text, fmt.Sprintf("(notification %d)", id))
	}
	for _, secret := range []string{canary, keyA, keyB, keyA[:20], keyB[:20], "\x02\x03\x04\x05"} {
		if strings.Contains(text, secret) {
			t.Errorf("the text contains %q: %s", secret, text)
		}
	}
}

func TestMapperRefusesUnknownTopics(t *testing.T) {
	t.Parallel()
	m := newMapper(t, mapper.Config{Application: school})
	event := dogEvents(canary)[0]
	stored := toStored(t, m, event)
	stored.Topic, event.Topic = "Dog.Renamed", "Dog.Renamed"
	_, written := m.ToStored(event)
	_, read := m.ToDomain(stored)
	_, original := m.ToDomain(persistence.StoredEvent{OriginatorID: stored.OriginatorID, OriginatorVersion: 1,
		Topic: stored.Topic, State: []byte(`{"name":"` + canary + `"}`)})
	_, snapshot := m.SnapshotToDomain(stored)
	for _, err := range []error{written, read, original, snapshot} {
		wantMappingError(t, err, "topic", stored, 0)
		if expect.ErrorAs[*mapper.UnknownTopicError](t, err).Topic != "Dog.Renamed" || !errors.Is(err, persistence.ErrNewerProgram) {
			t.Errorf("got %v, want Topic %q and an error that is %v", err, "Dog.Renamed", persistence.ErrNewerProgram)
		}
		expect.ErrorText(t, err, `TrainingSchool: cannot map the state of Dog.Renamed version 1 of originator `+stored.OriginatorID.String()+
			`: topic "Dog.Renamed" is not defined; if a newer program wrote it, deploy that one; otherwise add it with domain.On, domain.Alias or domain.Retired, or give its definition to application.WithDefinitions`)
	}
}

func TestMapperRefusesNewerPayloads(t *testing.T) {
	t.Parallel()
	for _, original := range []bool{false, true} {
		config := mapper.Config{Application: school, PythonLayout: original}
		newer := newMapper(t, config, newerDogs)
		event := newerDogs.Create(DogID(canary), registeredNow{canary, "dachshund"}).PendingEvents()[0]
		stored := toStored(t, newer, event)
		_, err := newMapper(t, config).ToDomain(stored)
		wantMappingError(t, err, "decode", stored, 0)
		if got := expect.ErrorAs[*eventtype.VersionError](t, err); got.Stored != 2 || got.Known != 1 || !errors.Is(err, persistence.ErrNewerProgram) {
			t.Errorf("got %+v, %v, want Stored 2, Known 1 and an error that is %v", got, err, persistence.ErrNewerProgram)
		}
		// The other way round it is what upcasters are for.
		older := toStored(t, newMapper(t, config), dogEvents("Fido")[0])
		if got, err := newer.ToDomain(older); err != nil || got.Data != (registeredNow{"Fido", ""}) {
			t.Errorf("original=%v: got %+v, error %v, want no error and Data %v", original, got.Data, err, (registeredNow{"Fido", ""}))
		}
	}
}
