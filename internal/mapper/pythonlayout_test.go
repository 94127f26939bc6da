package mapper_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/definitions"
	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/internal/pythontest"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/python"
)

// account is the aggregate of the Python library's tests of mappers.
type account struct{ domain.Aggregate }

type (
	accountOpened       struct{}
	transactionAppended struct {
		Amount python.Decimal `json:"amount"`
	}
)

func (accountOpened) Apply(*account)       {}
func (transactionAppended) Apply(*account) {}

var accounts = domain.Define("BankAccount",
	domain.On("Opened", accountOpened{}),
	domain.On("TransactionAppended", transactionAppended{}))

// TestPythonSizes holds the sizes that the Python library's tests of mappers
// require of its reference event.
func TestPythonSizes(t *testing.T) {
	t.Parallel()
	event := accounts.NewEvent(sampleID, 2, transactionAppended{"10.00"}, domain.At(sampleTime))
	tests := []struct {
		chain           chain
		lowest, highest int
	}{
		{chain{}, 134, 134},
		{chain{cipher: "eventsourcing.cipher:AESCipher"}, 162, 162},
		{chain{"zlib", "eventsourcing.cipher:AESCipher"}, 129, 142},
	}
	for _, test := range tests {
		config := test.chain.config(t)
		config.PythonLayout = true
		state := toStored(t, newMapper(t, config, accounts), event).State
		if len(state) < test.lowest || len(state) > test.highest {
			t.Errorf("%v: got %d bytes, want %d to %d", test.chain, len(state), test.lowest, test.highest)
		}
	}
}

// wagged is an event whose payload has changed twice.
type (
	wagged   struct{ Times int }
	wagged2  struct{ Tail string }
	wagged1  struct{}
	barked   string
	measured struct{ At time.Time }
)

func (wagged) Apply(*account)   {}
func (barked) Apply(*account)   {}
func (measured) Apply(*account) {}

var oddities = domain.Define("zoo.domain:Odd",
	domain.On("Opened", accountOpened{}),
	domain.On("Wagged", wagged{},
		domain.Upcast(func(wagged1) wagged2 { return wagged2{"long"} }),
		domain.Upcast(func(w wagged2) wagged { return wagged{len(w.Tail)} })),
	domain.On("Barked", barked("")),
	domain.On("Measured", measured{}, domain.StoredAs("measured")))

const sampleStamp = `{"timestamp":{"_type_":"datetime_iso","_data_":"2024-01-02T03:04:05.678901+00:00"}`

// TestPythonLayout is what the layout looks like, to the byte.
func TestPythonLayout(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		version int64
		data    any
		want    string
	}{
		{"the first event", 1, accountOpened{}, sampleStamp + `,"originator_topic":"zoo.domain:Odd"}`},
		{"no fields", 2, accountOpened{}, sampleStamp + `}`},
		{"a later schema version", 2, wagged{3}, sampleStamp + `,"Times":3,"class_version":3}`},
		{"both", 1, wagged{3}, sampleStamp + `,"originator_topic":"zoo.domain:Odd","Times":3,"class_version":3}`},
		{"a topic that does not begin with the aggregate's", 1, measured{sampleTime},
			sampleStamp + `,"originator_topic":"zoo.domain:Odd","At":{"_type_":"datetime_iso","_data_":"2024-01-02T03:04:05.678901+00:00"}}`},
	}
	m := newMapper(t, mapper.Config{Application: school, PythonLayout: true}, oddities)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			event := oddities.NewEvent(sampleID, test.version, test.data, domain.At(sampleTime))
			if got := string(toStored(t, m, event).State); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			checkRoundTrip(t, m, event, true)
		})
	}
}

// A definition may say that its first event has another version than 1, and a
// log has no aggregate to name.
func TestPythonOriginatorTopic(t *testing.T) {
	t.Parallel()
	fromZero := domain.Define("Account", domain.FirstVersion[account](0), domain.On("Opened", accountOpened{}))
	log := domain.Define("Log", domain.Entry("Entered", accountOpened{}))
	event := func(version int64) domain.Event { return fromZero.NewEvent(sampleID, version, accountOpened{}) }
	entry := func(version int64) domain.Event { return log.NewEvent(sampleID, version, accountOpened{}) }
	tests := []struct {
		name  string
		event domain.Event
		want  bool
	}{
		{"Account", event(0), true}, {"Account", event(1), false}, {"Log", entry(1), false}, {"Log", entry(2), false},
	}
	m := newMapper(t, mapper.Config{Application: school, PythonLayout: true}, fromZero, log)
	for _, test := range tests {
		state := string(toStored(t, m, test.event).State)
		if got := strings.Contains(state, `"originator_topic":"`+test.name+`"`); got != test.want {
			t.Errorf("%s version %d: got %s, want %v", test.name, test.event.OriginatorVersion, state, test.want)
		}
	}
}

