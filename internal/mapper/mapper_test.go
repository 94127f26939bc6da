package mapper_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/cipher"
	"github.com/eventsourcing-go/eventsourcing/compressor"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/definitions"
	"github.com/eventsourcing-go/eventsourcing/internal/doctored"
	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

func TestMapperAccessors(t *testing.T) {
	t.Parallel()
	m := newMapper(t, mapper.Config{Application: school})
	if m.Application() != school || m.Transcoder() == nil {
		t.Errorf("got application %q, transcoder %v, want Application %v and Transcoder other than nil", m.Application(), m.Transcoder(), school)
	}
	if schema, ok := m.SchemaOf("Dog.TrickAdded"); !ok || schema != definitions.Of(Dogs) {
		t.Errorf("SchemaOf: got %v, %v, want that of dogs", schema, ok)
	}
	for _, topic := range []string{"Dog", "Dog.Unknown", ""} { // "Dog" is the topic of snapshots
		if schema, ok := m.SchemaOf(topic); ok || schema != nil {
			t.Errorf("SchemaOf(%q): got %v, %v, want none", topic, schema, ok)
		}
	}
}

// TestMapperRoundTrip takes events and snapshots through every chain, in both
// layouts.
func TestMapperRoundTrip(t *testing.T) {
	t.Parallel()
	for _, chain := range chains() {
		for _, original := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v original=%v", chain, original), func(t *testing.T) {
				t.Parallel()
				config := chain.config(t)
				config.PythonLayout = original
				m := newMapper(t, config)
				for _, event := range dogEvents("Fido", "roll over", "走る 🐕", strings.Repeat("far ", 50_000)) {
					event.Metadata = domain.Metadata{"user": "Zoë", "": "no key"}
					checkRoundTrip(t, m, event, original)
				}
			})
		}
	}
}

func checkRoundTrip(t *testing.T, m *mapper.Mapper, event domain.Event, original bool) {
	t.Helper()
	stored := toStored(t, m, event)
	if stored.OriginatorID != event.OriginatorID || stored.OriginatorVersion != event.OriginatorVersion || stored.Topic != event.Topic {
		t.Errorf("got %v, version %d, topic %q, want OriginatorID %v, OriginatorVersion %v and Topic %v", stored.OriginatorID, stored.OriginatorVersion, stored.Topic, event.OriginatorID, event.OriginatorVersion, event.Topic)
	}
	want := event
	want.Application, want.NotificationID = school, 0
	if original { // which has room for neither
		want.ID, want.Metadata = uuid.Nil, nil
	}
	if got, err := m.ToDomain(stored); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, error %v\nwant %+v", got, err, want)
	}
	known := want
	if !original { // which has no header to read alone
		known.Data = nil
	}
	if got, err := m.Identify(stored); err != nil || !reflect.DeepEqual(got, known) {
		t.Errorf("identify: got %+v, error %v\nwant %+v", got, err, known)
	}
	want.NotificationID = 42
	got, err := m.NotificationToDomain(persistence.Notification{ID: 42, StoredEvent: stored})
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v, error %v\nwant %+v", got, err, want)
	}
}

// An event whose payload cannot be decoded can still be told from another one.
// One whose header is damaged cannot.
func TestIdentifyDecodesNoPayload(t *testing.T) {
	t.Parallel()
	m := newMapper(t, mapper.Config{Application: school})
	event := dogEvents("Fido")[0]
	stored := toStored(t, m, event)
	stored.Topic = "Dog.OfANewerProgram"
	stored.State = append(bytes.Clone(stored.State), "no JSON"...)
	if got, err := m.Identify(stored); err != nil || got.ID != event.ID || !got.Timestamp.Equal(event.Timestamp) {
		t.Errorf("got %v of %v, error %v; want %v of %v", got.ID, got.Timestamp, err, event.ID, event.Timestamp)
	}
	if _, err := m.ToDomain(stored); err == nil {
		t.Error("the control: the payload was decoded")
	}
	stored.State = stored.State[:20]
	_, err := m.Identify(stored)
	expect.ErrorAs[*persistence.MappingError](t, err)
}

func TestMapperSnapshotRoundTrip(t *testing.T) {
	t.Parallel()
	dog := RegisterDog("Fido")
	dog.AddTrick("roll over")
	want := definitions.Of(Dogs).TakeSnapshot(dog)
	want.Application = school
	for _, chain := range chains() {
		t.Run(chain.String(), func(t *testing.T) {
			t.Parallel()
			m := newMapper(t, chain.config(t))
			stored, err := m.SnapshotToStored(want)
			if err != nil || stored.Topic != "Dog" || stored.OriginatorVersion != 2 {
				t.Fatalf("got topic %q, version %d, error %v, want no error, Topic %q and OriginatorVersion 2", stored.Topic, stored.OriginatorVersion, err, "Dog")
			}
			got, err := m.SnapshotToDomain(stored)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v, error %v\nwant %+v", got, err, want)
			}
		})
	}
}

