package persistence

import (
	"context"
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
