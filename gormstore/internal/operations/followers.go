package operations

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/txscope"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// States of a follower beside those of the package system. One that is paused
// is system.Paused, whether it runs or not.
const (
	// NotRunning is a follower that no process runs: it was never started, was
	// stopped, or died.
	NotRunning = "not running"
	// StateUnknown is a follower whose store does not keep statuses.
	StateUnknown = "unknown"
)

// How transactions of a program write to one log.
const (
	// ConcurrentWriters run at the same time. Readers of this module miss
	// nothing; programs that order by id alone may.
	ConcurrentWriters = "concurrent"
	// StrictWriters exclude each other, so that ids become visible in ascending
	// order to every program; see gormstore.WithStrictOrder. On SQLite writers
	// are always strict.
	StrictWriters = "strict"
)

// writersOf says how an application of this program writes, or "".
func writersOf(runner Runner, name string) string {
	app, ok := ApplicationOf(runner, name)
	if !ok {
		return ""
	}
	reporter := app.RecorderCapabilities().Order
	switch {
	case reporter == nil:
		return ""
	case reporter.StrictOrder():
		return StrictWriters
	}
	return ConcurrentWriters
}

// FollowerState is how one follower's following of one leader stands, in
// whatever process.
type FollowerState struct {
	Follower string `json:"follower"`
	Leader   string `json:"leader"`
	// State is that of the process that runs the follower, or NotRunning, or
	// StateUnknown.
	State string `json:"state"`
	// Position is up to where events are processed, Head the end of the
	// leader's log, and Lag the difference: at most so many events are still to
	// be processed.
	Position int64 `json:"position"`
	Head     int64 `json:"head"`
	Lag      int64 `json:"lag"`
	// Oldest is when the first event after the position was made, and zero if
	// there is none.
	Oldest time.Time `json:"oldest,omitzero"`
	// Parked is how many events the follower has parked.
	Parked int `json:"parked"`
	// Error is what the follower failed with last. NotificationID is the event
	// that it failed at; of a follower that runs, the event that it has been
	// processing for a while. Since is when it began to fail there, or to
	// process it.
	Error          string    `json:"error,omitempty"`
	NotificationID int64     `json:"notification_id,omitempty"`
	Since          time.Time `json:"since,omitzero"`
	// PausedAt is when the follower was paused, and zero if it is not; PausedBy
	// says who paused it.
	PausedAt time.Time `json:"paused_at,omitzero"`
	PausedBy string    `json:"paused_by,omitempty"`
	// Note says what to know of the topics that the follower processes, as
	// system.Status has it.
	Note string `json:"note,omitempty"`
	// Writers says how transactions write to the leader's log, if this program
	// has the leader: StrictWriters or ConcurrentWriters. It is what this
	// program would do; other programs may do otherwise.
	Writers string `json:"writers,omitempty"`
	// Held is a transaction that keeps the follower from newer events, as
	// system.Status has it.
	Held *persistence.LogHold `json:"held,omitempty"`
	// Partitions are those of a follower that is divided, in the order of their
	// numbers. Position is then the lowest of them. PartitionKey names what
	// events are divided by; it is "" for their originators.
	Partitions   []PartitionState `json:"partitions,omitempty"`
	PartitionKey string           `json:"partition_key,omitempty"`
	// ReadError is why some of this could not be read.
	ReadError string `json:"read_error,omitempty"`
	// Process is who runs the follower, and Heartbeat when it was heard of
	// last. Of a divided follower it is one of the processes that run it.
	Process   string    `json:"process,omitempty"`
	Heartbeat time.Time `json:"heartbeat,omitzero"`
	// Healthy and Reason are the verdict of system.Status.Health, also for a
	// follower that no process runs.
	Healthy bool   `json:"healthy"`
	Reason  string `json:"reason"`
}

