// Package capabilitytest says which store of this repository has which
// capabilities. The conformance suite cannot: its rows about a capability pass
// if a store lacks it.
package capabilitytest

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// The stores, with those whose recorders are of the Python layout apart.
const (
	Memory           = "memory"
	Gormstore        = "gormstore"
	GormstorePython  = "gormstore in the Python layout"
	Natsstore        = "natsstore"
	snapshotRecorder = "SnapshotRecorder" // is not a field of a struct
)

// stores are the stores that have a capability.
var stores = map[string][]string{
	// of a recorder of events
	"HistoryReader":       {Gormstore, GormstorePython},
	"LogHoldReader":       {Gormstore, GormstorePython},
	"LogLocker":           {Memory, Gormstore, GormstorePython},
	"NotificationTracker": {GormstorePython},
	"OrderReporter":       {Gormstore, GormstorePython},
	"OriginatorDeleter":   {Memory, Gormstore, GormstorePython},
	"ParkingRecorder":     {Gormstore, GormstorePython, Natsstore},
	"PartitionRecorder":   {Memory, Gormstore, GormstorePython},
	"RevisionRecorder":    {Memory, Gormstore, GormstorePython},
	"SettingsRecorder":    {Memory, Gormstore, GormstorePython, Natsstore},
	"TrackingRows":        {Gormstore, GormstorePython},
	// of a recorder of snapshots
	snapshotRecorder: {Memory, Gormstore, GormstorePython, Natsstore},
	// of the store
	"ErrorClassifier": {Gormstore, GormstorePython},
	"Listener":        {Gormstore, GormstorePython, Natsstore},
	"PositionDeleter": {Memory, Gormstore, GormstorePython, Natsstore},
	"PythonFactory":   {Gormstore, GormstorePython},
	"StatusRecorder":  {Gormstore, GormstorePython, Natsstore},
	"Volatile":        {Memory},
	"WriterYielder":   {Memory, Gormstore, GormstorePython},
}

// Check fails the test unless a store has the capabilities that the table says.
// events is its recorder of events.
func Check(t testing.TB, name string, store persistence.Factory, events persistence.ProcessRecorder) {
	t.Helper()
	snapshots, err := store.SnapshotRecorder("A")
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems(name, capabilities(store, events, snapshots)) {
		t.Error(problem)
	}
}

// capabilities returns for each capability whether a store has it.
func capabilities(store persistence.Factory, events persistence.ProcessRecorder, snapshots persistence.AggregateRecorder) map[string]bool {
	has := map[string]bool{}
	for _, of := range []any{capability.OfRecorder(events), capability.Of(store)} {
		for field, value := range reflect.ValueOf(of).Fields() {
			has[field.Type.Name()] = !value.IsZero()
		}
	}
	_, has[snapshotRecorder] = snapshots.(capability.SnapshotRecorder)
	return has
}

// problems says how the capabilities of a store differ from the table.
func problems(name string, has map[string]bool) (problems []string) {
	for _, of := range slices.Sorted(maps.Keys(has)) {
		names, isListed := stores[of]
		switch want := slices.Contains(names, name); {
		case !isListed:
			problems = append(problems, "the table of capabilities lacks "+of)
		case want && !has[of]:
			problems = append(problems, name+" lacks "+of)
		case !want && has[of]:
			problems = append(problems, name+" has "+of+", which the table does not say")
		}
	}
	for _, of := range slices.Sorted(maps.Keys(stores)) {
		if _, exists := has[of]; !exists {
			problems = append(problems, "the table of capabilities has "+of+", which does not exist")
		}
	}
	return problems
}
