package gormstore

import (
	"context"
	"database/sql/driver"
	"errors"
	"strings"
	"time"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// A save in a transaction of the user's is one statement, in one round trip. It
// must leave the transaction as it was if the events conflict, and there is no
// savepoint to return to. So it stores the first event of the stream if that
// continues it, and the others only if the first one is stored. The first one
// is not stored, and is no error, if another transaction has stored the same
// version in the meantime.
//
// The statement cannot find its table before it takes the lock, as the key of
// the lock depends on that. It is given the location that the last transaction
// found, and does nothing if the table is elsewhere.

// wholeStatements store the events of one stream. The arguments are the time
// limit for the lock, the lock's key, the application, the first event with its
// version as continued returns it, the number of the table, and then the other
// events and the channel for signals, if there are any.
type wholeStatements struct {
	event  string // one event
	stream string // several events

	own    string // one event, in a whole transaction that the store has begun
	locked string // the same, when the transaction has the lock
}

func newWholeStatements(events string, notifies bool, locks orderLocks) wholeStatements {
	log := logStatements{events: events, application: "$3::varchar", sequence: "$5"}
	statement := func(channel, others, ids string) string {
		tell := ""
		if notifies {
			tell = notify(channel, "$3")
		}
		return "WITH " + log.floor() +
			"b AS MATERIALIZED (" + before(locks.held) + " WHERE " + here(events, "$4") + "), " +
			"l AS MATERIALIZED (SELECT set_config('lock_timeout', $1, true), " + locks.once + tell + " FROM h, b), " +
			"i AS (" + log.insert("$6::uuid, $7::bigint, $8::text, $9::bytea FROM l") +
			" WHERE " + log.continues("$6::uuid", "$10::bigint") +
			" ON CONFLICT (application_name, originator_id, originator_version) DO NOTHING RETURNING " + log.id() + " AS id)" +
			others + " SELECT COALESCE(a.ids, ''), " + restore + " FROM b, (SELECT string_agg(id::text, ' ') AS ids FROM " + ids + " OFFSET 0) a"
	}
	own := func(take string) string {
		return "WITH " + strings.TrimSuffix(log.floor(), ", ") + " " + log.insert("$1::uuid, $6::bigint, $7::text, $8::bytea") + take +
			log.continues("$1::uuid", "$9::bigint") +
			" ON CONFLICT (application_name, originator_id, originator_version) DO NOTHING RETURNING " + log.id()
	}
	tell := ""
	if notifies {
		tell = notify("$10", "$3")
	}
	return wholeStatements{
		own:    own(" FROM (SELECT " + locks.take + tell + " FROM h WHERE " + here(events, "$4") + " OFFSET 0) l WHERE "),
		locked: own(" FROM h WHERE $2::bigint IS NOT NULL AND " + here(events, "$4") + " AND "),
		event:  statement("$11", "", "i"),
		stream: statement("$14", ", j AS ("+
			log.insert("$6::uuid, v, t, s FROM unnest($11::bigint[], $12::text[], $13::bytea[]) AS u(v, t, s)")+
			" WHERE (SELECT count(*) FROM i) = 1 RETURNING "+log.id()+" AS id)",
			"(SELECT id FROM i UNION ALL SELECT id FROM j) k"),
	}
}

// appendsWhole implements dialect.
func (postgres) appendsWhole(s *save) bool { return !s.Alone && len(s.events) <= postgresChunk }

// appendWhole implements dialect.
func (p postgres) appendWhole(ctx context.Context, c connection, l *eventLog, events []persistence.StoredEvent) (ids []int64, err error) {
	if h, ok := hooksOf(c.pool); ok && h.isWhole() && len(events) == 1 && l.order == concurrentOrder {
		if u, ok := unhooked(c.pool).(*postgresUnit); ok && u.takesRequests {
			return p.appendOwn(ctx, c, l, h, u, &events[0])
		}
	}
	err = l.whereItIs(ctx, c, func(at location) (there bool, err error) {
		ids, there, err = p.tryWhole(ctx, c, l, at, events)
		return there, err
	})
	if err == nil && len(ids) == 0 {
		err = errNotContinued
	}
	return ids, err
}

// tryWhole sends the statement. It returns false if the table is elsewhere.
func (p postgres) tryWhole(ctx context.Context, c connection, l *eventLog, at location, events []persistence.StoredEvent) (ids []int64, there bool, err error) {
	place := l.keyAt(at)
	key, wait := l.orderKeys(place)[0], waitOf(ctx, l.store.lockTimeout)
	first := &events[0]
	query := l.statements.whole.event
	limit, ended := onlyWhileOpen(c.pool, milliseconds(wait))
	arguments := append(make([]any, 0, 14), limit, l.orderArgument(place), l.application, at.oid, at.sequence,
		first.OriginatorID.String(), first.OriginatorVersion, first.Topic, first.State, continued(first))
	if len(events) > 1 {
		var a columns
		a.add(events[1:])
		query = l.statements.whole.stream
		arguments = append(arguments, a.versions, a.topics, a.states)
	}
	if channel := l.store.notified(place); channel != "" {
		arguments = append(arguments, channel)
	}
	sent, stop := context.WithCancel(ctx)
	defer stop()
	watch := p.watch(l, key, watchedWaits{hint: hintTable}, stop)
	defer watch.close()
	watch.deadline.extend(wait + lockGrace)
	err = c.watched(sent, watch, func(row []driver.Value) error {
		there = true
		ids, err = parseIDs(row[0])
		return err
	}, query, arguments...)
	if ended() {
		return nil, false, errEnded
	}
	return ids, there, watch.explainJoined(l.application+": "+opSave, err)
}

// appendOwn is appendWhole for one event in a transaction that the store has
// begun and that has no savepoints. It costs the server half of the extra work:
//
//   - The time limit is not set in the transaction, and so need not be restored.
//     The watch bounds all waits instead. It can do so because the store has
//     opened the connection and knows its driver: it must see which session
//     waits.
//   - That the transaction has the lock is remembered here: nothing takes the
//     lock from it before its end. Further saves do without the lock, so that
//     they do not fill the server's table of locks. Nor do they send another
//     signal, unless the lock was taken by a store that sends none.
//   - That nothing was stored does not tell a conflict from a table that is
//     elsewhere. Only then is the table looked for.
func (p postgres) appendOwn(
	ctx context.Context, c connection, l *eventLog, h *hookedTx, u *postgresUnit, e *persistence.StoredEvent,
) (ids []int64, err error) {
	err = l.whereItIs(ctx, c, func(at location) (stored bool, err error) {
		id, stored, err := p.tryOwn(ctx, c, l, at, h, u, e)
		if err != nil || !stored {
			return false, err
		}
		ids = []int64{id}
		return true, nil
	})
	if errors.Is(err, errElsewhere) {
		err = errNotContinued // at both attempts
	}
	return ids, err
}

// tryOwn sends the statement. It returns false if nothing was stored.
func (p postgres) tryOwn(
	ctx context.Context, c connection, l *eventLog, at location, h *hookedTx, u *postgresUnit, e *persistence.StoredEvent,
) (id int64, stored bool, err error) {
	place := l.keyAt(at)
	key, channel := l.orderKey(place), l.store.notified(place)
	query := l.statements.whole.own
	arguments := append(make([]any, 0, 10), e.OriginatorID.String(), key, l.application, at.oid, at.sequence,
		e.OriginatorVersion, e.Topic, e.State, continued(e))
	told, locked := u.locked[key]
	locked = locked && (channel == "" || channel == told)
	switch {
	case locked:
		query = l.statements.whole.locked
	case channel != "":
		arguments = append(arguments, channel)
	}
	sent, stop := context.WithCancel(ctx)
	defer stop()
	watch := p.watch(l, key, watchedWaits{anyLock: true, hint: hintLock}, stop)
	defer watch.close()
	wait := waitOf(ctx, l.store.lockTimeout)
	isCallers := wait < l.store.lockTimeout
	if isCallers { // the statement is given up a moment before the connection would be
		wait = max(wait-lockGrace, wait/2)
	}
	watch.deadline.extend(wait)
	err = c.watched(sent, watch, func(row []driver.Value) error {
		stored = true
		id, err = asInt(row[0])
		return err
	}, query, arguments...)
	err = watch.explainJoined(l.application+": "+opSave, err)
	if isCallers && watch.isCanceled() && err != nil && !errors.Is(err, context.DeadlineExceeded) {
		err = errors.Join(err, context.DeadlineExceeded)
	}
	if err == nil && stored && !locked && h.isWhole() {
		if u.locked == nil {
			u.locked = map[int64]string{}
		}
		u.locked[key] = channel
	}
	return id, stored, err
}

// watched sends a statement in a transaction of the user's. It goes past
// database/sql if the store has begun the transaction itself.
func (c connection) watched(ctx context.Context, watch *lockWatch, each eachRow, query string, arguments ...any) error {
	if u, ok := unhooked(c.pool).(*postgresUnit); ok {
		err := connection{u, c.store}.direct(ctx, watch, each, query, arguments...)
		u.note(err)
		if watch.isCanceled() {
			u.stale.Store(true)
		}
		if watch.isUnanswered() {
			err = errors.Join(err, u.sever())
		}
		return err
	}
	begin := time.Now()
	watch.begin(unhooked(c.pool))
	err := c.indirect(ctx, each, query, arguments)
	watch.end()
	c.trace(ctx, begin, query, err)
	return err
}
