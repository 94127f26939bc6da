package gormstore

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// snapshotRecorder is the recorder of one application's snapshots.
type snapshotRecorder struct {
	*eventTable
}

// InsertEvents implements persistence.AggregateRecorder. The order of snapshots
// does not matter, so they take no lock and have no ids.
func (r *snapshotRecorder) InsertEvents(ctx context.Context, events []persistence.StoredEvent) ([]int64, error) {
	if len(events) == 0 {
		return nil, ctx.Err()
	}
	_, err := r.write(ctx, "save snapshots", events, func(ctx context.Context, c connection, joined bool) ([]int64, error) {
		if err := r.store.boundWaits(ctx, c, joined); err != nil {
			return nil, err
		}
		return r.insert(ctx, c, events)
	})
	return nil, err
}

// InsertSnapshot implements capability.SnapshotRecorder.
func (r *snapshotRecorder) InsertSnapshot(ctx context.Context, snapshot persistence.StoredEvent, keep int) error {
	if keep <= 0 {
		_, err := r.InsertEvents(ctx, []persistence.StoredEvent{snapshot})
		return err
	}
	events := []persistence.StoredEvent{snapshot}
	_, err := r.write(ctx, "save a snapshot", events, func(ctx context.Context, c connection, joined bool) ([]int64, error) {
		if err := r.store.boundWaits(ctx, c, joined); err != nil {
			return nil, err
		}
		return nil, r.store.dialect.insertSnapshot(ctx, c, r.eventTable, snapshot, keep)
	})
	return err
}

// ReplaceSnapshot implements capability.SnapshotRecorder.
func (r *snapshotRecorder) ReplaceSnapshot(
	ctx context.Context, old, snapshot persistence.StoredEvent,
) (replaced bool, err error) {
	if err := capability.ValidateReplacement(old, snapshot); err != nil {
		return false, err
	}
	query := r.store.dialect.placeholders("UPDATE " + r.table.quoted + " SET topic = ?, state = ? WHERE application_name = ?" +
		" AND originator_id = ? AND originator_version = ? AND topic = ? AND " + r.store.dialect.isState())
	state := append([]byte{}, old.State...) // nil would be NULL
	events := []persistence.StoredEvent{snapshot}
	_, err = r.write(ctx, "replace a snapshot", events, func(ctx context.Context, c connection, joined bool) ([]int64, error) {
		if err := r.store.boundWaits(ctx, c, joined); err != nil {
			return nil, err
		}
		affected, err := c.exec(ctx, query, snapshot.Topic, snapshot.State, r.application,
			r.store.dialect.uuid(old.OriginatorID), old.OriginatorVersion, old.Topic, state)
		replaced = affected == 1
		return nil, err
	})
	return replaced && err == nil, err
}

// NewestSnapshots returns the snapshots that were stored last, of all
// originators of the application.
func (r *snapshotRecorder) NewestSnapshots(ctx context.Context, limit int) (newest []persistence.StoredEvent, err error) {
	op := r.application + ": select the newest snapshots"
	c, done, err := r.store.reader(ctx, op)
	if err != nil {
		return nil, err
	}
	defer done()
	query := r.store.dialect.placeholders("SELECT originator_id, originator_version, topic, state FROM " + r.table.quoted +
		" WHERE application_name = ? ORDER BY uid DESC LIMIT ?")
	rows, err := c.query(ctx, query, r.application, limit)
	if err != nil {
		return nil, r.store.translate(ctx, op, err)
	}
	defer rows.Close()
	for rows.Next() {
		var s persistence.StoredEvent
		var id UUID
		if err := rows.Scan(&id, &s.OriginatorVersion, &s.Topic, &s.State); err != nil {
			return nil, r.store.translate(ctx, op, err)
		}
		s.OriginatorID = uuid.UUID(id)
		newest = append(newest, s)
	}
	return newest, r.store.translate(ctx, op, rows.Err())
}

// insertSnapshot is one statement. It skips old rows that another process is
// about to delete as well, so that two processes never wait for each other
// here.
func (p postgres) insertSnapshot(
	ctx context.Context, c connection, t *eventTable, snapshot persistence.StoredEvent, keep int,
) error {
	query := "WITH old AS (DELETE FROM " + t.table.quoted + " WHERE uid IN (SELECT uid FROM " + t.table.quoted +
		" WHERE application_name = $1::varchar AND originator_id = $2::uuid AND originator_version < $3::bigint" +
		" ORDER BY originator_version DESC OFFSET $6::bigint FOR UPDATE SKIP LOCKED))" +
		" INSERT INTO " + t.table.quoted + " (application_name, originator_id, originator_version, topic, state)" +
		" VALUES ($1::varchar, $2::uuid, $3::bigint, $4::text, $5::bytea) RETURNING uid"
	rows, err := c.query(ctx, query, t.application, p.uuid(snapshot.OriginatorID), snapshot.OriginatorVersion,
		snapshot.Topic, snapshot.State, int64(keep-1))
	return checkStored(rows, err)
}

func (postgres) isState() string { return "state = ?::bytea" }

// insertSnapshot is two statements, as SQLite has none that does both.
func (s sqlite) insertSnapshot(
	ctx context.Context, c connection, t *eventTable, snapshot persistence.StoredEvent, keep int,
) error {
	if _, err := t.insert(ctx, c, []persistence.StoredEvent{snapshot}); err != nil {
		return err
	}
	query := "DELETE FROM " + t.table.quoted + " WHERE uid IN (SELECT uid FROM " + t.table.quoted +
		" WHERE application_name = ? AND originator_id = ? AND originator_version <= ?" +
		" ORDER BY originator_version DESC LIMIT -1 OFFSET ?)"
	_, err := c.exec(ctx, query, t.application, s.uuid(snapshot.OriginatorID), snapshot.OriginatorVersion, keep)
	return err
}

// isState also finds a state that was changed by hand and is text now.
func (sqlite) isState() string { return "CAST(state AS BLOB) = ?" }

// checkStored checks that a statement has stored its one row.
func checkStored(rows *sql.Rows, err error) error {
	if err != nil {
		return err
	}
	ids, err := scanIDs(rows, nil)
	if err == nil && len(ids) != 1 {
		err = fmt.Errorf("%d of 1 rows were stored", len(ids))
	}
	return err
}
