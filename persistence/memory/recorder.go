package memory

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// aggregateRecorder keeps the events of originators, or their snapshots.
type aggregateRecorder struct {
	store       *Store
	application string
	hasLog      bool // it keeps events, which have ids
}

// table returns the recorder's table.
func (r *aggregateRecorder) table(d *data) *table {
	if r.hasLog {
		return d.eventsOf(r.application)
	}
	return d.snapshotsOf(r.application)
}

// insert stores events, unless there is a conflict.
func (r *aggregateRecorder) insert(d *data, events []persistence.StoredEvent) ([]int64, error) {
	t := r.table(d)
	if err := t.conflict(r.application, events); err != nil {
		return nil, err
	}
	if !r.hasLog { // snapshots need not continue those before
		ids := t.insert(events, nil)
		keep(d.snapshots, r.application, t)
		return ids, nil
	}
	if err := t.gap(r.application, events); err != nil {
		return nil, err
	}
	ids := t.insert(events, r.store.nextID)
	keep(d.events, r.application, t)
	return ids, nil
}

// InsertEvents implements persistence.AggregateRecorder.
func (r *aggregateRecorder) InsertEvents(ctx context.Context, events []persistence.StoredEvent) ([]int64, error) {
	if err := persistence.ValidateEvents(r.application, events); err != nil {
		return nil, err
	}
	var ids []int64
	err := r.store.write(ctx, r.application, "insert events", func(d *data) (err error) {
		ids, err = r.insert(d, events)
		return err
	})
	return ids, err
}

// SelectEvents implements persistence.AggregateRecorder. The stream has the
// events that are stored when the loop begins.
func (r *aggregateRecorder) SelectEvents(
	ctx context.Context, originatorID uuid.UUID, want persistence.EventRange,
) iter.Seq2[persistence.StoredEvent, error] {
	const op = "select events"
	return func(yield func(persistence.StoredEvent, error) bool) {
		selected, err := r.selectRows(ctx, op, originatorID, want)
		if err != nil {
			yield(persistence.StoredEvent{}, err)
			return
		}
		for i := range selected {
			if err := ctx.Err(); err != nil {
				yield(persistence.StoredEvent{}, contextError(r.application, op, err))
				return
			}
			if want.Limit > 0 && i == want.Limit {
				return
			}
			row := selected[i]
			if want.Descending {
				row = selected[len(selected)-1-i]
			}
			if !yield(cloned(row).StoredEvent, nil) {
				return
			}
		}
	}
}

func (r *aggregateRecorder) selectRows(
	ctx context.Context, op string, originatorID uuid.UUID, want persistence.EventRange,
) (rows, error) {
	if err := want.Validate(); err != nil {
		return nil, err
	}
	var stream rows
	err := r.store.read(ctx, r.application, op, func(d *data) { stream = r.table(d).stream(originatorID) })
	return stream.between(want), err
}

// processRecorder also has the log of an application, and its positions as a
// follower.
type processRecorder struct {
	aggregateRecorder
}

// SelectNotifications implements persistence.ApplicationRecorder.
func (r *processRecorder) SelectNotifications(
	ctx context.Context, want persistence.NotificationRange,
) ([]persistence.Notification, error) {
	want, err := want.Validate()
	if err != nil {
		return nil, err
	}
	log, err := r.log(ctx, "select notifications")
	if err != nil {
		return nil, err
	}
	var page []persistence.Notification
	for _, row := range log.after(want.After) {
		if len(page) == want.Limit || want.Stop > 0 && row.ID > want.Stop {
			break
		}
		if (len(want.Topics) == 0 || slices.Contains(want.Topics, row.Topic)) && !slices.Contains(want.Except, row.Topic) {
			page = append(page, cloned(row))
		}
	}
	return page, nil
}

// MaxNotificationID implements persistence.ApplicationRecorder.
func (r *processRecorder) MaxNotificationID(ctx context.Context) (int64, error) {
	log, err := r.log(ctx, "read the highest notification id")
	if err != nil || len(log) == 0 {
		return 0, err
	}
	return log[len(log)-1].ID, nil
}

// NewestNotificationID implements persistence.ApplicationRecorder.
func (r *processRecorder) NewestNotificationID(ctx context.Context) (int64, error) {
	return r.MaxNotificationID(ctx)
}

func (r *processRecorder) log(ctx context.Context, op string) (log rows, err error) {
	err = r.store.read(ctx, r.application, op, func(d *data) { log = r.table(d).log })
	return log, err
}

// InsertTracking implements persistence.TrackingRecorder.
func (r *processRecorder) InsertTracking(ctx context.Context, tracking persistence.Tracking) error {
	if err := persistence.ValidateTracking(tracking); err != nil {
		return err
	}
	return r.store.write(ctx, r.application, "move a position", func(d *data) error {
		if err := d.checkMove(r.application, tracking); err != nil {
			return err
		}
		d.move(r.application, tracking)
		return nil
	})
}

