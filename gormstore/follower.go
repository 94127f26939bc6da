package gormstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// RecordStatus implements persistence.StatusRecorder.
func (s *Store) RecordStatus(ctx context.Context, status persistence.FollowerStatus) error {
	row := FollowerStatus{
		ApplicationName: status.ApplicationName, UpstreamApplicationName: status.UpstreamApplicationName,
		State: status.State, Error: status.Error, NotificationID: status.NotificationID, Ahead: status.Ahead,
		Since: nullable(status.Since), NextRetry: nullable(status.NextRetry), Heartbeat: status.Heartbeat.UTC(),
		Process: status.Process,
	}
	if err := s.ready(ctx); err != nil {
		return err
	}
	const op = "record a follower's status"
	outer, err := s.joined(ctx)
	if err != nil {
		return err
	}
	if outer == nil {
		return s.translate(ctx, op, s.atomically(ctx, op, func(ctx context.Context, pool unit) error {
			return recordStatus(s.session(ctx, pool), row)
		}))
	}
	outer.turn.Lock()
	defer outer.turn.Unlock()
	c := connection{outer.connection(), s}
	return s.translate(ctx, op, s.savepoint(ctx, c, func() error { return recordStatus(s.session(ctx, c.pool), row) }))
}

// recordStatus leaves the status of another process alone where the follower has stopped in this one.
func recordStatus(tx *gorm.DB, row FollowerStatus) error {
	columns := []string{"state", "error", "notification_id", "since", "next_retry", "heartbeat", "process"}
	keepsAhead := row.Ahead < 0
	if keepsAhead {
		row.Ahead = 0 // of a new row
	} else {
		columns = append(columns, "ahead")
	}
	if row.State != "stopped" || !keepsAhead {
		key := []clause.Column{{Name: "application_name"}, {Name: "upstream_application_name"}}
		return tx.Clauses(clause.OnConflict{Columns: key, DoUpdates: clause.AssignmentColumns(columns)}).Create(&row).Error
	}
	updated := tx.Model(&FollowerStatus{}).Select(columns).Where("application_name = ? AND upstream_application_name = ? AND process = ?",
		row.ApplicationName, row.UpstreamApplicationName, row.Process).Updates(&row)
	if updated.Error != nil || updated.RowsAffected > 0 {
		return updated.Error
	}
	return tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&row).Error
}

