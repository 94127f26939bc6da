package memory

import (
	"bytes"
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// snapshotRecorder keeps the snapshots of originators.
type snapshotRecorder struct {
	aggregateRecorder
}

// InsertSnapshot implements capability.SnapshotRecorder.
func (r *snapshotRecorder) InsertSnapshot(ctx context.Context, snapshot persistence.StoredEvent, keepNewest int) error {
	events := []persistence.StoredEvent{snapshot}
	if err := persistence.ValidateEvents(r.application, events); err != nil {
		return err
	}
	return r.store.write(ctx, r.application, "save a snapshot", func(d *data) error {
		t := d.snapshotsOf(r.application)
		if err := t.conflict(r.application, events); err != nil {
			return err
		}
		t.insert(events, nil)
		if keepNewest > 0 {
			t.keepNewest(snapshot.OriginatorID, snapshot.OriginatorVersion, keepNewest)
		}
		keep(d.snapshots, r.application, t)
		return nil
	})
}

// ReplaceSnapshot implements capability.SnapshotRecorder.
func (r *snapshotRecorder) ReplaceSnapshot(
	ctx context.Context, old, snapshot persistence.StoredEvent,
) (replaced bool, err error) {
	if err := capability.ValidateReplacement(old, snapshot); err != nil {
		return false, err
	}
	err = r.store.write(ctx, r.application, "replace a snapshot", func(d *data) error {
		t := d.snapshotsOf(r.application)
		replaced = t.replace(old, snapshot)
		keep(d.snapshots, r.application, t)
		return nil
	})
	return replaced, err
}

// keepNewest deletes all but the newest n rows up to a version.
func (t *table) keepNewest(id uuid.UUID, version int64, n int) {
	stream := t.stream(id)
	if at, found := stream.search(version); found && at+1 > n {
		t.streams[id] = slices.Clone(stream[at+1-n:]) // a reader may use the old one
	}
}

// replace puts a row in the place of another one, if that is as given.
func (t *table) replace(old, with persistence.StoredEvent) bool {
	stream := t.stream(old.OriginatorID)
	at, found := stream.search(old.OriginatorVersion)
	if !found || stream[at].Topic != old.Topic || !bytes.Equal(stream[at].State, old.State) {
		return false
	}
	row := &persistence.Notification{StoredEvent: with}
	row.State = bytes.Clone(with.State)
	stream = slices.Clone(stream)
	stream[at] = row
	t.streams[old.OriginatorID] = stream
	return true
}
