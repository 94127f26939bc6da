package checker_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/jsontranscoder"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/persistence/python"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const schoolName = "TrainingSchool"

// canary is in values that must not come up in an error.
const canary = "canary-in-the-payload"

var (
	sampleID   = uuid.MustParse("b2723fe2-c01a-40d2-875e-a3aac6a09ff5")
	sampleTime = time.Date(2024, 1, 2, 3, 4, 5, 678901000, time.UTC)
)

// newMapper makes a mapper that knows the definitions; without any it knows
// dogs.
func newMapper(tb testing.TB, config mapper.Config, schemas ...domain.Schema) *mapper.Mapper {
	tb.Helper()
	if len(schemas) == 0 {
		schemas = append(schemas, school.Dogs)
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
	dog := school.Dogs.Create(school.DogID(name), school.Registered{Name: name}, domain.At(sampleTime))
	for i, trick := range tricks {
		domain.Trigger(dog, school.TrickAdded{Trick: trick}, domain.At(sampleTime.Add(time.Duration(i+1)*time.Second)))
	}
	return dog.PendingEvents()
}

// newRecorder makes a recorder of dogs in memory, and one of their snapshots.
func newRecorder() (persistence.ProcessRecorder, persistence.AggregateRecorder) {
	store := memory.New()
	return expect.Must(store.ProcessRecorder(schoolName)), expect.Must(store.SnapshotRecorder(schoolName))
}
