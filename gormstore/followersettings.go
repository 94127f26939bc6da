package gormstore

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Settings implements capability.SettingsRecorder.
func (r *processRecorder) Settings(
	ctx context.Context, upstream string,
) (position int64, settings *capability.FollowerSettings, err error) {
	position, settings, _, err = r.SettingsRevision(ctx, upstream)
	return position, settings, err
}

// SettingsRevision implements capability.RevisionRecorder.
func (r *processRecorder) SettingsRevision(
	ctx context.Context, upstream string,
) (position int64, settings *capability.FollowerSettings, revision int64, err error) {
	op := r.application + ": read the settings of a follower"
	outer, err := r.store.txScopeOf(ctx)
	if err != nil {
		return 0, nil, 0, err
	}
	c, done, err := r.store.reader(ctx, op)
	if err != nil {
		return 0, nil, 0, err
	}
	defer done()
	at, settings, revision, err := r.settings(ctx, c, outer != nil, upstream)
	return at.Int64, settings, revision, r.store.translate(ctx, op, err)
}

// LockSettings implements capability.SettingsRecorder.
func (r *processRecorder) LockSettings(
	ctx context.Context, upstream string,
) (position int64, settings *capability.FollowerSettings, err error) {
	position, settings, _, err = r.LockSettingsRevision(ctx, upstream, 0)
	return position, settings, err
}

// LockSettingsRevision implements capability.RevisionRecorder. In SQLite a
// transaction has kept other writers out since it began.
func (r *processRecorder) LockSettingsRevision(
	ctx context.Context, upstream string, wait time.Duration,
) (position int64, settings *capability.FollowerSettings, revision int64, err error) {
	op := r.application + ": lock a position"
	outer, err := r.store.txScopeOf(ctx)
	if err != nil {
		return 0, nil, 0, err
	}
	if outer == nil {
		return 0, nil, 0, &persistence.Error{Class: persistence.ErrNoTransaction, Op: op}
	}
	done, err := r.store.turnToWrite(ctx, outer)
	if err != nil {
		return 0, nil, 0, err
	}
	defer done()
	c, watched := r.store.dialect.watchJoined(r.store, outer, op)
	defer watched()
	if wait == 0 {
		wait = r.store.lockTimeout
	}
	if err := r.takePositionLock(ctx, c, locking{timeout: wait, joined: true}, upstream); err != nil {
		return 0, nil, 0, r.store.translate(ctx, op, err)
	}
	at, settings, revision, err := r.settings(ctx, c, true, upstream)
	return at.Int64, settings, revision, r.store.translate(ctx, op, err)
}

// settings reads the position together with the settings, in one query. A
// database that other programs have made has no table of settings, and is used
// without. The revision is the time of the last change, in microseconds.
func (r *processRecorder) settings(
	ctx context.Context, c connection, joined bool, upstream string,
) (position sql.NullInt64, settings *capability.FollowerSettings, revision int64, err error) {
	kept, err := r.store.keepsSettings(ctx, c, joined)
	if err != nil {
		return position, nil, 0, err
	}
	if !kept {
		position, err = r.position(ctx, c, upstream)
		if err == nil && isDivided(position) {
			position.Int64, _, err = r.lowest(ctx, c, upstream)
		}
		return position, nil, 0, err
	}
	query := "SELECT p.position, s.began, s.topics, s.topic_changes, s.paused_at, s.paused_by, s.updated_at" +
		" FROM (SELECT MAX(notification_id) AS position FROM " + r.tracking.quoted +
		" WHERE application_name = ? AND upstream_application_name = ?) AS p" +
		" LEFT JOIN " + r.store.tables.settings.quoted + " AS s" +
		" ON s.application_name = ? AND s.upstream_application_name = ?"
	var (
		began, changes   sql.NullInt64
		topics, pausedBy sql.NullString
		pausedAt         sql.NullTime
		updatedAt        sql.NullTime
	)
	err = c.row(ctx, r.store.dialect.placeholders(query), r.application, upstream, r.application, upstream).
		Scan(&position, &began, &topics, &changes, &pausedAt, &pausedBy, &updatedAt)
	if err != nil {
		return position, nil, 0, err
	}
	settings = &capability.FollowerSettings{Topics: topics.String, TopicChanges: changes.Int64, PausedBy: pausedBy.String}
	if began.Valid {
		settings.Began = &began.Int64
	}
	if pausedAt.Valid {
		settings.PausedAt = pausedAt.Time.UTC()
	}
	if updatedAt.Valid {
		revision = updatedAt.Time.UnixMicro()
	}
	if isDivided(position) {
		position.Int64, settings.Partitions, err = r.lowest(ctx, c, upstream)
	}
	return position, settings, revision, err
}

