package gormstore

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/groupcommit"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// How a batch is written to PostgreSQL: one statement takes the order lock,
// stores the rows and commits, in one round trip. If one of its saves does not
// continue its originator's stream, the statement stores nothing, and is
// repeated in a wary form that leaves out such saves, each as a whole. The wary
// form costs an eighth more. It is used for a while then, because conflicts
// seldom come alone. Both forms see the streams in the snapshot that they begin
// with; a commit of another process in between makes the unique key fail, and
// the statement is repeated, too.
//
// The ids come back in one row, in the order of the events, as a row for each
// event would cost more than the check that the event continues its stream.
//
// Two details keep PostgreSQL's plans good. The arrays are wrapped in
// subqueries, because the planner would otherwise see their lengths and plan
// each execution anew. And the newest version is a scalar subquery, because a
// join would get a plan, made while the table was empty, that scans the whole
// table when it is not.

// mergeStatements are the statements for the events of one log. The arguments
// of each begin with the time limit for the lock, the lock's key, the
// application, and the numbers of the table and of its sequence, and end with
// the channel for signals, if there is one. They do nothing if the connection
// finds another table. A signal is sent with the lock, also if all saves then
// turn out to conflict: listeners then look once in vain.
type mergeStatements struct {
	event   string // one event
	save    string // the events of one save
	singles string // the events of several saves of one event each
	batch   string // the events of several saves
	wary    string // the same, without those that conflict

	joined string // the events of one save, in a transaction of the user's
	chunk  string // some of the events of a save, in a transaction that has the lock

	whole wholeStatements
	locks orderLocks
}

func newMergeStatements(events string, notifies bool, order writerOrder) mergeStatements {
	locks := newOrderLocks(order)
	log := logStatements{events: events, application: "$3::varchar", sequence: "$5"}
	part := logStatements{events: events, application: "$1::varchar", sequence: "$2"}
	lock := func(from, take, channel string) string {
		tell := ""
		if notifies {
			tell = notify(channel, "$3")
		}
		return "SELECT set_config('lock_timeout', $1, true), " + take + tell +
			" FROM " + from + " WHERE " + here(events, "$4")
	}
	locked := func(channel string) string {
		return "WITH " + log.floor() + "l AS MATERIALIZED (" + lock("h", locks.take, channel) + ")"
	}
	const rows = "unnest($6::uuid[], $7::bigint[], $8::text[], $9::bytea[]) AS u(o, v, t, s)"
	return mergeStatements{
		whole: newWholeStatements(events, notifies, locks),
		locks: locks,
		event: locked("$11") + " " + log.insert("$6::uuid, $7::bigint, $8::text, $9::bytea FROM l") +
			" WHERE " + log.continues("$6::uuid", "$10::bigint") + " RETURNING " + log.id(),
		save: locked("$12") + log.storedIDs("o, v, t, s FROM l, "+rows+" WHERE "+log.allContinue("$10", "$11")),
		singles: locked("$10") + log.storedIDs("o, abs(v), t, s FROM l, unnest((SELECT $6::uuid[]), (SELECT $7::bigint[]), "+
			"(SELECT $8::text[]), (SELECT $9::bytea[])) AS u(o, v, t, s) WHERE "+log.allContinue("$6", "$7")),
		batch: locked("$12") + log.storedIDs("o, v, t, s FROM l, unnest((SELECT $6::uuid[]), (SELECT $7::bigint[]), "+
			"(SELECT $8::text[]), (SELECT $9::bytea[])) AS u(o, v, t, s) WHERE "+log.allContinue("$10", "$11")),
		wary: locked("$11") + " " + log.insert("o, v, t, s FROM l, unnest((SELECT $6::uuid[]), (SELECT $7::bigint[]), (SELECT $8::text[]), "+
			"(SELECT $9::bytea[]), (SELECT $10::bigint[])) AS u(o, v, t, s, f)") +
			" WHERE " + log.continues("u.o", "u.f") + " RETURNING " + log.id() + ", originator_id, originator_version",
		joined: "WITH " + log.floor() + "b AS MATERIALIZED (" + before(locks.held) + "), " +
			"l AS MATERIALIZED (" + lock("h, b", locks.once, "$12") + "), i AS (" + log.insert("o, v, t, s FROM l, "+rows) +
			" WHERE " + log.allContinue("$10", "$11") +
			" RETURNING " + log.id() + " AS id) SELECT i.id, " + restore + " FROM i, b",
		chunk: "WITH " + strings.TrimSuffix(part.floor(), ", ") + " " +
			part.insert("o, v, t, s FROM h, unnest($3::uuid[], $4::bigint[], $5::text[], $6::bytea[]) AS u(o, v, t, s)") +
			" WHERE " + part.allContinue("$7", "$8") + " RETURNING " + part.id(),
	}
}

