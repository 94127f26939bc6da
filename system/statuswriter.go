package system

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// statusTimeout is how long the writing of a status may take. It is only news,
// and must not keep a follower from its work.
const statusTimeout = 5 * time.Second

// statusWriter keeps the status of a follower loop in the follower's store, for
// other processes to see: whenever it changes, and otherwise once in
// capability.HeartbeatInterval.
type statusWriter struct {
	recorder capability.StatusRecorder // nil if the store keeps none
	process  string

	mu      sync.Mutex // held while a status is written; protects what follows
	last    capability.FollowerStatus
	tried   time.Time // when it was written last, or tried to
	failing bool
}

func newStatusWriter(f *followerLoop) *statusWriter {
	recorder := f.app.Capabilities().Statuses
	return &statusWriter{recorder: recorder, process: f.identity}
}

// newIdentity names a runner: the host and the number of the process, which
// containers often share, and a random part.
func newIdentity() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return fmt.Sprintf("%s:%d:%08x", host, os.Getpid(), rand.Uint32())
}

// report writes the status if it has changed, and tries again after a while if
// that fails: the follower itself goes on, and must not be kept from its work.
// So it does nothing where another goroutine is at it.
func (r *statusWriter) report(ctx context.Context, f *followerLoop) {
	if !r.mu.TryLock() {
		return
	}
	defer r.mu.Unlock()
	status := f.statusToKeep(r.process)
	quiet := capability.HeartbeatInterval
	if (status != r.withoutTimes() && !r.failing) || time.Since(r.tried) >= quiet {
		r.write(ctx, f, status)
	}
}

// reportLast writes the status of the end, which nothing comes after: also if
// the last attempt has failed, as one does that the end has cancelled.
func (r *statusWriter) reportLast(ctx context.Context, f *followerLoop) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failing = false // so that a failure is logged
	r.write(ctx, f, f.statusToKeep(r.process))
}

func (r *statusWriter) write(ctx context.Context, f *followerLoop, status capability.FollowerStatus) {
	if r.recorder == nil {
		return
	}
	r.tried = time.Now()
	status.Heartbeat = r.tried.UTC()
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	err := r.recorder.RecordStatus(ctx, status)
	switch {
	case err == nil:
		r.last, r.failing = status, false
	case !r.failing && isNotMigrated(err):
		f.app.Logger().InfoContext(ctx, "statuses of followers are not kept: their table does not exist; migrate to have it",
			"follower", f.app.Name())
		r.failing = true
	case !r.failing && ctx.Err() == nil:
		f.app.Logger().WarnContext(ctx, "the status of a follower cannot be kept", "follower", f.app.Name(), "error", err)
		fallthrough
	default:
		r.failing = true
	}
}

func isNotMigrated(err error) bool {
	return errors.Is(err, persistence.ErrNotMigrated)
}

// withoutTimes is what was written last, to be compared.
func (r *statusWriter) withoutTimes() capability.FollowerStatus {
	last := r.last
	last.Heartbeat = time.Time{}
	return last
}

// newsworthy is how long an event is being processed before that is kept: most
// are over at once, and what is kept would change with each of them.
const newsworthy = time.Second

// statusToKeep is the status as it is kept, without the time of its writing.
func (f *followerLoop) statusToKeep(process string) capability.FollowerStatus {
	status := f.currentStatus()
	if status.State == Running && time.Since(status.Since) < newsworthy {
		status.NotificationID, status.Since = 0, time.Time{}
	}
	kept := capability.FollowerStatus{
		ApplicationName: status.Follower, UpstreamApplicationName: status.Leader, State: string(status.State),
		NotificationID: status.NotificationID, Since: status.Since.UTC(), NextRetry: status.NextRetry.UTC(), Process: process,
	}
	if f.lacksClaim() && status.State != Stopped {
		kept.State = string(StandingBy)
	}
	if status.Err != nil {
		kept.Error = keepable(textOf(status.Err))
	}
	kept.Ahead = capability.KeepAhead // saveAhead has written it
	return kept
}

// isOwn reports whether a status is of this follower and this leader, written by
// any process.
func (f *followerLoop) isOwn(s capability.FollowerStatus) bool {
	return s.ApplicationName == f.app.Name() && s.UpstreamApplicationName == f.leader.Name()
}

// textOf is what an error says. A panic in its Error, such as that of a nil
// pointer, must not end the process, and package fmt says it instead.
func textOf(err error) string { return fmt.Sprint(err) }

// longestText is how much of an error's text is kept.
const longestText = 4000

// keepable is a text that every database can keep.
func keepable(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "")
	if len(text) > longestText {
		text = strings.ToValidUTF8(text[:longestText], "") + "..."
	}
	return text
}

