package gormstore

import (
	"context"
	"database/sql/driver"
	"math"
	"strings"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// eventLog is the log of one application in the table of events: what a dialect
// writes to and reads from. A dialect knows nothing of the recorder around it.
type eventLog struct {
	*eventTable
	queue      *logQueue
	statements mergeStatements // of PostgreSQL
	row        string          // the statement for one event on SQLite
}

func newEventLog(s *Store, application string, order writerOrder) *eventLog {
	events := newEventTable(s, application, s.tables.events, "id")
	events.order = order
	return &eventLog{
		eventTable: events,
		statements: newMergeStatements(s.tables.events.quoted, s.notify, order),
		row:        insertRow(s.tables.events, "id"),
		queue: s.poolState.queue(queueKey{table: s.tables.events.quoted, application: application, notify: s.notify, order: order},
			s.dialect.concurrent()),
	}
}

// settled returns the id up to which the log is final for a reader, and the
// location of the log's table.
func (l *eventLog) settled(ctx context.Context, c connection, joined bool) (settled int64, found location, err error) {
	var end logEnd
	err = l.whereItIs(ctx, c, func(at location) (there bool, err error) {
		found = at
		end, there, err = l.store.dialect.end(ctx, c, l, at, joined)
		return there, err
	})
	if err != nil {
		return 0, location{}, err
	}
	known := l.store.poolState.bound(l.keyAt(found))
	if joined { // it sees its own events, which are not committed
		return max(end.bound, known.known()), found, nil
	}
	return known.found(end.bound, end.newest), found, nil
}

// readLog reads a page of the log up to its bound. A bound that is known serves
// as long as it covers what is read, because finding one costs a statement.
func (l *eventLog) readLog(ctx context.Context, c connection, joined bool, wanted persistence.NotificationRange) ([]persistence.Notification, error) {
	if !l.store.dialect.concurrent() {
		return l.readPart(ctx, c, location{}, wanted, nil)
	}
	stop := wanted.Stop
	if stop == 0 {
		stop = math.MaxInt64
	}
	var page []persistence.Notification
	if !joined {
		at, err := l.located(ctx, c)
		if err != nil {
			return nil, err
		}
		if to := min(stop, l.store.poolState.bound(l.keyAt(at)).known()); to > wanted.After {
			part := wanted
			part.Stop = to
			if page, err = l.readPart(ctx, c, at, part, nil); err != nil || len(page) == wanted.Limit {
				return page, err
			}
			found := at
			if len(page) == 0 { // because there is nothing, or the table is elsewhere
				if found, err = l.locate(ctx, c); err != nil {
					return nil, err
				}
			}
			if found == at {
				if to == stop {
					return page, nil
				}
				wanted.After = to
			}
		}
	}
	bound, at, err := l.settled(ctx, c, joined)
	if to := min(stop, bound); err == nil && to > wanted.After {
		wanted.Stop, wanted.Limit = to, wanted.Limit-len(page)
		page, err = l.readPart(ctx, c, at, wanted, page)
	}
	return page, err
}

// readPart adds events to a page with one statement.
func (l *eventLog) readPart(
	ctx context.Context, c connection, at location, wanted persistence.NotificationRange, page []persistence.Notification,
) ([]persistence.Notification, error) {
	query, arguments := l.selection(at, wanted)
	part, err := readNotifications(ctx, c, wanted.Limit, query, arguments...)
	if err != nil && strings.Contains(err.Error(), standbyText) {
		err = l.onStandby(l.application+": select notifications", err)
	}
	if len(page) == 0 {
		return part, err
	}
	return append(page, part...), err
}

// selection selects nothing if the connection finds the table elsewhere.
func (l *eventLog) selection(at location, wanted persistence.NotificationRange) (query string, arguments []any) {
	stop := int64(math.MaxInt64)
	if wanted.Stop > 0 {
		stop = wanted.Stop
	}
	query = "SELECT id, originator_id, originator_version, topic, state FROM " + l.table.quoted +
		" WHERE application_name = ? AND id > ? AND id <= ?"
	arguments = []any{l.application, wanted.After, stop}
	if at.oid != 0 {
		query += " AND " + here(l.table.quoted, "?") + " AND " + notOnStandby
		arguments = append(arguments, at.oid)
	}
	if len(wanted.Topics) > 0 {
		condition, topics := l.store.dialect.topics(wanted.Topics)
		query += " AND " + condition
		arguments = append(arguments, topics...)
	}
	if len(wanted.Except) > 0 {
		condition, topics := l.store.dialect.topics(wanted.Except)
		query += " AND NOT (" + condition + ")"
		arguments = append(arguments, topics...)
	}
	return l.store.dialect.placeholders(query + " ORDER BY id LIMIT ?"), append(arguments, wanted.Limit)
}

func readNotifications(ctx context.Context, c connection, limit int, query string, arguments ...any) ([]persistence.Notification, error) {
	notifications := make([]persistence.Notification, 0, min(limit, page))
	if whole, err := c.each(ctx, func(row []driver.Value) (err error) {
		n := persistence.Notification{}
		if n.ID, err = asInt(row[0]); err != nil {
			return err
		}
		if err = n.OriginatorID.Scan(row[1]); err != nil {
			return err
		}
		n.OriginatorVersion, n.Topic, n.State, err = asEvent(row[2:])
		notifications = append(notifications, n)
		return err
	}, query, arguments...); whole {
		return notifications, err
	}
	rows, err := c.query(ctx, query, arguments...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		// Read in place: another one would be allocated.
		notifications = append(notifications, persistence.Notification{})
		n := &notifications[len(notifications)-1]
		if err := rows.Scan(&n.ID, &n.OriginatorID, &n.OriginatorVersion, &n.Topic, &n.State); err != nil {
			return nil, err
		}
	}
	return notifications, rows.Err()
}
