package gormstore

import (
	"cmp"
	"context"
	"database/sql/driver"
	"iter"
	"math"
	"slices"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// history is one statement, as each is a round trip. It selects the newest
// snapshot of an originator up to a version, as a row that begins with 0, and
// the events from the version of that snapshot on, or from the first one, as
// rows that begin with 1.
func (p postgres) history(events, snapshots table) string {
	return p.placeholders("WITH s AS MATERIALIZED (SELECT originator_version, topic, state FROM " + snapshots.quoted +
		" WHERE application_name = ? AND originator_id = ? AND originator_version <= ?" +
		" ORDER BY originator_version DESC LIMIT 1)" +
		" SELECT 0, originator_version, topic, state FROM s UNION ALL SELECT 1, originator_version, topic, state" +
		" FROM (SELECT originator_version, topic, state FROM " + events.quoted +
		" WHERE application_name = ? AND originator_id = ?" +
		" AND originator_version BETWEEN COALESCE((SELECT originator_version FROM s), 0) AND ?" +
		" ORDER BY originator_version LIMIT ?) e")
}

// history is two statements: SQLite prepares a statement each time, which for a
// long one takes more time than is saved.
func (sqlite) history(_, _ table) string { return "" }

// history is a snapshot, if there is one, and the first page of the events from
// its version on.
type history struct {
	originator uuid.UUID
	snapshot   *persistence.StoredEvent
	events     []persistence.StoredEvent
}

func (h *history) add(kind, version int64, topic string, state []byte) {
	row := persistence.StoredEvent{OriginatorID: h.originator, OriginatorVersion: version, Topic: topic, State: state}
	if kind == 0 {
		h.snapshot = &row
		return
	}
	h.events = append(h.events, row)
}

// SelectHistory implements capability.HistoryReader.
func (r *processRecorder) SelectHistory(ctx context.Context, id uuid.UUID, before int64) (
	*persistence.StoredEvent, iter.Seq2[persistence.StoredEvent, error], error,
) {
	if err := (persistence.EventRange{Before: before}).Validate(); err != nil {
		return nil, nil, err
	}
	op := r.application + ": select a snapshot and events"
	c, done, err := r.store.reader(ctx, op)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	read := r.readHistory
	if r.history == "" {
		read = r.readTwice
	}
	h, err := read(ctx, c, id, before)
	if err != nil {
		return nil, nil, r.store.translate(ctx, op, err)
	}
	return h.snapshot, r.streamHistory(ctx, h, before), nil
}

// streamHistory streams the events of a history, and then those that are not
// read yet.
func (r *processRecorder) streamHistory(ctx context.Context, h history, before int64) iter.Seq2[persistence.StoredEvent, error] {
	return func(yield func(persistence.StoredEvent, error) bool) {
		for i := range h.events {
			if !yield(h.events[i], nil) {
				return
			}
		}
		rest := persistence.EventRange{Before: before}
		if len(h.events) < page || !advance(&rest, h.events[page-1].OriginatorVersion) {
			return
		}
		r.SelectEvents(ctx, h.originator, rest)(yield)
	}
}

// readHistory reads by the dialect's statement.
func (r *processRecorder) readHistory(ctx context.Context, c connection, id uuid.UUID, before int64) (history, error) {
	last := int64(math.MaxInt64)
	if before > 0 {
		last = before - 1
	}
	h, uid := history{originator: id}, r.store.dialect.uuid(id)
	arguments := []any{r.application, uid, last, r.application, uid, last, page}
	if whole, err := c.each(ctx, func(row []driver.Value) error {
		kind, err := asInt(row[0])
		if err != nil {
			return err
		}
		version, topic, state, err := asEvent(row[1:])
		h.add(kind, version, topic, state)
		return err
	}, r.history, arguments...); whole {
		return h.sorted(), err
	}
	rows, err := c.query(ctx, r.history, arguments...)
	if err != nil {
		return history{}, err
	}
	defer rows.Close()
	for rows.Next() {
		var kind, version int64
		var topic string
		var state []byte
		if err := rows.Scan(&kind, &version, &topic, &state); err != nil {
			return history{}, err
		}
		h.add(kind, version, topic, state)
	}
	return h.sorted(), rows.Err()
}

// readTwice reads the snapshot and then the events. What another process deletes
// in between is missed as if it were deleted before.
func (r *processRecorder) readTwice(ctx context.Context, c connection, id uuid.UUID, before int64) (history, error) {
	snapshots := newEventTable(r.store, r.application, r.store.tables.snapshots, "uid")
	newest, err := snapshots.readPage(ctx, c, id, persistence.EventRange{Before: before, Descending: true, Limit: 1})
	if err != nil {
		return history{}, err
	}
	h, wanted := history{originator: id}, persistence.EventRange{Before: before, Limit: page}
	if len(newest) > 0 {
		h.snapshot, wanted.From = &newest[0], newest[0].OriginatorVersion
	}
	h.events, err = r.readPage(ctx, c, id, wanted)
	return h, err
}

// sorted returns the history with its events in order, which a UNION of selects
// does not promise to keep.
func (h history) sorted() history {
	slices.SortFunc(h.events, func(a, b persistence.StoredEvent) int {
		return cmp.Compare(a.OriginatorVersion, b.OriginatorVersion)
	})
	return h
}
