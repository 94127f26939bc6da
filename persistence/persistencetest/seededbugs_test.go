package persistencetest

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// bug is a mistake that a store may have. Every one of them must fail at least
// one row.
type bug struct {
	name string
	// spoil changes what a recorder does.
	spoil spoiler
	// fresh makes spoil for one store, if the bug keeps a state.
	fresh func() spoiler
	// rename changes the names of applications.
	rename func(name string) string
	// reopen is what happens when a store is opened again.
	reopen func(f persistence.Factory) persistence.Factory
	// transaction changes how transactions are run.
	transaction func(run transactionFunc) transactionFunc
	// unclosed ignores Close.
	unclosed bool
}

// some rows that find a bug are enough.
const some = 2

type transactionFunc func(ctx context.Context, f persistence.Factory, fn func(ctx context.Context) error) error

// TestSeededBugs runs the suite against stores with known bugs. With FULL=1 it
// runs every row against each bug; otherwise it stops where some rows have
// found it.
func TestSeededBugs(t *testing.T) {
	seen := map[string]bool{}
	for _, b := range bugs {
		if seen[b.name] {
			t.Errorf("there are two bugs %q", b.name)
		}
		seen[b.name] = true
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			caught := b.caught(t, figure(some, 1_000))
			if len(caught) == 0 {
				t.Fatal("no row fails")
			}
			t.Logf("caught by:\n\t%s", strings.Join(caught, "\n\t"))
		})
	}
	t.Logf("%d bugs", len(bugs))
}

// TestNoBug shows that the wrapping of stores is not itself what the rows fail
// on.
func TestNoBug(t *testing.T) {
	t.Parallel()
	b := bug{spoil: func(*spoilt) {}}
	if caught := b.caught(t, 1); len(caught) > 0 {
		t.Errorf("fails without a bug: %v", caught)
	}
}

// caught runs rows against a store with the bug until enough of them have
// failed, the quick ones first.
func (b bug) caught(t *testing.T, enough int) []string {
	rows, _ := divide(b.harness())
	slices.SortStableFunc(rows, func(x, y row) int {
		switch {
		case x.heavy == y.heavy:
			return 0
		case x.heavy:
			return 1
		}
		return -1
	})
	var caught []string
	for _, r := range rows {
		if r.heavy && len(caught) > 0 && enough == some {
			break
		}
		if record(t, func(t testing.TB) { r.exercise(t, b.harness()) }).Failed() {
			if caught = append(caught, r.fullName()); len(caught) == enough {
				break
			}
		}
	}
	return caught
}

// harness is the one of a correct store, spoilt by the bug.
func (b bug) harness() Harness {
	h := transactional()
	run := transactionFunc(h.Transaction)
	if b.transaction != nil {
		run = b.transaction(run)
	}
	return Harness{
		New: func(t testing.TB) persistence.Factory {
			spoil := b.spoil
			if b.fresh != nil {
				spoil = b.fresh()
			}
			return &spoiltStore{Factory: h.New(t), bug: b, spoil: spoil}
		},
		Reopen: func(t testing.TB, f persistence.Factory) persistence.Factory {
			old := f.(*spoiltStore)
			if b.reopen != nil {
				return &spoiltStore{Factory: b.reopen(old.Factory), bug: b, spoil: old.spoil}
			}
			return &spoiltStore{Factory: h.Reopen(t, old.Factory), bug: b, spoil: old.spoil}
		},
		Concurrent: true,
		Transaction: func(ctx context.Context, f persistence.Factory, fn func(ctx context.Context) error) error {
			return run(ctx, f.(*spoiltStore).Factory, fn)
		},
	}
}

// spoiltStore is a store with a bug.
type spoiltStore struct {
	persistence.Factory
	bug   bug
	spoil spoiler
}

func (s *spoiltStore) Close() error {
	if s.bug.unclosed {
		return nil
	}
	return s.Factory.Close()
}

