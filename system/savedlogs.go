package system

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
)

// savedLogs are the logs that the handlers of a batch save to, or try to: a
// process manager changes aggregates of other applications than its own. It
// implements bridge.Saves.
type savedLogs struct {
	limit *timeLimit

	mu      sync.Mutex // protects what follows: a handler may save in several goroutines
	logs    map[string]capability.LogLocker
	since   time.Time     // a save goes on, or zero
	longest time.Duration // a save took that has succeeded
}

// Saving implements bridge.Saves.
func (s *savedLogs) Saving(app bridge.Application) {
	locker := app.RecorderCapabilities().Locker
	if locker == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since = time.Now()
	if s.logs == nil {
		s.logs = map[string]capability.LogLocker{}
	}
	s.logs[app.Name()] = locker
}

// Saved implements bridge.Saves.
func (s *savedLogs) Saved() {
	s.limit.saved()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.since.IsZero() {
		s.longest = max(s.longest, time.Since(s.since))
	}
	s.since = time.Time{}
}

// hasWaited reports whether a save of the batch took as long as that, which is
// longer than a database takes: it has waited for another writer. If the two
// have waited for each other, and the database has ended the other one, that is
// all that the batch notices of the deadlock.
func (s *savedLogs) hasWaited(long time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.longest >= long
}

// contendedLogs are the logs that a follower locks after a conflict, by the
// names of the applications.
type contendedLogs map[string]capability.LogLocker

// add adds those that a batch has saved to, and reports whether there was a new
// one among them.
func (c contendedLogs) add(s *savedLogs) (isNew bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(c)
	maps.Copy(c, s.logs)
	return len(c) > before
}

// names returns the names in the order in which every follower locks the logs,
// so that two of them do not wait for each other.
func (c contendedLogs) names() []string { return slices.Sorted(maps.Keys(c)) }