func TestPythonLayoutRefusesPayloadsThatAreNotObjects(t *testing.T) {
	t.Parallel()
	m := newMapper(t, mapper.Config{Application: school, PythonLayout: true}, oddities)
	event := oddities.NewEvent(sampleID, 2, barked(canary))
	stored, err := m.ToStored(event)
	wantMappingError(t, err, "encode", stored, 0)
	expect.Contains(t, err.Error(), "the Python layout needs payloads that are JSON objects")
	checkRoundTrip(t, newMapper(t, mapper.Config{Application: school}, oddities), event, false)
}

// A mapper reads what either layout has written, whichever it writes itself.
func TestPythonLayoutIsAlwaysRead(t *testing.T) {
	t.Parallel()
	ours := newMapper(t, mapper.Config{Application: school})
	theirs := newMapper(t, mapper.Config{Application: school, PythonLayout: true})
	for _, event := range dogEvents("Fido", "roll over") {
		fromOurs, err := theirs.ToDomain(toStored(t, ours, event))
		if err != nil || fromOurs.Data != event.Data || fromOurs.ID != event.ID {
			t.Errorf("got %+v, error %v, want no error, Data %v and ID %v", fromOurs, err, event.Data, event.ID)
		}
		fromTheirs, err := ours.ToDomain(toStored(t, theirs, event))
		if err != nil || fromTheirs.Data != event.Data || fromTheirs.ID != uuid.Nil || !fromTheirs.Timestamp.Equal(event.Timestamp) {
			t.Errorf("got %+v, error %v, want no error, Data %v, ID %v and Timestamp %v", fromTheirs, err, event.Data, uuid.Nil, event.Timestamp)
		}
	}
}

func TestPythonUpcasting(t *testing.T) {
	t.Parallel()
	m := newMapper(t, mapper.Config{Application: school}, oddities)
	for state, want := range map[string]any{
		sampleStamp + `}`:                                     wagged{4},
		sampleStamp + `,"class_version":1}`:                   wagged{4},
		sampleStamp + `,"Tail":"short","class_version":2}`:    wagged{5},
		sampleStamp + `,"Times":6,"class_version":3}`:         wagged{6},
		sampleStamp + `,"class_version":null,"Tail":"short"}`: wagged{4},
		sampleStamp + `,"class_version":4}`:                   nil,
		sampleStamp + `,"class_version":0}`:                   nil,
		sampleStamp + `,"class_version":-1}`:                  nil,
	} {
		stored := persistence.StoredEvent{OriginatorID: sampleID, OriginatorVersion: 2, Topic: "zoo.domain:Odd.Wagged", State: []byte(state)}
		got, err := m.ToDomain(stored)
		if want == nil {
			wantMappingError(t, err, "decode", stored, 0)
			expect.ErrorAs[*eventtype.VersionError](t, err)
		} else if err != nil || got.Data != want {
			t.Errorf("%s: got %+v, error %v, want no error and Data %v", state, got.Data, err, want)
		}
	}
}

// pythonDogs are the dogs of a program in Python, under the names that it gave
// them.
var pythonDogs = domain.Define("training_school.domain:Dog",
	domain.On("Registered", Registered{}), domain.On("TrickAdded", TrickAdded{}))

// renamedDogs are the same, in a program that has taken over their history.
var renamedDogs = domain.Define("Dog", domain.FormerName[Dog]("training_school.domain:Dog"),
	domain.On("Registered", Registered{}), domain.On("TrickAdded", TrickAdded{}))