// loadPersisted takes up, once, what the store knows from other processes: a
// position that was ahead of the log, which may have grown beyond it since and
// would be followed as if nothing had happened; and events that are parked,
// although the follower may have no Park any more.
func (f *followerLoop) loadPersisted(ctx context.Context) error {
	if f.loaded {
		return nil
	}
	if err := errors.Join(f.checkFormerNames(ctx), f.loadAhead(ctx), f.loadParked(ctx), f.warnOfPython(ctx)); err != nil {
		return err
	}
	f.loaded = true
	return nil
}

// warnOfPython warns if the Python library has moved the position last and the
// follower moves it in another way. If that library still runs the follower,
// events that it is processing are processed here as well. The library writes a
// row for each event, so between its two highest rows there is no event.
func (f *followerLoop) warnOfPython(ctx context.Context) error {
	able := f.app.RecorderCapabilities()
	if able.Rows == nil || able.Tracker != nil {
		return nil
	}
	rows, err := able.Rows.HighestTracking(ctx, f.leader.Name())
	if err != nil || len(rows) < 2 {
		return err
	}
	between, err := f.leader.Notifications(ctx, persistence.NotificationRange{After: rows[1], Stop: rows[0] - 1, Limit: 1})
	if err == nil && len(between) == 0 {
		f.app.Logger().WarnContext(ctx, "follower: the position was last moved by the Python library; if a Python program still runs "+
			"this follower, effects can happen twice: stop it there, or give the application the Python layout",
			"follower", f.app.Name(), "leader", f.leader.Name(), "position", rows[0])
	}
	return err
}

// checkFormerNames refuses to begin at the start of a log if the position is
// stored under a former name of the follower or of the leader: everything would
// be processed again.
func (f *followerLoop) checkFormerNames(ctx context.Context) error {
	if err := f.app.CheckFormerNames(ctx); err != nil {
		return err
	}
	leaders := []string{f.leader.Name()}
	if local, ok := f.leader.(*localLeader); ok {
		leaders = append(leaders, local.app.FormerNames()...)
	}
	followers := append([]string{f.app.Name()}, f.app.FormerNames()...)
	for _, follower := range followers {
		recorder := persistence.TrackingRecorder(f.app.Recorder())
		if follower != f.app.Name() {
			var err error
			if recorder, err = f.app.Factory().ProcessRecorder(follower); err != nil {
				return err
			}
		}
		for _, leader := range leaders {
			if follower == f.app.Name() && leader == f.leader.Name() {
				continue
			}
			position, err := recorder.MaxTrackingID(ctx, leader)
			if err != nil {
				return err
			}
			if position > 0 {
				return &persistence.Error{Class: persistence.ErrOperational, Op: f.app.Name() + ": check former names",
					Err:  fmt.Errorf("the store has a position of %s in the log of %s, and one of the two is a former name", follower, leader),
					Hint: "rename all rows first, with the statements of docs/operations.md, \"Renaming an application\""}
			}
		}
	}
	return nil
}

func (f *followerLoop) loadAhead(ctx context.Context) error {
	recorder := f.app.Capabilities().Statuses
	if recorder == nil {
		return nil
	}
	statuses, err := recorder.FollowerStatuses(ctx)
	if err != nil && !isNotMigrated(err) {
		return err
	}
	for _, s := range statuses {
		if f.isOwn(s) && s.Ahead > 0 {
			f.ahead = &aheadError{s.ApplicationName, s.UpstreamApplicationName, s.Ahead, -1}
			f.savedAhead = s.Ahead
		}
	}
	return nil
}

func (f *followerLoop) loadParked(ctx context.Context) error {
	if f.parking() == nil || f.mayHaveParked {
		return nil
	}
	parked, err := f.parking().CountParked(ctx, f.leader.Name())
	f.mayHaveParked = parked > 0
	if isNotMigrated(err) {
		return nil
	}
	return err
}

// saveAhead has other processes know of a position that is ahead of the log,
// and that it is not any more.
func (f *followerLoop) saveAhead(ctx context.Context) error {
	recorder := f.app.Capabilities().Statuses
	var position int64
	if f.ahead != nil {
		position = f.ahead.position
	}
	if recorder == nil || position == f.savedAhead {
		return nil
	}
	status := f.statusToKeep(f.identity)
	status.State, status.Ahead, status.Heartbeat = string(Stopped), position, time.Now().UTC()
	if f.ahead != nil {
		status.Error = f.ahead.Error()
	}
	err := recorder.RecordStatus(ctx, status)
	if err == nil || isNotMigrated(err) {
		f.savedAhead = position
		return nil
	}
	return err
}
