package persistencetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// book is a recorder of events or of snapshots, with a model of what it has
// acknowledged.
type book struct {
	application string
	ctx         context.Context
	recorder    persistence.AggregateRecorder
	model       *model
	numbered    bool // it gives its events notification ids
}

// try calls InsertEvents and remembers what it acknowledged. It may be called
// by any goroutine.
func (b *book) try(ctx context.Context, events ...persistence.StoredEvent) ([]int64, error) {
	ids, err := b.recorder.InsertEvents(ctx, events)
	if err != nil {
		return nil, err
	}
	return ids, b.acknowledge(ids, events)
}

// acknowledge adds events to the model. The error says that their ids are
// wrong.
func (b *book) acknowledge(ids []int64, events []persistence.StoredEvent) error {
	if !b.numbered {
		b.model.add(make([]int64, len(events)), events)
		if len(ids) > 0 {
			return fmt.Errorf("got the notification ids %v of snapshots, which have none", ids)
		}
		return nil
	}
	if len(ids) != len(events) {
		return fmt.Errorf("got %d notification ids for %d events", len(ids), len(events))
	}
	b.model.add(ids, events)
	last := int64(0)
	for _, id := range ids {
		if id <= last {
			return fmt.Errorf("notification ids %v are not ascending from 1", ids)
		}
		last = id
	}
	return nil
}

// insert is try that must succeed.
func (b *book) insert(t testing.TB, events ...persistence.StoredEvent) []int64 {
	t.Helper()
	ids, err := b.try(b.ctx, events...)
	if err != nil {
		t.Fatalf("InsertEvents(%d events): %v", len(events), err)
	}
	return ids
}

// conflict inserts events that must be in conflict with stored ones.
func (b *book) conflict(t testing.TB, events ...persistence.StoredEvent) *persistence.ConflictError {
	t.Helper()
	_, err := b.try(b.ctx, events...)
	return wantConflict(t, err)
}

// read returns the events that a range selects.
func (b *book) read(t testing.TB, id uuid.UUID, r persistence.EventRange) []persistence.StoredEvent {
	t.Helper()
	events, err := collect(b.recorder.SelectEvents(b.ctx, id, r))
	if err != nil {
		t.Fatalf("SelectEvents(%s, %+v): %v", id, r, err)
	}
	return events
}

// want reads the events that a range selects, and compares them with what was
// acknowledged.
func (b *book) want(t testing.TB, id uuid.UUID, r persistence.EventRange) {
	t.Helper()
	b.wantEvents(t, id, r, b.model.selected(id, r)...)
}

// wantEvents reads the events that a range selects, and compares them.
func (b *book) wantEvents(t testing.TB, id uuid.UUID, r persistence.EventRange, want ...persistence.StoredEvent) {
	t.Helper()
	if problem := difference(unnumbered(b.read(t, id, r)), unnumbered(want)); problem != "" {
		t.Errorf("SelectEvents(%s, %+v): %s", id, r, problem)
	}
}

// wantVersions reads the events that a range selects, and compares their
// versions.
func (b *book) wantVersions(t testing.TB, id uuid.UUID, r persistence.EventRange, want ...int64) {
	t.Helper()
	got := versions(b.read(t, id, r))
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("SelectEvents(%s, %+v): got versions %v, want %v", id, r, got, want)
	}
}

// verify compares the events of every originator with what was acknowledged.
func (b *book) verify(t testing.TB) {
	t.Helper()
	for _, id := range b.model.originators() {
		b.want(t, id, persistence.EventRange{})
	}
}
