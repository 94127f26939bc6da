package natsstore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// statusKey is the follower and the upstream application of a status.
type statusKey struct{ follower, upstream string }

// storedStatus is the state of a status message. Its times but Since and
// NextRetry are those of the clock of the servers.
type storedStatus struct {
	State          string         `json:"state"`
	Error          string         `json:"error,omitempty"`
	NotificationID int64          `json:"notification,omitempty"`
	Ahead          int64          `json:"ahead,omitempty"`
	Since          time.Time      `json:"since,omitzero"`
	NextRetry      time.Time      `json:"next_retry,omitzero"`
	Heartbeat      time.Time      `json:"heartbeat"`
	Process        string         `json:"process"`
	Runners        []storedRunner `json:"runners,omitempty"` // that are not stopped
}

// storedRunner is a runner of a follower. One of them has the status.
type storedRunner struct {
	Process   string    `json:"process"`
	State     string    `json:"state"`
	Heartbeat time.Time `json:"heartbeat"`
}

// The states of followers that statuses have rules for.
const (
	stopped    = "stopped"
	standingBy = "standing by"
)

// statusMark is a status and the sequence of its message, which is 0 if there is
// none.
type statusMark struct {
	seq   int64
	value storedStatus
}

// with returns the status after another one was recorded at a time of the
// servers' clock.
func (old storedStatus) with(isNew bool, s capability.FollowerStatus, now time.Time) storedStatus {
	next := storedStatus{State: s.State, Error: s.Error, NotificationID: s.NotificationID, Ahead: s.Ahead, Since: s.Since.UTC(),
		NextRetry: s.NextRetry.UTC(), Heartbeat: now, Process: s.Process}
	// A process that was killed has not recorded that it stops.
	dead := now.Add(-3 * capability.HeartbeatInterval)
	runners := slices.DeleteFunc(slices.Clone(old.Runners), func(r storedRunner) bool {
		return r.Process == s.Process || r.Heartbeat.Before(dead)
	})
	if s.State == stopped && s.Ahead <= 0 {
		return old.withStop(isNew, next, runners, s.Ahead)
	}
	if s.Ahead == capability.KeepAhead {
		next.Ahead = old.Ahead
	}
	if s.State == standingBy {
		next = old.withStandBy(isNew, next, runners)
	}
	if s.State != stopped {
		runners = append(runners, storedRunner{Process: s.Process, State: s.State, Heartbeat: now})
	}
	next.Runners = runners
	return next
}

// withStandBy keeps the status of another runner that is at work, or gives its
// place back to that.
func (old storedStatus) withStandBy(isNew bool, next storedStatus, others []storedRunner) storedStatus {
	isOwn := old.Process == next.Process
	working := slices.DeleteFunc(slices.Clone(others), func(r storedRunner) bool { return r.State == standingBy })
	switch {
	case isNew:
		return next
	case len(working) > 0 && isOwn:
		next = old.withRunner(newest(working))
	case !isOwn:
		next = old
	}
	next.Ahead = old.Ahead
	return next
}

// withStop keeps the status of another runner that goes on, or gives its place
// back to that. ahead 0 ends a position that was ahead of the log, in whatever
// process it was found, and the error that said so.
func (old storedStatus) withStop(isNew bool, next storedStatus, others []storedRunner, ahead int64) storedStatus {
	if old.Ahead > 0 && ahead == 0 {
		old.Ahead, old.Error = 0, ""
	}
	isOwn := old.Process == next.Process
	next.Ahead = old.Ahead
	switch {
	case isNew:
		next.Ahead = 0
	case isOwn && len(others) > 0:
		next = old.withRunner(newest(others))
	case !isOwn:
		next = old
	}
	next.Runners = others
	return next
}

// withRunner is the status of a runner of which nothing more is known.
func (old storedStatus) withRunner(r storedRunner) storedStatus {
	return storedStatus{State: r.State, Heartbeat: r.Heartbeat, Process: r.Process, Ahead: old.Ahead, Runners: old.Runners}
}

