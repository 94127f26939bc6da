package gormstore

import (
	"context"
	"database/sql"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// pythonRecorder is the recorder of an application that the Python library runs
// on the same database.
type pythonRecorder struct{ *processRecorder }

// PythonProcessRecorder implements capability.PythonFactory. On PostgreSQL
// saves of all applications of the table exclude each other, as with
// WithTableOrder.
func (s storeCapabilities) PythonProcessRecorder(application string) (persistence.ProcessRecorder, error) {
	if err := s.check(application); err != nil {
		return nil, err
	}
	r := newOrderedRecorder(s.Store, application, tableOrder)
	r.python = true
	return pythonRecorder{r}, nil
}

// TrackNotifications is MovePosition, and records all notifications of the log
// between the two positions, of which a second record fails. A log in another
// database is not searched for them, so ids has those that were processed.
func (r pythonRecorder) TrackNotifications(
	ctx context.Context, from int64, to persistence.Tracking, ids []int64,
) error {
	return r.movePosition(ctx, from, to, ids)
}

// LockLog implements capability.LogLocker. The Python library knows no order
// lock: it locks the table, so the table is locked as well.
func (r pythonRecorder) LockLog(ctx context.Context) error {
	return r.store.requireTx(ctx, r.application+": lock the log", func(c connection) error {
		return r.excludeFrom(ctx, c, true, "EXCLUSIVE")
	})
}

// HighestTracking returns the highest rows of a position, at most two, the
// highest first. A program that keeps positions as this module does moves one
// row; the Python library adds one for each notification.
func (r *processRecorder) HighestTracking(ctx context.Context, upstream string) (ids []int64, err error) {
	op := r.application + ": read a position"
	c, done, err := r.store.reader(ctx, op)
	if err != nil {
		return nil, err
	}
	defer done()
	query := "SELECT notification_id FROM " + r.tracking.quoted +
		" WHERE application_name = ? AND upstream_application_name = ? ORDER BY notification_id DESC LIMIT 2"
	rows, err := c.query(ctx, r.store.dialect.placeholders(query), r.application, upstream)
	if err != nil {
		return nil, r.store.translate(ctx, op, err)
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, r.store.translate(ctx, op, err)
		}
		if id != dividedPosition {
			ids = append(ids, id)
		}
	}
	return ids, r.store.translate(ctx, op, rows.Err())
}

// writeRows moves a position as the Python library does, with a row for each
// notification. That library does not lock the position, and looks at it only
// before it reads the log: what keeps it from processing a notification twice
// is the unique key of these rows. So every notification after the position has
// its row, whichever topics are processed here.
//
// A log in another database has no rows to select from; ids then has those that
// were processed.
func (r *processRecorder) writeRows(
	ctx context.Context, c connection, from int64, to persistence.Tracking, ids []int64,
) error {
	numbers, argument := r.store.dialect.numbers(append([]int64{to.NotificationID}, ids...))
	query := "INSERT INTO " + r.tracking.quoted + " (application_name, upstream_application_name, notification_id)" +
		" SELECT CAST(? AS varchar), CAST(? AS varchar), n.id FROM (SELECT id FROM " + r.table.quoted +
		" WHERE application_name = ? AND id > ? AND id <= ? UNION " + numbers + ") AS n ORDER BY n.id"
	_, err := c.exec(ctx, r.store.dialect.placeholders(query), r.application, to.ApplicationName,
		to.ApplicationName, from, to.NotificationID, argument)
	if err != nil && r.store.infoOf(err).unique {
		return r.notMoved(sql.NullInt64{Int64: to.NotificationID, Valid: true}, to)
	}
	return err
}
