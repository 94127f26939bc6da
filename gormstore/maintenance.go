package gormstore

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"gorm.io/gorm"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/inventory"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// storeInventory implements inventory.Inventory, which says what its methods do.
type storeInventory struct{ *Store }

func (s *Store) inventory() inventory.Inventory { return storeInventory{s} }

func init() {
	inventory.Missing, inventory.Outdated, inventory.Differences = missingTables, outdatedTables, differencesIn
	inventory.Databases = registeredDatabases
	inventory.Of = func(store any) inventory.Inventory {
		if own, ok := store.(interface{ inventory() inventory.Inventory }); ok {
			return own.inventory()
		}
		return nil
	}
}

func (s storeInventory) TrackingStates(ctx context.Context) ([]inventory.TrackingState, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	const op = "list positions"
	c, done, err := s.reader(ctx, op)
	if err != nil {
		return nil, err
	}
	defer done()
	rows, err := c.query(ctx, "SELECT application_name, upstream_application_name, MAX(notification_id), COUNT(*) FROM "+
		s.tables.tracking.quoted+" GROUP BY 1, 2 ORDER BY 1, 2")
	if err != nil {
		return nil, s.translate(ctx, op, err)
	}
	states, err := scanStates(rows)
	for i := range states {
		t := &states[i]
		if err == nil && t.Position == dividedPosition {
			t.Position, _, err = newProcessRecorder(s.Store, t.ApplicationName).lowest(ctx, c, t.UpstreamApplicationName)
			if errors.Is(err, capability.ErrPartitionsDamaged) {
				err = nil // it is listed, so that it can be reset
			}
		}
	}
	return states, s.translate(ctx, op, err)
}

func scanStates(rows *sql.Rows) (states []inventory.TrackingState, err error) {
	defer rows.Close()
	for rows.Next() {
		var t inventory.TrackingState
		if err := rows.Scan(&t.ApplicationName, &t.UpstreamApplicationName, &t.Position, &t.Rows); err != nil {
			return nil, err
		}
		states = append(states, t)
	}
	return states, rows.Err()
}

func (s storeInventory) ApplicationNames(ctx context.Context) ([]string, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	const op = "list applications"
	c, done, err := s.reader(ctx, op)
	if err != nil {
		return nil, err
	}
	defer done()
	// The index finds each name after the one before, as there may be many
	// events.
	events, tracking := s.tables.events.quoted, s.tables.tracking.quoted
	rows, err := c.query(ctx, "WITH RECURSIVE n(name) AS (SELECT MIN(application_name) FROM "+events+
		" UNION ALL SELECT (SELECT MIN(application_name) FROM "+events+" WHERE application_name > n.name) FROM n WHERE n.name IS NOT NULL)"+
		" SELECT name FROM n WHERE name IS NOT NULL UNION SELECT application_name FROM "+tracking+
		" UNION SELECT upstream_application_name FROM "+tracking)
	if err != nil {
		return nil, s.translate(ctx, op, err)
	}
	names, err := scanNames(rows)
	slices.Sort(names)
	return names, s.translate(ctx, op, err)
}

func scanNames(rows *sql.Rows) (names []string, err error) {
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}

func (s storeInventory) CountNotifications(ctx context.Context, application string, upTo int64) (int64, error) {
	if err := s.usable(ctx); err != nil {
		return 0, err
	}
	return newProcessRecorder(s.Store, application).maximum(ctx, "count notifications",
		"SELECT COUNT(*) FROM "+s.tables.events.quoted+" WHERE application_name = ? AND id <= ?", application, upTo)
}

func (s storeInventory) LastNotificationID(ctx context.Context, application string, upTo int64) (int64, error) {
	if err := s.usable(ctx); err != nil {
		return 0, err
	}
	return newProcessRecorder(s.Store, application).maximum(ctx, "find the last notification",
		"SELECT COALESCE((SELECT id FROM "+s.tables.events.quoted+
			" WHERE application_name = ? AND id <= ? ORDER BY id DESC LIMIT 1), 0)", application, upTo)
}

