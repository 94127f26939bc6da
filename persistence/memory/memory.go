package memory

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Store is a store in memory. It implements persistence.Factory. Make one with New.
type Store struct {
	mu        sync.RWMutex // protects all that follows
	closed    bool
	lastID    int64
	events    map[string]*table // by application
	snapshots map[string]*table // by application
	positions map[position]int64
	settings  map[position]persistence.FollowerSettings
	deletions map[string]int64 // by application
}

// position is the key of a follower's place in the log of an upstream application.
type position struct{ follower, upstream string }

var _ persistence.Factory = (*Store)(nil)

// New makes an empty store.
func New() *Store {
	return &Store{
		events:    map[string]*table{},
		snapshots: map[string]*table{},
		positions: map[position]int64{},
		settings:  map[position]persistence.FollowerSettings{},
		deletions: map[string]int64{},
	}
}

// ProcessRecorder implements persistence.Factory.
func (s *Store) ProcessRecorder(application string) (persistence.ProcessRecorder, error) {
	t, err := s.table(s.events, application)
	if err != nil {
		return nil, err
	}
	return &processRecorder{aggregateRecorder{store: s, table: t, application: application, nextID: s.nextID}}, nil
}

// SnapshotRecorder implements persistence.Factory.
func (s *Store) SnapshotRecorder(application string) (persistence.AggregateRecorder, error) {
	t, err := s.table(s.snapshots, application)
	if err != nil {
		return nil, err
	}
	return &snapshotRecorder{aggregateRecorder{store: s, table: t, application: application}}, nil
}

// Close ends the use of the store: whoever still calls one of its recorders is told persistence.ErrClosed. Closing it
// again does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// table finds the table of an application in one of the store's maps, and makes it where there is none.
func (s *Store) table(tables map[string]*table, application string) (*table, error) {
	if err := persistence.ValidateName(application); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, closedError(application, "make a recorder")
	}
	t := tables[application]
	if t == nil {
		t = newTable()
		tables[application] = t
	}
	return t, nil
}

// nextID draws a notification id. The caller has locked the store for writing.
func (s *Store) nextID() int64 {
	s.lastID++
	return s.lastID
}

// write calls f while nobody else uses the store, unless ctx has ended or the store is closed.
func (s *Store) write(ctx context.Context, application, op string, f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx, application, op); err != nil {
		return err
	}
	return f()
}

// read calls f while nobody writes, unless ctx has ended or the store is closed.
func (s *Store) read(ctx context.Context, application, op string, f func()) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usable(ctx, application, op); err != nil {
		return err
	}
	f()
	return nil
}

func (s *Store) usable(ctx context.Context, application, op string) error {
	if err := ctx.Err(); err != nil {
		return contextError(application, op, err)
	}
	if s.closed {
		return closedError(application, op)
	}
	return nil
}

// move moves a position forward. The caller has locked the store for writing and asked checkMove.
func (s *Store) move(follower string, to persistence.Tracking) {
	s.positions[position{follower, to.ApplicationName}] = to.NotificationID
}

// checkMove tells why a position cannot be moved. The caller has locked the store.
func (s *Store) checkMove(follower string, to persistence.Tracking) error {
	current := s.positions[position{follower, to.ApplicationName}]
	if to.NotificationID > current {
		return nil
	}
	return &persistence.TrackingError{Application: follower, Upstream: to.ApplicationName,
		NotificationID: to.NotificationID, Current: current}
}

func contextError(application, op string, err error) error {
	return fmt.Errorf("%s: %s: %w", application, op, err)
}

func closedError(application, op string) error {
	return &persistence.Error{Class: persistence.ErrClosed, Op: application + ": " + op}
}

// cloned returns a copy that shares no memory with n, so that neither side can change what the other one has.
func cloned(n *persistence.Notification) persistence.Notification {
	c := *n
	c.State = bytes.Clone(n.State)
	return c
}
