package gormstore

import (
	"sync/atomic"

	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/groupcommit"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// opSave names a save in errors.
const opSave = groupcommit.Op

// save is one caller's events, which are stored as a whole or not at all.
type save struct {
	groupcommit.Entry
	events []persistence.StoredEvent
	ids    []int64 // of the stored events
}

func newSave(events []persistence.StoredEvent) *save {
	s := &save{events: events}
	s.Key, s.Rows = events[0].OriginatorID, len(events)
	for i := range events {
		s.Bytes += len(events[i].State) + len(events[i].Topic)
		s.Alone = s.Alone || events[i].OriginatorID != s.Key
	}
	return s
}

// first is the version that the save begins with.
func (s *save) first() int64 { return s.events[0].OriginatorVersion }

// logQueue is the queue of the saves of one log.
type logQueue struct {
	groupcommit.Queue[*save]
	conflictsExpected atomic.Int64 // for how many batches to expect conflicts
}

// expectConflicts has the next batches expect saves that conflict.
func (q *logQueue) expectConflicts() { q.conflictsExpected.Store(conflictBatches) }

// isWary reports whether a batch is to expect saves that conflict. One batch at
// a time asks.
func (q *logQueue) isWary() bool {
	left := q.conflictsExpected.Load()
	if left > 0 {
		q.conflictsExpected.Store(left - 1)
	}
	return left > 0
}

const conflictBatches = 64