// DeleteTracking implements capability.PositionDeleter.
func (s storeCapabilities) DeleteTracking(ctx context.Context, application, upstream string) (rows int64, err error) {
	r := newProcessRecorder(s.Store, application)
	err = s.requireTx(ctx, application+": delete a position", func(c connection) error {
		if _, err := r.lockPosition(ctx, c, true, upstream); err != nil {
			return err
		}
		rows, err = c.exec(ctx, s.dialect.placeholders("DELETE FROM "+s.tables.tracking.quoted+
			" WHERE application_name = ? AND upstream_application_name = ?"), application, upstream)
		if err != nil {
			return err
		}
		if err := s.forgetTopics(ctx, c, application, upstream); err != nil {
			return err
		}
		if err := r.deletePartitions(ctx, c, upstream); err != nil {
			return err
		}
		return deleteStatus(s.session(ctx, c.pool), application, upstream)
	})
	return rows, err
}

// deleteStatus looks for the table first, which Django does not have: a
// statement that fails would end the transaction.
func deleteStatus(tx *gorm.DB, application, upstream string) error {
	exists, err := hasTable(tx, &followerStatus{})
	if err != nil || !exists {
		return err
	}
	return tx.Where("application_name = ? AND upstream_application_name = ?", application, upstream).Delete(&followerStatus{}).Error
}

func (s storeInventory) SnapshotPage(
	ctx context.Context, application string, after int64, limit int,
) (page []persistence.StoredEvent, last int64, err error) {
	var rows []storedSnapshot
	err = s.db.WithContext(ctx).Where("application_name = ? AND uid > ?", application, after).Order("uid").Limit(limit).Find(&rows).Error
	for _, row := range rows {
		last = row.UID
		page = append(page, persistence.StoredEvent{OriginatorID: uuid.UUID(row.OriginatorID),
			OriginatorVersion: row.OriginatorVersion, Topic: row.Topic, State: row.State})
	}
	return page, last, err
}

func (s storeInventory) MovePartitionsBack(ctx context.Context, application, upstream string, to int64) error {
	return s.requireTx(ctx, application+": move partitions back", func(c connection) error {
		if err := newProcessRecorder(s.Store, application).lowerPartitions(ctx, c, upstream, to); err != nil {
			return err
		}
		return deleteStatus(s.session(ctx, c.pool), application, upstream)
	})
}

// DeleteEvents deletes all events and snapshots of an application, and returns
// how many events that were. It is for a follower that is reset and makes its
// events anew, and for nothing else: events are facts. ctx must carry a
// transaction of this database; otherwise it returns
// persistence.ErrNoTransaction.
//
// Notification ids are not used again. Applications that follow this one have
// to be reset as well, as they have processed what is deleted; and processes
// that cache its aggregates have to be started again.
func (s *Store) DeleteEvents(ctx context.Context, application string) (events int64, err error) {
	r := newProcessRecorder(s, application)
	err = s.requireTx(ctx, application+": delete events", func(c connection) error {
		if err := r.exclude(ctx, c, true); err != nil {
			return err
		}
		condition := s.dialect.placeholders(" WHERE application_name = ?")
		if _, err := c.exec(ctx, "DELETE FROM "+s.tables.snapshots.quoted+condition, application); err != nil {
			return err
		}
		events, err = c.exec(ctx, "DELETE FROM "+s.tables.events.quoted+condition, application)
		return err
	})
	return events, err
}

// requireTx runs fn on the transaction that ctx carries.
func (s *Store) requireTx(ctx context.Context, op string, fn func(c connection) error) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	outer, err := s.txScopeOf(ctx)
	if err != nil {
		return err
	}
	if outer == nil {
		return &persistence.Error{Class: persistence.ErrNoTransaction, Op: op}
	}
	done, err := s.turnToWrite(ctx, outer)
	if err != nil {
		return err
	}
	defer done()
	c, watched := s.dialect.watchJoined(s, outer, op)
	defer watched()
	return s.translate(ctx, op, fn(c))
}
