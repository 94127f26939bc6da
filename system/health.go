package system

import (
	"errors"
	"fmt"
	"time"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Health reports whether a follower is healthy at a time, and the reason, in
// words for an operator. A follower is unhealthy if it does not move although it
// has something to do: if its position is ahead of the log, if it has failed at
// the same place for longer than stall, or if it has been processing one event
// for longer than stall. 0 is one minute.
//
// One that is behind and moves is healthy, however far behind it is; so is one
// that stands by or is paused. A status whose position or log could not be read
// is unhealthy. Parked events do not make a follower unhealthy, because it goes
// on; watch Parked for them.
//
// A divided follower is also unhealthy if a partition has had no owner for
// longer than stall although events come after its position, or if a partition
// has failed at one event for longer than stall. A partition that fails in
// another process makes only that process unhealthy, and here is only named in
// the reason: if all processes answered 503, an orchestrator would also take away
// those that do their work. If s.Process is "", as for a command that looks at
// all processes, every partition counts.
func (s Status) Health(now time.Time, stall time.Duration) (healthy bool, reason string) {
	if stall <= 0 {
		stall = time.Minute
	}
	healthy, reason = s.verdict(now, stall)
	if elsewhere := s.failedElsewhere(now, stall); healthy && s.State != Paused && elsewhere != "" {
		reason += "; " + elsewhere
	}
	return healthy, reason
}

func (s Status) verdict(now time.Time, stall time.Duration) (healthy bool, reason string) {
	long := !s.Since.IsZero() && now.Sub(s.Since) > stall
	since := s.Since.UTC().Format(time.RFC3339)
	switch {
	case s.ReadErr != nil:
		return false, "its position or the leader's log cannot be read"
	case s.State == Paused:
		return true, "it is paused"
	case s.badPartition(now, stall) != "":
		return false, s.badPartition(now, stall)
	case s.State == StandingBy:
		return true, "it stands by; another process runs it"
	case errors.Is(s.Err, ErrAhead):
		return false, "its position is ahead of the leader's log"
	case s.State == Outdated && long:
		return false, fmt.Sprintf("it has needed a newer program or other settings for event %d since %s", s.NotificationID, since)
	case s.Err != nil && long:
		return false, fmt.Sprintf("it has failed at event %d since %s", s.NotificationID, since)
	case s.Err != nil:
		return true, "it has failed and tries again"
	case s.State == Stopped:
		return true, "no runner of this process runs it"
	case s.NotificationID > 0 && long:
		return false, fmt.Sprintf("it has been processing event %d since %s", s.NotificationID, since)
	case s.Lag() > 0:
		return true, "it is behind and moves"
	}
	return true, "it is up to date"
}

// badPartition says which partition does not move, and why, or "".
func (s Status) badPartition(now time.Time, stall time.Duration) string {
	for _, p := range s.partitions() {
		free := p.Until
		if free.IsZero() { // it was never leased
			free = s.Oldest
		}
		switch {
		case p.Position >= s.Head:
		case hasFailed(p, now, stall) && !s.isElsewhere(p):
			return "its " + failureText(p)
		case !p.Leased && !free.IsZero() && now.Sub(free) > stall:
			return fmt.Sprintf("no process has taken its partition %d since %s, and events wait for it", p.Number, free.UTC().Format(time.RFC3339))
		}
	}
	return ""
}

// failedElsewhere says which partition has failed in another process, or "".
func (s Status) failedElsewhere(now time.Time, stall time.Duration) string {
	for _, p := range s.partitions() {
		if p.Position < s.Head && hasFailed(p, now, stall) && s.isElsewhere(p) {
			return "in another process its " + failureText(p)
		}
	}
	return ""
}

func (s Status) isElsewhere(p persistence.Partition) bool {
	return p.Leased && s.Process != "" && p.Owner != s.Process
}

func hasFailed(p persistence.Partition, now time.Time, stall time.Duration) bool {
	return p.Error != "" && now.Sub(p.Since) > stall
}

func failureText(p persistence.Partition) string {
	return fmt.Sprintf("partition %d has failed at event %d since %s", p.Number, p.NotificationID, p.Since.UTC().Format(time.RFC3339))
}