func newest(runners []storedRunner) storedRunner {
	return slices.MaxFunc(runners, func(a, b storedRunner) int { return a.Heartbeat.Compare(b.Heartbeat) })
}

// status is what others see of a stored status. Heartbeats were written by the
// clock of the servers, of which ahead is how much this process is ahead.
func (s storedStatus) status(key statusKey, ahead time.Duration) capability.FollowerStatus {
	return capability.FollowerStatus{ApplicationName: key.follower, UpstreamApplicationName: key.upstream, State: s.State,
		Error: s.Error, NotificationID: s.NotificationID, Ahead: s.Ahead, Since: s.Since.UTC(), NextRetry: s.NextRetry.UTC(),
		Heartbeat: s.Heartbeat.UTC().Add(ahead), Process: s.Process}
}

// RecordStatus implements capability.StatusRecorder.
func (s storeCapabilities) RecordStatus(ctx context.Context, status capability.FollowerStatus) error {
	const op = "record a follower's status"
	stream, err := s.statusStream()
	if err != nil {
		return err
	}
	ctx, tx, cancel, err := stream.beginWrite(ctx, op)
	if err != nil {
		return err
	}
	defer cancel()
	key := statusKey{status.ApplicationName, status.UpstreamApplicationName}
	if tx != nil {
		return tx.recordStatus(ctx, stream, op, key, status)
	}
	for pause := shortestPause; ; pause = min(2*pause, longestPause) {
		mark, now, err := stream.readStatus(ctx, op, key)
		if err != nil {
			return err
		}
		mark.value = mark.value.with(mark.seq == 0, status, now)
		if err := stream.writeStatus(ctx, op, key, mark); !errors.Is(err, errRefused) {
			return err
		}
		if !sleep(ctx, pause) { // another runner has recorded one
			return stream.unavailable(ctx, op, errRefused)
		}
	}
}

// readStatus reads a status and the time of the servers.
func (s *stream) readStatus(ctx context.Context, op string, key statusKey) (mark statusMark, now time.Time, err error) {
	info, err := s.statusInfo(ctx, op, s.names.status(key.follower, key.upstream))
	if err != nil {
		return mark, now, err
	}
	mark, err = s.statusMark(ctx, op, key)
	return mark, info.TimeStamp, err
}

func (s *stream) statusInfo(ctx context.Context, op, filter string) (info *jetstream.StreamInfo, err error) {
	err = s.retry(ctx, op, func() error {
		info, err = s.info(ctx, op, filter)
		return err
	})
	return info, err
}

func (s *stream) statusMark(ctx context.Context, op string, key statusKey) (statusMark, error) {
	m, found, err := s.leaderLast(ctx, op, s.names.status(key.follower, key.upstream), 0)
	if err != nil || !found {
		return statusMark{}, err
	}
	mark := statusMark{seq: m.seq}
	if err := json.Unmarshal(m.state, &mark.value); err != nil {
		return mark, s.failure(op, persistence.ErrInternal, "it was written by another program, or by a newer version of this one", err)
	}
	return mark, nil
}

// writeStatus replaces the status that was read.
func (s *stream) writeStatus(ctx context.Context, op string, key statusKey, mark statusMark) error {
	state, err := json.Marshal(mark.value)
	if err != nil {
		return err
	}
	w := s.newWriting(op)
	f := frame{kind: statusKind, write: w.id, state: state}
	_, err = w.publishExpected(ctx, []outgoing{{subject: s.names.status(key.follower, key.upstream), data: f.encode(), expect: true, last: mark.seq}})
	return err
}

