package capability

import (
	"context"
	"fmt"

	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// SnapshotRecorder is a recorder of snapshots that can replace one and keeps
// only the newest. Without it snapshots pile up, and one that the program
// cannot read stays in its place.
type SnapshotRecorder interface {
	persistence.AggregateRecorder

	// InsertSnapshot stores a snapshot as InsertEvents does, and in the same
	// transaction deletes older snapshots of its originator, so that the newest
	// keep remain of it and those before it. Newer ones are not touched. keep 0
	// deletes none.
	InsertSnapshot(ctx context.Context, snapshot persistence.StoredEvent, keep int) error

	// ReplaceSnapshot stores a snapshot in the place of another one of the same
	// originator and version. It reports false, and changes nothing, if the
	// topic or the state stored there is not that of old.
	ReplaceSnapshot(ctx context.Context, old, snapshot persistence.StoredEvent) (bool, error)
}

// ValidateReplacement refuses a snapshot that cannot be stored, or that is not
// of the same originator and version as the one it is to replace, with an
// ErrData. Every SnapshotRecorder calls it first.
func ValidateReplacement(old, snapshot persistence.StoredEvent) error {
	if old.OriginatorID == snapshot.OriginatorID && old.OriginatorVersion == snapshot.OriginatorVersion {
		return persistence.ValidateEvents("", []persistence.StoredEvent{snapshot})
	}
	return &invalid.Error{
		What: fmt.Sprintf("event %.40q version %d of originator %s", snapshot.Topic, snapshot.OriginatorVersion, snapshot.OriginatorID),
		Problem: fmt.Sprintf("cannot replace the snapshot of version %d of originator %s",
			old.OriginatorVersion, old.OriginatorID),
		Class: persistence.ErrData,
	}
}