// mergeAttempts is how often a merged statement is tried before its saves are
// written one by one.
const mergeAttempts = 4

// merge implements dialect. Saves that failed because of their connection, and
// of which nothing is stored, are tried once more on another one.
func (p postgres) merge(ctx context.Context, l *eventLog, batch []*save) {
	p.mergeOnce(ctx, l, batch)
	if again := onDeadConnection(batch); len(again) > 0 {
		p.mergeOnce(ctx, l, again)
	}
	groupcommit.TakeBack(batch, l.store.lockTimeout)
}

// onDeadConnection returns the saves that another connection may store.
func onDeadConnection(batch []*save) (again []*save) {
	for _, s := range batch {
		if s.Err != nil && !errors.Is(s.Err, persistence.ErrOutcomeUnknown) && deadConnection(s.Err) {
			again = append(again, s)
		}
	}
	return again
}

// deadConnection reports whether an error says that the connection cannot write
// any more: it became read-only in a fail-over, or the server has ended it.
func deadConnection(err error) bool {
	coded, ok := errors.AsType[sqlState](err)
	return ok && (coded.SQLState() == "25006" || terminated(coded))
}

// terminated reports whether the server has ended the session.
func terminated(coded sqlState) bool {
	return coded.SQLState() == "57P01" || coded.SQLState() == "57P02"
}

// mergeOnce writes a batch on one connection, which it discards if it is dead.
func (p postgres) mergeOnce(ctx context.Context, l *eventLog, batch []*save) {
	patience := groupcommit.Patience(batch, l.store.lockTimeout)
	limited, alarm := l.store.poolState.deadlines.withTimeout(ctx, patience)
	defer alarm.stop()
	conn, err := l.store.connectWithin(ctx, limited)
	alarm.extend(l.store.lockTimeout + commitTimeout)
	if err != nil {
		fail(batch, err)
		return
	}
	defer conn.Close() // an error of giving back a connection has no consequence
	w := &writing{c: connection{pool: conn, store: l.store}, log: l}
	at, err := l.located(limited, w.c)
	if err != nil {
		fail(batch, err)
		return
	}
	w.expect(at)
	w.watch = p.watch(l, w.key, watchedWaits{hint: hintTable}, alarm.release)
	w.waitFor(patience)
	defer w.watch.release(conn)
	defer w.discardDead(batch)
	if len(batch) == 1 {
		w.writeOne(limited, batch[0])
		return
	}
	if w.writeTogether(limited, batch) {
		return
	}
	for i, s := range batch {
		w.waitFor(groupcommit.Patience(batch[i:i+1], l.store.lockTimeout))
		w.writeOne(limited, s)
	}
}

// writeTogether writes a batch with one statement, and tries again if others
// were faster. It returns false if the saves should be written one by one:
// others were faster again and again, or the database refuses one of the saves,
// which must not have the others fail.
func (w *writing) writeTogether(ctx context.Context, batch []*save) (done bool) {
	for range mergeAttempts {
		err := w.writeMany(ctx, batch)
		switch {
		case err == nil:
			return true
		case errors.Is(err, errElsewhere): // the next statement expects it there
		case errors.Is(err, errNotContinued), w.log.store.infoOf(err).unique:
			w.log.queue.expectConflicts()
		case overtaken(err):
			w.waitFor(groupcommit.Patience(batch, w.log.store.lockTimeout))
		case w.isOutcomeUnknown(err) || errors.Is(w.log.store.infoOf(err).class, persistence.ErrOperational):
			w.explainFailed(ctx, batch, err)
			return true
		default:
			return false
		}
	}
	return false
}

