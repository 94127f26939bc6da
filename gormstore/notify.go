package gormstore

import (
	"context"
	"fmt"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// WithNotify has every save of events on PostgreSQL tell those who listen, in
// this process and in others, when it is committed: a NOTIFY with the
// application's name, on a channel that the tables of one schema have for
// themselves. It is part of a statement that the save sends anyway, so a
// transaction that is rolled back tells nothing, and one with many saves tells
// of each application once. Saves of snapshots and of positions alone tell
// nothing. On SQLite the option has no effect.
//
// It is an option because PostgreSQL lets only one transaction with a NOTIFY
// commit at a time, in all databases of a server. Saves that are merged by this
// package do not feel that, as they wait for each other in any case; many
// applications on one server, or many small transactions of the service, do.
//
// Give it to the Stores that write; those who listen have WithListener.
func WithNotify() Option {
	return func(s *Store) { s.notify = true }
}

// WithListener has followers and subscriptions hear at once of events that other
// processes record, by l, which package gormstore/pglisten makes, and implies
// WithNotify. Every process that writes needs one of the two options to be
// heard.
func WithListener(l Listener) Option {
	return func(s *Store) { s.notify, s.listener = true, l }
}

// Listener hears notifications of PostgreSQL. It stands for what needs a
// driver, so that this package needs none. Package gormstore/pglisten has one;
// it must be safe for concurrent use.
type Listener interface {
	// Listen calls wake with the text of each notification on a channel, and
	// with "" whenever it has begun to listen: what was notified before then is
	// lost. It asks for the name of the channel before it begins, each time,
	// and tries again after an error, unless that is a
	// persistence.ErrInterface, which it returns. Otherwise it returns when ctx
	// ends.
	Listen(ctx context.Context, channel func(context.Context) (string, error), wake func(text string)) error
}

// Listen implements capability.Listener. Each call has its own connection,
// outside of the pool. Without WithListener, and on SQLite, it returns a
// persistence.ErrNotSupported at once: its caller is left to polling.
func (s storeCapabilities) Listen(ctx context.Context, wake func(application string)) error {
	switch {
	case s.initErr != nil:
		return &persistence.Error{Class: persistence.ErrInterface, Op: opListen, Err: s.initErr}
	case s.closed.Load():
		return errClosed
	case !s.notify || s.listener == nil:
		return &persistence.Error{Class: persistence.ErrNotSupported, Op: opListen,
			Hint: "on PostgreSQL, give the store a listener with WithListener"}
	}
	return s.listener.Listen(ctx, s.channel, wake)
}

// opListen names Listen in errors.
const opListen = "listen"

// channel is the name of the channel for the store's tables.
func (s *Store) channel(ctx context.Context) (string, error) {
	if s.closed.Load() {
		return "", errClosed
	}
	schema, err := s.schemaOf(ctx, connection{s.pool, s}, false, s.tables.events)
	if err != nil {
		return "", s.translate(ctx, opListen, err)
	}
	return logKey{schema: schema, table: s.tables.events.name}.channel(), nil
}

// logKey is the location of an application's log, by whatever way a process
// finds it.
type logKey struct{ schema, table, application string }

// orderKey is the key of the lock that makes the ids of an application's events
// visible in ascending order.
func (p logKey) orderKey() int64 { return lockKey("order", p.schema, p.table, p.application) }

// tableKey is the key of the lock that makes the ids of all applications in the
// table visible in ascending order.
func (p logKey) tableKey() int64 { return lockKey("order", p.schema, p.table) }

// channel is the name under which saves are notified. PostgreSQL keeps
// databases apart by itself, but not their schemas. All versions of this
// package must agree on it, or they would not hear each other.
func (p logKey) channel() string {
	return fmt.Sprintf("eventsourcing_%016x", uint64(lockKey("notify", p.schema, p.table)))
}

// notified is the channel that saves are told on, or "" if they are not.
func (s *Store) notified(at logKey) string {
	if !s.notify {
		return ""
	}
	return at.channel()
}

// notify is an expression to select, after others, that tells of a save of an
// application. PostgreSQL sends it at the commit, and not if a savepoint that
// it was called in is rolled back.
func notify(channel, application string) string {
	return ", pg_notify(" + channel + "::text, " + application + "::varchar)"
}
