package gormstore

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// RecordStatus implements capability.StatusRecorder.
func (s storeCapabilities) RecordStatus(ctx context.Context, status capability.FollowerStatus) error {
	row := followerStatus{
		ApplicationName: status.ApplicationName, UpstreamApplicationName: status.UpstreamApplicationName,
		State: status.State, Error: status.Error, NotificationID: status.NotificationID, Ahead: status.Ahead,
		Since: nullable(status.Since), NextRetry: nullable(status.NextRetry), Process: status.Process,
	}
	if err := s.ready(ctx); err != nil {
		return err
	}
	const op = "record a follower's status"
	outer, err := s.txScopeOf(ctx)
	if err != nil {
		return err
	}
	statuses := newEventTable(s.Store, row.ApplicationName, s.tables.status, "")
	if outer == nil {
		err := s.inTransaction(ctx, op, func(ctx context.Context, pool openTx) error {
			c := connection{pool, s.Store}
			if err := s.boundWaits(ctx, c, false); err != nil {
				return err
			}
			return s.recordStatus(ctx, c, row)
		})
		if err != nil {
			err = statuses.withHolder(ctx, connection{s.pool, s.Store}, op, err)
		}
		return s.translate(ctx, op, err)
	}
	done, err := s.turnToWrite(ctx, outer)
	if err != nil {
		return err
	}
	defer done()
	c := connection{outer.connection(), s.Store}
	if err = s.savepoint(ctx, c, func() error { return s.recordStatus(ctx, c, row) }); err != nil {
		err = statuses.withHolder(ctx, c, op, err)
	}
	return s.translate(ctx, op, err)
}

// recordStatus writes the status before the table of runners, so that runners
// of one follower take turns.
func (s *Store) recordStatus(ctx context.Context, c connection, row followerStatus) error {
	if err := s.needs(ctx, c, s.tables.status); err != nil {
		return err
	}
	tx := s.session(ctx, c.pool)
	now, err := s.dialect.now(ctx, c)
	if err != nil {
		return err
	}
	row.Heartbeat = now
	registers, err := hasTable(tx, &followerRunner{})
	if err != nil {
		return err
	}
	if row.State == "stopped" && row.Ahead <= 0 {
		return recordStop(tx, row, registers)
	}
	columns := statusColumns
	if row.Ahead == capability.KeepAhead {
		row.Ahead = 0 // of a new row
	} else {
		columns = append(columns[:len(columns):len(columns)], "ahead")
	}
	if row.State == "standing by" {
		err = recordStandBy(tx, row, registers)
	} else {
		err = tx.Clauses(clause.OnConflict{Columns: followerKey, DoUpdates: clause.AssignmentColumns(columns)}).Create(&row).Error
	}
	if err != nil || !registers {
		return err
	}
	if row.State == "stopped" {
		return unregister(tx, row)
	}
	runner := followerRunner{ApplicationName: row.ApplicationName, UpstreamApplicationName: row.UpstreamApplicationName,
		Process: row.Process, State: row.State, Heartbeat: now}
	if err := tx.Clauses(clause.OnConflict{UpdateAll: true}).Create(&runner).Error; err != nil {
		return err
	}
	dead := now.Add(-3 * capability.HeartbeatInterval) // killed, which leaves a row
	return ofFollower(tx, row).Where("heartbeat < ?", dead).Delete(&followerRunner{}).Error
}

var (
	statusColumns = []string{"state", "error", "notification_id", "since", "next_retry", "heartbeat", "process"}
	followerKey   = []clause.Column{{Name: "application_name"}, {Name: "upstream_application_name"}}
)

