package gormstore

import (
	"context"
	"strings"
	"sync"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// WithClientMemory makes a Store that remembers in the client which of its
// transactions have the order lock, and so takes it once for each, also if a
// savepoint in which it was taken is rolled back.
func WithClientMemory(s *Store) { s.dialect = &clientMemory{} }

type clientMemory struct {
	postgres
	taken sync.Map // of true by unit
}

func (m *clientMemory) append(ctx context.Context, c connection, how locking, l *eventLog, events []persistence.StoredEvent) ([]int64, error) {
	if _, taken := m.taken.LoadOrStore(unhooked(c.pool), true); taken {
		return m.insert(ctx, c, l.table, l.key, l.application, events)
	}
	return m.postgres.append(ctx, c, how, l, events)
}

func (m *clientMemory) appendWhole(ctx context.Context, c connection, l *eventLog, events []persistence.StoredEvent) ([]int64, error) {
	if _, taken := m.taken.LoadOrStore(unhooked(c.pool), true); taken {
		return m.insert(ctx, c, l.table, l.key, l.application, events)
	}
	return m.postgres.appendWhole(ctx, c, l, events)
}

// WithoutSharedLock makes a Store whose writers are not excluded by strict
// ones.
func WithoutSharedLock(s *Store) { s.dialect = unshared{} }

type unshared struct{ postgres }

func (u unshared) append(ctx context.Context, c connection, how locking, l *eventLog, events []persistence.StoredEvent) ([]int64, error) {
	return u.postgres.append(ctx, c, how, u.without(l), events)
}

func (u unshared) merge(ctx context.Context, l *eventLog, batch []*save) {
	u.postgres.merge(ctx, u.without(l), batch)
}

func (u unshared) appendWhole(ctx context.Context, c connection, l *eventLog, events []persistence.StoredEvent) ([]int64, error) {
	return u.postgres.appendWhole(ctx, c, u.without(l), events)
}

func (unshared) without(l *eventLog) *eventLog {
	changed, m := *l, &l.statements
	removed := strings.NewReplacer("pg_advisory_xact_lock_shared($2::bigint), ", "", "pg_advisory_xact_lock_shared($2::bigint)::text || ", "").Replace
	changed.statements = mergeStatements{event: removed(m.event), save: removed(m.save), singles: removed(m.singles), batch: removed(m.batch),
		wary: removed(m.wary), joined: removed(m.joined), locks: m.locks,
		whole: wholeStatements{event: removed(m.whole.event), stream: removed(m.whole.stream), own: removed(m.whole.own),
			locked: m.whole.locked}}
	return &changed
}

// OrderKey is the key of the order lock of a log.
func OrderKey(schema, table, application string) int64 {
	return logKey{schema: schema, table: table, application: application}.orderKey()
}
