package memory

import (
	"context"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

var _ persistence.OriginatorDeleter = (*processRecorder)(nil)

// DeleteOriginator implements persistence.OriginatorDeleter. Nothing is parked
// in memory.
func (r *processRecorder) DeleteOriginator(
	ctx context.Context, id uuid.UUID,
) (deleted persistence.DeletedOriginator, err error) {
	err = r.store.write(ctx, r.application, "delete an originator", func() error {
		deleted.Events = r.table.delete(id)
		r.store.deletions[r.application]++
		if snapshots := r.store.snapshots[r.application]; snapshots != nil {
			deleted.Snapshots = snapshots.delete(id)
		}
		var head int64
		if n := len(r.table.log); n > 0 {
			head = r.table.log[n-1].ID
		}
		for at, current := range r.store.positions {
			if at.upstream == r.application && current > head {
				r.store.positions[at] = head
			}
		}
		return nil
	})
	return deleted, err
}

// delete deletes the rows of an originator. Readers may have the old runs.
func (t *table) delete(id uuid.UUID) int64 {
	n := len(t.streams[id])
	delete(t.streams, id)
	if n == 0 || len(t.log) == 0 {
		return int64(n)
	}
	log := make(rows, 0, len(t.log)-n)
	for _, row := range t.log {
		if row.OriginatorID != id {
			log = append(log, row)
		}
	}
	t.log = log
	return int64(n)
}