// PartitionState is how one partition of a divided follower stands.
type PartitionState struct {
	Number   int   `json:"number"`
	Position int64 `json:"position"`
	Lag      int64 `json:"lag"`
	// Owner is the process that has the partition, or "". Until is when its
	// lease ends; without an Owner it is since when no process has the
	// partition, and zero if none ever had.
	Owner string    `json:"owner,omitempty"`
	Until time.Time `json:"leased_until,omitzero"`
	// Error is what the partition has failed with, NotificationID the event at
	// which it failed, and Since when it began to.
	Error          string    `json:"error,omitempty"`
	NotificationID int64     `json:"notification_id,omitempty"`
	Since          time.Time `json:"since,omitzero"`
}

// partitionStates are the partitions of a follower whose leader's log ends at
// head.
func partitionStates(set *persistence.PartitionSet, head int64) (states []PartitionState) {
	if set == nil {
		return nil
	}
	for _, p := range set.Partitions {
		state := PartitionState{Number: p.Number, Position: p.Position, Lag: max(head-p.Position, 0), Until: p.Until,
			Error: p.Error, NotificationID: p.NotificationID, Since: p.Since}
		if p.Leased {
			state.Owner = p.Owner
		}
		states = append(states, state)
	}
	return states
}

// Followers tells how all followers of a runner stand, in the order of the
// system. It reads positions and logs, and what other processes have written
// down of themselves. It returns a *MigrationError where tables are missing.
// With any other error it returns the states all the same, and each has what of
// it could not be read.
func Followers(ctx context.Context, runner Runner) ([]FollowerState, error) {
	known, wait := readStatuses(ctx, runner)
	defer wait()
	statuses, err := runner.Statuses(ctx)
	if err != nil {
		if err = firstMigration(ctx, runner, err); isMigration(err) {
			return nil, err
		}
	}
	states := make([]FollowerState, len(statuses))
	for i, s := range statuses {
		states[i] = FollowerState{Follower: s.Follower, Leader: s.Leader, State: StateUnknown,
			Position: s.Position, Head: s.Head, Lag: s.Lag(), Oldest: s.Oldest, Parked: s.Parked,
			PausedAt: s.PausedAt, PausedBy: s.PausedBy, Note: s.Note,
			Writers: writersOf(runner, s.Leader), Held: s.Held,
			Partitions: partitionStates(s.Partitions, s.Head)}
		if s.Partitions != nil {
			states[i].PartitionKey = s.Partitions.Key
		}
		if s.State == system.Running { // in this process, which knows it better than the database
			states[i].NotificationID, states[i].Since = s.NotificationID, s.Since
		}
		filling := states[i].fill(known(s.Follower))
		states[i].addPartitions()
		if !s.PausedAt.IsZero() {
			states[i].State = string(system.Paused)
		}
		if failed := errors.Join(s.ReadErr, filling); failed != nil {
			states[i].ReadError = distinctLines(fmt.Sprint(failed))
		}
		states[i].Healthy, states[i].Reason = states[i].judge(time.Now(), s.Partitions)
		err = errors.Join(err, filling)
	}
	return states, err
}

// distinctLines returns a text with each of its lines once: one cause makes
// several reads fail.
func distinctLines(text string) string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// stall is how long a follower that has events to process may not move before
// it is unhealthy.
const stall = time.Minute

// judge is the verdict on a follower in whatever process.
func (s *FollowerState) judge(now time.Time, partitions *persistence.PartitionSet) (healthy bool, reason string) {
	status := system.Status{State: system.State(s.State), NotificationID: s.NotificationID, Since: s.Since,
		Position: s.Position, Head: s.Head, Oldest: s.Oldest, Partitions: partitions}
	if s.Error != "" {
		status.Err = errors.New(s.Error)
	}
	if s.ReadError != "" {
		status.ReadErr = errors.New(s.ReadError)
	}
	waiting := !s.Oldest.IsZero() && now.Sub(s.Oldest) > stall
	switch {
	case s.ReadError != "":
	case s.Position > s.Head && s.Error != "":
		return false, "its position is ahead of the leader's log"
	case s.State == NotRunning && s.Lag > 0 && waiting:
		return false, "no process runs it, and events wait for it since " + s.Oldest.UTC().Format(time.RFC3339)
	case s.State == NotRunning:
		return true, "no process runs it, and no event has waited for long"
	}
	return status.Health(now, stall)
}

