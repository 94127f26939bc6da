package memory

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// rows is a run of stored events. A row never changes once it is stored, and a
// run that was handed out never changes within its length: it is only ever
// appended to, or replaced by another one. So a reader needs the lock only to
// fetch the run, and reads it without.
type rows []*persistence.Notification

// table keeps stored events in the two orders in which they are read. The lock
// of its store protects it, or that of the transaction that changes it.
type table struct {
	// base has, for a transaction's table, the streams that it has not changed.
	base    *table
	log     rows               // in order of id
	streams map[uuid.UUID]rows // of each originator, in order of version; nil if all were deleted
}

func newTable() *table { return &table{streams: map[uuid.UUID]rows{}} }

// overlay returns a table that shows this one, and keeps changes to itself.
func (t *table) overlay() *table {
	return &table{base: t, log: slices.Clip(t.log), streams: map[uuid.UUID]rows{}}
}

// adopt takes over the changes of an overlay.
func (t *table) adopt(changed *table) {
	t.log = changed.log
	maps.Copy(t.streams, changed.streams)
}

// stream returns the events of an originator.
func (t *table) stream(id uuid.UUID) rows {
	for ; t != nil; t = t.base {
		if stream, ok := t.streams[id]; ok {
			return stream
		}
	}
	return nil
}

// own is stream for a caller that appends to it. A run of the base is clipped,
// so that what is appended gets its own place.
func (t *table) own(id uuid.UUID) rows {
	if stream, ok := t.streams[id]; ok {
		return stream
	}
	return slices.Clip(t.stream(id))
}

// conflict finds the stored events that are in the way of events; it returns
// nil if there are none.
func (t *table) conflict(application string, events []persistence.StoredEvent) error {
	var conflict *persistence.ConflictError
	for i := range events {
		e := &events[i]
		stream := t.stream(e.OriginatorID)
		at, found := stream.search(e.OriginatorVersion)
		if !found {
			continue
		}
		if conflict == nil {
			conflict = &persistence.ConflictError{Application: application, OriginatorID: e.OriginatorID,
				Version: e.OriginatorVersion, Current: stream[len(stream)-1].OriginatorVersion}
		}
		conflict.Stored = append(conflict.Stored, cloned(stream[at]))
	}
	if conflict == nil {
		return nil
	}
	return conflict
}

// gap finds the first event of an originator that does not continue its stream;
// it returns nil if there is none. The events do not conflict with stored ones.
func (t *table) gap(application string, events []persistence.StoredEvent) error {
	seen := map[uuid.UUID]bool{}
	for i := range events {
		e := &events[i]
		if seen[e.OriginatorID] {
			continue
		}
		seen[e.OriginatorID] = true
		newest := int64(-1)
		if stream := t.stream(e.OriginatorID); len(stream) > 0 {
			newest = stream[len(stream)-1].OriginatorVersion
		}
		begins := newest < 0 && (e.Begins || e.OriginatorVersion <= 1 && !e.Continues)
		if !begins && e.OriginatorVersion != newest+1 {
			return &persistence.ConflictError{Application: application, OriginatorID: e.OriginatorID,
				Version: e.OriginatorVersion, Current: newest, Gap: true}
		}
	}
	return nil
}

// insert stores events that do not conflict. Where nextID is nil they get no
// ids, and none are returned.
func (t *table) insert(events []persistence.StoredEvent, nextID func() int64) []int64 {
	stored := make([]persistence.Notification, len(events))
	var ids []int64
	for i, e := range events {
		row := &stored[i]
		row.StoredEvent = e
		row.Begins, row.Continues = false, false // they are not stored
		row.State = bytes.Clone(e.State)
		if nextID != nil {
			row.ID = nextID()
			ids = append(ids, row.ID)
			t.log = append(t.log, row)
		}
		t.streams[e.OriginatorID] = t.own(e.OriginatorID).with(row)
	}
	return ids
}

// with returns the run with one more row at its place in the order of versions.
// Nearly always that is the end; if it is not, the run is replaced, because a
// reader may be at it.
func (r rows) with(row *persistence.Notification) rows {
	at, _ := r.search(row.OriginatorVersion)
	if at == len(r) {
		return append(r, row)
	}
	return slices.Concat(r[:at], rows{row}, r[at:])
}

// search returns the place of a version, or the one that it would have.
func (r rows) search(version int64) (int, bool) {
	if n := len(r); n == 0 || version > r[n-1].OriginatorVersion {
		return n, false
	}
	return slices.BinarySearchFunc(r, version, func(row *persistence.Notification, version int64) int {
		return cmp.Compare(row.OriginatorVersion, version)
	})
}

// between returns the part of a stream that a range selects, before its order
// and its limit.
func (r rows) between(want persistence.EventRange) rows {
	if want.Before > 0 {
		end, _ := r.search(want.Before)
		r = r[:end]
	}
	begin, _ := r.search(want.From)
	return r[begin:]
}

// after returns the part of a log whose ids are higher than id.
func (r rows) after(id int64) rows {
	begin, found := slices.BinarySearchFunc(r, id, func(row *persistence.Notification, id int64) int {
		return cmp.Compare(row.ID, id)
	})
	if found {
		begin++
	}
	return r[begin:]
}