func (s *spoiltStore) name(application string) string {
	if s.bug.rename != nil {
		return s.bug.rename(application)
	}
	return application
}

func (s *spoiltStore) ProcessRecorder(application string) (persistence.ProcessRecorder, error) {
	inner, err := s.Factory.ProcessRecorder(s.name(application))
	if err != nil {
		return nil, err
	}
	r := &spoilt{
		factory: s.Factory, application: application,
		insert: inner.InsertEvents, selects: inner.SelectEvents, page: inner.SelectNotifications,
		head: inner.MaxNotificationID, move: inner.InsertTracking, position: inner.MaxTrackingID,
		process: inner.InsertProcessed, remove: inner.(persistence.OriginatorDeleter).DeleteOriginator,
		moveFrom: inner.(persistence.PositionMover).MovePosition,
	}
	keeper := inner.(persistence.SettingsRecorder)
	r.settings, r.lockSettings, r.writeSettings = keeper.Settings, keeper.LockSettings, keeper.WriteSettings
	r.tryLockSettings = inner.(persistence.SettingsTryLocker).TryLockSettings
	r.revision = inner.(persistence.RevisionRecorder).SettingsRevision
	r.lockLog = inner.(persistence.LogLocker).LockLog
	return r.spoiltBy(s.spoil), nil
}

func (s *spoiltStore) SnapshotRecorder(application string) (persistence.AggregateRecorder, error) {
	inner, err := s.Factory.SnapshotRecorder(s.name(application))
	if err != nil {
		return nil, err
	}
	r := &spoilt{
		factory: s.Factory, application: application, snapshots: true,
		insert: inner.InsertEvents, selects: inner.SelectEvents,
		keep:    inner.(persistence.SnapshotRecorder).InsertSnapshot,
		replace: inner.(persistence.SnapshotRecorder).ReplaceSnapshot,
	}
	return r.spoiltBy(s.spoil), nil
}

// spoilt is a recorder whose methods a bug may replace.
type spoilt struct {
	factory     persistence.Factory
	application string
	snapshots   bool

	insert   insertFunc
	selects  selectFunc
	page     func(context.Context, pageRange) ([]notification, error)
	head     func(context.Context) (int64, error)
	move     func(context.Context, destination) error
	moveFrom func(context.Context, int64, destination) error
	position func(context.Context, string) (int64, error)
	process  func(context.Context, []storedEvent, destination) ([]int64, error)
	remove   func(context.Context, uuid.UUID) (persistence.DeletedOriginator, error)
	keep     func(context.Context, storedEvent, int) error
	replace  func(ctx context.Context, old, snapshot storedEvent) (bool, error)

	settings, lockSettings readSettingsFunc
	tryLockSettings        func(context.Context, string, time.Duration) (int64, *persistence.FollowerSettings, error)
	revision               func(context.Context, string) (int64, *persistence.FollowerSettings, int64, error)
	lockLog                func(context.Context) error
	writeSettings          func(context.Context, string, persistence.FollowerSettings) error
}

func (r *spoilt) DeleteOriginator(ctx context.Context, id uuid.UUID) (persistence.DeletedOriginator, error) {
	return r.remove(ctx, id)
}

func (r *spoilt) InsertSnapshot(ctx context.Context, snapshot storedEvent, keep int) error {
	return r.keep(ctx, snapshot, keep)
}

func (r *spoilt) ReplaceSnapshot(ctx context.Context, old, snapshot storedEvent) (bool, error) {
	return r.replace(ctx, old, snapshot)
}

type (
	insertFunc func(context.Context, []storedEvent) ([]int64, error)
	selectFunc func(context.Context, uuid.UUID, eventRange) eventStream

	readSettingsFunc func(context.Context, string) (int64, *persistence.FollowerSettings, error)
)

func (r *spoilt) spoiltBy(spoil func(*spoilt)) *spoilt {
	if spoil != nil {
		spoil(r)
	}
	return r
}

