package capabilitytest

import (
	"maps"
	"slices"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/internal/doctored"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

func TestCheckFindsWhatAStoreLacksOrHas(t *testing.T) {
	found := func(store persistence.Factory) map[string]bool {
		return capabilities(store, expect.Must(store.ProcessRecorder("A")), expect.Must(store.SnapshotRecorder("A")))
	}
	store, bare := found(memory.New()), found(doctored.NewBareStore())
	changed := maps.Clone(store)
	delete(changed, "Listener")
	changed["Clock"] = true
	for name, test := range map[string]struct {
		store string
		has   map[string]bool
		want  []string
	}{
		"as the table says": {Memory, store, nil},
		"nothing at all": {Memory, bare, []string{"memory lacks LogLocker", "memory lacks OriginatorDeleter",
			"memory lacks PartitionRecorder", "memory lacks PositionDeleter", "memory lacks RevisionRecorder",
			"memory lacks SettingsRecorder", "memory lacks SnapshotRecorder", "memory lacks Volatile", "memory lacks WriterYielder"}},
		"more than the table says": {"another store", store, []string{"another store has LogLocker, which the table does not say",
			"another store has OriginatorDeleter, which the table does not say", "another store has PartitionRecorder, which the table does not say",
			"another store has PositionDeleter, which the table does not say", "another store has RevisionRecorder, which the table does not say",
			"another store has SettingsRecorder, which the table does not say", "another store has SnapshotRecorder, which the table does not say",
			"another store has Volatile, which the table does not say", "another store has WriterYielder, which the table does not say"}},
		"another list of capabilities": {Memory, changed, []string{"the table of capabilities lacks Clock",
			"the table of capabilities has Listener, which does not exist"}},
	} {
		if got := problems(test.store, test.has); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}
