package capability

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// FollowerStatus is the state of a follower with regard to one upstream
// application, as it is stored for other processes to see. The process that runs
// the follower keeps it up to date.
type FollowerStatus struct {
	ApplicationName         string
	UpstreamApplicationName string
	// State is "running", "retrying", "outdated", "standing by" or "stopped".
	State string
	// Error is the text of what the follower failed with last, or "" if it has
	// recovered. NotificationID is the event that it failed at, or that a
	// follower which runs has been processing for a while, or 0.
	Error          string
	NotificationID int64
	// Ahead is the position that was found to be ahead of the upstream log, or
	// 0. A follower that is started again must not go on from it, although the
	// log may have grown beyond it. KeepAhead leaves the stored one unchanged.
	Ahead int64
	// Since is when it began to fail there, or to process that event, by the
	// clock of the process that runs it. NextRetry is when it will be tried
	// again. They are zero if there is nothing to tell. Times are in UTC.
	Since     time.Time
	NextRetry time.Time
	// Heartbeat is when the status was written last. One that runs writes it at
	// least every HeartbeatInterval. A store with a clock writes that time,
	// whatever it is given, and returns it by the clock of the process that
	// reads it: what counts is how long ago it was, and hosts need not agree on
	// the time.
	Heartbeat time.Time
	// Process names the runner that has written it: its host, the number of its
	// process, and a random part. No two runners have the same name.
	Process string
}

// KeepAhead is the Ahead of a status that says nothing of it.
const KeepAhead int64 = -1

// HeartbeatInterval is how often a follower that runs writes its status if
// nothing changes.
const HeartbeatInterval = 10 * time.Second

// Alive reports whether a runner runs the follower: it is not stopped, and has
// written its status in the last three intervals. A heartbeat that is later
// than now by as much or more says nothing.
func (s FollowerStatus) Alive(now time.Time) bool {
	return s.State != "stopped" && now.Sub(s.Heartbeat).Abs() < 3*HeartbeatInterval
}

// StatusRecorder keeps the statuses of followers.
type StatusRecorder interface {
	// RecordStatus keeps a status in place of the one before. A status that is
	// stopped does not replace or hide that of another runner, which goes on
	// running the follower, unless it has a position Ahead. It takes part in
	// the transaction that ctx carries.
	RecordStatus(ctx context.Context, status FollowerStatus) error
	// FollowerStatuses returns all statuses, in the order of their names.
	FollowerStatuses(ctx context.Context) ([]FollowerStatus, error)
}

// FollowerSettings are stored for a follower and one upstream application,
// beside its position, so that every process of the follower knows them. The
// zero value is that of a follower which has not begun.
type FollowerSettings struct {
	// Began is the position that the follower began at, or nil if it has not
	// begun. A follower that begins at the head of a log has left out what was
	// recorded before.
	Began *int64
	// Topics has the topics that the follower processes, and for each the
	// position since which it does, as the text of a JSON object:
	// {"Dog.Registered": 0, "Dog.TrickAdded": 120}. The topic "*" means all
	// others. A negative number is the position since which a topic is not
	// processed any more. "" means that nothing is known. Package system writes
	// it.
	Topics string
	// TopicChanges is how often a topic was left out since the follower was
	// reset. Two programs that run under one name with different topics do that
	// again and again.
	TopicChanges int64
	// PausedAt is when the follower was paused, in UTC, and zero if it is not.
	// PausedBy says who paused it.
	PausedAt time.Time
	PausedBy string
	// Partitions is into how many partitions the log is divided, and 0 if it is
	// not. A PartitionRecorder sets it, and WriteSettings leaves it out.
	Partitions int
}

// Paused reports whether the follower is paused: it processes nothing until it
// is resumed.
func (s *FollowerSettings) Paused() bool { return !s.PausedAt.IsZero() }

// SettingsRecorder is a ProcessRecorder that keeps the settings of its
// application as a follower. Settings are nil if the store does not keep them
// at the moment, as a database without their table; the follower then works
// without.
type SettingsRecorder interface {
	// Settings returns the position in the log of the upstream application, as
	// MaxTrackingID does, and the settings.
	Settings(ctx context.Context, upstream string) (position int64, settings *FollowerSettings, err error)
	// LockSettings returns the same under the lock of the position (see
	// LockPosition), which lasts until the transaction in ctx ends. A store
	// without transactions takes no lock, and a follower that is paused there
	// finishes its batch.
	LockSettings(ctx context.Context, upstream string) (position int64, settings *FollowerSettings, err error)
	// WriteSettings replaces the settings. Call it with those that LockSettings
	// has returned, changed, and in the same transaction. If the store cannot
	// keep them it returns an error.
	WriteSettings(ctx context.Context, upstream string, settings FollowerSettings) error
}

// RevisionRecorder is a SettingsRecorder whose settings have a revision. It
// changes whenever DeleteOriginator deletes events of the upstream application
// in the same store, and may change at other times. A follower compares it, so
// that it does not process a page of the log that was read before a deletion.
type RevisionRecorder interface {
	SettingsRecorder

	// SettingsRevision is Settings, and returns the revision as well. It means
	// nothing if the settings are nil.
	SettingsRevision(
		ctx context.Context, upstream string,
	) (position int64, settings *FollowerSettings, revision int64, err error)

	// LockSettingsRevision is LockSettings, and returns the revision as well.
	// It returns ErrPositionLocked if another transaction still holds the
	// position after wait; a wait of 0 is as long as LockSettings waits. No
	// event of the upstream application can be deleted until the transaction
	// ends.
	LockSettingsRevision(
		ctx context.Context, upstream string, wait time.Duration,
	) (position int64, settings *FollowerSettings, revision int64, err error)
}

// ParkingRecorder is a ProcessRecorder that keeps what a follower has parked.
// Its methods take part in the transaction that ctx carries.
type ParkingRecorder interface {
	// ParkEvent keeps an event of the recorder's application. An event that is
	// kept already is kept as it was.
	ParkEvent(ctx context.Context, event persistence.ParkedEvent) error
	// ParkedEvents returns what is kept of an upstream application's events, in
	// the order of their notification ids. "" is all upstream applications.
	ParkedEvents(ctx context.Context, upstream string) ([]persistence.ParkedEvent, error)
	// ParkedOriginators returns those of some originators that have events
	// kept, each with the first event's id.
	ParkedOriginators(ctx context.Context, upstream string, among []uuid.UUID) (map[uuid.UUID]int64, error)
	// CountParked returns how many events of an upstream application are kept.
	CountParked(ctx context.Context, upstream string) (int64, error)
	// UnparkEvent forgets an event. One that is not kept is an ErrProgramming.
	UnparkEvent(ctx context.Context, upstream string, notificationID int64) error
}
