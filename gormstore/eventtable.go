package gormstore

import (
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/groupcommit"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// page is how many events are read at once. They are all read before the first
// one is handed out, so that no connection is held while the user's code runs.
const page = 500

// eventTable is one application's rows in a table of events or snapshots.
type eventTable struct {
	store       *Store
	application string
	table       table
	key         string // the column of the primary key
	order       writerOrder
	pages       pageStatements

	ordered atomic.Pointer[hashedKey] // the keys that were hashed last
}

type hashedKey struct {
	place         logKey
	key, tableKey int64
}

func newEventTable(s *Store, application string, t table, key string) *eventTable {
	page := func(order string) string {
		return s.dialect.placeholders("SELECT originator_version, topic, state FROM " + t.quoted +
			" WHERE application_name = ? AND originator_id = ? AND originator_version BETWEEN ? AND ?" +
			" ORDER BY originator_version" + order + " LIMIT ?")
	}
	return &eventTable{
		store: s, application: application, table: t, key: key,
		pages: pageStatements{op: application + ": select events", ascending: page(""), descending: page(" DESC")},
	}
}

// pageStatements read some events of an originator. Loads are frequent, so they
// are not put together for each.
type pageStatements struct{ op, ascending, descending string }

// insert stores the rows and checks that all of them are stored: success must
// never be reported for less.
func (t *eventTable) insert(ctx context.Context, c connection, events []persistence.StoredEvent) ([]int64, error) {
	ids, err := t.store.dialect.insert(ctx, c, t.table, t.key, t.application, events)
	if err != nil {
		return nil, err
	}
	return checkIDs(ids, events)
}

// checkIDs checks that every event got its id. Ids are drawn in the order of
// the events, and may be returned in another.
func checkIDs(ids []int64, events []persistence.StoredEvent) ([]int64, error) {
	if len(ids) != len(events) {
		return nil, fmt.Errorf("%d of %d rows were stored", len(ids), len(events))
	}
	slices.Sort(ids)
	return ids, nil
}

// step is the work of one write. It is told whether it takes part in a
// transaction of the user's.
type step func(ctx context.Context, c connection, joined bool) ([]int64, error)

// write does a step in the transaction that ctx carries, under a savepoint, or
// in a new one. It finds out what is in the way of events that conflict, and
// what became of a commit without an answer.
func (t *eventTable) write(ctx context.Context, what string, events []persistence.StoredEvent, do step) (ids []int64, err error) {
	if err := t.begin(ctx, what, events); err != nil {
		return nil, err
	}
	op := t.application + ": " + what
	outer, err := t.store.txScopeOf(ctx)
	if err != nil {
		return nil, err
	}
	c := connection{t.store.pool, t.store}
	if outer != nil {
		done, late := t.store.turnToWrite(ctx, outer)
		if late != nil {
			return nil, late
		}
		defer done()
		c.pool = outer.connection()
		err = t.store.savepoint(ctx, c, func() (err error) { ids, err = do(ctx, c, true); return err })
	} else {
		err = t.store.inTransaction(ctx, op, func(ctx context.Context, pool openTx) (err error) {
			ids, err = do(ctx, connection{pool, t.store}, false)
			return err
		})
	}
	if err == nil {
		return ids, nil
	}
	return t.classifyWatched(ctx, outer, op, events, err)
}

// classifyWatched is classifyWriteError for a write that is done, in the
// transaction that it took part in, if any.
func (t *eventTable) classifyWatched(ctx context.Context, outer *txScope, op string, events []persistence.StoredEvent, err error) ([]int64, error) {
	if outer != nil {
		c, watched := t.store.dialect.watchJoined(t.store, outer, op)
		defer watched()
		return t.classifyWriteError(ctx, c, op, events, err)
	}
	if !t.isConflict(err) {
		return t.classifyWriteError(ctx, connection{t.store.pool, t.store}, op, events, err)
	}
	c, done, failed := t.store.dialect.read(ctx, t.store, op)
	if failed != nil {
		return nil, t.store.translate(ctx, op, errors.Join(failed, err))
	}
	defer done()
	return t.classifyWriteError(ctx, c, op, events, err)
}

// begin refuses what cannot be written before anything is sent to the database.
func (t *eventTable) begin(ctx context.Context, what string, events []persistence.StoredEvent) error {
	if err := ctx.Err(); err != nil {
		return t.store.translate(ctx, t.application+": "+what, err)
	}
	if err := persistence.ValidateEvents(t.application, events); err != nil {
		return err
	}
	return t.store.ready(ctx)
}

// classifyWriteError turns the error of a write into what the caller needs to
// know, or into the success that it was.
func (t *eventTable) classifyWriteError(ctx context.Context, c connection, op string, events []persistence.StoredEvent, err error) ([]int64, error) {
	if lost, ok := errors.AsType[*unknownOutcome](err); ok {
		return t.resolveLostCommit(ctx, op, events, lost)
	}
	switch low, isLow := t.lowIDOf(err); {
	case isLow:
		return nil, low
	case errors.Is(err, errNotContinued) && !errors.Is(err, persistence.ErrPersistence):
		return nil, t.conflict(ctx, c, op, events, nil)
	case errors.Is(err, persistence.ErrPersistence) || !t.store.infoOf(err).unique:
		return nil, t.store.translate(ctx, op, t.withHolder(ctx, c, op, err))
	}
	return nil, t.conflict(ctx, c, op, events, err)
}

// conflict describes which event was in the way, or which stream is not
// continued. The cause is the violation of a unique key, or nil.
func (t *eventTable) conflict(ctx context.Context, c connection, op string, events []persistence.StoredEvent, cause error) error {
	stored, err := t.selectAt(ctx, c, events)
	if err != nil {
		return t.store.translate(ctx, op, errors.Join(err, cause))
	}
	if len(stored) == 0 && cause != nil {
		if hidden, err := t.store.dialect.hidesRows(ctx, c, t.table, t.key, cause); err != nil || hidden {
			return t.store.translate(ctx, op, cmp.Or(err, outdated(op, cause)))
		}
		return notUnique(op, cause)
	}
	if len(stored) == 0 {
		return t.gap(ctx, c, op, events)
	}
	first := stored[0]
	conflict := &persistence.ConflictError{Application: t.application, OriginatorID: first.OriginatorID,
		Version: first.OriginatorVersion, Current: -1, Stored: stored, Err: cause}
	if newest, err := t.newest(ctx, c, first.OriginatorID); err == nil {
		conflict.Current = newest
	}
	return conflict
}

// outdated is the error if the transaction cannot see the events that are in
// the way, because they were committed after it had taken its only snapshot.
func outdated(op string, cause error) error {
	return &persistence.Error{Class: persistence.ErrRetryTransaction, Op: op, Err: cause,
		Hint: "another transaction has stored one of the versions since this one began, and its isolation level hides that; " +
			"nothing was stored; run the whole transaction again"}
}

// notUnique is the error if the key of an id, and not that of a version, is
// violated.
func notUnique(op string, cause error) error {
	return &persistence.Error{Class: persistence.ErrIntegrity, Op: op, Err: cause,
		Hint: "no stored event is in the way; if rows were imported, the sequence of the ids is below them: set it with setval"}
}

// gap finds the stream that events do not continue. If they continue all of
// them, something else than a conflict has kept them from being stored.
func (t *eventTable) gap(ctx context.Context, c connection, op string, events []persistence.StoredEvent) error {
	var last persistence.StoredEvent
	for _, e := range events {
		if e.OriginatorID == last.OriginatorID {
			continue
		}
		last = e
		newest, err := t.newest(ctx, c, e.OriginatorID)
		if err != nil {
			return t.store.translate(ctx, op, err)
		}
		if newest != e.OriginatorVersion-1 && (newest >= 0 || continued(&e) > 0) {
			return &persistence.ConflictError{Application: t.application, OriginatorID: e.OriginatorID, Version: e.OriginatorVersion,
				Current: newest, Gap: true}
		}
	}
	return &persistence.Error{Class: persistence.ErrOperational, Op: op, Err: errors.New("the database stored nothing"),
		Hint: "the events continue what is stored; look for a trigger or a rule of the table that leaves rows out"}
}

// newest is the highest stored version of an originator, or -1.
func (t *eventTable) newest(ctx context.Context, c connection, id uuid.UUID) (int64, error) {
	rows, err := t.readPage(ctx, c, id, persistence.EventRange{Descending: true, Limit: 1})
	if err != nil || len(rows) == 0 {
		return -1, err
	}
	return rows[0].OriginatorVersion, nil
}

// errNotContinued says that nothing was stored, because at least one of the
// events does not continue the stream of its originator.
var errNotContinued = errors.New("an event does not continue its stream")

// isConflict reports whether an error says that a version is stored already, or
// that a stream is not continued.
func (t *eventTable) isConflict(err error) bool {
	return errors.Is(err, errNotContinued) || t.store.infoOf(err).unique
}

// selectAt reads the rows at the places of events, in the events' order.
func (t *eventTable) selectAt(ctx context.Context, c connection, events []persistence.StoredEvent) ([]persistence.Notification, error) {
	id := "id"
	if t.key != id {
		id = "0" // snapshots have no positions
	}
	query := t.store.dialect.placeholders("SELECT " + id + ", originator_id, originator_version, topic, state FROM " + t.table.quoted +
		" WHERE application_name = ? AND originator_id = ? AND originator_version BETWEEN ? AND ? ORDER BY originator_version")
	var found []persistence.Notification
	for rest := events; len(rest) > 0; {
		run := continuous(rest)
		first, last := run[0], run[len(run)-1]
		at, err := readNotifications(ctx, c, len(run), query,
			t.application, t.store.dialect.uuid(first.OriginatorID), first.OriginatorVersion, last.OriginatorVersion)
		if err != nil {
			return nil, err
		}
		found, rest = append(found, at...), rest[len(run):]
	}
	return found, nil
}

// continuous returns the events at the beginning of events that are one part of
// one stream.
func continuous(events []persistence.StoredEvent) []persistence.StoredEvent {
	n := 1
	for n < len(events) && events[n].OriginatorID == events[0].OriginatorID &&
		events[n].OriginatorVersion == events[n-1].OriginatorVersion+1 {
		n++
	}
	return events[:n]
}

// resolveLostCommit finds out whether a write without an answer was done. When
// the server gets to it is unknown, so it first waits for the order lock.
// Events that are stored then are a success. If none are, only a transaction
// that had the lock before is known to have failed.
func (t *eventTable) resolveLostCommit(ctx context.Context, op string, events []persistence.StoredEvent, lost *unknownOutcome) ([]int64, error) {
	unknown := &persistence.Error{Class: persistence.ErrOutcomeUnknown, Op: op, Err: lost,
		Hint: "the connection was lost before the answer came; saving the same events again is safe"}
	if len(events) == 0 || groupcommit.HasLeft(ctx) {
		return nil, unknown
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.store.lockTimeout+commitTimeout)
	defer cancel()
	var stored []persistence.Notification
	err := t.store.inTransaction(ctx, op, func(ctx context.Context, pool openTx) error {
		c := connection{pool, t.store}
		err := t.exclude(ctx, c, false)
		if err != nil {
			return err
		}
		stored, err = t.selectAt(ctx, c, events)
		return err
	})
	switch {
	case err != nil, len(stored) == 0 && !lost.locked:
		return nil, unknown
	case len(stored) == 0:
		return nil, t.store.translate(ctx, op, lost.err)
	case !equalRows(stored, events):
		return nil, &persistence.ConflictError{Application: t.application, OriginatorID: stored[0].OriginatorID,
			Version: stored[0].OriginatorVersion, Current: -1, Stored: stored, Err: lost}
	}
	ids := make([]int64, len(stored))
	for i := range stored {
		ids[i] = stored[i].ID
	}
	return ids, nil
}

// equalRows reports whether the stored rows are the events, to the last byte.
// Every state has a random id or nonce in it.
func equalRows(stored []persistence.Notification, events []persistence.StoredEvent) bool {
	return slices.EqualFunc(stored, events, func(n persistence.Notification, e persistence.StoredEvent) bool {
		return n.OriginatorID == e.OriginatorID && n.OriginatorVersion == e.OriginatorVersion && n.Topic == e.Topic &&
			slices.Equal(n.State, e.State)
	})
}

// logKey is the table's location for a connection.
func (t *eventTable) logKey(ctx context.Context, c connection) (logKey, error) {
	at, err := t.locate(ctx, c)
	return t.keyAt(at), err
}

func (t *eventTable) keyAt(at location) logKey {
	return logKey{schema: at.schema, table: t.table.name, application: t.application}
}

// locate asks for the table's location for a connection.
func (t *eventTable) locate(ctx context.Context, c connection) (location, error) {
	at, err := t.store.dialect.locate(ctx, c.quiet(), t.table)
	if err == nil {
		t.store.poolState.locations.Store(t.table.quoted, at)
	}
	return at, err
}

// located returns the table's last location, for whatever connection. The
// search path of another one, or of a transaction, may lead elsewhere, so what
// is done there must notice that.
func (t *eventTable) located(ctx context.Context, c connection) (location, error) {
	if known, ok := t.store.poolState.locations.Load(t.table.quoted); ok {
		return known.(location), nil
	}
	return t.locate(ctx, c)
}

// whereItIs calls do with the table's last location, and then with its present
// one if do returns false because the table is elsewhere. It returns
// errElsewhere if do returns false all the same.
func (t *eventTable) whereItIs(ctx context.Context, c connection, do func(at location) (there bool, err error)) error {
	at, err := t.located(ctx, c)
	if err != nil {
		return err
	}
	there, err := do(at)
	if there || err != nil {
		return err
	}
	found, err := t.locate(ctx, c)
	if err != nil {
		return err
	}
	if found != at {
		there, err = do(found)
	}
	if err == nil && !there {
		err = errElsewhere
	}
	return err
}

// exclude keeps all other writers out of the log until the transaction ends.
func (t *eventTable) exclude(ctx context.Context, c connection, joined bool) error {
	return t.excludeFrom(ctx, c, joined, "ROW EXCLUSIVE")
}

// excludeFrom takes the lock of the table in a mode, and then the order locks.
func (t *eventTable) excludeFrom(ctx context.Context, c connection, joined bool, mode string) error {
	if t.store.dialect.concurrent() {
		if err := t.lockTable(ctx, c, joined, mode); err != nil {
			return err
		}
	}
	how := locking{timeout: t.store.lockTimeout, joined: joined}
	return t.whereItIs(ctx, c, func(at location) (there bool, err error) {
		return t.store.dialect.lockIn(ctx, c, how, t.table, at, t.orderKeys(t.keyAt(at))...)
	})
}

// lockTable takes the lock of the table on PostgreSQL, which comes before the
// order lock. That is the order in which the statement of a save takes them, as
// PostgreSQL takes the lock of a table when it plans a statement. Otherwise a
// session with the order lock could wait at the table for a save that waits for
// the order lock. In a transaction of the caller's the wait is bounded already.
func (t *eventTable) lockTable(ctx context.Context, c connection, joined bool, mode string) error {
	if err := t.store.boundWaits(ctx, c, joined); err != nil {
		return err
	}
	_, err := c.exec(ctx, "LOCK TABLE "+t.table.quoted+" IN "+mode+" MODE")
	return err
}

// orderKey is that of a place, which is hashed once.
func (t *eventTable) orderKey(at logKey) int64 { return t.hashed(at).key }

func (t *eventTable) hashed(at logKey) *hashedKey {
	known := t.ordered.Load()
	if known == nil || known.place != at {
		known = &hashedKey{place: at, key: at.orderKey(), tableKey: at.tableKey()}
		t.ordered.Store(known)
	}
	return known
}

// orderKeys are the keys of the order locks that a writer takes, in this order.
func (t *eventTable) orderKeys(at logKey) []int64 {
	known := t.hashed(at)
	if t.order == tableOrder {
		return []int64{known.tableKey, known.key}
	}
	return []int64{known.key}
}

// orderArgument is the argument $2 of statements that take the order lock; see
// orderLocks.
func (t *eventTable) orderArgument(at logKey) any {
	keys := t.orderKeys(at)
	if len(keys) == 1 {
		return keys[0]
	}
	return fmt.Sprintf("{%d,%d}", keys[0], keys[1])
}

// SelectEvents implements persistence.AggregateRecorder.
func (t *eventTable) SelectEvents(ctx context.Context, id uuid.UUID, r persistence.EventRange) iter.Seq2[persistence.StoredEvent, error] {
	if err := r.Validate(); err != nil {
		return func(yield func(persistence.StoredEvent, error) bool) { yield(persistence.StoredEvent{}, err) }
	}
	return func(yield func(persistence.StoredEvent, error) bool) {
		remaining := r.Limit
		for {
			r.Limit = page
			if remaining > 0 {
				r.Limit = min(remaining, page)
			}
			events, err := t.selectPage(ctx, id, r)
			if err != nil {
				yield(persistence.StoredEvent{}, err)
				return
			}
			for i := range events {
				if !yield(events[i], nil) {
					return
				}
			}
			remaining -= len(events)
			if len(events) < r.Limit || remaining == 0 || !advance(&r, events[len(events)-1].OriginatorVersion) {
				return
			}
		}
	}
}

// advance moves a range past the version that was read last. It returns false
// at the end of all versions.
func advance(r *persistence.EventRange, last int64) bool {
	if r.Descending {
		r.Before = last
		return last > 0
	}
	r.From = last + 1
	return last < math.MaxInt64
}

func (t *eventTable) selectPage(ctx context.Context, id uuid.UUID, r persistence.EventRange) ([]persistence.StoredEvent, error) {
	c, done, err := t.store.reader(ctx, t.pages.op)
	if err != nil {
		return nil, err
	}
	defer done()
	events, err := t.readPage(ctx, c, id, r)
	return events, t.store.translate(ctx, t.pages.op, err)
}

func (t *eventTable) readPage(ctx context.Context, c connection, id uuid.UUID, r persistence.EventRange) ([]persistence.StoredEvent, error) {
	last, query := int64(math.MaxInt64), t.pages.ascending
	if r.Before > 0 {
		last = r.Before - 1
	}
	if r.Descending {
		query = t.pages.descending
	}
	arguments := []any{t.application, t.store.dialect.uuid(id), r.From, last, r.Limit}
	var events []persistence.StoredEvent
	if whole, err := c.each(ctx, func(row []driver.Value) (err error) {
		e := persistence.StoredEvent{OriginatorID: id}
		e.OriginatorVersion, e.Topic, e.State, err = asEvent(row)
		events = append(events, e)
		return err
	}, query, arguments...); whole {
		return events, err
	}
	rows, err := c.query(ctx, query, arguments...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		e := persistence.StoredEvent{OriginatorID: id}
		if err := rows.Scan(&e.OriginatorVersion, &e.Topic, &e.State); err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, rows.Err()
}

// inChunks inserts events a chunk at a time and collects the ids.
func inChunks(events []persistence.StoredEvent, size int, insert func(ids []int64, events []persistence.StoredEvent) ([]int64, error)) ([]int64, error) {
	ids := make([]int64, 0, len(events))
	for chunk := range slices.Chunk(events, size) {
		var err error
		if ids, err = insert(ids, chunk); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// location is the place of a table in the database. SQLite has neither schemas
// nor numbers of tables.
type location struct {
	schema   string
	oid      int64
	sequence int64 // the number of the sequence of its ids, or 0
}

// schemaOf is the schema that a table is in, as far as the database has any.
// What is found in a transaction of the user's is not kept, because the
// transaction may look elsewhere than others.
func (s *Store) schemaOf(ctx context.Context, c connection, joined bool, t table) (string, error) {
	if t.schema != "" {
		return t.schema, nil
	}
	if known, ok := s.poolState.locations.Load(t.quoted); ok && !joined {
		return known.(location).schema, nil
	}
	at, err := s.dialect.locate(ctx, c.quiet(), t)
	if err == nil && !joined {
		s.poolState.locations.Store(t.quoted, at)
	}
	return at.schema, err
}