// FollowerStatuses implements persistence.StatusRecorder.
func (s *Store) FollowerStatuses(ctx context.Context) ([]persistence.FollowerStatus, error) {
	c, done, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	var rows []FollowerStatus
	err = s.session(ctx, c.pool).Order("application_name, upstream_application_name").Find(&rows).Error
	statuses := make([]persistence.FollowerStatus, len(rows))
	for i, row := range rows {
		statuses[i] = persistence.FollowerStatus{
			ApplicationName: row.ApplicationName, UpstreamApplicationName: row.UpstreamApplicationName,
			State: row.State, Error: row.Error, NotificationID: row.NotificationID, Ahead: row.Ahead,
			Since: valueOf(row.Since), NextRetry: valueOf(row.NextRetry), Heartbeat: row.Heartbeat.UTC(), Process: row.Process,
		}
	}
	return statuses, s.translate(ctx, "read the statuses of followers", err)
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

// ParkEvent implements persistence.ParkingRecorder.
func (r *processRecorder) ParkEvent(ctx context.Context, event persistence.ParkedEvent) error {
	query := "INSERT INTO " + r.store.tables.parked.quoted + " (application_name, upstream_application_name, notification_id, " +
		"originator_id, originator_version, topic, error, parked_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
	return r.inTransaction(ctx, "park an event", func(ctx context.Context, c connection) error {
		_, err := c.exec(ctx, r.store.dialect.placeholders(query), r.application, event.UpstreamApplicationName,
			event.NotificationID, r.store.dialect.uuid(event.OriginatorID), event.OriginatorVersion, event.Topic,
			event.Error, event.ParkedAt.UTC())
		return err
	})
}

// ParkedEvents implements persistence.ParkingRecorder.
func (r *processRecorder) ParkedEvents(ctx context.Context, upstream string) ([]persistence.ParkedEvent, error) {
	c, done, err := r.store.reader(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	session := r.store.session(ctx, c.pool).Where("application_name = ?", r.application)
	if upstream != "" {
		session = session.Where("upstream_application_name = ?", upstream)
	}
	var rows []ParkedEvent
	err = session.Order("notification_id, upstream_application_name").Find(&rows).Error
	events := make([]persistence.ParkedEvent, len(rows))
	for i, row := range rows {
		events[i] = persistence.ParkedEvent{
			ApplicationName: row.ApplicationName, UpstreamApplicationName: row.UpstreamApplicationName,
			NotificationID: row.NotificationID, OriginatorID: uuid.UUID(row.OriginatorID),
			OriginatorVersion: row.OriginatorVersion, Topic: row.Topic, Error: row.Error, ParkedAt: row.ParkedAt.UTC(),
		}
	}
	return events, r.store.translate(ctx, r.application+": read parked events", err)
}

// ParkedOriginators implements persistence.ParkingRecorder.
func (r *processRecorder) ParkedOriginators(ctx context.Context, upstream string, among []uuid.UUID) (map[uuid.UUID]int64, error) {
	found := map[uuid.UUID]int64{}
	if len(among) == 0 {
		return found, ctx.Err()
	}
	c, done, err := r.store.reader(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	ids := make([]UUID, len(among))
	for i, id := range among {
		ids[i] = UUID(id)
	}
	var rows []struct {
		OriginatorID UUID
		First        int64
	}
	err = r.store.session(ctx, c.pool).Model(&ParkedEvent{}).Select("originator_id, MIN(notification_id) AS first").
		Where("application_name = ? AND upstream_application_name = ? AND originator_id IN ?", r.application, upstream, ids).
		Group("originator_id").Find(&rows).Error
	for _, row := range rows {
		found[uuid.UUID(row.OriginatorID)] = row.First
	}
	return found, r.store.translate(ctx, r.application+": read parked events", err)
}

// CountParked implements persistence.ParkingRecorder.
func (r *processRecorder) CountParked(ctx context.Context, upstream string) (int64, error) {
	return r.maximum(ctx, "count parked events", "SELECT COUNT(*) FROM "+r.store.tables.parked.quoted+
		" WHERE application_name = ? AND upstream_application_name = ?", r.application, upstream)
}

// Trouble implements persistence.TroubleTeller.
func (s *Store) Trouble(err error) (is, retryable bool) {
	if err == nil || s.dialect == nil || !s.dialect.reported(err) {
		return false, false
	}
	fault := s.faultOf(err)
	if fault.class == nil {
		return false, false
	}
	return errors.Is(fault.class, persistence.ErrOperational) || errors.Is(fault.class, persistence.ErrInternal),
		persistence.IsRetryable(fault.class)
}

// UnparkEvent implements persistence.ParkingRecorder.
func (r *processRecorder) UnparkEvent(ctx context.Context, upstream string, notificationID int64) error {
	query := "DELETE FROM " + r.store.tables.parked.quoted +
		" WHERE application_name = ? AND upstream_application_name = ? AND notification_id = ?"
	return r.inTransaction(ctx, "unpark an event", func(ctx context.Context, c connection) error {
		affected, err := c.exec(ctx, r.store.dialect.placeholders(query), r.application, upstream, notificationID)
		if err == nil && affected == 0 {
			err = &persistence.Error{Class: persistence.ErrProgramming, Op: r.application + ": unpark an event",
				Err: fmt.Errorf("event %d of %s is not parked", notificationID, upstream)}
		}
		return err
	})
}

// inTransaction does a step in the transaction that ctx carries, under a savepoint, or in one of its own.
func (r *processRecorder) inTransaction(ctx context.Context, what string, do func(context.Context, connection) error) error {
	_, err := r.write(ctx, what, nil, func(ctx context.Context, c connection, _ bool) ([]int64, error) {
		return nil, do(ctx, c)
	})
	return err
}