// waitFor sets how long the next statements may wait for a lock.
func (w *writing) waitFor(d time.Duration) {
	w.timeout = milliseconds(d)
	w.watch.deadline.extend(d + lockGrace)
}

// discardDead discards a connection that cannot write any more.
func (w *writing) discardDead(batch []*save) {
	if conn, ok := w.c.pool.(*sql.Conn); ok && len(onDeadConnection(batch)) > 0 {
		discard(conn)
	}
}

// writing is one batch's way to the database.
type writing struct {
	postgres
	c       connection
	log     *eventLog
	at      location // the expected location of the table
	key     int64    // of the first order lock
	order   any      // the keys of all, as an argument
	timeout string
	rows    bool // the last statement has returned some
	watch   *lockWatch
	channel string // for signals, or ""
}

// expect sets the location at which the statements expect the table.
func (w *writing) expect(at location) {
	place := w.log.keyAt(at)
	w.at, w.key, w.order, w.channel = at, w.log.orderKeys(place)[0], w.log.orderArgument(place), w.log.store.notified(place)
}

// errElsewhere says that a statement has done nothing, because its connection
// finds the table elsewhere.
var errElsewhere = errors.New("the connection finds the table elsewhere")

// nothingStored says why a statement has stored nothing. It returns
// errElsewhere once the next statement expects the table at its location.
func (w *writing) nothingStored(ctx context.Context) error {
	at, err := w.log.locate(ctx, w.c)
	if err != nil {
		return err
	}
	if at == w.at {
		return errNotContinued
	}
	w.expect(at)
	return errElsewhere
}

// arguments are those of a statement, with what all of them have around its
// own.
func (w *writing) arguments(own ...any) []any {
	all := append(make([]any, 0, 12), w.timeout, w.order, w.log.application, w.at.oid, w.at.sequence)
	all = append(all, own...)
	if w.channel != "" {
		all = append(all, w.channel)
	}
	return all
}

func fail(batch []*save, err error) {
	for _, s := range batch {
		s.ids, s.Err = nil, err
	}
}

// writeOne writes a save alone. A violated unique key is its conflict.
func (w *writing) writeOne(ctx context.Context, s *save) {
	err := w.tryOne(ctx, s)
	for attempt := 1; attempt < overtakenAttempts && (overtaken(err) || errors.Is(err, errElsewhere)); attempt++ {
		w.waitFor(groupcommit.Patience([]*save{s}, w.log.store.lockTimeout))
		err = w.tryOne(ctx, s)
	}
	switch {
	case errors.Is(err, errNotContinued):
		s.ids, s.Err = nil, w.conflict(ctx, s)
	case err != nil:
		s.ids, s.Err = w.outcome(ctx, s, w.explained(ctx, err))
	default:
		s.ids, s.Err = checkIDs(s.ids, s.events)
	}
}

// overtakenAttempts is how often a save is tried that others overtake.
const overtakenAttempts = 20

// overtaken reports whether the server gave a statement up, and stored nothing,
// because of a transaction that runs at the same time: as the victim of a
// deadlock, or because the isolation of transactions is stricter by default
// than these statements need, which have none to say otherwise.
func overtaken(err error) bool {
	coded, ok := errors.AsType[sqlState](err)
	return ok && (coded.SQLState() == "40001" || coded.SQLState() == "40P01")
}

func (w *writing) tryOne(ctx context.Context, s *save) error {
	err := w.insertOne(ctx, s)
	if err == nil && len(s.ids) == 0 {
		return w.nothingStored(ctx)
	}
	return err
}

