package gormstore

import (
	"context"
	"database/sql"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
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
		if err := r.move(ctx, c, joined, nil, tracking, nil); err != nil || len(events) == 0 {
			return nil, err
		}
		return r.append(ctx, c, joined, events)
	})
}

// MovePosition implements persistence.TrackingRecorder.
func (r *processRecorder) MovePosition(ctx context.Context, from int64, to persistence.Tracking) error {
	return r.movePosition(ctx, from, to, nil)
}

func (r *processRecorder) movePosition(ctx context.Context, from int64, to persistence.Tracking, ids []int64) error {
	if err := persistence.ValidateTracking(to); err != nil {
		return err
	}
	outer, err := r.store.txScopeOf(ctx)
	if err != nil {
		return err
	}
	if outer != nil && from > 0 && from < to.NotificationID && !r.python {
		if _, locked := outer.positions.Load(r.positionOf(to.ApplicationName)); locked {
			return r.moveLocked(ctx, outer, from, to)
		}
	}
	_, err = r.write(ctx, "move a position", nil, func(ctx context.Context, c connection, joined bool) ([]int64, error) {
		return nil, r.move(ctx, c, joined, &from, to, ids)
	})
	return err
}

// moveLocked moves a position that the transaction has locked. Only a program
// that does not take the lock can have moved it since, and then it is not
// written. After any other error the transaction cannot go on.
func (r *processRecorder) moveLocked(ctx context.Context, outer *txScope, from int64, to persistence.Tracking) error {
	op := r.application + ": move a position"
	if err := r.begin(ctx, "move a position", nil); err != nil {
		return err
	}
	done, err := r.store.turnToWrite(ctx, outer)
	if err != nil {
		return err
	}
	defer done()
	c, watched := r.store.dialect.watchJoined(r.store, outer, op)
	defer watched()
	set, condition, arguments := r.update(from, to)
	changed, err := r.store.dialect.updateBriefly(ctx, c, waitOf(ctx, r.store.lockTimeout), set, condition, arguments...)
	switch {
	case err != nil && r.store.infoOf(err).unique:
		return r.notMoved(sql.NullInt64{Int64: to.NotificationID, Valid: true}, to)
	case err != nil: // the transaction cannot be asked who has the lock
		return r.store.translate(ctx, op, r.withHolder(ctx, connection{r.store.pool, r.store}, op, err))
	case changed == 1:
		return nil
	}
	current, err := r.position(ctx, c, to.ApplicationName)
	if err != nil {
		return r.store.translate(ctx, op, err)
	}
	return r.notMoved(current, to)
}

// move moves a position forward, from the value that the caller has read unless
// from is nil. The unique key of the table cannot keep two processes from
// moving the same position, because the position itself is part of the key; so
// a lock comes first, then the position is read, then written, and written only
// if it still is what was read. A recorder for the Python library writes a row
// for each notification instead, with those that are given.
func (r *processRecorder) move(
	ctx context.Context, c connection, joined bool, from *int64, to persistence.Tracking, ids []int64,
) error {
	current, err := r.lockPosition(ctx, c, joined, to.ApplicationName)
	if err != nil {
		return err
	}
	if isDivided(current) || current.Valid && current.Int64 >= to.NotificationID || from != nil && current.Int64 != *from {
		return r.notMoved(current, to)
	}
	if r.python {
		return r.writeRows(ctx, c, current.Int64, to, ids)
	}
	switch written, err := r.writePosition(ctx, c, current, to); {
	case err != nil && r.store.infoOf(err).unique:
		return r.notMoved(sql.NullInt64{Int64: to.NotificationID, Valid: true}, to)
	case err != nil || written:
		return err
	}
	if current, err = r.position(ctx, c, to.ApplicationName); err != nil {
		return err
	}
	return r.notMoved(current, to)
}

// lockedPosition names a position in one table.
type lockedPosition struct{ table, application, upstream string }

