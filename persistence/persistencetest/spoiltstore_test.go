package persistencetest

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

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
		head: inner.MaxNotificationID, newest: inner.NewestNotificationID, move: inner.InsertTracking, position: inner.MaxTrackingID,
		process: inner.InsertProcessed, remove: inner.(capability.OriginatorDeleter).DeleteOriginator,
		moveFrom: inner.MovePosition, lockPosition: inner.LockPosition,
	}
	keeper := inner.(capability.SettingsRecorder)
	r.settings, r.lockSettings, r.writeSettings = keeper.Settings, keeper.LockSettings, keeper.WriteSettings
	revisions := inner.(capability.RevisionRecorder)
	r.revision, r.lockRevision = revisions.SettingsRevision, revisions.LockSettingsRevision
	r.lockLog = inner.(capability.LogLocker).LockLog
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
		keep:    inner.(capability.SnapshotRecorder).InsertSnapshot,
		replace: inner.(capability.SnapshotRecorder).ReplaceSnapshot,
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
	newest   func(context.Context) (int64, error)
	move     func(context.Context, destination) error
	moveFrom func(context.Context, int64, destination) error
	position func(context.Context, string) (int64, error)
	process  func(context.Context, []storedEvent, destination) ([]int64, error)
	remove   func(context.Context, uuid.UUID) (persistence.DeletedOriginator, error)
	keep     func(context.Context, storedEvent, int) error
	replace  func(ctx context.Context, old, snapshot storedEvent) (bool, error)

	settings, lockSettings readSettingsFunc
	lockRevision           func(context.Context, string, time.Duration) (int64, *capability.FollowerSettings, int64, error)
	lockPosition           func(context.Context, string) (int64, error)
	revision               func(context.Context, string) (int64, *capability.FollowerSettings, int64, error)
	lockLog                func(context.Context) error
	writeSettings          func(context.Context, string, capability.FollowerSettings) error
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

	readSettingsFunc func(context.Context, string) (int64, *capability.FollowerSettings, error)
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

func (r *spoilt) NewestNotificationID(ctx context.Context) (int64, error) { return r.newest(ctx) }

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

func (r *spoilt) Settings(ctx context.Context, upstream string) (int64, *capability.FollowerSettings, error) {
	return r.settings(ctx, upstream)
}

func (r *spoilt) LockSettings(ctx context.Context, upstream string) (int64, *capability.FollowerSettings, error) {
	return r.lockSettings(ctx, upstream)
}

func (r *spoilt) LockPosition(ctx context.Context, upstream string) (int64, error) {
	return r.lockPosition(ctx, upstream)
}

func (r *spoilt) SettingsRevision(
	ctx context.Context, upstream string,
) (int64, *capability.FollowerSettings, int64, error) {
	return r.revision(ctx, upstream)
}

func (r *spoilt) LockSettingsRevision(
	ctx context.Context, upstream string, wait time.Duration,
) (int64, *capability.FollowerSettings, int64, error) {
	if _, _, _, err := r.lockRevision(ctx, upstream, wait); err != nil {
		return 0, nil, 0, err
	}
	return r.revision(ctx, upstream)
}

func (r *spoilt) LockLog(ctx context.Context) error { return r.lockLog(ctx) }

func (r *spoilt) WriteSettings(ctx context.Context, upstream string, settings capability.FollowerSettings) error {
	return r.writeSettings(ctx, upstream, settings)
}
