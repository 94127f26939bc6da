package memory

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Store is a store in memory. It implements persistence.Factory and
// persistence.Transactor. Make one with New. It is safe for concurrent use.
//
// One transaction is at work at a time. Others wait for it, and so do writers
// outside of it; after 10 seconds they get a persistence.ErrLockTimeout. Readers
// outside do not wait, and see what was committed before.
//
// To replace some of its methods, embed a *Store. Embedded as an interface, it
// loses what Runner.Rebuild and others need beside persistence.Factory.
type Store struct {
	capabilities

	turn chan struct{} // holds a value while a writer or a transaction is at work

	mu        sync.RWMutex // protects what follows
	closed    bool
	lastID    int64
	committed *data
}

var _ persistence.Transactor = (*Store)(nil)

// New makes an empty store.
func New() *Store {
	s := &Store{turn: make(chan struct{}, 1), committed: newData(nil)}
	s.provide()
	return s
}

// ProcessRecorder implements persistence.Factory.
func (s *Store) ProcessRecorder(application string) (persistence.ProcessRecorder, error) {
	if err := s.checkName(application); err != nil {
		return nil, err
	}
	return &processRecorder{aggregateRecorder{store: s, application: application, hasLog: true}}, nil
}

// SnapshotRecorder implements persistence.Factory.
func (s *Store) SnapshotRecorder(application string) (persistence.AggregateRecorder, error) {
	if err := s.checkName(application); err != nil {
		return nil, err
	}
	return &snapshotRecorder{aggregateRecorder{store: s, application: application}}, nil
}

// Close ends the use of the store: later calls of its recorders return
// persistence.ErrClosed. Closing it again does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

func (s *Store) checkName(application string) error {
	if err := persistence.ValidateName(application); err != nil {
		return err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return closedError(application, "make a recorder")
	}
	return nil
}

// nextID draws a notification id. Ids that were drawn by a transaction that is
// rolled back are not drawn again.
func (s *Store) nextID() int64 {
	s.lastID++
	return s.lastID
}

// write calls f with the data to change: those of the transaction in ctx, or
// the committed data while no transaction is at work. It returns an error
// without calling f if ctx has ended or the store is closed.
func (s *Store) write(ctx context.Context, application, op string, f func(*data) error) error {
	if tx := s.transaction(ctx); tx != nil {
		return tx.do(ctx, application, op, f)
	}
	if err := s.takeTurn(ctx, application, op); err != nil {
		return err
	}
	defer s.endTurn()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx, application, op); err != nil {
		return err
	}
	return f(s.committed)
}

// read calls f with the data of the transaction in ctx, or with the committed
// data. It returns an error without calling f if ctx has ended or the store is
// closed.
func (s *Store) read(ctx context.Context, application, op string, f func(*data)) error {
	if tx := s.transaction(ctx); tx != nil {
		return tx.do(ctx, application, op, func(d *data) error { f(d); return nil })
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usable(ctx, application, op); err != nil {
		return err
	}
	f(s.committed)
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

func contextError(application, op string, err error) error {
	return fmt.Errorf("%s: %s: %w", application, op, err)
}

func closedError(application, op string) error {
	return &persistence.Error{Class: persistence.ErrClosed, Op: application + ": " + op}
}

// cloned returns a copy that shares no memory with n, so that neither side can
// change what the other one has.
func cloned(n *persistence.Notification) persistence.Notification {
	c := *n
	c.State = bytes.Clone(n.State)
	return c
}