func (r *spoilt) InsertEvents(ctx context.Context, events []storedEvent) ([]int64, error) {
	return r.insert(ctx, events)
}

func (r *spoilt) SelectEvents(
	ctx context.Context, id uuid.UUID, want eventRange,
) eventStream {
	return r.selects(ctx, id, want)
}

func (r *spoilt) SelectNotifications(
	ctx context.Context, want pageRange,
) ([]notification, error) {
	return r.page(ctx, want)
}

func (r *spoilt) MaxNotificationID(ctx context.Context) (int64, error) { return r.head(ctx) }

func (r *spoilt) InsertTracking(ctx context.Context, to destination) error {
	return r.move(ctx, to)
}

func (r *spoilt) MovePosition(ctx context.Context, from int64, to destination) error {
	return r.moveFrom(ctx, from, to)
}

func (r *spoilt) MaxTrackingID(ctx context.Context, upstream string) (int64, error) {
	return r.position(ctx, upstream)
}

func (r *spoilt) InsertProcessed(
	ctx context.Context, events []storedEvent, to destination,
) ([]int64, error) {
	return r.process(ctx, events, to)
}

func (r *spoilt) Settings(ctx context.Context, upstream string) (int64, *persistence.FollowerSettings, error) {
	return r.settings(ctx, upstream)
}

func (r *spoilt) LockSettings(ctx context.Context, upstream string) (int64, *persistence.FollowerSettings, error) {
	return r.lockSettings(ctx, upstream)
}

func (r *spoilt) TryLockSettings(
	ctx context.Context, upstream string, wait time.Duration,
) (int64, *persistence.FollowerSettings, error) {
	return r.tryLockSettings(ctx, upstream, wait)
}

func (r *spoilt) SettingsRevision(
	ctx context.Context, upstream string,
) (int64, *persistence.FollowerSettings, int64, error) {
	return r.revision(ctx, upstream)
}

func (r *spoilt) LockSettingsRevision(
	ctx context.Context, upstream string, wait time.Duration,
) (int64, *persistence.FollowerSettings, int64, error) {
	if _, _, err := r.tryLockSettings(ctx, upstream, wait); err != nil {
		return 0, nil, 0, err
	}
	return r.revision(ctx, upstream)
}

func (r *spoilt) LockLog(ctx context.Context) error { return r.lockLog(ctx) }

func (r *spoilt) WriteSettings(ctx context.Context, upstream string, settings persistence.FollowerSettings) error {
	return r.writeSettings(ctx, upstream, settings)
}

// eachSettingsRead changes all settings that are read.
func eachSettingsRead(change func(position *int64, s *persistence.FollowerSettings)) spoiler {
	return func(r *spoilt) {
		spoilt := func(read readSettingsFunc) readSettingsFunc {
			return func(ctx context.Context, upstream string) (int64, *persistence.FollowerSettings, error) {
				position, settings, err := read(ctx, upstream)
				if settings != nil {
					change(&position, settings)
				}
				return position, settings, err
			}
		}
		r.settings, r.lockSettings = spoilt(r.settings), spoilt(r.lockSettings)
	}
}

// eachEvent changes every event that is read, from a stream or from a page.
func eachEvent(change func(e *storedEvent)) spoiler {
	return func(r *spoilt) {
		selects, page := r.selects, r.page
		r.selects = func(ctx context.Context, id uuid.UUID, want eventRange) eventStream {
			return func(yield func(storedEvent, error) bool) {
				for e, err := range selects(ctx, id, want) {
					if err == nil {
						change(&e)
					}
					if !yield(e, err) {
						return
					}
				}
			}
		}
		r.page = func(ctx context.Context, want pageRange) ([]notification, error) {
			got, err := page(ctx, want)
			for i := range got {
				change(&got[i].StoredEvent)
			}
			return got, err
		}
	}
}

