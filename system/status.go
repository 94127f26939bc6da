package system

import (
	"context"
	"errors"
	"time"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// State says what a follower is doing.
type State string

// The states of a follower.
const (
	// Running is a follower that processes events, or waits for new ones.
	Running State = "running"
	// Retrying is a follower that has failed and will try again.
	Retrying State = "retrying"
	// Outdated is a follower whose next event only a newer program can read, or
	// one with other settings (Err says which). It will try again; a process of
	// the newer program goes on at once.
	Outdated State = "outdated"
	// StandingBy is a follower whose position another process holds, which is
	// at work on events that take long, or one with an Effect whose calls
	// another process makes. It goes on when that process ends.
	StandingBy State = "standing by"
	// Paused is a follower that processes nothing until it is resumed, in
	// whatever process it was paused.
	Paused State = "paused"
	// Stopped is a follower that only a person can help (Err says why), or
	// whose runner was not started or has ended.
	Stopped State = "stopped"
)

// Status is the state of a follower with regard to one leader, as this process
// knows it.
type Status struct {
	Follower string
	Leader   string
	State    State
	// Err is what the follower failed with last. Nil means that it has
	// recovered.
	Err error
	// NotificationID is the event that it failed at; of a follower that runs,
	// the event that it is processing; or 0.
	NotificationID int64
	// Since is when it began to fail there, or to process that event, and
	// NextRetry when a Runner will try again.
	Since     time.Time
	NextRetry time.Time
	// Position is up to where events are processed, and Head the end of the
	// leader's log. Both are read when the status is asked for.
	Position int64
	Head     int64
	// Oldest is when the first event after the position was made, and zero if
	// there is none. It is read when the status is asked for.
	Oldest time.Time
	// Parked is how many events the follower has parked; see Park.
	Parked int
	// PausedAt is when the follower was paused, and zero if it is not; PausedBy
	// says who paused it.
	PausedAt time.Time
	PausedBy string
	// Note says what an operator should know of the topics that the follower
	// processes, or is "". It names the topics that were not processed from the
	// beginning, because the filter has grown, or not to the end, and says
	// whether two programs seem to run under the follower's name. A reset clears
	// it, and so does the command followers accept.
	Note string
	// Held is a transaction that has been open for more than five seconds and
	// keeps the follower from the newest events of the leader, or nil. It is
	// read when the status is asked for.
	Held *persistence.LogHold
	// Partitions has the positions and the owners of a divided follower's
	// partitions, and is nil for others; see the option Partitions. Position is
	// then the lowest of them, and Process is the name that this process has as
	// an owner. Partitions are read when the status is asked for.
	Partitions *persistence.PartitionSet
	Process    string
	// ReadErr is why Position, Head, Oldest, Parked, PausedAt, Note, Held or
	// Partitions could not be read, or nil.
	ReadErr error
}

// Lag is the difference between the head and the position. Ids have gaps, so
// there are at most so many events to process.
func (s Status) Lag() int64 { return max(s.Head-s.Position, 0) }

// currentStatus returns the status.
func (f *followerLoop) currentStatus() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	status := f.status
	if status.State == Running && f.current.id > 0 {
		status.NotificationID, status.Since = f.current.id, f.current.since
	}
	return status
}

// currentEvent is the event that is being processed. Its id is 0 if there is
// none.
type currentEvent struct {
	id     int64
	since  time.Time
	warned bool // that it takes long
}

func (f *followerLoop) begin(id int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.current = currentEvent{id: id, since: time.Now()}
}

func (f *followerLoop) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.current = currentEvent{}
}

// slowPolicy is how long an event may take before a warning says so.
const slowPolicy = time.Minute

// warnIfSlow warns once of an event that takes long: its handler may hang, and
// the follower then makes no progress without an error.
func (f *followerLoop) warnIfSlow(ctx context.Context) {
	f.mu.Lock()
	current := f.current
	slow := current.id > 0 && !current.warned && time.Since(current.since) >= slowPolicy
	f.current.warned = current.warned || slow
	f.mu.Unlock()
	if slow {
		f.app.Logger().WarnContext(ctx, "follower has been processing one event for long; its handler may hang",
			"follower", f.app.Name(), "leader", f.leader.Name(), "notification", current.id, "since", current.since)
	}
}

// logEnd is the end of a leader's log, and what keeps followers from it.
type logEnd struct {
	head    int64
	held    *persistence.LogHold
	headErr error
	heldErr error
}