// What is written with one chain stays readable where only a compressor is
// added.
func TestMapperReadsPlainStatesWithCompressor(t *testing.T) {
	t.Parallel()
	for _, layout := range []bool{false, true} {
		event := dogEvents("Fido")[0]
		stored := toStored(t, newMapper(t, mapper.Config{Application: school, PythonLayout: layout}), event)
		for _, topic := range []string{"zlib", "zstd"} {
			got, err := newMapper(t, chain{compressor: topic}.config(t)).ToDomain(stored)
			if err != nil || got.Data != event.Data {
				t.Errorf("%s, original=%v: got %+v, error %v, want no error and Data %v", topic, layout, got, err, event.Data)
			}
		}
	}
}

// disguise is a compressor of a user whose output looks like a plain state.
type disguise struct{ first byte }

func (d disguise) Compress(dst, src []byte) ([]byte, error) {
	return append(append(dst, d.first), src...), nil
}

func (d disguise) Decompress(dst, src []byte) ([]byte, error) {
	if len(src) == 0 || src[0] != d.first {
		return dst, doctored.ErrBroken
	}
	return append(dst, src[1:]...), nil
}

func TestMapperWithAnyCompressor(t *testing.T) {
	t.Parallel()
	for _, first := range []byte{0x00, 0x01, '{', 0xff} {
		for _, original := range []bool{false, true} {
			m := newMapper(t, mapper.Config{
				Application: school, Compressor: disguise{first}, Cipher: newCipher(t, "aes", keyA), PythonLayout: original,
			})
			checkRoundTrip(t, m, dogEvents("Fido")[0], original)
		}
	}
}

// Metadata that are not valid UTF-8 are refused, by an error without the text.
// States that have such metadata, of versions that did not refuse them, are
// read.
func TestInvalidUTF8InMetadata(t *testing.T) {
	t.Parallel()
	m := newMapper(t, mapper.Config{Application: school})
	event := dogEvents("Fido")[0]
	for name, bad := range map[string]domain.Metadata{
		"value":   {"user": "M\xfcller"},
		"key":     {"M\xfcller": "user"},
		"cut off": {"fine": "Müller", "user": "Mller\xc3"},
	} {
		event.Metadata = bad
		_, err := m.ToStored(event)
		wrong, ok := errors.AsType[*invalid.Error](err)
		if !ok || !errors.Is(err, persistence.ErrData) || !strings.Contains(err.Error(), "metadata has a key or value that is not valid UTF-8") ||
			strings.Contains(err.Error(), "ller") {
			t.Errorf("%s: got %v (%+v), want an error that names UTF-8 and not the text", name, err, wrong)
		}
	}
	event.Metadata = domain.Metadata{"user": "M_ller"}
	stored := toStored(t, m, event)
	stored.State = bytes.Replace(stored.State, []byte("M_ller"), []byte("M\xfcller"), 1)
	if got, err := m.ToDomain(stored); err != nil || got.Metadata["user"] != "M\xfcller" {
		t.Errorf("got %q, %v, want no error and %q", got.Metadata, err, "M\xfcller")
	}
}

func TestMapperHidesPlainText(t *testing.T) {
	t.Parallel()
	event := dogEvents("canary")[0]
	event.Metadata = domain.Metadata{"canary-key": "canary-value"}
	for _, chain := range chains() {
		state := toStored(t, newMapper(t, chain.config(t)), event).State
		for _, plain := range []string{"canary", "name", string(event.ID[:])} {
			if chain.cipher != "" && bytes.Contains(state, []byte(plain)) {
				t.Errorf("%v: the state contains %q", chain, plain)
			}
		}
	}
}

// kennel is an aggregate of which an event is also known under the topic of its
// snapshots, so that one can be taken for the other.
type kennel struct {
	domain.Aggregate
	Name string
}

type (
	opened struct{ Name string }
	closed struct{ Name string }
)

func (e opened) Apply(k *kennel) { k.Name = e.Name }
func (e closed) Apply(k *kennel) { k.Name = "" }

var kennels = domain.Define("Kennel",
	domain.On("Opened", opened{}, domain.StoredAs("Kennel")),
	domain.On("Closed", closed{}))