// MovePosition implements persistence.TrackingRecorder.
func (r *processRecorder) MovePosition(ctx context.Context, from int64, to persistence.Tracking) error {
	if err := persistence.ValidateTracking(to); err != nil {
		return err
	}
	return r.store.write(ctx, r.application, "move a position", func(d *data) error {
		if err := d.checkMove(r.application, to); err != nil {
			return err
		}
		if current := d.positionOf(position{r.application, to.ApplicationName}); current != from {
			return capability.PositionMoved(r.application, to, current)
		}
		d.move(r.application, to)
		return nil
	})
}

// MaxTrackingID implements persistence.TrackingRecorder.
func (r *processRecorder) MaxTrackingID(ctx context.Context, upstream string) (int64, error) {
	var current int64
	err := r.store.read(ctx, r.application, "read a position", func(d *data) {
		current = d.positionOf(position{r.application, upstream})
	})
	return current, err
}

// Settings implements capability.SettingsRecorder.
func (r *processRecorder) Settings(
	ctx context.Context, upstream string,
) (current int64, settings *capability.FollowerSettings, err error) {
	current, settings, _, err = r.SettingsRevision(ctx, upstream)
	return current, settings, err
}

// LockPosition implements persistence.TrackingRecorder. A transaction is the
// only writer, so it has the lock already.
func (r *processRecorder) LockPosition(ctx context.Context, upstream string) (int64, error) {
	if err := r.needTransaction(ctx, "lock a position"); err != nil {
		return 0, err
	}
	return r.MaxTrackingID(ctx, upstream)
}

// LockLog implements capability.LogLocker, like LockPosition.
func (r *processRecorder) LockLog(ctx context.Context) error {
	return r.needTransaction(ctx, "lock a log")
}

func (r *processRecorder) needTransaction(ctx context.Context, op string) error {
	if r.store.transaction(ctx) != nil {
		return nil
	}
	return &persistence.Error{Class: persistence.ErrNoTransaction, Op: r.application + ": " + op}
}

// LockSettings implements capability.SettingsRecorder, like LockPosition.
func (r *processRecorder) LockSettings(ctx context.Context, upstream string) (int64, *capability.FollowerSettings, error) {
	if err := r.needTransaction(ctx, "lock the settings of a follower"); err != nil {
		return 0, nil, err
	}
	return r.Settings(ctx, upstream)
}

// SettingsRevision implements capability.RevisionRecorder.
func (r *processRecorder) SettingsRevision(
	ctx context.Context, upstream string,
) (current int64, settings *capability.FollowerSettings, revision int64, err error) {
	err = r.store.read(ctx, r.application, "read the settings of a follower", func(d *data) {
		key := position{r.application, upstream}
		kept := ownSettings(d.settingsOf(key))
		current, settings, revision = d.positionOf(key), &kept, d.deletionsOf(upstream)
		if set := d.divisionOf(key); set != nil {
			kept.Partitions = len(set.Partitions)
		}
	})
	return current, settings, revision, err
}

// LockSettingsRevision implements capability.RevisionRecorder, like
// LockPosition.
func (r *processRecorder) LockSettingsRevision(
	ctx context.Context, upstream string, _ time.Duration,
) (int64, *capability.FollowerSettings, int64, error) {
	if err := r.needTransaction(ctx, "lock the settings of a follower"); err != nil {
		return 0, nil, 0, err
	}
	return r.SettingsRevision(ctx, upstream)
}

// WriteSettings implements capability.SettingsRecorder.
func (r *processRecorder) WriteSettings(ctx context.Context, upstream string, settings capability.FollowerSettings) error {
	return r.store.write(ctx, r.application, "write the settings of a follower", func(d *data) error {
		settings.Partitions = 0 // which is not a setting
		d.settings[position{r.application, upstream}] = ownSettings(settings)
		return nil
	})
}

// ownSettings returns settings that share no memory with s.
func ownSettings(s capability.FollowerSettings) capability.FollowerSettings {
	if s.Began != nil {
		began := *s.Began
		s.Began = &began
	}
	return s
}

// InsertProcessed implements persistence.ProcessRecorder. The position is
// looked at before the events: a process that comes second has usually made the
// same events as the first, and must learn that it came second.
func (r *processRecorder) InsertProcessed(
	ctx context.Context, events []persistence.StoredEvent, tracking persistence.Tracking,
) ([]int64, error) {
	if err := persistence.ValidateTracking(tracking); err != nil {
		return nil, err
	}
	if err := persistence.ValidateEvents(r.application, events); err != nil {
		return nil, err
	}
	var ids []int64
	err := r.store.write(ctx, r.application, "insert processed events", func(d *data) (err error) {
		if err := d.checkMove(r.application, tracking); err != nil {
			return err
		}
		if ids, err = r.insert(d, events); err != nil {
			return err
		}
		d.move(r.application, tracking)
		return nil
	})
	return ids, err
}

// DeleteTracking implements capability.PositionDeleter.
func (s storeCapabilities) DeleteTracking(ctx context.Context, follower, upstream string) (rows int64, err error) {
	err = s.write(ctx, follower, "delete a position", func(d *data) error {
		key := position{follower, upstream}
		if d.positionOf(key) > 0 {
			rows = 1
		}
		d.positions[key] = 0
		d.divisions[key] = nil
		return nil
	})
	return rows, err
}