// recordStandBy records that a runner stands by. It leaves the status of
// another one, which is at work, or gives its place back to that.
func recordStandBy(tx *gorm.DB, row followerStatus, registers bool) error {
	if err := lockStatus(tx, row); err != nil {
		return err
	}
	if registers {
		var others []followerRunner
		err := ofFollower(tx, row).Where("process <> ? AND state <> ? AND heartbeat > ?", row.Process, row.State,
			row.Heartbeat.Add(-3*capability.HeartbeatInterval)).Order("heartbeat DESC").Limit(1).Find(&others).Error
		if err != nil {
			return err
		}
		if len(others) > 0 {
			atWork := followerStatus{State: others[0].State, Heartbeat: others[0].Heartbeat, Process: others[0].Process}
			return ofFollower(tx.Model(&followerStatus{}), row).Where("process = ?", row.Process).Select(statusColumns).Updates(&atWork).Error
		}
	}
	return ofFollower(tx.Model(&followerStatus{}), row).Where("process = ?", row.Process).Select(statusColumns).Updates(&row).Error
}

// lockStatus locks the status of a follower until the transaction ends, and
// writes row in its place if there is none. Without the lock a runner that
// stops could give the status to another one which stops at the same time.
func lockStatus(tx *gorm.DB, row followerStatus) error {
	unchanged := clause.Assignments(map[string]any{"application_name": row.ApplicationName})
	return tx.Clauses(clause.OnConflict{Columns: followerKey, DoUpdates: unchanged}).Create(&row).Error
}

func ofFollower(tx *gorm.DB, row followerStatus) *gorm.DB {
	return tx.Where("application_name = ? AND upstream_application_name = ?", row.ApplicationName, row.UpstreamApplicationName)
}

func unregister(tx *gorm.DB, row followerStatus) error {
	return ofFollower(tx, row).Where("process = ?", row.Process).Delete(&followerRunner{}).Error
}

// recordStop records that a runner has stopped. The status of another one that
// goes on stays, or takes the place of this one's. Ahead 0 ends a position that
// was ahead of the log, in whatever process it was found, and the error that
// said so.
func recordStop(tx *gorm.DB, row followerStatus, registers bool) error {
	ahead := row.Ahead
	row.Ahead = 0 // of a new row
	if err := lockStatus(tx, row); err != nil {
		return err
	}
	if ahead == 0 {
		ended := map[string]any{"ahead": 0, "error": ""}
		if err := ofFollower(tx.Model(&followerStatus{}), row).Where("ahead > 0").Updates(ended).Error; err != nil {
			return err
		}
	}
	updated := ofFollower(tx.Model(&followerStatus{}), row).Where("process = ?", row.Process).Select(statusColumns).Updates(&row)
	if updated.Error != nil {
		return updated.Error
	}
	if !registers {
		return nil
	}
	if err := unregister(tx, row); err != nil || updated.RowsAffected == 0 {
		return err
	}
	var others []followerRunner
	err := ofFollower(tx, row).Where("heartbeat > ?", row.Heartbeat.Add(-3*capability.HeartbeatInterval)).
		Order("heartbeat DESC").Limit(1).Find(&others).Error
	if err != nil || len(others) == 0 {
		return err
	}
	goesOn := followerStatus{State: others[0].State, Heartbeat: others[0].Heartbeat, Process: others[0].Process}
	return ofFollower(tx.Model(&followerStatus{}), row).Select(statusColumns).Updates(&goesOn).Error
}

// FollowerStatuses implements capability.StatusRecorder. Heartbeats were
// written by the database's clock, and are told by that of this process.
func (s storeCapabilities) FollowerStatuses(ctx context.Context) ([]capability.FollowerStatus, error) {
	const op = "read the statuses of followers"
	c, done, err := s.reader(ctx, op)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := s.needs(ctx, c, s.tables.status); err != nil {
		return nil, s.translate(ctx, op, err)
	}
	var rows []followerStatus
	err = s.session(ctx, c.pool).Order("application_name, upstream_application_name").Find(&rows).Error
	if err != nil || len(rows) == 0 {
		return nil, s.translate(ctx, op, err)
	}
	now, err := s.dialect.now(ctx, c)
	if err != nil {
		return nil, s.translate(ctx, op, err)
	}
	if err := s.markEnded(ctx, c, rows); err != nil {
		return nil, s.translate(ctx, op, err)
	}
	ahead := time.Now().UTC().Sub(now)
	statuses := make([]capability.FollowerStatus, len(rows))
	for i, row := range rows {
		statuses[i] = capability.FollowerStatus{
			ApplicationName: row.ApplicationName, UpstreamApplicationName: row.UpstreamApplicationName,
			State: row.State, Error: row.Error, NotificationID: row.NotificationID, Ahead: row.Ahead,
			Since: valueOf(row.Since), NextRetry: valueOf(row.NextRetry), Heartbeat: row.Heartbeat.UTC().Add(ahead), Process: row.Process,
		}
	}
	return statuses, nil
}