// keptStatuses are the statuses that a store keeps.
type keptStatuses struct {
	kept bool // false if the store, or its database, keeps none
	all  []capability.FollowerStatus
	err  error
}

// readStatuses begins to read the statuses that the stores of all followers
// keep, each store once and all at the same time, so that one that does not
// answer does not keep the others from it. of waits for those of a follower's
// store, and wait for all.
func readStatuses(ctx context.Context, runner Runner) (of func(follower string) keptStatuses, wait func()) {
	var group sync.WaitGroup
	read := map[string]func() keptStatuses{}
	ofStore := map[capability.StatusRecorder]func() keptStatuses{}
	for _, follower := range FollowerNames(runner) {
		app, ok := ApplicationOf(runner, follower)
		if !ok {
			continue
		}
		recorder := app.Capabilities().Statuses
		if recorder == nil {
			continue
		}
		isShared := reflect.TypeOf(recorder).Comparable()
		if isShared && ofStore[recorder] != nil {
			read[follower] = ofStore[recorder]
			continue
		}
		statuses := sync.OnceValue(func() keptStatuses { return statusesOf(ctx, recorder) })
		read[follower] = statuses
		if isShared {
			ofStore[recorder] = statuses
		}
		if txscope.From(ctx) == nil { // which has one connection
			group.Go(func() { statuses() })
		}
	}
	of = func(follower string) keptStatuses {
		if statuses := read[follower]; statuses != nil {
			return statuses()
		}
		return keptStatuses{}
	}
	return of, group.Wait
}

func statusesOf(ctx context.Context, recorder capability.StatusRecorder) keptStatuses {
	statuses, err := recorder.FollowerStatuses(ctx)
	if errors.Is(err, persistence.ErrNotMigrated) {
		return keptStatuses{}
	}
	return keptStatuses{kept: true, all: statuses, err: err}
}

// fill adds what the process has written that runs the follower.
func (s *FollowerState) fill(statuses keptStatuses) error {
	if !statuses.kept || statuses.err != nil {
		return statuses.err
	}
	s.State = NotRunning
	for _, status := range statuses.all {
		if status.ApplicationName == s.Follower && status.UpstreamApplicationName == s.Leader {
			s.add(status)
		}
	}
	return nil
}

// addPartitions adds the failure of the partition that has failed for the
// longest time.
func (s *FollowerState) addPartitions() {
	var worst *PartitionState
	for i := range s.Partitions {
		if p := &s.Partitions[i]; p.Error != "" && (worst == nil || p.Since.Before(worst.Since)) {
			worst = p
		}
	}
	if worst == nil || s.Error != "" {
		return
	}
	s.Error, s.NotificationID, s.Since = worst.Error, worst.NotificationID, worst.Since
	if s.State == string(system.Running) || s.State == string(system.StandingBy) {
		s.State = string(system.Retrying)
	}
}

// add adds a status. An error at or before the position is over: another
// process has processed the event, or has moved a position that was ahead of
// the log. That of a divided follower's event is kept with its partition.
func (s *FollowerState) add(status capability.FollowerStatus) {
	s.Process, s.Heartbeat = status.Process, status.Heartbeat
	alive := status.Alive(time.Now())
	if alive {
		s.State = status.State
	}
	passed := status.NotificationID > 0 && (status.NotificationID <= s.Position || len(s.Partitions) > 0 && status.Error != "")
	moved := status.Ahead > 0 && status.Ahead != s.Position
	processes := alive && status.NotificationID > 0
	if !passed && !moved && (status.Error != "" || processes) {
		s.Error, s.NotificationID, s.Since = status.Error, status.NotificationID, status.Since
	}
}

// firstMigration says which database it is that has no tables.
func firstMigration(ctx context.Context, runner Runner, err error) error {
	for _, name := range MemberNames(runner) {
		app, _ := ApplicationOf(runner, name)
		_, events := app.Recorder().MaxNotificationID(ctx)
		_, positions := app.Recorder().MaxTrackingID(ctx, name)
		if found := located(ctx, app.Factory(), errors.Join(events, positions)); isMigration(found) {
			return found
		}
	}
	return err
}