func (r *processRecorder) positionOf(upstream string) lockedPosition {
	return lockedPosition{r.tracking.quoted, r.application, upstream}
}

func (r *processRecorder) notMoved(current sql.NullInt64, to persistence.Tracking) error {
	return capability.PositionMoved(r.application, to, current.Int64)
}

// LockPosition implements persistence.TrackingRecorder.
func (r *processRecorder) LockPosition(ctx context.Context, upstream string) (int64, error) {
	op := r.application + ": lock a position"
	outer, err := r.store.txScopeOf(ctx)
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
	if err == nil && isDivided(current) {
		current.Int64, _, err = r.lowest(ctx, c, upstream)
	}
	return current.Int64, r.store.translate(ctx, op, err)
}

// LockLog implements capability.LogLocker. In SQLite a transaction has kept
// other writers out since it began.
func (r *processRecorder) LockLog(ctx context.Context) error {
	return r.store.requireTx(ctx, r.application+": lock the log", func(c connection) error {
		return r.exclude(ctx, c, true)
	})
}

func (r *processRecorder) lockPosition(ctx context.Context, c connection, joined bool, upstream string) (sql.NullInt64, error) {
	how := locking{timeout: r.store.lockTimeout, joined: joined}
	if err := r.takePositionLock(ctx, c, how, upstream); err != nil {
		return sql.NullInt64{}, err
	}
	return r.position(ctx, c, upstream)
}

// takePositionLock takes the lock of a position. That another process has it is
// no error of the database: a follower stands by then.
func (r *processRecorder) takePositionLock(ctx context.Context, c connection, how locking, upstream string) error {
	ctx = expectingLock(ctx)
	err := r.positions.whereItIs(ctx, c, func(at location) (there bool, err error) {
		key := lockKey("position", at.schema, r.tracking.name, r.application, upstream)
		return r.store.dialect.lockIn(ctx, c, how, r.tracking, at, key)
	})
	if outer, _ := r.store.txScopeOf(ctx); err == nil && outer != nil && !how.shared {
		outer.positions.Store(r.positionOf(upstream), true)
	}
	if err != nil && r.store.infoOf(err).class == persistence.ErrLockTimeout {
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
		set, condition, updated := r.update(current.Int64, to)
		query, arguments = set+" WHERE "+condition, updated
	}
	affected, err := c.exec(ctx, r.store.dialect.placeholders(query), arguments...)
	return affected == 1, err
}

// update is the UPDATE of a position, before its condition, and its condition:
// the position is the one that was read, and no higher one is there.
func (r *processRecorder) update(from int64, to persistence.Tracking) (set, condition string, arguments []any) {
	t := r.tracking.quoted
	set = "UPDATE " + t + " SET notification_id = ?"
	condition = "application_name = ? AND upstream_application_name = ? AND notification_id = ?" +
		" AND NOT EXISTS (SELECT 1 FROM " + t + " AS higher" +
		" WHERE higher.application_name = ? AND higher.upstream_application_name = ? AND higher.notification_id > ?)"
	return set, condition, []any{to.NotificationID, r.application, to.ApplicationName, from, r.application, to.ApplicationName, from}
}

// MaxTrackingID implements persistence.TrackingRecorder.
func (r *processRecorder) MaxTrackingID(ctx context.Context, upstream string) (int64, error) {
	position, err := r.maximum(ctx, "read a position", "SELECT COALESCE(MAX(notification_id), 0) FROM "+r.tracking.quoted+
		" WHERE application_name = ? AND upstream_application_name = ?", r.application, upstream)
	if err != nil || position != dividedPosition {
		return position, err
	}
	op := r.application + ": read a position"
	c, done, err := r.store.reader(ctx, op)
	if err != nil {
		return 0, err
	}
	defer done()
	position, _, err = r.lowest(ctx, c, upstream)
	return position, r.store.translate(ctx, op, err)
}
