package gormstore

import (
	"context"
	"time"

	"github.com/eventsourcing-go/eventsourcing/internal/timing"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// processRecorder is the recorder of one application's events and positions.
type processRecorder struct {
	*eventLog
	tracking  table
	positions *eventTable // finds the table of positions
	python    bool        // positions are kept as the Python library keeps them
	history   string      // the statement for a snapshot and events, if that is one
}

func newProcessRecorder(s *Store, application string) *processRecorder {
	return newOrderedRecorder(s, application, s.order)
}

func newOrderedRecorder(s *Store, application string, order writerOrder) *processRecorder {
	return &processRecorder{
		eventLog:  newEventLog(s, application, order),
		tracking:  s.tables.tracking,
		positions: newEventTable(s, application, s.tables.tracking, ""),
		history:   s.dialect.history(s.tables.events, s.tables.snapshots),
	}
}

// StrictOrder reports whether transactions in which this recorder saves exclude
// other writers of the log. SQLite has no other order.
func (r *processRecorder) StrictOrder() bool {
	return r.order != concurrentOrder || !r.store.dialect.concurrent()
}

// InsertEvents implements persistence.ApplicationRecorder.
func (r *processRecorder) InsertEvents(ctx context.Context, events []persistence.StoredEvent) ([]int64, error) {
	if len(events) == 0 {
		return nil, ctx.Err()
	}
	s := newSave(events)
	switch joined := ctx.Value(sharedKey{}) != nil; {
	case !joined && s.Fits():
		return r.merged(ctx, s)
	case joined && r.store.dialect.appendsWhole(s):
		return r.saveWhole(ctx, events)
	}
	return r.write(ctx, opSave, events, func(ctx context.Context, c connection, joined bool) ([]int64, error) {
		return r.append(ctx, c, joined, events)
	})
}

// merged writes a save together with those of other callers.
func (r *processRecorder) merged(ctx context.Context, s *save) ([]int64, error) {
	if err := r.begin(ctx, opSave, s.events); err != nil {
		return nil, err
	}
	s.Arrived, s.Timing = time.Now(), timing.From(ctx)
	s.Deadline, _ = ctx.Deadline()
	if err := r.queue.Do(ctx, s, r.writeBatch); err != nil {
		return nil, r.store.translate(ctx, r.application+": "+opSave, err)
	}
	return s.ids, nil
}

// saveWhole saves in the transaction that ctx carries, without a savepoint: the
// dialect stores all of the events or none.
func (r *processRecorder) saveWhole(ctx context.Context, events []persistence.StoredEvent) ([]int64, error) {
	if err := r.begin(ctx, opSave, events); err != nil {
		return nil, err
	}
	outer, err := r.store.txScopeOf(ctx)
	if err != nil {
		return nil, err
	}
	done, err := r.store.turnToWrite(ctx, outer)
	if err != nil {
		return nil, err
	}
	defer done()
	c := connection{outer.connection(), r.store}
	op := r.application + ": " + opSave
	ids, err := r.store.dialect.appendWhole(ctx, c, r.eventLog, events)
	switch {
	case err == nil:
		return checkIDs(ids, events)
	case r.store.infoOf(err).unique: // the transaction cannot be asked what is in the way
		return nil, notUnique(op, err)
	}
	err = r.withHolder(ctx, connection{r.store.pool, r.store}, op, err) // nor who has the lock
	return r.classifyWatched(ctx, outer, op, events, err)
}

// writeBatch writes a batch on behalf of all its callers.
func (r *processRecorder) writeBatch(ctx context.Context, batch []*save) {
	r.store.dialect.merge(ctx, r.eventLog, batch)
}

// append takes the order lock and only then draws ids, so that ids become
// visible in ascending order.
func (r *processRecorder) append(ctx context.Context, c connection, joined bool, events []persistence.StoredEvent) ([]int64, error) {
	ids, err := r.store.dialect.append(ctx, c, locking{timeout: r.store.lockTimeout, joined: joined}, r.eventLog, events)
	if err != nil {
		return nil, err
	}
	return checkIDs(ids, events)
}

// SelectNotifications implements persistence.ApplicationRecorder.
func (r *processRecorder) SelectNotifications(ctx context.Context, wanted persistence.NotificationRange) ([]persistence.Notification, error) {
	wanted, err := wanted.Validate()
	if err != nil {
		return nil, err
	}
	op := r.application + ": select notifications"
	c, done, err := r.store.reader(ctx, op)
	if err != nil {
		return nil, err
	}
	defer done()
	joined, err := r.store.txScopeOf(ctx)
	if err != nil {
		return nil, err
	}
	notifications, err := r.readLog(ctx, c, joined != nil, wanted)
	return notifications, r.store.translate(ctx, op, err)
}

// MaxNotificationID implements persistence.ApplicationRecorder.
func (r *processRecorder) MaxNotificationID(ctx context.Context) (int64, error) {
	const what = "read the head of the log"
	if !r.store.dialect.concurrent() {
		return r.maximum(ctx, what, "SELECT "+headOf(r.table.quoted, "?1"), r.application)
	}
	op := r.application + ": " + what
	c, done, err := r.store.reader(ctx, op)
	if err != nil {
		return 0, err
	}
	defer done()
	joined, err := r.store.txScopeOf(ctx)
	if err != nil {
		return 0, err
	}
	head, _, err := r.settled(ctx, c, joined != nil)
	return head, r.store.translate(ctx, op, err)
}

// NewestNotificationID implements persistence.ApplicationRecorder.
func (r *processRecorder) NewestNotificationID(ctx context.Context) (int64, error) {
	query := r.store.dialect.placeholders("SELECT " + headOf(r.table.quoted, "?"))
	return r.maximum(ctx, "read the newest id of the log", query, r.application, r.application)
}

// maximum reads one number.
func (r *processRecorder) maximum(ctx context.Context, what, query string, arguments ...any) (highest int64, err error) {
	op := r.application + ": " + what
	c, done, err := r.store.reader(ctx, op)
	if err != nil {
		return 0, err
	}
	defer done()
	err = c.row(ctx, r.store.dialect.placeholders(query), arguments...).Scan(&highest)
	return highest, r.store.translate(ctx, op, err)
}

// LogHold implements capability.LogHoldReader. There is never one on SQLite,
// which has one writer at a time.
func (r *processRecorder) LogHold(ctx context.Context, recent time.Duration) (hold *persistence.LogHold, err error) {
	if !r.store.dialect.concurrent() {
		return nil, nil
	}
	op := r.application + ": find who holds back the log"
	c, done, err := r.store.reader(ctx, op)
	if err != nil {
		return nil, err
	}
	defer done()
	err = r.whereItIs(ctx, c, func(at location) (there bool, err error) {
		if recent > 0 && time.Since(r.store.poolState.bound(r.keyAt(at)).lastWhole()) < recent {
			return true, nil
		}
		hold, there, err = r.store.dialect.hold(ctx, c, r.eventLog, at)
		return there, err
	})
	return hold, r.store.translate(ctx, op, err)
}