// FollowerStatuses implements capability.StatusRecorder.
func (s storeCapabilities) FollowerStatuses(ctx context.Context) ([]capability.FollowerStatus, error) {
	const op = "read the statuses of followers"
	stream, err := s.statusStream()
	if err != nil {
		return nil, err
	}
	tx := s.transaction(ctx)
	ctx, cancel, err := stream.begin(ctx, op)
	if err != nil {
		return nil, err
	}
	defer cancel()
	info, err := stream.statusInfo(ctx, op, stream.names.allStatuses())
	if err != nil {
		return nil, err
	}
	ahead := time.Since(info.TimeStamp)
	var statuses []capability.FollowerStatus
	read := map[statusKey]statusMark{}
	for subject := range info.State.Subjects {
		key, ok := stream.names.statusKeyOf(subject)
		if !ok {
			continue
		}
		mark, err := stream.statusMark(ctx, op, key)
		switch {
		case err != nil:
			return nil, err
		case mark.seq > 0:
			read[key] = mark
		}
	}
	tx.adoptStatuses(read)
	for key, mark := range read {
		statuses = append(statuses, mark.value.status(key, ahead))
	}
	slices.SortFunc(statuses, func(a, b capability.FollowerStatus) int {
		return cmp.Or(strings.Compare(a.ApplicationName, b.ApplicationName), strings.Compare(a.UpstreamApplicationName, b.UpstreamApplicationName))
	})
	return statuses, nil
}

// statusKeyOf returns the key of the subject of a status.
func (n names) statusKeyOf(subject string) (key statusKey, ok bool) {
	follower, upstream, ok := strings.Cut(strings.TrimPrefix(subject, n.prefix), ".")
	if !ok {
		return key, false
	}
	var known bool
	key.follower, ok = nameOf(follower)
	key.upstream, known = nameOf(upstream)
	return key, ok && known
}

// stagedStatus is a status that a transaction has read, and is to write if it
// was changed.
type stagedStatus struct {
	statusMark
	changed bool
}

// adoptStatuses remembers statuses that were read in a transaction, and replaces
// those that it has read before, which it may have changed. One that it writes
// must not change until it commits.
func (tx *transaction) adoptStatuses(read map[statusKey]statusMark) {
	if tx == nil {
		return
	}
	tx.mu.Lock()
	defer tx.mu.Unlock()
	for key, mark := range read {
		if tx.listed {
			break
		}
		if _, known := tx.statuses[key]; !known {
			tx.statuses[key] = stagedStatus{statusMark: mark}
		}
	}
	tx.listed = true
	for key, staged := range tx.statuses {
		if staged.seq > 0 || staged.changed {
			read[key] = staged.statusMark
		}
	}
}

// recordStatus stages a status.
func (tx *transaction) recordStatus(ctx context.Context, s *stream, op string, key statusKey, status capability.FollowerStatus) error {
	mark, now, err := s.readStatus(ctx, op, key)
	if err != nil {
		return err
	}
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.ended {
		return endedError(op)
	}
	staged, known := tx.statuses[key]
	if !known && !tx.listed {
		staged.statusMark = mark
	}
	staged.value = staged.value.with(staged.seq == 0 && !staged.changed, status, now)
	staged.changed = true
	tx.statuses[key] = staged
	return nil
}

// commitStatus writes the status that a transaction has changed, which must be
// as it was read.
func (tx *transaction) commitStatus(ctx context.Context) error {
	const op = "record a follower's status"
	stream, err := tx.store.statusStream()
	if err != nil {
		return err
	}
	ctx, cancel, err := stream.begin(ctx, op)
	if err != nil {
		return err
	}
	defer cancel()
	for key, staged := range tx.statuses {
		if !staged.changed {
			continue
		}
		err := stream.writeStatus(ctx, op, key, staged.statusMark)
		if errors.Is(err, errRefused) {
			return stream.failure(op, persistence.ErrRetryTransaction, "another process has recorded one; nothing was stored", err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// changedStatuses is how many statuses the transaction is to write.
func (tx *transaction) changedStatuses() int {
	n := 0
	for _, staged := range tx.statuses {
		if staged.changed {
			n++
		}
	}
	return n
}