// moves are the ways in which a writer to the database can move a state to
// another row.
var moves = []struct {
	name string
	read func(m, other *mapper.Mapper, event, snapshot persistence.StoredEvent) (domain.Event, error)
}{
	{"an event to the snapshots", func(m, _ *mapper.Mapper, event, _ persistence.StoredEvent) (domain.Event, error) {
		return m.SnapshotToDomain(event)
	}},
	{"a snapshot to the events", func(m, _ *mapper.Mapper, _, snapshot persistence.StoredEvent) (domain.Event, error) {
		return m.ToDomain(snapshot)
	}},
	{"to another application", func(_, other *mapper.Mapper, event, _ persistence.StoredEvent) (domain.Event, error) {
		return other.ToDomain(event)
	}},
	{"to another originator", func(m, _ *mapper.Mapper, event, _ persistence.StoredEvent) (domain.Event, error) {
		event.OriginatorID[15] ^= 1
		return m.ToDomain(event)
	}},
	{"to another version", func(m, _ *mapper.Mapper, event, _ persistence.StoredEvent) (domain.Event, error) {
		event.OriginatorVersion++
		return m.ToDomain(event)
	}},
	{"to another topic", func(m, _ *mapper.Mapper, event, _ persistence.StoredEvent) (domain.Event, error) {
		event.Topic = "Kennel.Closed"
		return m.ToDomain(event)
	}},
}

// TestMapperBindsStatesToRows moves states to other rows. With the cipher of
// this module they do not open there. With the Python library's they do, which
// is what makes the test one.
func TestMapperBindsStatesToRows(t *testing.T) {
	t.Parallel()
	for _, topic := range []string{"aes", "eventsourcing.cipher:AESCipher"} {
		config := chain{cipher: topic}.config(t)
		m := newMapper(t, config, kennels)
		config.Application = "OtherSchool"
		other := newMapper(t, config, kennels)
		aggregate := kennels.Create(DogID("kennel"), opened{"Dogs' Home"})
		event := toStored(t, m, aggregate.PendingEvents()[0])
		snapshot, err := m.SnapshotToStored(definitions.Of(kennels).TakeSnapshot(aggregate))
		if err != nil {
			t.Fatal(err)
		}
		for _, move := range moves {
			t.Run(topic+"/"+move.name, func(t *testing.T) {
				t.Parallel()
				got, err := move.read(m, other, event, snapshot)
				if topic == "eventsourcing.cipher:AESCipher" {
					if _, noticed := errors.AsType[*mapper.StateTypeError](err); noticed && move.name == moves[0].name {
						return // it opened, and an event has no fingerprint of a state
					}
					if err != nil || got.Data == nil {
						t.Errorf("control: got %+v, error %v, want that nobody notices", got, err)
					}
					return
				}
				if failure := expect.ErrorAs[*persistence.MappingError](t, err); failure.Stage != "decrypt" ||
					!errors.Is(err, cipher.ErrDecrypt) || !reflect.DeepEqual(got, domain.Event{}) {
					t.Errorf("got %+v, stage %q, error %v, want Stage %q, an error that is %v and %v", got, failure.Stage, err, "decrypt", cipher.ErrDecrypt, domain.Event{})
				}
			})
		}
	}
}

// canary is in what the refused states are made of; it must not come up in an
// error.
const canary = "canary-in-the-payload"

// anything is an event with a payload that may turn out not to be storable.
type anything struct{ Value any }

func (anything) Apply(*kennel) {}

var anythings = domain.Define("Anything", domain.On("Said", anything{}))

// brokenCipher cannot encrypt.
type brokenCipher struct{ persistence.Cipher }

func (brokenCipher) Encrypt(_, _, _ []byte) ([]byte, error) { return nil, doctored.ErrBroken }

func TestMapperCannotWrite(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		config mapper.Config
		data   any
		stage  string
	}{
		{"what has no JSON", mapper.Config{}, anything{make(chan int)}, "encode"},
		{"what has no JSON in the original's layout", mapper.Config{PythonLayout: true}, anything{make(chan int)}, "encode"},
		{"another type", mapper.Config{}, Registered{canary}, "encode"},
		{"another type in the original's layout", mapper.Config{PythonLayout: true}, Registered{canary}, "encode"},
		{"a pointer", mapper.Config{}, &anything{canary}, "encode"},
		{"nothing", mapper.Config{}, nil, "encode"},
		{"what is too large", mapper.Config{Compressor: newCompressor(t, "zlib", compressor.WithLimit(32))}, anything{canary}, "compress"},
		{"with a broken cipher", mapper.Config{Cipher: brokenCipher{}}, anything{canary}, "encrypt"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.config.Application = school
			event := anythings.Create(DogID("any"), anything{}).PendingEvents()[0]
			event.Data = test.data
			stored, err := newMapper(t, test.config, anythings).ToStored(event)
			wantMappingError(t, err, test.stage, stored, 0)
			if stored.State != nil {
				t.Errorf("got a state with the error")
			}
		})
	}
	event := anythings.Create(DogID("any"), anything{}).PendingEvents()[0]
	event.Data = Registered{canary}
	_, err := newMapper(t, mapper.Config{}, anythings).ToStored(event)
	if got := expect.ErrorAs[*eventtype.PayloadError](t, err); got.Topic != "Anything.Said" || got.Payload != reflect.TypeFor[Registered]() {
		t.Errorf("got %+v, want Topic %q and Payload %v", got, "Anything.Said", reflect.TypeFor[Registered]())
	}
}