// markEnded marks the statuses as stopped whose runner has no row any more: a
// runner writes both rows together, and deletes its own when it stops. It reads
// the rows of runners after those of statuses, so a runner that has just
// started is not taken for one that has ended.
func (s *Store) markEnded(ctx context.Context, c connection, rows []followerStatus) error {
	tx := s.session(ctx, c.pool)
	registers, err := hasTable(tx, &followerRunner{})
	if err != nil || !registers {
		return err
	}
	var runners []followerRunner
	columns := []string{"application_name", "upstream_application_name", "process"}
	if err := tx.Select(columns).Find(&runners).Error; err != nil {
		return err
	}
	registered := map[followerRunner]bool{}
	for _, r := range runners {
		registered[r] = true
	}
	for i, row := range rows {
		if !registered[followerRunner{ApplicationName: row.ApplicationName,
			UpstreamApplicationName: row.UpstreamApplicationName, Process: row.Process}] {
			rows[i].State = "stopped"
		}
	}
	return nil
}

func nullable(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	at = at.UTC()
	return &at
}

func valueOf(at *time.Time) time.Time {
	if at == nil {
		return time.Time{}
	}
	return at.UTC()
}

// ParkEvent implements capability.ParkingRecorder.
func (r *processRecorder) ParkEvent(ctx context.Context, event persistence.ParkedEvent) error {
	query := "INSERT INTO " + r.store.tables.parked.quoted + " (application_name, upstream_application_name, notification_id, " +
		"originator_id, originator_version, topic, error, parked_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
	return r.inTransaction(ctx, r.store.tables.parked, "park an event", func(ctx context.Context, c connection) error {
		_, err := c.exec(ctx, r.store.dialect.placeholders(query), r.application, event.UpstreamApplicationName,
			event.NotificationID, r.store.dialect.uuid(event.OriginatorID), event.OriginatorVersion, event.Topic,
			event.Error, event.ParkedAt.UTC())
		return err
	})
}

// ParkedEvents implements capability.ParkingRecorder.
func (r *processRecorder) ParkedEvents(ctx context.Context, upstream string) ([]persistence.ParkedEvent, error) {
	op := r.application + ": read parked events"
	c, done, err := r.store.reader(ctx, op)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := r.store.needs(ctx, c, r.store.tables.parked); err != nil {
		return nil, r.store.translate(ctx, op, err)
	}
	session := r.store.session(ctx, c.pool).Where("application_name = ?", r.application)
	if upstream != "" {
		session = session.Where("upstream_application_name = ?", upstream)
	}
	var rows []parkedEvent
	err = session.Order("notification_id, upstream_application_name").Find(&rows).Error
	return parkedEvents(rows), r.store.translate(ctx, op, err)
}

func (s storeInventory) ParkedPage(
	ctx context.Context, application, upstream string, after int64, limit int,
) ([]persistence.ParkedEvent, error) {
	op := application + ": read parked events"
	c, done, err := s.reader(ctx, op)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := s.needs(ctx, c, s.tables.parked); err != nil {
		return nil, s.translate(ctx, op, err)
	}
	var rows []parkedEvent
	err = s.session(ctx, c.pool).
		Where("application_name = ? AND (upstream_application_name, notification_id) > (?, ?)", application, upstream, after).
		Order("upstream_application_name, notification_id").Limit(limit).Find(&rows).Error
	return parkedEvents(rows), s.translate(ctx, op, err)
}

