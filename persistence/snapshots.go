package persistence

import (
	"context"
	"fmt"
	"strings"

	"github.com/eventsourcing-go/eventsourcing/domain"
)

// SnapshotRecorder is a recorder of snapshots that can replace one and keeps
// only the newest. Without it snapshots pile up, and one that the program
// cannot read stays in its place.
type SnapshotRecorder interface {
	AggregateRecorder

	// InsertSnapshot stores a snapshot as InsertEvents does, and in the same
	// transaction deletes older snapshots of its originator, so that the newest
	// keep remain of it and those before it. Newer ones are not touched. keep 0
	// deletes none.
	InsertSnapshot(ctx context.Context, snapshot StoredEvent, keep int) error

	// ReplaceSnapshot stores a snapshot in the place of another one of the same
	// originator and version. It reports false, and changes nothing, if the
	// topic or the state stored there is not that of old.
	ReplaceSnapshot(ctx context.Context, old, snapshot StoredEvent) (bool, error)
}

// SnapshotOutcome is what storing a snapshot did.
type SnapshotOutcome string

const (
	// SnapshotStored says that there was no snapshot of that version.
	SnapshotStored SnapshotOutcome = "stored"
	// SnapshotPresent says that a snapshot of that version exists which this
	// program can use.
	SnapshotPresent SnapshotOutcome = "present"
	// SnapshotReplaced says that the snapshot of that version was one which
	// this program cannot use: it is damaged, its state has another type, or
	// its aggregate has other events.
	SnapshotReplaced SnapshotOutcome = "replaced"
)

// StateTypeError says that a snapshot holds a state of another structure than
// the program's: it was made by a program whose state has other fields.
type StateTypeError struct {
	Topic string
	// Stored and Known are the fingerprints of the two structures. Stored is ""
	// for a snapshot that was made before snapshots had fingerprints, and
	// "Python layout" for one in that layout, which has none.
	Stored, Known string
	// Lost is not empty if a snapshot was not stored because earlier ones, which
	// the Python library reads, have fields that the program's state lacks.
	Lost []string
}

func (e *StateTypeError) Error() string {
	if len(e.Lost) > 0 {
		return fmt.Sprintf("snapshots of %q have the fields %s, which the program's state lacks, and the Python library would lose them; "+
			"add the fields, or delete those snapshots", e.Topic, strings.Join(e.Lost, ", "))
	}
	if e.Stored == "" {
		return fmt.Sprintf("the snapshot of %q does not say what fields its state has", e.Topic)
	}
	return fmt.Sprintf("the state in the snapshot of %q has other fields than the program's state (%s, not %s)",
		e.Topic, e.Stored, e.Known)
}

// Unwrap makes the error a domain.ErrEventSourcing.
func (e *StateTypeError) Unwrap() error { return domain.ErrEventSourcing }