// eachRange changes the ranges of streams.
func eachRange(change func(want *eventRange)) spoiler {
	return func(r *spoilt) {
		selects := r.selects
		r.selects = func(ctx context.Context, id uuid.UUID, want eventRange) eventStream {
			change(&want)
			return selects(ctx, id, want)
		}
	}
}

// eachStream changes all events of a stream together.
func eachStream(change func(events []storedEvent, want eventRange) []storedEvent) spoiler {
	return func(r *spoilt) {
		selects := r.selects
		r.selects = func(ctx context.Context, id uuid.UUID, want eventRange) eventStream {
			return func(yield func(storedEvent, error) bool) {
				if err := want.Validate(); err != nil {
					yield(storedEvent{}, err)
					return
				}
				events, err := collect(selects(ctx, id, eventRange{}))
				if err != nil {
					yield(storedEvent{}, err)
					return
				}
				for _, e := range change(events, want) {
					if !yield(e, nil) {
						return
					}
				}
			}
		}
	}
}

// eachPage changes the ranges of pages.
func eachPage(change func(want *pageRange)) spoiler {
	return func(r *spoilt) {
		page := r.page
		r.page = func(ctx context.Context, want pageRange) ([]notification, error) {
			change(&want)
			return page(ctx, want)
		}
	}
}

// eachInsert changes the events that are inserted, by whatever method.
func eachInsert(change func(events []storedEvent) []storedEvent) spoiler {
	return func(r *spoilt) {
		insert, process := r.insert, r.process
		r.insert = func(ctx context.Context, events []storedEvent) ([]int64, error) {
			return insert(ctx, change(events))
		}
		r.process = func(ctx context.Context, events []storedEvent, to destination) ([]int64, error) {
			return process(ctx, change(events), to)
		}
	}
}

// eachResult changes what inserts return, by whatever method.
func eachResult(change func(r *spoilt, ids []int64, err error) ([]int64, error)) spoiler {
	return func(r *spoilt) {
		insert, process := r.insert, r.process
		r.insert = func(ctx context.Context, events []storedEvent) ([]int64, error) {
			ids, err := insert(ctx, events)
			return change(r, ids, err)
		}
		r.process = func(ctx context.Context, events []storedEvent, to destination) ([]int64, error) {
			ids, err := process(ctx, events, to)
			return change(r, ids, err)
		}
	}
}

// eachConflict changes the conflicts that inserts return.
func eachConflict(change func(c *conflictError) error) spoiler {
	return eachResult(func(_ *spoilt, ids []int64, err error) ([]int64, error) {
		if conflict, ok := errors.AsType[*conflictError](err); ok {
			return ids, change(conflict)
		}
		return ids, err
	})
}

// oneByOne is an insert that is not atomic. Inserts of so many events also take
// a pause in the middle.
func oneByOne(r *spoilt, paused int, pause func()) {
	insert := r.insert
	r.insert = func(ctx context.Context, events []storedEvent) ([]int64, error) {
		if err := persistence.ValidateEvents(r.application, events); err != nil {
			return nil, err
		}
		var all []int64
		for i := range events {
			if i == 2 && len(events) == paused {
				pause()
			}
			ids, err := insert(ctx, events[i:i+1])
			if err != nil {
				return nil, err
			}
			all = append(all, ids...)
		}
		return all, nil
	}
}

// mended makes changed copies of events.
func mended(change func(e *storedEvent)) func(events []storedEvent) []storedEvent {
	return func(events []storedEvent) []storedEvent {
		events = slices.Clone(events)
		for i := range events {
			change(&events[i])
		}
		return events
	}
}

// ignoringContext calls inserts with a context that never ends.
func ignoringContext(r *spoilt) {
	insert, process, move := r.insert, r.process, r.move
	r.insert = func(ctx context.Context, events []storedEvent) ([]int64, error) {
		return insert(context.WithoutCancel(ctx), events)
	}
	r.process = func(ctx context.Context, events []storedEvent, to destination) ([]int64, error) {
		return process(context.WithoutCancel(ctx), events, to)
	}
	r.move = func(ctx context.Context, to destination) error { return move(context.WithoutCancel(ctx), to) }
}

