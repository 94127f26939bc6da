package polling_test

import (
	"testing"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const school = "TrainingSchool"

var sampleID = uuid.MustParse("b2723fe2-c01a-40d2-875e-a3aac6a09ff5")

func dogID(name string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceURL, []byte("/dogs/"+name)) }

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