func (w *writing) insertOne(ctx context.Context, s *save) error {
	s.ids, s.Err = nil, nil
	if len(s.events) == 1 {
		e := &s.events[0]
		single := func(row []driver.Value) error {
			id, err := asInt(row[0])
			s.ids = []int64{id}
			return err
		}
		return w.direct(ctx, single, w.log.statements.event,
			w.arguments(e.OriginatorID.String(), e.OriginatorVersion, e.Topic, e.State, continued(e))...)
	}
	var a columns
	a.add(s.events)
	var f firsts
	f.add(s.events)
	return w.direct(ctx, assignInOrder([]*save{s}), w.log.statements.save,
		w.arguments(a.originators(), a.versions, a.topics, a.states, f.array(), f.versions)...)
}

// direct sends a statement to the connection that is watched.
func (w *writing) direct(ctx context.Context, each eachRow, query string, arguments ...any) error {
	w.rows = false
	return w.c.direct(ctx, w.watch, func(row []driver.Value) error { w.rows = true; return each(row) }, query, arguments...)
}

// explained says more about the error of a statement that has waited for a
// lock.
func (w *writing) explained(ctx context.Context, err error) error {
	op := w.log.application + ": " + opSave
	return w.log.withHolder(ctx, w.c, op, w.watch.explain(op, err))
}

// outcome finds out what an error of a statement means for a save. A server
// that answers with an error has stored nothing; without an answer, that is
// unknown until the rows are read.
func (w *writing) outcome(ctx context.Context, s *save, err error) ([]int64, error) {
	op := w.log.application + ": " + opSave
	if w.isOutcomeUnknown(err) && !w.unstored(err) {
		if conn, ok := w.c.pool.(*sql.Conn); ok {
			_ = conn.Close() // a pool of one has no other connection to look with
		}
		return w.log.resolveLostCommit(ctx, op, s.events, &unknownOutcome{err: err})
	}
	c, done := w.reads(op)
	defer done()
	return w.log.classifyWriteError(ctx, c, op, s.events, err)
}

// conflict finds out what is in the way of a save.
func (w *writing) conflict(ctx context.Context, s *save) error {
	op := w.log.application + ": " + opSave
	c, done := w.reads(op)
	defer done()
	return w.log.conflict(ctx, c, op, s.events, nil)
}

// reads returns the connection for reads after a save.
func (w *writing) reads(op string) (c connection, done func()) {
	if conn, ok := w.c.pool.(*sql.Conn); ok {
		return w.watchReads(w.log.store, conn, op)
	}
	return w.c, func() {}
}

// isOutcomeUnknown reports whether the server may have done what it was asked
// although there is an error.
func (p postgres) isOutcomeUnknown(err error) bool {
	coded, ok := errors.AsType[sqlState](err)
	if !ok {
		return !errors.Is(err, persistence.ErrPersistence) && !errors.Is(err, sql.ErrTxDone) && !rolledBack(err)
	}
	switch class := coded.SQLState()[:2]; class {
	case "08", "57", "40":
		return coded.SQLState() != "40001" && coded.SQLState() != "40P01" && coded.SQLState() != "57014"
	}
	return false
}

// rolledBack recognises the answer to the commit of a transaction in which a
// statement had failed.
func rolledBack(err error) bool {
	return strings.Contains(err.Error(), "commit unexpectedly resulted in rollback")
}

// unstored reports whether the server ended the session before it stored
// anything. It sends the rows of a statement before it commits, so without a
// row it has not.
func (w *writing) unstored(err error) bool {
	coded, ok := errors.AsType[sqlState](err)
	return ok && terminated(coded) && !w.rows
}

// writeMany writes a batch with one statement. If it returns an error, nothing
// is stored, as far as is known. The rows are stored in the order of their
// originators, or the batches of two processes could deadlock.
func (w *writing) writeMany(ctx context.Context, batch []*save) error {
	batch = slices.SortedFunc(slices.Values(batch), byOriginator)
	var a columns
	for _, s := range batch {
		a.add(s.events)
	}
	if w.log.queue.isWary() {
		err := w.direct(ctx, assignTo(batch), w.log.statements.wary,
			w.arguments(a.originators(), a.versions, a.topics, a.states, eachContinued(batch))...)
		if err == nil && !slices.ContainsFunc(batch, isStored) {
			err = w.nothingStored(ctx)
		}
		if err == nil || errors.Is(err, errNotContinued) {
			w.explainMissing(ctx, batch)
			return nil
		}
		return err
	}
	for _, s := range batch {
		s.ids, s.Err = nil, nil
	}
	err := w.insertAll(ctx, batch, &a)
	if err == nil && !isStored(batch[0]) {
		return w.nothingStored(ctx)
	}
	return err
}

