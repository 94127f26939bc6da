package remotelog

import (
	"sort"
	"strings"
	"sync"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// readAheadBytes is how much of the states read last is kept.
const readAheadBytes = 8 << 20

// readAhead keeps what was read last, for each choice of topics. A follower
// processes of a page what fits into a transaction, and asks for the rest
// again, and again: with a slow handler every event would be sent a hundred
// times. What is in a log never changes, so the rest may be kept.
type readAhead struct {
	mu   sync.Mutex // protects what follows
	kept map[string]keptPage
}

// keptPage is all that is wanted of a log after a position, up to the last of
// the events.
type keptPage struct {
	after  int64
	events []persistence.Notification
}

// key says which events of the log are wanted.
func key(topics []string) string { return strings.Join(topics, "\x00") }

// take returns what is known to be the beginning of a range, at most its Limit.
func (s *readAhead) take(r persistence.NotificationRange) []persistence.Notification {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.kept[key(r.Topics)]
	if r.Stop > 0 || r.After < known.after {
		return nil
	}
	begin := sort.Search(len(known.events), func(i int) bool { return known.events[i].ID > r.After })
	rest := known.events[begin:]
	return rest[:min(r.Limit, len(rest)):min(r.Limit, len(rest))] // to append to it makes a copy
}

// put keeps the beginning of what was read of a range.
func (s *readAhead) put(r persistence.NotificationRange, events []persistence.Notification) {
	if r.Stop > 0 {
		return
	}
	size, n := 0, 0
	for n < len(events) && size+len(events[n].State) <= readAheadBytes {
		size += len(events[n].State)
		n++
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept == nil {
		s.kept = map[string]keptPage{}
	}
	s.kept[key(r.Topics)] = keptPage{after: r.After, events: events[:n:n]}
}

// clear forgets everything, if the log seems to have become another one.
func (s *readAhead) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = nil
}
