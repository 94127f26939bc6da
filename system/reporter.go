package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// statusTimeout is how long the writing of a status may take. It is only news, and must not keep a follower from its work.
const statusTimeout = 5 * time.Second

// reporter keeps the status of a following in the follower's store, for other processes to see: whenever it changes, and
// otherwise once in persistence.HeartbeatInterval.
type reporter struct {
	recorder persistence.StatusRecorder // nil where the store keeps none
	process  string
	last     persistence.FollowerStatus
}

func newReporter(f *following) *reporter {
	recorder, _ := f.app().Factory().(persistence.StatusRecorder)
	return &reporter{recorder: recorder, process: thisProcess()}
}

// thisProcess is the host and the number of the process.
func thisProcess() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return fmt.Sprintf("%s:%d", host, os.Getpid())
}

// report writes the status where it is news. Where that fails it is tried again with the next one: the follower itself
// goes on, and says by its own failures that the database is in trouble.
func (r *reporter) report(ctx context.Context, f *following) {
	status := f.statusToKeep(r.process)
	if r.recorder == nil || status == r.withoutTimes() && time.Since(r.last.Heartbeat) < persistence.HeartbeatInterval {
		return
	}
	status.Heartbeat = time.Now().UTC()
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	err := r.recorder.RecordStatus(ctx, status)
	if _, absent := errors.AsType[*persistence.NotMigratedError](err); absent {
		f.app().Logger().InfoContext(ctx, "statuses of followers are not kept: their table does not exist; migrate to have it",
			"follower", f.app().Name())
		r.recorder = nil
	}
	if err == nil {
		r.last = status
	}
}

// withoutTimes is what was written last, to be compared.
func (r *reporter) withoutTimes() persistence.FollowerStatus {
	last := r.last
	last.Heartbeat = time.Time{}
	return last
}

// statusToKeep is the status as it is kept, without the time of its writing.
func (f *following) statusToKeep(process string) persistence.FollowerStatus {
	status := f.now()
	kept := persistence.FollowerStatus{
		ApplicationName: status.Follower, UpstreamApplicationName: status.Leader, State: string(status.State),
		NotificationID: status.NotificationID, Since: status.Since.UTC(), NextRetry: status.NextRetry.UTC(), Process: process,
	}
	if status.Err != nil {
		kept.Error = status.Err.Error()
	}
	if ahead, ok := errors.AsType[*AheadError](status.Err); ok {
		kept.Ahead = ahead.Position
	}
	return kept
}

// recallAhead takes up what another process has found: a position that was ahead of the log. The log may have grown beyond
// it since, and would be followed as if nothing had happened.
func (f *following) recallAhead(ctx context.Context) error {
	recorder, ok := f.app().Factory().(persistence.StatusRecorder)
	if f.recalled || !ok {
		return nil
	}
	statuses, err := recorder.FollowerStatuses(ctx)
	if _, absent := errors.AsType[*persistence.NotMigratedError](err); err != nil && !absent {
		return err
	}
	f.recalled = true
	for _, s := range statuses {
		if s.ApplicationName == f.app().Name() && s.UpstreamApplicationName == f.leader.Name() && s.Ahead > 0 {
			f.ahead = &AheadError{Follower: s.ApplicationName, Leader: s.UpstreamApplicationName, Position: s.Ahead, Head: -1}
		}
	}
	return nil
}