func parkedEvents(rows []parkedEvent) []persistence.ParkedEvent {
	events := make([]persistence.ParkedEvent, len(rows))
	for i, row := range rows {
		events[i] = persistence.ParkedEvent{
			ApplicationName: row.ApplicationName, UpstreamApplicationName: row.UpstreamApplicationName,
			NotificationID: row.NotificationID, OriginatorID: uuid.UUID(row.OriginatorID),
			OriginatorVersion: row.OriginatorVersion, Topic: row.Topic, Error: row.Error, ParkedAt: row.ParkedAt.UTC(),
		}
	}
	return events
}

// ParkedOriginators implements capability.ParkingRecorder.
func (r *processRecorder) ParkedOriginators(ctx context.Context, upstream string, among []uuid.UUID) (map[uuid.UUID]int64, error) {
	found := map[uuid.UUID]int64{}
	if len(among) == 0 {
		return found, ctx.Err()
	}
	op := r.application + ": read parked events"
	c, done, err := r.store.reader(ctx, op)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := r.store.needs(ctx, c, r.store.tables.parked); err != nil {
		return nil, r.store.translate(ctx, op, err)
	}
	ids := make([]UUID, len(among))
	for i, id := range among {
		ids[i] = UUID(id)
	}
	var rows []struct {
		OriginatorID UUID
		First        int64
	}
	err = r.store.session(ctx, c.pool).Model(&parkedEvent{}).Select("originator_id, MIN(notification_id) AS first").
		Where("application_name = ? AND upstream_application_name = ? AND originator_id IN ?", r.application, upstream, ids).
		Group("originator_id").Find(&rows).Error
	for _, row := range rows {
		found[uuid.UUID(row.OriginatorID)] = row.First
	}
	return found, r.store.translate(ctx, op, err)
}

// CountParked implements capability.ParkingRecorder.
func (r *processRecorder) CountParked(ctx context.Context, upstream string) (parked int64, err error) {
	op := r.application + ": count parked events"
	c, done, err := r.store.reader(ctx, op)
	if err != nil {
		return 0, err
	}
	defer done()
	if err := r.store.needs(ctx, c, r.store.tables.parked); err != nil {
		return 0, r.store.translate(ctx, op, err)
	}
	query := "SELECT COUNT(*) FROM " + r.store.tables.parked.quoted + " WHERE application_name = ? AND upstream_application_name = ?"
	err = c.row(ctx, r.store.dialect.placeholders(query), r.application, upstream).Scan(&parked)
	return parked, r.store.translate(ctx, op, err)
}

// Classify implements capability.ErrorClassifier.
func (s storeCapabilities) Classify(err error) (class error, retryable bool) {
	if err == nil || s.dialect == nil || !s.dialect.isServerError(err) {
		return nil, false
	}
	fault := s.infoOf(err)
	if fault.scope == aboutEvent {
		return nil, false
	}
	return fault.class, fault.scope == passing
}

// UnparkEvent implements capability.ParkingRecorder.
func (r *processRecorder) UnparkEvent(ctx context.Context, upstream string, notificationID int64) error {
	query := "DELETE FROM " + r.store.tables.parked.quoted +
		" WHERE application_name = ? AND upstream_application_name = ? AND notification_id = ?"
	return r.inTransaction(ctx, r.store.tables.parked, "unpark an event", func(ctx context.Context, c connection) error {
		affected, err := c.exec(ctx, r.store.dialect.placeholders(query), r.application, upstream, notificationID)
		if err == nil && affected == 0 {
			err = &persistence.Error{Class: persistence.ErrProgramming, Op: r.application + ": unpark an event",
				Err: fmt.Errorf("event %d of %s is not parked", notificationID, upstream)}
		}
		return err
	})
}

// inTransaction does a step that writes to a table of followers in the
// transaction that ctx carries, under a savepoint, or in a new one.
func (r *processRecorder) inTransaction(ctx context.Context, into table, what string, do func(context.Context, connection) error) error {
	_, err := newEventTable(r.store, r.application, into, "").write(ctx, what, nil, func(ctx context.Context, c connection, joined bool) ([]int64, error) {
		if err := r.store.needs(ctx, c, into); err != nil {
			return nil, err
		}
		if err := r.store.boundWaits(ctx, c, joined); err != nil {
			return nil, err
		}
		return nil, do(ctx, c)
	})
	return err
}