// numbering gives the events of a store ids that were drawn before the store
// was locked, so that they become visible in any order.
type numbering struct {
	drawing sync.Mutex // protects last
	last    int64

	// storing is held by callers that store or read outside of a transaction,
	// so that nothing is read that has no id yet. A writer may wait in it for a
	// transaction that has locked the store, so a transaction does without.
	storing sync.Mutex

	mu  sync.Mutex // protects ids
	ids map[place]int64
}

// alone takes storing unless ctx carries a transaction.
func (n *numbering) alone(ctx context.Context) (release func()) {
	if ctx.Value(transactionKey{}) != nil {
		return func() {}
	}
	n.storing.Lock()
	return n.storing.Unlock
}

func (n *numbering) id(at place) int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ids[at]
}

func (n *numbering) set(at place, id int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ids[at] = id
}

// place is what a store knows an event by.
type place struct {
	application string
	originator  uuid.UUID
	version     int64
}

func (n *numbering) spoil(r *spoilt) {
	if r.snapshots {
		return
	}
	insert, process := r.insert, r.process
	r.insert = func(ctx context.Context, events []storedEvent) ([]int64, error) {
		return n.numbered(ctx, r, events, func() error {
			_, err := insert(ctx, events)
			return err
		})
	}
	r.process = func(ctx context.Context, events []storedEvent, to destination) ([]int64, error) {
		return n.numbered(ctx, r, events, func() error {
			_, err := process(ctx, events, to)
			return err
		})
	}
	n.read(r)
}

func (n *numbering) numbered(ctx context.Context, r *spoilt, events []storedEvent, store func() error) ([]int64, error) {
	ids := n.draw(len(events))
	for range rand.IntN(50) {
		runtime.Gosched()
	}
	defer n.alone(ctx)()
	err := store()
	if conflict, ok := errors.AsType[*conflictError](err); ok {
		for i := range conflict.Stored {
			conflict.Stored[i].ID = n.id(placeOf(r, conflict.Stored[i].StoredEvent))
		}
	}
	if err != nil {
		return nil, err
	}
	for i, e := range events {
		n.set(placeOf(r, e), ids[i])
	}
	return ids, nil
}

func (n *numbering) draw(count int) []int64 {
	ids := make([]int64, count)
	n.drawing.Lock()
	defer n.drawing.Unlock()
	for i := range ids {
		n.last++
		ids[i] = n.last
	}
	return ids
}

func placeOf(r *spoilt, e storedEvent) place {
	application := r.application
	if r.snapshots {
		application += " snapshots"
	}
	return place{application, e.OriginatorID, e.OriginatorVersion}
}

// read gives pages in the order of the other ids.
func (n *numbering) read(r *spoilt) {
	page := r.page
	all := func(ctx context.Context) (*model, error) {
		defer n.alone(ctx)()
		m := &model{}
		for after := int64(0); ; {
			got, err := page(ctx, pageRange{After: after, Limit: persistence.MaxPage})
			if err != nil || len(got) == 0 {
				return m, err
			}
			after = got[len(got)-1].ID
			for _, x := range got {
				x.ID = n.id(placeOf(r, x.StoredEvent))
				m.rows = append(m.rows, x)
			}
		}
	}
	r.page = func(ctx context.Context, want pageRange) ([]notification, error) {
		want, err := want.Validate()
		if err != nil {
			return nil, err
		}
		m, err := all(ctx)
		return m.page(want), err
	}
	r.head = func(ctx context.Context) (int64, error) {
		m, err := all(ctx)
		if rows := m.all(); err == nil && len(rows) > 0 {
			return rows[len(rows)-1].ID, nil
		}
		return 0, err
	}
}