func readState(t *testing.T, name string) []byte {
	t.Helper()
	state, err := os.ReadFile(filepath.Join("../../persistence/jsontranscoder/testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// TestPythonEvents reads events that the Python library has written, and
// writes them again as they were.
func TestPythonEvents(t *testing.T) {
	t.Parallel()
	tests := []struct {
		file, topic string
		version     int64
		at          time.Time
		want        any
	}{
		{"dog_registered.json", "training_school.domain:Dog.Registered", 1, clock(1, 373511), Registered{"Fido"}},
		{"dog_trick_added.json", "training_school.domain:Dog.TrickAdded", 2, clock(1, 387890), TrickAdded{"走る 🐕"}},
		{"dog_trick_quoted.json", "training_school.domain:Dog.TrickAdded", 3, clock(1, 391780), TrickAdded{`it's "quoted" \ back`}},
	}
	for _, definition := range []*domain.Definition[Dog]{pythonDogs, renamedDogs} {
		m := newMapper(t, mapper.Config{Application: school, PythonLayout: true}, definition)
		for _, test := range tests {
			stored := persistence.StoredEvent{OriginatorID: sampleID, OriginatorVersion: test.version, Topic: test.topic, State: readState(t, test.file)}
			got, err := m.ToDomain(stored)
			want := domain.Event{Application: school, OriginatorID: sampleID, OriginatorVersion: test.version,
				Topic: test.topic, Timestamp: test.at, Data: test.want}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got  %+v, error %v\nwant %+v", test.file, got, err, want)
				continue
			}
			if again := toStored(t, m, got); !reflect.DeepEqual(again, stored) {
				t.Errorf("%s: got  %s\nwant %s", test.file, again.State, stored.State)
			}
		}
	}
}

// TestPythonSnapshotIsRead reads a snapshot that the Python library has written.
func TestPythonSnapshotIsRead(t *testing.T) {
	t.Parallel()
	stored := persistence.StoredEvent{OriginatorID: sampleID, OriginatorVersion: 10, Topic: "eventsourcing.domain:Snapshot",
		State: readState(t, "dog_snapshot.json")}
	for _, definition := range []*domain.Definition[Dog]{pythonDogs, renamedDogs} {
		event, err := newMapper(t, mapper.Config{Application: school}, definition).SnapshotToDomain(stored)
		if err != nil {
			t.Fatal(err)
		}
		if !event.Timestamp.Equal(clock(1, 428328)) || event.OriginatorVersion != 10 {
			t.Errorf("got %+v, want Timestamp %v and OriginatorVersion 10", event, clock(1, 428328))
		}
		dog, err := definitions.Restore(definition, event)
		if err != nil {
			t.Fatal(err)
		}
		if dog.Name != "Bella" || strings.Join(dog.Tricks, " ") != "t1 t2 t3 t4 t5 t6 t7 t8 t9" || dog.Version() != 10 ||
			!dog.CreatedOn().Equal(clock(1, 394746)) || !dog.ModifiedOn().Equal(clock(1, 426237)) {
			t.Errorf("got %+v, created on %v, modified on %v, want Name %q, %q, Version 10, CreatedOn %v and ModifiedOn %v", dog, dog.CreatedOn(), dog.ModifiedOn(), "Bella", "t1 t2 t3 t4 t5 t6 t7 t8 t9", clock(1, 394746), clock(1, 426237))
		}
	}
	_, err := newMapper(t, mapper.Config{Application: school}).SnapshotToDomain(stored)
	wantMappingError(t, err, "topic", stored, 0)
	if got := expect.ErrorAs[*mapper.UnknownTopicError](t, err); got.Topic != "training_school.domain:Dog" {
		t.Errorf("got topic %q, want the aggregate's", got.Topic)
	}
}

// TestPythonSnapshot writes a snapshot of the Python library again as it was,
// also under a definition that has the Python name as a former one. The row's
// topic does not matter for reading.
func TestPythonSnapshot(t *testing.T) {
	t.Parallel()
	stored := persistence.StoredEvent{OriginatorID: sampleID, OriginatorVersion: 10, Topic: "eventsourcing.domain:Snapshot",
		State: readState(t, "dog_snapshot.json")}
	ownClass := stored
	ownClass.Topic = "training_school.domain:Dog.Snap.Snapshot"
	for _, definition := range []*domain.Definition[Dog]{pythonDogs, renamedDogs} {
		m := newMapper(t, mapper.Config{Application: school, PythonLayout: true}, definition)
		for _, row := range []persistence.StoredEvent{stored, ownClass} {
			event, err := m.SnapshotToDomain(row)
			if err != nil {
				t.Fatalf("%s, %s: %v", definitions.Of(definition).Name(), row.Topic, err)
			}
			event.Topic = definitions.Of(definition).Name()
			again, err := m.SnapshotToStored(event)
			if err != nil || !reflect.DeepEqual(again, stored) {
				t.Errorf("%s, %s: got  %s %s, error %v\nwant %s %s", definitions.Of(definition).Name(), row.Topic, again.Topic, again.State, err,
					stored.Topic, stored.State)
			}
		}
	}
}

// A snapshot in the Python layout has its schema version, and its state is an
// object.
func TestPythonSnapshotStates(t *testing.T) {
	t.Parallel()
	type empty struct{ domain.Aggregate }
	third := domain.Define("zoo.domain:Empty", domain.SnapshotVersion[empty](3))
	text := domain.Define("zoo.domain:Text", domain.State(func(*account) string { return "" }, func(string) *account { return &account{} }))
	m := newMapper(t, mapper.Config{Application: school, PythonLayout: true}, third, text)
	times := `"_data_":"2024-01-02T03:04:05.678901+00:00"}`
	want := sampleStamp + `,"topic":"zoo.domain:Empty","state":{"_created_on":{"_type_":"datetime_iso",` + times +
		`,"_modified_on":{"_type_":"datetime_iso",` + times + `,"class_version":3}}`
	snapshot := domain.Event{OriginatorID: sampleID, OriginatorVersion: 1, Topic: "zoo.domain:Empty", Timestamp: sampleTime,
		Data: eventtype.SnapshotState[empty]{CreatedOn: sampleTime, ModifiedOn: sampleTime}}
	stored, err := m.SnapshotToStored(snapshot)
	if err != nil || string(stored.State) != want {
		t.Errorf("got  %s, error %v\nwant %s", stored.State, err, want)
	}
	if _, err := m.SnapshotToDomain(stored); err != nil {
		t.Errorf("the snapshot is not read: %v", err)
	}
	snapshot.Topic, snapshot.Data = "zoo.domain:Text", eventtype.SnapshotState[string]{State: canary}
	if _, err := m.SnapshotToStored(snapshot); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("got %v, want an error without the state", err)
	}
}

// A snapshot in the Python layout has no fingerprint. One that lacks a field of
// the state is not used, because the field would be zero.
func TestPythonSnapshotWithoutField(t *testing.T) {
	t.Parallel()
	type leg struct {
		Paw string `json:"paw"`
	}
	type spider struct {
		domain.Aggregate
		Name string `json:"name"`
		Legs []leg  `json:"legs"`
	}
	m := newMapper(t, mapper.Config{Application: school}, domain.Define[spider]("zoo.domain:Spider"))
	for state, usable := range map[string]bool{
		`"name":"Boris","legs":[{"paw":"a"}]`:            true,
		`"name":"Boris","legs":[{"paw":"a"}],"age":3`:    true,
		`"name":"Boris","legs":null`:                     true,
		`"name":"Boris"`:                                 false,
		`"name":"Boris","legs":[{"paw":"a"},{"toe":""}]`: false,
	} {
		_, err := m.SnapshotToDomain(persistence.StoredEvent{OriginatorID: sampleID, OriginatorVersion: 1, Topic: "eventsourcing.domain:Snapshot",
			State: []byte(sampleStamp + `,"topic":"zoo.domain:Spider","state":{"_created_on":null,"_modified_on":null,` + state + `}}`)})
		if _, other := errors.AsType[*mapper.StateTypeError](err); usable && err != nil || !usable && !other {
			t.Errorf("%s: got %v, want usable=%v", state, err, usable)
		}
	}
}

// With the Python layout, a definition writes its events under the former name
// that is the path of a Python class.
func TestPythonTopics(t *testing.T) {
	t.Parallel()
	m := newMapper(t, mapper.Config{Application: school, PythonLayout: true}, renamedDogs)
	event := renamedDogs.NewEvent(sampleID, 1, Registered{"Fido"}, domain.At(sampleTime))
	stored := toStored(t, m, event)
	if want := "training_school.domain:Dog.Registered"; stored.Topic != want {
		t.Errorf("got topic %q, want %q", stored.Topic, want)
	}
	if want := `"originator_topic":"training_school.domain:Dog"`; !strings.Contains(string(stored.State), want) {
		t.Errorf("got %s, want %s", stored.State, want)
	}
	if got := toStored(t, newMapper(t, mapper.Config{Application: school}, renamedDogs), event).Topic; got != "Dog.Registered" {
		t.Errorf("in this module's layout, got topic %q, want today's name", got)
	}
}

func TestPythonDamage(t *testing.T) {
	t.Parallel()
	m := newMapper(t, mapper.Config{Application: school}, pythonDogs)
	for _, state := range []string{
		`{`, `{}}`, `{"state":"` + canary + `"}`, `{"topic":"training_school.domain:Dog"}`,
		`{"topic":1,"state":{}}`, `{"topic":"training_school.domain:Dog","state":{"name":["` + canary + `"]}}`,
		`{"topic":"training_school.domain:Dog","state":{"class_version":"` + canary + `"}}`,
		`{"timestamp":"` + canary + `","topic":"training_school.domain:Dog","state":{}}`,
		`{"topic":"training_school.domain:Dog","state":{"class_version":2}}`,
	} {
		stored := persistence.StoredEvent{OriginatorID: sampleID, OriginatorVersion: 1, Topic: "eventsourcing.domain:Snapshot", State: []byte(state)}
		_, err := m.SnapshotToDomain(stored)
		wantMappingError(t, err, "decode", stored, 0)
	}
	stored := persistence.StoredEvent{OriginatorID: sampleID, OriginatorVersion: 1, Topic: "training_school.domain:Dog.Registered",
		State: []byte(`{"timestamp":1,"name":"` + canary + `"}`)}
	_, err := m.ToDomain(stored)
	wantMappingError(t, err, "decode", stored, 0)
	if !errors.Is(err, persistence.ErrData) {
		t.Errorf("got %v, want an ErrData", err)
	}
}

// A class that was renamed in Python has several paths. The first is written,
// and events and snapshots under the others are read.
func TestPythonRenamedClass(t *testing.T) {
	t.Parallel()
	renamed := domain.Define("Dog", domain.FormerName[Dog]("kennels.domain:Hound", "training_school.domain:Dog"),
		domain.On("Registered", Registered{}), domain.On("TrickAdded", TrickAdded{}))
	m := newMapper(t, mapper.Config{Application: school, PythonLayout: true}, renamed)
	event := renamed.NewEvent(sampleID, 1, Registered{"Fido"}, domain.At(sampleTime))
	stored := toStored(t, m, event)
	if stored.Topic != "kennels.domain:Hound.Registered" || !strings.Contains(string(stored.State), `"originator_topic":"kennels.domain:Hound"`) {
		t.Errorf("got %s %s, want the first of the paths", stored.Topic, stored.State)
	}
	for _, topic := range []string{"kennels.domain:Hound", "training_school.domain:Dog", "Dog"} {
		stored.Topic = topic + ".Registered"
		stored.State = []byte(sampleStamp + `,"originator_topic":"` + topic + `","name":"Fido"}`)
		if got, err := m.ToDomain(stored); err != nil || got.Data != event.Data {
			t.Errorf("%s: got %+v, error %v, want no error and Data %v", topic, got, err, event.Data)
		}
		snapshot, err := m.SnapshotToDomain(persistence.StoredEvent{OriginatorID: sampleID, OriginatorVersion: 1, Topic: "eventsourcing.domain:Snapshot",
			State: []byte(sampleStamp + `,"topic":"` + topic + `","state":{"_created_on":null,"_modified_on":null,"name":"Fido","tricks":[]}}`)})
		if state, ok := snapshot.Data.(eventtype.SnapshotState[Dog]); err != nil || !ok || state.State.Name != "Fido" {
			t.Errorf("snapshot of %s: got %+v, error %v, want no error and Name %q", topic, snapshot, err, "Fido")
		}
	}
}

// gzipCompressor is what a program gives for COMPRESSOR_TOPIC=gzip of Python.
type gzipCompressor struct{}

func (gzipCompressor) Compress(dst, state []byte) ([]byte, error) {
	b := bytes.NewBuffer(dst)
	w := gzip.NewWriter(b)
	_, err := w.Write(state)
	err = errors.Join(err, w.Close())
	return b.Bytes(), err
}

func (gzipCompressor) Decompress(dst, compressed []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return nil, err
	}
	b := bytes.NewBuffer(dst)
	_, err = io.Copy(b, r)
	return b.Bytes(), err
}

