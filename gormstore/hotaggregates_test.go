package gormstore_test

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/internal/checker"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// contest is writers that fight for the same aggregates.
type contest struct {
	recorders  []persistence.ProcessRecorder
	writers    int // of each recorder
	aggregates int
	saves      int // that each writer tries
}

// run has the writers save while a reader follows the log on another handle.
// Every save must be acknowledged and stored whole, or conflict and leave
// nothing.
func (c contest) run(t *testing.T, follower *gorm.DB) {
	t.Helper()
	hot := make([]uuid.UUID, c.aggregates)
	for i := range hot {
		hot[i] = uuid.New()
	}
	var mu sync.Mutex
	acknowledged := map[int64]persistence.StoredEvent{}
	conflicts := 0
	var writers sync.WaitGroup
	start := make(chan struct{})
	for i, r := range slices.Repeat(c.recorders, c.writers) {
		writers.Go(func() {
			<-start
			next := map[uuid.UUID]int64{}
			for n := range c.saves {
				id := hot[(i+n/5)%len(hot)] // the same one a few times, so that some get through
				events := history(id, next[id]+1, 1+(i+n)%3)
				ids, err := r.InsertEvents(t.Context(), events)
				mu.Lock()
				switch conflict, ok := errors.AsType[*persistence.ConflictError](err); {
				case ok:
					conflicts++
					next[id] = conflict.Current
				case err != nil || len(ids) != len(events):
					t.Errorf("save: ids %v, error %v; want a success or a conflict", ids, err)
				default:
					next[id] += int64(len(events))
					for j, e := range events {
						acknowledged[ids[j]] = e
					}
				}
				mu.Unlock()
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	close(start)
	reader := recorder(t, follower, schoolName)
	seen := poll(t, reader, done)
	c.compare(t, reader, acknowledged, seen)
	t.Logf("%d saves: %d events acknowledged, %d conflicts", c.writers*len(c.recorders)*c.saves, len(acknowledged), conflicts)
	if conflicts == 0 {
		t.Error("nobody conflicted: the test proves nothing")
	}
}

// compare compares what is stored with what was acknowledged and with what the
// follower saw.
func (c contest) compare(t *testing.T, r persistence.ProcessRecorder, acknowledged map[int64]persistence.StoredEvent, seen []int64) {
	t.Helper()
	log := wholeLog(t, r)
	var ids []int64
	for _, n := range log {
		ids = append(ids, n.ID)
		if e, ok := acknowledged[n.ID]; !ok || e.OriginatorID != n.OriginatorID || e.OriginatorVersion != n.OriginatorVersion ||
			!slices.Equal(e.State, n.State) {
			t.Errorf("event %d of %s at version %d is stored, want %+v, which was acknowledged", n.ID, n.OriginatorID, n.OriginatorVersion, e)
		}
	}
	if len(log) != len(acknowledged) {
		t.Errorf("%d events are stored, %d were acknowledged", len(log), len(acknowledged))
	}
	if !slices.Equal(seen, ids) {
		t.Errorf("the follower saw %d events, in order %v; want the %d in the log", len(seen), slices.IsSorted(seen), len(ids))
	}
	problems, err := checker.Check(t.Context(), checker.Target{Application: schoolName, Recorder: r})
	if err != nil || len(problems) > 0 {
		t.Errorf("Check: %v, %v, want no error and 0 problems", problems, err)
	}
}

func TestManyWritersOnHotAggregates(t *testing.T) {
	eachWatched(t, func(t *testing.T, w *watched) {
		c := contest{recorders: []persistence.ProcessRecorder{recorder(t, w.db, schoolName, unhurried)}, writers: 64, aggregates: 8,
			saves: testdb.Figure(10, 200)}
		c.run(t, w.other)
	})
}

// Saves of many writers that come while another one is written are written with
// fewer than half as many writes, although most of them conflict.
func TestFewWritesOfManySavesOfHotAggregates(t *testing.T) {
	eachWatched(t, func(t *testing.T, w *watched) {
		const writers, aggregates = 64, 8
		r := recorder(t, w.db, schoolName, unhurried)
		hot := sortedIDs(aggregates)
		var saves []func() ([]int64, error)
		for i := range writers {
			saves = append(saves, saving(t.Context(), r, history(hot[i%aggregates], 1, 1+i%3)))
		}
		w.faults.Arm(never)
		answers := w.batch(t, saves...)
		n := w.writes(w.faults.Disarm())
		stored := 0
		for _, a := range answers[1:] {
			switch {
			case a.err == nil:
				stored++
			case !persistence.IsConflict(a.err):
				t.Errorf("a save: %v, want a success or a conflict", a.err)
			}
		}
		if stored != aggregates || n == 0 || n >= writers/2 {
			t.Errorf("%d saves took %d writes, and %d of them were stored; want fewer than half, and %d", writers, n, stored, aggregates)
		}
		t.Logf("%d writes", n)
	})
}

// Two instances of an application in one program, over one handle.
func TestTwoInstancesOnHotAggregates(t *testing.T) {
	eachShared(t, func(t *testing.T, db *gorm.DB) {
		c := contest{recorders: []persistence.ProcessRecorder{recorder(t, db, schoolName, unhurried), recorder(t, db, schoolName, unhurried)},
			writers: 16, aggregates: 4, saves: testdb.Figure(10, 200)}
		c.run(t, again(t, db))
	})
}

// Several processes, as separate handles: their saves do not meet in one queue,
// and the order lock is between them.
func TestProcessesOnHotAggregates(t *testing.T) {
	eachShared(t, func(t *testing.T, db *gorm.DB) {
		var processes []persistence.ProcessRecorder
		for range 4 {
			processes = append(processes, recorder(t, again(t, db), schoolName, unhurried))
		}
		c := contest{recorders: processes, writers: 16, aggregates: 4, saves: testdb.Figure(6, 136)}
		c.run(t, db)
	})
}

// A pool of one connection is enough for any number of writers.
func TestPoolOfOneConnectionWithManyWriters(t *testing.T) {
	eachShared(t, func(t *testing.T, db *gorm.DB) {
		only := again(t, db)
		limit(t, only, 1)
		c := contest{recorders: []persistence.ProcessRecorder{recorder(t, only, schoolName, unhurried)}, writers: 16, aggregates: 4,
			saves: testdb.Figure(10, 200)}
		c.run(t, db)
	})
}
