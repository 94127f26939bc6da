package checker_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/jsontranscoder"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/persistence/python"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const school = "TrainingSchool"

// canary is in values that must not come up in an error.
const canary = "canary-in-the-payload"

var (
	sampleID   = uuid.MustParse("b2723fe2-c01a-40d2-875e-a3aac6a09ff5")
	sampleTime = time.Date(2024, 1, 2, 3, 4, 5, 678901000, time.UTC)
)

// Dog is the aggregate whose events are stored.
type Dog struct {
	domain.Aggregate
	Name   string   `json:"name"`
	Tricks []string `json:"tricks"`
}

// Registered is the first event of a dog.
type Registered struct {
	Name string `json:"name"`
}

func (e Registered) Apply(d *Dog) { d.Name = e.Name }

// TrickAdded says that a dog has learned something.
type TrickAdded struct {
	Trick string `json:"trick"`
}

func (e TrickAdded) Apply(d *Dog) { d.Tricks = append(d.Tricks, e.Trick) }

var Dogs = domain.Define("Dog",
	domain.On("Registered", Registered{}),
	domain.On("TrickAdded", TrickAdded{}),
)

func DogID(name string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceURL, []byte("/dogs/"+name)) }

func RegisterDog(name string) *Dog { return Dogs.Create(DogID(name), Registered{Name: name}) }

func (d *Dog) AddTrick(trick string) { domain.Trigger(d, TrickAdded{Trick: trick}) }

// newMapper makes a mapper that knows the definitions; without any it knows
// dogs.
func newMapper(tb testing.TB, config mapper.Config, schemas ...*domain.Schema) *mapper.Mapper {
	tb.Helper()
	if len(schemas) == 0 {
		schemas = append(schemas, Dogs.Schema)
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