// endOf reads the end of a leader's log. If ctx has ended, it asks nothing: the
// error of a statement that cannot run would be logged as one of the database.
func endOf(ctx context.Context, leader Leader) (end logEnd) {
	if end.headErr = ctx.Err(); end.headErr != nil {
		return end
	}
	end.head, end.headErr = leader.Head(ctx)
	if end.headErr == nil { // a leader that does not answer is not asked again
		end.held, end.heldErr = holdOf(ctx, leader, 0)
	}
	return end
}

// statusNow returns the status together with what is read of the position, the
// log and the parked events. If ctx has ended, it reads nothing.
func (f *followerLoop) statusNow(ctx context.Context, end logEnd) (Status, error) {
	status := f.currentStatus()
	status.Process = f.identity
	if status.ReadErr = ctx.Err(); status.ReadErr != nil {
		status.Head, status.Held = end.head, end.held
		return status, status.ReadErr
	}
	var mistakes [5]error
	status.Position, mistakes[0] = f.addSettings(ctx, &status)
	status.Head, mistakes[1], status.Held, mistakes[4] = end.head, end.headErr, end.held, end.heldErr
	if status.Lag() > 0 && errors.Join(mistakes[:]...) == nil {
		status.Oldest, mistakes[2] = f.oldest(ctx, status.Position)
	}
	if f.parking() != nil {
		var parked int64
		parked, mistakes[3] = f.parking().CountParked(ctx, f.leader.Name())
		status.Parked = int(parked)
		if isNotMigrated(mistakes[3]) {
			mistakes[3] = nil // a database without the table has none
		}
	}
	status.ReadErr = errors.Join(mistakes[:]...)
	return status, status.ReadErr
}

// addSettings adds the settings to a status, and returns the position.
func (f *followerLoop) addSettings(ctx context.Context, status *Status) (int64, error) {
	recorder := f.settingsRecorder()
	if recorder == nil {
		return f.app.Recorder().MaxTrackingID(ctx, f.leader.Name())
	}
	position, settings, err := recorder.Settings(ctx, f.leader.Name())
	if err == nil && settings != nil {
		status.PausedAt, status.PausedBy, status.Note = settings.PausedAt, settings.PausedBy, noteOf(settings)
	}
	if err != nil || settings == nil || settings.Partitions == 0 {
		return position, err
	}
	partitions := f.app.RecorderCapabilities().Partitions // which has set settings.Partitions
	set, err := partitions.Partitions(ctx, f.leader.Name())
	if err != nil || len(set.Partitions) == 0 { // it was reset in between
		return position, err
	}
	status.Partitions = &set
	return lowestOf(set), nil
}

// partitions are those of a divided follower, or none.
func (s Status) partitions() []persistence.Partition {
	if s.Partitions == nil {
		return nil
	}
	return s.Partitions.Partitions
}

// oldest is when the first event after a position was made. An event that
// cannot be decoded does not tell.
func (f *followerLoop) oldest(ctx context.Context, position int64) (time.Time, error) {
	next, err := f.leader.Notifications(ctx, f.restrict(persistence.NotificationRange{After: position, Limit: 1}))
	if err != nil || len(next) == 0 {
		return time.Time{}, err
	}
	return timestampOf(f.leader, next[0]), nil
}

// timestampOf is zero if an event cannot be decoded, which the follower itself
// will report.
func timestampOf(leader Leader, n persistence.Notification) (at time.Time) {
	defer func() { _ = recover() }()
	if event, err := leader.Decode(n); err == nil {
		at = event.Timestamp
	}
	return at
}

// setStatus records how a pull has ended, and when the next one follows if it
// has failed.
func (f *followerLoop) setStatus(err error, next time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return
	}
	if err == nil {
		f.status = Status{Follower: f.status.Follower, Leader: f.status.Leader, State: Running}
		if f.isPaused {
			f.status.State = Paused
		}
		if f.standingBy {
			f.status.State = StandingBy
		}
		if f.isPaused {
			f.releasePausedLocked()
		}
		return
	}
	var id int64
	if failed, ok := errors.AsType[*ProcessingError](err); ok {
		id = failed.NotificationID
	}
	if f.status.Err == nil || f.status.NotificationID != id {
		f.status.Since = time.Now()
	}
	f.status.State, f.status.Err, f.status.NotificationID, f.status.NextRetry = Retrying, err, id, next
	if errors.Is(err, ErrAhead) {
		f.status.State = Stopped
	} else if errors.Is(err, persistence.ErrNewerProgram) {
		f.status.State = Outdated
	}
	if !f.retryNow {
		f.releaseLocked(err)
	}
}

// ended records that no runner pulls any more.
func (f *followerLoop) ended() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = true
	f.releaseLocked(ErrStopped)
	f.status.State, f.status.NextRetry = Stopped, time.Time{}
}
