package persistencetest

import (
	"bytes"
	"context"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

// transactional is the harness of a store in memory that can do everything that
// a harness can declare.
func transactional() Harness {
	return Harness{
		New: func(testing.TB) persistence.Factory {
			return &journalStore{journal: &journal{store: memory.New()}}
		},
		Reopen: func(_ testing.TB, f persistence.Factory) persistence.Factory {
			return &journalStore{journal: f.(*journalStore).journal}
		},
		Concurrent: true,
		Transaction: func(ctx context.Context, f persistence.Factory, fn func(ctx context.Context) error) error {
			return f.(*journalStore).journal.transaction(ctx, fn)
		},
	}
}

// TestJournal runs the rows that no other store of this folder can, and shows
// that the suite passes if no bug was seeded.
func TestJournal(t *testing.T) {
	h := transactional()
	h.Parallel = true
	Run(t, h)
}

// journal is a store in memory that outlives its factories, and has
// transactions. From its first write or lock on, a transaction is a second
// store, into which everything written so far was written again, and which
// takes the place of the first one at the commit.
type journal struct {
	writing sync.Mutex   // held by a writer, and by a transaction from its first write or lock on
	mu      sync.RWMutex // protects what follows
	store   persistence.Transactor
	writes  []write
}

type write func(s persistence.Transactor) error

type transactionKey struct{}

// fork is a transaction.
type fork struct {
	journal *journal
	store   persistence.Transactor // nil before the first write or lock
	writes  []write
}

func (j *journal) transaction(ctx context.Context, fn func(ctx context.Context) error) error {
	f := &fork{journal: j}
	defer func() {
		if f.store != nil {
			j.writing.Unlock()
		}
	}()
	if err := fn(context.WithValue(ctx, transactionKey{}, f)); err != nil {
		return err
	}
	if f.store != nil {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.store, j.writes = f.store, f.writes
	}
	return ctx.Err()
}

// lock keeps other writers out until the transaction ends.
func (f *fork) lock() error {
	if f.store != nil {
		return nil
	}
	f.journal.writing.Lock()
	return f.begin()
}

// begin makes the second store. Its caller holds the journal's writing.
func (f *fork) begin() error {
	f.store, f.writes = memory.New(), slices.Clone(f.journal.writes)
	for _, w := range f.writes {
		if err := w(f.store); err != nil {
			return err
		}
	}
	return nil
}

// write writes, and remembers what it wrote if that was a success.
func (j *journal) write(ctx context.Context, w write) error {
	if f, ok := ctx.Value(transactionKey{}).(*fork); ok {
		if err := f.lock(); err != nil {
			return err
		}
		err := w(f.store)
		if err == nil {
			f.writes = append(f.writes, w)
		}
		return err
	}
	j.writing.Lock()
	defer j.writing.Unlock()
	err := w(j.store)
	if err == nil {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.writes = append(j.writes, w)
	}
	return err
}

// at is the store that a read with the context sees.
func (j *journal) at(ctx context.Context) persistence.Transactor {
	if f, ok := ctx.Value(transactionKey{}).(*fork); ok && f.store != nil {
		return f.store
	}
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.store
}

// journalStore is a factory over a journal.
type journalStore struct {
	journal *journal
	closed  atomic.Bool
}

func (s *journalStore) Close() error {
	s.closed.Store(true)
	return nil
}

func (s *journalStore) check(op string) error {
	if s.closed.Load() {
		return &persistence.Error{Class: persistence.ErrClosed, Op: op}
	}
	return nil
}

func (s *journalStore) ProcessRecorder(application string) (persistence.ProcessRecorder, error) {
	if err := s.check("make a recorder"); err != nil {
		return nil, err
	}
	if err := persistence.ValidateName(application); err != nil {
		return nil, err
	}
	return &journalRecorder{journalStore: s, application: application}, nil
}

func (s *journalStore) SnapshotRecorder(application string) (persistence.AggregateRecorder, error) {
	if err := s.check("make a recorder"); err != nil {
		return nil, err
	}
	if err := persistence.ValidateName(application); err != nil {
		return nil, err
	}
	return &journalRecorder{journalStore: s, application: application, snapshots: true}, nil
}

// journalRecorder uses the recorders of whatever store the context leads to.
type journalRecorder struct {
	*journalStore
	application string
	snapshots   bool
}

func (r *journalRecorder) aggregate(s persistence.Transactor) (persistence.AggregateRecorder, error) {
	if r.snapshots {
		return s.SnapshotRecorder(r.application)
	}
	return s.ProcessRecorder(r.application)
}

func (r *journalRecorder) InsertEvents(ctx context.Context, events []persistence.StoredEvent) (ids []int64, err error) {
	if err := r.check("insert"); err != nil {
		return nil, err
	}
	events = deepClone(events)
	var first sync.Once // the same ids come again when the write is repeated
	err = r.journal.write(ctx, write(func(s persistence.Transactor) error {
		recorder, err := r.aggregate(s)
		if err != nil {
			return err
		}
		got, err := recorder.InsertEvents(context.WithoutCancel(ctx), events)
		first.Do(func() { ids = got })
		return err
	}).unless(ctx))
	return ids, err
}

func (r *journalRecorder) InsertSnapshot(ctx context.Context, snapshot persistence.StoredEvent, keep int) error {
	return r.write(ctx, func(s persistence.Transactor) error {
		recorder, err := s.SnapshotRecorder(r.application)
		if err != nil {
			return err
		}
		return recorder.(capability.SnapshotRecorder).InsertSnapshot(context.WithoutCancel(ctx), snapshot, keep)
	})
}

func (r *journalRecorder) ReplaceSnapshot(
	ctx context.Context, old, snapshot persistence.StoredEvent,
) (replaced bool, err error) {
	err = r.write(ctx, func(s persistence.Transactor) error {
		recorder, err := s.SnapshotRecorder(r.application)
		if err == nil {
			replaced, err = recorder.(capability.SnapshotRecorder).ReplaceSnapshot(context.WithoutCancel(ctx), old, snapshot)
		}
		return err
	})
	return replaced, err
}

func (r *journalRecorder) DeleteOriginator(
	ctx context.Context, id uuid.UUID,
) (deleted persistence.DeletedOriginator, err error) {
	err = r.write(ctx, func(s persistence.Transactor) error {
		recorder, err := s.ProcessRecorder(r.application)
		if err == nil {
			deleted, err = recorder.(capability.OriginatorDeleter).DeleteOriginator(context.WithoutCancel(ctx), id)
		}
		return err
	})
	return deleted, err
}

func (r *journalRecorder) write(ctx context.Context, w write) error {
	if err := r.check("write"); err != nil {
		return err
	}
	return r.journal.write(ctx, w.unless(ctx))
}

func (r *journalRecorder) InsertProcessed(
	ctx context.Context, events []persistence.StoredEvent, to persistence.Tracking,
) (ids []int64, err error) {
	if err := r.check("insert"); err != nil {
		return nil, err
	}
	events = deepClone(events)
	var first sync.Once // the same ids come again when the write is repeated
	err = r.journal.write(ctx, write(func(s persistence.Transactor) error {
		recorder, err := s.ProcessRecorder(r.application)
		if err != nil {
			return err
		}
		got, err := recorder.InsertProcessed(context.WithoutCancel(ctx), events, to)
		first.Do(func() { ids = got })
		return err
	}).unless(ctx))
	return ids, err
}

func (r *journalRecorder) Settings(ctx context.Context, upstream string) (int64, *capability.FollowerSettings, error) {
	if err := r.check("read settings"); err != nil {
		return 0, nil, err
	}
	recorder, err := r.journal.at(ctx).ProcessRecorder(r.application)
	if err != nil {
		return 0, nil, err
	}
	return recorder.(capability.SettingsRecorder).Settings(context.WithoutCancel(ctx), upstream)
}

func (r *journalRecorder) LockSettings(ctx context.Context, upstream string) (int64, *capability.FollowerSettings, error) {
	if err := r.LockLog(ctx); err != nil {
		return 0, nil, err
	}
	return r.Settings(ctx, upstream)
}

// tryLock locks the journal, and does not wait at all.
func (r *journalRecorder) tryLock(ctx context.Context) error {
	if f, ok := ctx.Value(transactionKey{}).(*fork); ok && f.store == nil {
		if !f.journal.writing.TryLock() {
			return &persistence.Error{Class: persistence.ErrPositionLocked, Op: "lock a position"}
		}
		if err := f.begin(); err != nil {
			return err
		}
	}
	return r.LockLog(ctx)
}

func (r *journalRecorder) SettingsRevision(
	ctx context.Context, upstream string,
) (int64, *capability.FollowerSettings, int64, error) {
	if err := r.check("read settings"); err != nil {
		return 0, nil, 0, err
	}
	recorder, err := r.journal.at(ctx).ProcessRecorder(r.application)
	if err != nil {
		return 0, nil, 0, err
	}
	return recorder.(capability.RevisionRecorder).SettingsRevision(context.WithoutCancel(ctx), upstream)
}

func (r *journalRecorder) LockSettingsRevision(
	ctx context.Context, upstream string, wait time.Duration,
) (int64, *capability.FollowerSettings, int64, error) {
	lock := r.LockLog
	if wait > 0 {
		lock = r.tryLock
	}
	if err := lock(ctx); err != nil {
		return 0, nil, 0, err
	}
	return r.SettingsRevision(ctx, upstream)
}

// LockLog locks the whole journal.
func (r *journalRecorder) LockLog(ctx context.Context) error {
	f, ok := ctx.Value(transactionKey{}).(*fork)
	if !ok {
		return &persistence.Error{Class: persistence.ErrNoTransaction, Op: "lock the log"}
	}
	return f.lock()
}

func (r *journalRecorder) WriteSettings(ctx context.Context, upstream string, settings capability.FollowerSettings) error {
	if err := r.check("write settings"); err != nil {
		return err
	}
	return r.journal.write(ctx, write(func(s persistence.Transactor) error {
		recorder, err := s.ProcessRecorder(r.application)
		if err != nil {
			return err
		}
		return recorder.(capability.SettingsRecorder).WriteSettings(context.WithoutCancel(ctx), upstream, settings)
	}).unless(ctx))
}

func (r *journalRecorder) InsertTracking(ctx context.Context, to persistence.Tracking) error {
	if err := r.check("insert"); err != nil {
		return err
	}
	return r.journal.write(ctx, write(func(s persistence.Transactor) error {
		recorder, err := s.ProcessRecorder(r.application)
		if err == nil {
			err = recorder.InsertTracking(context.WithoutCancel(ctx), to)
		}
		return err
	}).unless(ctx))
}

func (r *journalRecorder) MovePosition(ctx context.Context, from int64, to persistence.Tracking) error {
	if err := r.check("insert"); err != nil {
		return err
	}
	return r.journal.write(ctx, write(func(s persistence.Transactor) error {
		recorder, err := s.ProcessRecorder(r.application)
		if err == nil {
			err = recorder.MovePosition(context.WithoutCancel(ctx), from, to)
		}
		return err
	}).unless(ctx))
}

func (r *journalRecorder) LockPosition(ctx context.Context, upstream string) (int64, error) {
	if err := r.LockLog(ctx); err != nil {
		return 0, err
	}
	return r.MaxTrackingID(ctx, upstream)
}

func (r *journalRecorder) SelectEvents(
	ctx context.Context, id uuid.UUID, want persistence.EventRange,
) iter.Seq2[persistence.StoredEvent, error] {
	return func(yield func(persistence.StoredEvent, error) bool) {
		err := r.check("select")
		var recorder persistence.AggregateRecorder
		if err == nil {
			recorder, err = r.aggregate(r.journal.at(ctx))
		}
		if err != nil {
			yield(persistence.StoredEvent{}, err)
			return
		}
		recorder.SelectEvents(ctx, id, want)(yield)
	}
}

// process is the recorder for a read.
func (r *journalRecorder) process(ctx context.Context) (persistence.ProcessRecorder, error) {
	if err := r.check("read"); err != nil {
		return nil, err
	}
	return r.journal.at(ctx).ProcessRecorder(r.application)
}

func (r *journalRecorder) SelectNotifications(
	ctx context.Context, want persistence.NotificationRange,
) ([]persistence.Notification, error) {
	recorder, err := r.process(ctx)
	if err != nil {
		return nil, err
	}
	return recorder.SelectNotifications(ctx, want)
}

func (r *journalRecorder) MaxNotificationID(ctx context.Context) (int64, error) {
	recorder, err := r.process(ctx)
	if err != nil {
		return 0, err
	}
	return recorder.MaxNotificationID(ctx)
}

func (r *journalRecorder) NewestNotificationID(ctx context.Context) (int64, error) {
	return r.MaxNotificationID(ctx)
}

func (r *journalRecorder) MaxTrackingID(ctx context.Context, upstream string) (int64, error) {
	recorder, err := r.process(ctx)
	if err != nil {
		return 0, err
	}
	return recorder.MaxTrackingID(ctx, upstream)
}

// unless is the write if ctx has not ended, the first time that it is written.
func (w write) unless(ctx context.Context) write {
	again := false
	return func(s persistence.Transactor) error {
		if err := ctx.Err(); err != nil && !again {
			return err
		}
		again = true
		return w(s)
	}
}

func deepClone(events []persistence.StoredEvent) []persistence.StoredEvent {
	events = slices.Clone(events)
	for i := range events {
		events[i].State = bytes.Clone(events[i].State)
	}
	return events
}
