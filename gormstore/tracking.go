package gormstore

import (
	"context"
	"database/sql"
	"time"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// InsertTracking implements persistence.TrackingRecorder.
func (r *processRecorder) InsertTracking(ctx context.Context, tracking persistence.Tracking) error {
	_, err := r.InsertProcessed(ctx, nil, tracking)
	return err
}

// InsertProcessed implements persistence.ProcessRecorder. The position is moved
// first: locks are taken in the same order everywhere, positions before events.
func (r *processRecorder) InsertProcessed(ctx context.Context, events []persistence.StoredEvent, tracking persistence.Tracking) ([]int64, error) {
	if err := persistence.ValidateTracking(tracking); err != nil {
		return nil, err
	}
	return r.write(ctx, "save processed events", events, func(ctx context.Context, c connection, joined bool) ([]int64, error) {
		if err := r.move(ctx, c, joined, nil, tracking); err != nil || len(events) == 0 {
			return nil, err
		}
		return r.append(ctx, c, joined, events)
	})
}

// MovePosition implements persistence.PositionMover.
func (r *processRecorder) MovePosition(ctx context.Context, from int64, to persistence.Tracking) error {
	if err := persistence.ValidateTracking(to); err != nil {
		return err
	}
	_, err := r.write(ctx, "move a position", nil, func(ctx context.Context, c connection, joined bool) ([]int64, error) {
		return nil, r.move(ctx, c, joined, &from, to)
	})
	return err
}

// move moves a position forward, from the value that the caller has read unless
// from is nil. The unique key of the table cannot keep two processes from
// moving the same position, because the position itself is part of the key; so
// a lock comes first, then the position is read, then written, and written only
// if it still is what was read.
func (r *processRecorder) move(ctx context.Context, c connection, joined bool, from *int64, to persistence.Tracking) error {
	current, err := r.currentPosition(ctx, c, joined, from, to.ApplicationName)
	if err != nil {
		return err
	}
	if current.Valid && current.Int64 >= to.NotificationID || from != nil && current.Int64 != *from {
		return r.notMoved(current, to)
	}
	switch written, err := r.writePosition(ctx, c, current, to); {
	case err != nil && r.store.faultOf(err).unique:
		return r.notMoved(sql.NullInt64{Int64: to.NotificationID, Valid: true}, to)
	case err != nil || written:
		return err
	}
	if current, err = r.position(ctx, c, to.ApplicationName); err != nil {
		return err
	}
	return r.notMoved(current, to)
}

// currentPosition returns the position under its lock. If the transaction has
// locked it before, it is as the caller has read it: only a program that does
// not take the lock can have moved it, and then it is not written.
func (r *processRecorder) currentPosition(
	ctx context.Context, c connection, joined bool, from *int64, upstream string,
) (sql.NullInt64, error) {
	if outer, _ := r.store.joined(ctx); outer != nil && from != nil && *from > 0 {
		if _, locked := outer.positions.Load(r.positionOf(upstream)); locked {
			return sql.NullInt64{Int64: *from, Valid: true}, nil
		}
	}
	return r.lockPosition(ctx, c, joined, upstream)
}

// lockedPosition names a position in one table.
type lockedPosition struct{ table, application, upstream string }

func (r *processRecorder) positionOf(upstream string) lockedPosition {
	return lockedPosition{r.tracking.quoted, r.application, upstream}
}

func (r *processRecorder) notMoved(current sql.NullInt64, to persistence.Tracking) error {
	return &persistence.TrackingError{Application: r.application, Upstream: to.ApplicationName,
		NotificationID: to.NotificationID, Current: current.Int64}
}

// LockPosition implements persistence.PositionLocker.
func (r *processRecorder) LockPosition(ctx context.Context, upstream string) (int64, error) {
	op := r.application + ": lock a position"
	outer, err := r.store.joined(ctx)
	if err != nil {
		return 0, err
	}
	if outer == nil {
		return 0, &persistence.Error{Class: persistence.ErrNoTransaction, Op: op}
	}
	done, err := r.store.turnToWrite(ctx, outer)
	if err != nil {
		return 0, err
	}
	defer done()
	c, watched := r.store.dialect.watchJoined(r.store, outer, op)
	defer watched()
	current, err := r.lockPosition(ctx, c, true, upstream)
	return current.Int64, r.store.translate(ctx, op, err)
}

// LockLog implements persistence.LogLocker. In SQLite a transaction has kept
// other writers out since it began.
func (r *processRecorder) LockLog(ctx context.Context) error {
	return r.store.inside(ctx, r.application+": lock the log", func(c connection) error {
		return r.exclude(ctx, c, true)
	})
}

func (r *processRecorder) lockPosition(ctx context.Context, c connection, joined bool, upstream string) (sql.NullInt64, error) {
	if err := r.takePositionLock(ctx, c, joined, upstream, r.store.lockTimeout); err != nil {
		return sql.NullInt64{}, err
	}
	return r.position(ctx, c, upstream)
}

func (r *processRecorder) takePositionLock(
	ctx context.Context, c connection, joined bool, upstream string, wait time.Duration,
) error {
	schema, err := r.store.schemaOf(ctx, c, joined, r.tracking)
	if err != nil {
		return err
	}
	key := lockKey("position", schema, r.tracking.name, r.application, upstream)
	err = r.store.dialect.lock(ctx, c, locking{timeout: wait, joined: joined}, key)
	if outer, _ := r.store.joined(ctx); err == nil && outer != nil {
		outer.positions.Store(r.positionOf(upstream), true)
	}
	if err != nil && r.store.faultOf(err).class == persistence.ErrLockTimeout {
		return &persistence.Error{Class: persistence.ErrPositionLocked, Op: r.application + ": lock the position in " + upstream,
			Err: err, Hint: "it processes an event that takes long, or a transaction of this program has the position: " +
				"pass on the context that gormstore.Transaction gives"}
	}
	return err
}

func (r *processRecorder) position(ctx context.Context, c connection, upstream string) (current sql.NullInt64, err error) {
	query := "SELECT MAX(notification_id) FROM " + r.tracking.quoted +
		" WHERE application_name = ? AND upstream_application_name = ?"
	err = c.row(ctx, r.store.dialect.placeholders(query), r.application, upstream).Scan(&current)
	return current, err
}

// writePosition inserts the first row of a pair of applications, or updates the
// row with the highest position. Django leaves lower rows; they mean nothing.
//
// It returns false if the position is not current any more. A program that does
// not take the lock, such as Django, inserts a higher row and leaves the row of
// current as it was, so the statement looks for higher rows too. Rows that such
// a program has not committed yet cannot be seen.
func (r *processRecorder) writePosition(
	ctx context.Context, c connection, current sql.NullInt64, to persistence.Tracking,
) (written bool, err error) {
	t := r.tracking.quoted
	query := "INSERT INTO " + t + " (notification_id, application_name, upstream_application_name)" +
		" SELECT CAST(? AS bigint), CAST(? AS varchar), CAST(? AS varchar)" +
		" WHERE NOT EXISTS (SELECT 1 FROM " + t + " WHERE application_name = ? AND upstream_application_name = ?)"
	arguments := []any{to.NotificationID, r.application, to.ApplicationName, r.application, to.ApplicationName}
	if current.Valid {
		query = "UPDATE " + t + " SET notification_id = ?" +
			" WHERE application_name = ? AND upstream_application_name = ? AND notification_id = ?" +
			" AND NOT EXISTS (SELECT 1 FROM " + t + " AS higher" +
			" WHERE higher.application_name = ? AND higher.upstream_application_name = ? AND higher.notification_id > ?)"
		arguments = []any{to.NotificationID, r.application, to.ApplicationName, current.Int64,
			r.application, to.ApplicationName, current.Int64}
	}
	affected, err := c.exec(ctx, r.store.dialect.placeholders(query), arguments...)
	return affected == 1, err
}

// MaxTrackingID implements persistence.TrackingRecorder.
func (r *processRecorder) MaxTrackingID(ctx context.Context, upstream string) (int64, error) {
	return r.maximum(ctx, "read a position", "SELECT COALESCE(MAX(notification_id), 0) FROM "+r.tracking.quoted+
		" WHERE application_name = ? AND upstream_application_name = ?", r.application, upstream)
}
