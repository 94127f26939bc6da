package polling_test

import (
	"testing"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const schoolName = "TrainingSchool"

var sampleID = uuid.MustParse("b2723fe2-c01a-40d2-875e-a3aac6a09ff5")

// newRecorder makes a recorder of dogs in memory, and one of their snapshots.
func newRecorder() (persistence.ProcessRecorder, persistence.AggregateRecorder) {
	store := memory.New()
	return expect.Must(store.ProcessRecorder(schoolName)), expect.Must(store.SnapshotRecorder(schoolName))
}
