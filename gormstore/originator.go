package gormstore

import (
	"context"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// DeleteOriginator implements capability.OriginatorDeleter. It locks the
// positions of the followers before the log, as a follower that processes does:
// one that is at a batch finishes it first, and what it parks is deleted too.
// One that has read a page, and not yet locked its position, finds another
// revision of its settings, and reads again.
func (r *processRecorder) DeleteOriginator(ctx context.Context, id uuid.UUID) (persistence.DeletedOriginator, error) {
	var deleted persistence.DeletedOriginator
	_, err := r.write(ctx, "delete an originator", nil, func(ctx context.Context, c connection, joined bool) (_ []int64, err error) {
		deleted, err = r.deleteOriginator(ctx, c, joined, id)
		return nil, err
	})
	if err != nil {
		return persistence.DeletedOriginator{}, err
	}
	return deleted, nil
}

func (r *processRecorder) deleteOriginator(
	ctx context.Context, c connection, joined bool, id uuid.UUID,
) (deleted persistence.DeletedOriginator, err error) {
	if err := r.store.boundWaits(ctx, c, joined); err != nil {
		return deleted, err
	}
	followers, err := r.followers(ctx, c, joined)
	if err != nil {
		return deleted, err
	}
	states := make([]lockedState, len(followers))
	for i, f := range followers {
		if states[i], err = f.lockForDeletion(ctx, c, joined, r.application); err != nil {
			return deleted, err
		}
	}
	if err := r.exclude(ctx, c, joined); err != nil {
		return deleted, err
	}
	remove := func(from table, application string) (int64, error) {
		query := "DELETE FROM " + from.quoted + " WHERE " + application + " = ? AND originator_id = ?"
		return c.exec(ctx, r.store.dialect.placeholders(query), r.application, r.store.dialect.uuid(id))
	}
	if deleted.Snapshots, err = remove(r.store.tables.snapshots, "application_name"); err != nil {
		return deleted, err
	}
	if deleted.Events, err = remove(r.table, "application_name"); err != nil {
		return deleted, err
	}
	parks, err := hasTable(r.store.session(ctx, c.pool), &parkedEvent{}) // Django does not have it
	if err != nil {
		return deleted, err
	}
	if parks {
		if deleted.Parked, err = remove(r.store.tables.parked, "upstream_application_name"); err != nil {
			return deleted, err
		}
	}
	return deleted, r.moveBack(ctx, c, followers, states)
}

// followers are the recorders of all applications with a position in the log,
// or with settings, in the order of their names, in which they are locked.
func (r *processRecorder) followers(
	ctx context.Context, c connection, joined bool,
) (followers []*processRecorder, err error) {
	kept, err := r.store.keepsSettings(ctx, c, joined)
	if err != nil {
		return nil, err
	}
	const where = " WHERE upstream_application_name = ?"
	query := "SELECT DISTINCT application_name FROM " + r.tracking.quoted + where
	arguments := []any{r.application}
	if kept { // a follower that has processed nothing has no position yet
		query += " UNION SELECT application_name FROM " + r.store.tables.settings.quoted + where
		arguments = append(arguments, r.application)
	}
	query += " ORDER BY application_name"
	rows, err := c.query(ctx, r.store.dialect.placeholders(query), arguments...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		followers = append(followers, newProcessRecorder(r.store, name))
	}
	return followers, rows.Err()
}

// lockForDeletion locks the position of a follower, and makes pages of the log
// that were read before out of date.
func (r *processRecorder) lockForDeletion(
	ctx context.Context, c connection, joined bool, upstream string,
) (state lockedState, err error) {
	how := locking{timeout: r.store.lockTimeout, joined: joined}
	if err := r.takePositionLock(ctx, c, how, upstream); err != nil {
		return state, err
	}
	current, settings, revision, err := r.settings(ctx, c, joined, upstream)
	if err != nil || settings == nil {
		return lockedState{position: current.Int64}, err
	}
	state = lockedState{current.Int64, settings.Partitions > 0}
	return state, r.revise(ctx, c, upstream, revision)
}

// lockedState is what a deletion has found of a follower.
type lockedState struct {
	position int64 // the lowest if it is divided
	divided  bool
}

// moveBack moves positions that are ahead of the log now to its end: they would
// be taken for those of a log that was restored from a backup. No event is
// processed again, because there is none between the two.
func (r *processRecorder) moveBack(
	ctx context.Context, c connection, followers []*processRecorder, states []lockedState,
) error {
	var head int64
	query := "SELECT COALESCE(MAX(id), 0) FROM " + r.table.quoted + " WHERE application_name = ?"
	if err := c.row(ctx, r.store.dialect.placeholders(query), r.application).Scan(&head); err != nil {
		return err
	}
	for i, f := range followers {
		if states[i].divided {
			if err := f.lowerPartitions(ctx, c, r.application, head); err != nil {
				return err
			}
			continue
		}
		if states[i].position <= head {
			continue
		}
		query := "DELETE FROM " + r.tracking.quoted +
			" WHERE application_name = ? AND upstream_application_name = ? AND notification_id >= ?"
		_, err := c.exec(ctx, r.store.dialect.placeholders(query), f.application, r.application, head)
		if err == nil && head > 0 {
			err = f.move(ctx, c, true, nil, persistence.Tracking{ApplicationName: r.application, NotificationID: head}, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
