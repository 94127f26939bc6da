package remotelog

import (
	"sort"
	"strings"
	"sync"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// shelfBytes is how much of the states read last is kept.
const shelfBytes = 8 << 20

// shelf keeps what was read last, for each choice of topics. A follower
// processes of a page what fits into a transaction, and asks for the rest
// again, and again: with a slow handler every event would be sent a hundred
// times. What is in a log never changes, so the rest may be kept.
type shelf struct {
	mu   sync.Mutex // protects what follows
	kept map[string]shelved
}

// shelved is all that is wanted of a log after a position, up to the last of
// the events.
type shelved struct {
	after  int64
	events []persistence.Notification
}

// key says which events of the log are wanted.
func key(topics []string) string { return strings.Join(topics, "\x00") }

// take returns what is known to be the beginning of a range, at most its Limit.
func (s *shelf) take(r persistence.NotificationRange) []persistence.Notification {
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
func (s *shelf) put(r persistence.NotificationRange, events []persistence.Notification) {
	if r.Stop > 0 {
		return
	}
	size, n := 0, 0
	for n < len(events) && size+len(events[n].State) <= shelfBytes {
		size += len(events[n].State)
		n++
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept == nil {
		s.kept = map[string]shelved{}
	}
	s.kept[key(r.Topics)] = shelved{after: r.After, events: events[:n:n]}
}

// clear forgets everything, if the log seems to have become another one.
func (s *shelf) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = nil
}