// States that Python has compressed with its module gzip are read with a
// compressor of the program, and Python reads what it writes.
func TestPythonGzip(t *testing.T) {
	t.Parallel()
	m := newMapper(t, mapper.Config{Application: school, PythonLayout: true, Compressor: gzipCompressor{}}, pythonDogs)
	state := sampleStamp + `,"originator_topic":"training_school.domain:Dog","name":"Fido"}`
	const program = "import sys, gzip, base64\nsys.stdout.write(base64.b64encode(gzip.compress(sys.stdin.buffer.read())).decode())"
	compressed, err := base64.StdEncoding.DecodeString(pythontest.Eval(t, program, state))
	if err != nil {
		t.Fatal(err)
	}
	event, err := m.ToDomain(persistence.StoredEvent{OriginatorID: sampleID, OriginatorVersion: 1, Topic: "training_school.domain:Dog.Registered", State: compressed})
	if err != nil || event.Data != (Registered{"Fido"}) {
		t.Fatalf("got %+v, error %v, want no error and Data %v", event, err, (Registered{"Fido"}))
	}
	again := base64.StdEncoding.EncodeToString(toStored(t, m, event).State)
	const reader = "import sys, gzip, base64\nsys.stdout.write(gzip.decompress(base64.b64decode(sys.stdin.read())).decode())"
	if got := pythontest.Eval(t, reader, again); got != state {
		t.Errorf("Python reads %s, want %s", got, state)
	}
}