// standardJSON is the smallest transcoder there can be.
type standardJSON struct{}

func (standardJSON) Encode(dst []byte, value any) ([]byte, error) {
	data, err := json.Marshal(value)
	return append(dst, data...), err
}

func (standardJSON) Decode(data []byte, into any) error { return json.Unmarshal(data, into) }

func TestMapperWithAnyTranscoder(t *testing.T) {
	t.Parallel()
	checkRoundTrip(t, newMapper(t, mapper.Config{Application: school, Transcoder: standardJSON{}}), dogEvents("Fido")[0], false)
}

// FuzzMapper reads arbitrary states with and without compressor and cipher, and
// arbitrary bytes that were compressed and encrypted as they should be. Nothing
// may panic, and an error must be a *MappingError that does not contain the
// state.
func FuzzMapper(f *testing.F) {
	row := persistence.StoredEvent{OriginatorID: DogID("Fido"), OriginatorVersion: 1, Topic: "Dog.Registered", State: []byte{0}}
	bound := &spy{}
	if _, err := newMapper(f, mapper.Config{Application: school, Cipher: bound}).ToDomain(row); err == nil {
		f.Fatal("the spy was not asked")
	}
	configs := []mapper.Config{}
	for _, chain := range []chain{{}, {compressor: "zlib"}, {cipher: "aes"}, {"zlib", "aes"}} {
		config := chain.config(f)
		configs = append(configs, config)
		for _, event := range dogEvents(canary) {
			f.Add(toStored(f, newMapper(f, config), event).State)
		}
	}
	f.Add([]byte(nil))
	f.Add([]byte(`{"name":"` + canary + `"}`))
	f.Add([]byte(`{"timestamp":"` + canary + `","class_version":2}`))
	f.Add([]byte(`{"topic":"Dog","state":{"name":"` + canary + `"}}`))
	f.Fuzz(func(t *testing.T, state []byte) {
		for _, config := range configs {
			m := newMapper(t, config)
			for _, stored := range [][]byte{state, sealed(t, config, state, bound.associated)} {
				event := row
				event.State = stored
				_, err := m.ToDomain(event)
				wantQuiet(t, err, state)
				event.Topic = "eventsourcing.domain:Snapshot"
				_, err = m.SnapshotToDomain(event)
				wantQuiet(t, err, state)
			}
		}
	})
}

// sealed does to a state what the mapper would have done.
func sealed(t *testing.T, config mapper.Config, state, associated []byte) []byte {
	t.Helper()
	var err error
	if config.Compressor != nil {
		if state, err = config.Compressor.Compress(nil, state); err != nil {
			t.Fatal(err)
		}
	}
	if config.Cipher != nil {
		if state, err = config.Cipher.Encrypt(nil, state, associated); err != nil {
			t.Fatal(err)
		}
	}
	return state
}

// wantQuiet requires that an error is a *MappingError and does not contain the
// state. The name of a transcoding that is not registered is the one part that
// a text may have.
func wantQuiet(t *testing.T, err error, state []byte) {
	t.Helper()
	if err == nil {
		return
	}
	expect.ErrorAs[*persistence.MappingError](t, err)
	text := withoutName(err.Error())
	if len(state) > 8 && strings.Contains(text, string(state)) || strings.Contains(text, canary) {
		t.Errorf("the text contains the state: %s", text)
	}
}

// withoutName cuts the name of a transcoding that is not registered out of the
// text of an error. The text has at most 100 characters of the name, which may
// itself contain what follows it.
func withoutName(text string) string {
	const follows = "' is not deserializable; register"
	before, rest, ok := strings.Cut(text, "data serialized with name '")
	if !ok {
		return text
	}
	longest := fmt.Sprintf("%.100s", rest)
	window := rest[:min(len(rest), len(longest)+len(follows))]
	if end := strings.LastIndex(window, follows); end >= 0 {
		return before + rest[end:]
	}
	return text
}

func TestWithoutName(t *testing.T) {
	t.Parallel()
	const begins, ends = "data serialized with name '", "' is not deserializable; register a transcoding for it"
	long := strings.Repeat("é", 100)
	for text, want := range map[string]string{
		"another text":                             "another text",
		begins + "celsius" + ends:                  ends,
		begins + "a" + ends[:40] + "b" + ends:      ends,
		begins + long + ends:                       ends,
		begins + long + "x" + ends:                 begins + long + "x" + ends,
		begins + "celsius" + ends + long + canary:  ends + long + canary,
		begins + "x" + ends + long + canary + ends: ends + long + canary + ends,
	} {
		if got := withoutName(text); got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}