// keepsSettings reports whether the table of settings exists. It remembers a
// table that it has found outside of the user's transactions, which may look
// elsewhere than others.
func (s *Store) keepsSettings(ctx context.Context, c connection, joined bool) (bool, error) {
	return s.keeps(ctx, c, joined, s.tables.settings)
}

func (s *Store) keeps(ctx context.Context, c connection, joined bool, t table) (bool, error) {
	if _, known := s.poolState.present.Load(t.quoted); known {
		return true, nil
	}
	exists, err := finds(s.session(ctx, c.pool), t)
	if exists && !joined {
		s.poolState.present.Store(t.quoted, true)
	}
	return exists, err
}

// needs returns a persistence.ErrNotMigrated if a table is absent that other
// programs do not make. A statement on it would fail, which ends a transaction
// of PostgreSQL. A database with the table of settings has the others, too.
func (s *Store) needs(ctx context.Context, c connection, t table) error {
	if _, known := s.poolState.present.Load(s.tables.settings.quoted); known {
		return nil
	}
	outer, err := s.txScopeOf(ctx)
	if err != nil {
		return err
	}
	exists, err := s.keeps(ctx, c, outer != nil, t)
	if err != nil || exists {
		return err
	}
	return notMigrated("find the tables", "table "+t.quoted, nil)
}

// WriteSettings implements capability.SettingsRecorder.
func (r *processRecorder) WriteSettings(ctx context.Context, upstream string, settings capability.FollowerSettings) error {
	query := "INSERT INTO " + r.store.tables.settings.quoted + " (application_name, upstream_application_name, began, topics," +
		" topic_changes, paused_at, paused_by, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)" +
		" ON CONFLICT (application_name, upstream_application_name) DO UPDATE SET began = excluded.began," +
		" topics = excluded.topics, topic_changes = excluded.topic_changes, paused_at = excluded.paused_at," +
		" paused_by = excluded.paused_by, updated_at = excluded.updated_at"
	return r.inTransaction(ctx, r.store.tables.settings, "write the settings of a follower", func(ctx context.Context, c connection) error {
		now, err := r.store.dialect.now(ctx, c)
		if err != nil {
			return err
		}
		topics := sql.NullString{String: settings.Topics, Valid: settings.Topics != ""}
		affected, err := c.exec(ctx, r.store.dialect.placeholders(query), r.application, upstream, settings.Began, topics,
			settings.TopicChanges, nullable(settings.PausedAt), settings.PausedBy, now)
		if err == nil && affected != 1 {
			err = fmt.Errorf("the settings of %s were written in %d rows", upstream, affected)
		}
		return err
	})
}

// revise gives the settings of a follower another revision than the one that
// was read, and leaves them otherwise as they are.
func (r *processRecorder) revise(ctx context.Context, c connection, upstream string, read int64) error {
	now, err := r.store.dialect.now(ctx, c)
	if err != nil {
		return err
	}
	if now.UnixMicro() <= read { // the clock has been set back
		now = time.UnixMicro(read + 1).UTC()
	}
	_, err = c.exec(ctx, r.store.dialect.placeholders("UPDATE "+r.store.tables.settings.quoted+
		" SET updated_at = ? WHERE application_name = ? AND upstream_application_name = ?"), now, r.application, upstream)
	return err
}

// forgetTopics is for a follower that is reset: it has processed no topic yet.
// A pause stays.
func (s *Store) forgetTopics(ctx context.Context, c connection, application, upstream string) error {
	kept, err := s.keepsSettings(ctx, c, true)
	if err != nil || !kept {
		return err
	}
	_, err = c.exec(ctx, s.dialect.placeholders("UPDATE "+s.tables.settings.quoted+
		" SET began = 0, topics = NULL, topic_changes = 0 WHERE application_name = ? AND upstream_application_name = ?"),
		application, upstream)
	return err
}
