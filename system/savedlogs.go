package system

import (
	"maps"
	"slices"
	"sync"

	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// savedLogs are the logs that the handlers of a batch save to, or try to: a
// process manager changes aggregates of other applications than its own. It
// implements bridge.Saves.
type savedLogs struct {
	limit *timeLimit

	mu   sync.Mutex // protects logs: a handler may save in several goroutines
	logs map[string]persistence.LogLocker
}

// Saving implements bridge.Saves.
func (s *savedLogs) Saving(app bridge.Application) {
	locker, ok := app.Recorder().(persistence.LogLocker)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.logs == nil {
		s.logs = map[string]persistence.LogLocker{}
	}
	s.logs[app.Name()] = locker
}

// Saved implements bridge.Saves.
func (s *savedLogs) Saved() { s.limit.saved() }

// contendedLogs are the logs that a follower locks after a conflict, by the
// names of the applications.
type contendedLogs map[string]persistence.LogLocker

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