func byOriginator(a, b *save) int {
	first, second := a.Key, b.Key
	return bytes.Compare(first[:], second[:])
}

func isStored(s *save) bool { return s.ids != nil }

// insertAll stores all saves of a batch or none.
func (w *writing) insertAll(ctx context.Context, batch []*save, a *columns) error {
	assign := assignInOrder(batch)
	if len(a.versions) == len(batch) {
		return w.direct(ctx, assign, w.log.statements.singles,
			w.arguments(a.originators(), eachContinued(batch), a.topics, a.states)...)
	}
	var f firsts
	for _, s := range batch {
		f.add(s.events)
	}
	return w.direct(ctx, assign, w.log.statements.batch,
		w.arguments(a.originators(), a.versions, a.topics, a.states, f.array(), f.versions)...)
}

// assignInOrder gives each save its part of the ids of all events.
func assignInOrder(batch []*save) eachRow {
	return func(row []driver.Value) error {
		ids, err := parseIDs(row[0])
		if err != nil {
			return err
		}
		events := 0
		for _, s := range batch {
			events += len(s.events)
		}
		if len(ids) != events {
			return fmt.Errorf("the database returned %d ids of %d events", len(ids), events)
		}
		for _, s := range batch {
			s.ids, ids = ids[:len(s.events):len(s.events)], ids[len(s.events):]
		}
		return nil
	}
}

// eachContinued returns what continued is for the first event of the save, for
// each row of a batch.
func eachContinued(batch []*save) (versions []int64) {
	for _, s := range batch {
		first := continued(&s.events[0])
		for range s.events {
			versions = append(versions, first)
		}
	}
	return versions
}

// explainFailed finds out what the error of a merged statement means for each
// save. Once the database does not answer the others need not ask it again.
func (w *writing) explainFailed(ctx context.Context, batch []*save, err error) {
	err = w.explained(ctx, err)
	for i, s := range batch {
		s.ids, s.Err = w.outcome(ctx, s, err)
		if errors.Is(s.Err, persistence.ErrOutcomeUnknown) {
			fail(batch[i:], s.Err)
			return
		}
	}
}

// assignTo gives each save the ids of its rows.
func assignTo(batch []*save) eachRow {
	saves := make(map[uuid.UUID]*save, len(batch))
	for _, s := range batch {
		s.ids, s.Err = nil, nil
		saves[s.Key] = s
	}
	return func(row []driver.Value) error {
		var originator uuid.UUID
		id, err := asInt(row[0])
		version, errVersion := asInt(row[2])
		if err := errors.Join(err, errVersion, originator.Scan(row[1])); err != nil {
			return err
		}
		s := saves[originator]
		if s == nil || version < s.first() || version-s.first() >= int64(len(s.events)) {
			return fmt.Errorf("the database stored version %d of originator %s, which was not saved; is there a trigger?", version, originator)
		}
		if s.ids == nil {
			s.ids = make([]int64, len(s.events))
		}
		s.ids[version-s.first()] = id
		return nil
	}
}

// asInt takes a whole number from a row as the driver gives it.
func asInt(value driver.Value) (int64, error) {
	n, ok := value.(int64)
	if !ok {
		return 0, fmt.Errorf("the driver returned %T where a whole number was expected", value)
	}
	return n, nil
}

// explainMissing finds out about the saves that were left out: they conflict,
// or were stored by an earlier execution of the same statement whose answer was
// lost.
func (w *writing) explainMissing(ctx context.Context, batch []*save) {
	for _, s := range batch {
		if s.ids == nil {
			s.Err = w.conflict(ctx, s)
		}
	}
}
