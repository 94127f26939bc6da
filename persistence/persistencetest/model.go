package persistencetest

import (
	"cmp"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// model is what a recorder has acknowledged: a plain list, read in the slowest
// and plainest way.
type model struct {
	mu   sync.Mutex // protects what follows
	rows []persistence.Notification
}

// add adds acknowledged events with their ids; snapshots have the ids 0.
func (m *model) add(ids []int64, events []persistence.StoredEvent) {
	if len(events) == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, e := range events {
		e.State = append([]byte{}, e.State...)
		m.rows = append(m.rows, persistence.Notification{ID: ids[i], StoredEvent: e})
	}
}

// all returns the rows in order of id.
func (m *model) all() []persistence.Notification {
	m.mu.Lock()
	defer m.mu.Unlock()
	rows := slices.Clone(m.rows)
	slices.SortStableFunc(rows, func(a, b persistence.Notification) int { return cmp.Compare(a.ID, b.ID) })
	return rows
}

// originators returns each originator once, in the order in which they came.
func (m *model) originators() []uuid.UUID {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []uuid.UUID
	seen := map[uuid.UUID]bool{}
	for i := range m.rows {
		if id := m.rows[i].OriginatorID; !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	return ids
}

// selected returns what SelectEvents must return.
func (m *model) selected(id uuid.UUID, r persistence.EventRange) []persistence.StoredEvent {
	m.mu.Lock()
	defer m.mu.Unlock()
	var events []persistence.StoredEvent
	for _, n := range m.rows {
		if n.OriginatorID == id && n.OriginatorVersion >= r.From && (r.Before == 0 || n.OriginatorVersion < r.Before) {
			events = append(events, n.StoredEvent)
		}
	}
	slices.SortFunc(events, func(a, b persistence.StoredEvent) int {
		return cmp.Compare(a.OriginatorVersion, b.OriginatorVersion)
	})
	if r.Descending {
		slices.Reverse(events)
	}
	if r.Limit > 0 && len(events) > r.Limit {
		events = events[:r.Limit]
	}
	return events
}

// page returns what SelectNotifications must return.
func (m *model) page(r persistence.NotificationRange) []persistence.Notification {
	var page []persistence.Notification
	for _, n := range m.all() {
		if n.ID > r.After && (r.Stop == 0 || n.ID <= r.Stop) &&
			(len(r.Topics) == 0 || slices.Contains(r.Topics, n.Topic)) && !slices.Contains(r.Except, n.Topic) &&
			len(page) < min(r.Limit, persistence.MaxPage) {
			page = append(page, n)
		}
	}
	return page
}

// last returns the highest version of an originator, and -1 if it has none.
func (m *model) last(id uuid.UUID) int64 {
	events := m.selected(id, persistence.EventRange{Descending: true, Limit: 1})
	if len(events) == 0 {
		return -1
	}
	return events[0].OriginatorVersion
}
