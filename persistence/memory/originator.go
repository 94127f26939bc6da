package memory

import (
	"context"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// DeleteOriginator implements capability.OriginatorDeleter. Nothing is parked
// in memory.
func (r *processRecorder) DeleteOriginator(
	ctx context.Context, id uuid.UUID,
) (deleted persistence.DeletedOriginator, err error) {
	err = r.store.write(ctx, r.application, "delete an originator", func(d *data) error {
		events, snapshots := d.eventsOf(r.application), d.snapshotsOf(r.application)
		deleted.Events, deleted.Snapshots = events.delete(id), snapshots.delete(id)
		keep(d.events, r.application, events)
		keep(d.snapshots, r.application, snapshots)
		d.deletions[r.application] = d.deletionsOf(r.application) + 1
		var head int64
		if n := len(events.log); n > 0 {
			head = events.log[n-1].ID
		}
		for key, current := range d.positionsIn(r.application) {
			if current > head {
				d.positions[key] = head
			}
		}
		for key, set := range d.divisionsIn(r.application) {
			lowered := ownSet(set)
			for i := range lowered.Partitions {
				p := &lowered.Partitions[i]
				p.Position = min(p.Position, head)
			}
			d.divisions[key] = &lowered
		}
		return nil
	})
	return deleted, err
}

// delete deletes the rows of an originator. Readers may have the old runs.
func (t *table) delete(id uuid.UUID) int64 {
	n := len(t.stream(id))
	t.streams[id] = nil // also if the base has some
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
