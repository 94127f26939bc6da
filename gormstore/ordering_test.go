package gormstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

const (
	raceWriters = 16
	racePerSave = 4
)

// A reader that polls the log "after the last id I saw" sees every event
// exactly once and in order, however many writers hold their transactions open,
// roll them back or fail in savepoints.
func TestRaceReaderSeesEverythingInOrder(t *testing.T) {
	eachAlone(t, func(t *testing.T, db *gorm.DB) {
		log := recorder(t, db, schoolName)
		r := race{t: t, db: db, write: mixed(db, log),
			overtaken: func(ctx context.Context, events []persistence.StoredEvent) error { return held(ctx, db, log, events) }}
		outcome := r.run(testdb.Figure(testdb.Sample(500, 2_000), 20_000))
		if outcome.broken() {
			t.Errorf("%v, want none of them", outcome)
		}
		t.Log(outcome)
		wantIdle(t, db)
	})
}

// The control: without the lock, PostgreSQL shows higher ids before lower ones,
// and the same reader loses events.
func TestRaceControlWithoutLock(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.OpenPostgres(t))
	store := gormstore.New(db)
	gormstore.WithoutOrderLock(store)
	unlocked, err := store.ProcessRecorder(schoolName)
	if err != nil {
		t.Fatal(err)
	}
	r := race{t: t, db: db, unordered: true, overtaken: func(ctx context.Context, events []persistence.StoredEvent) error {
		return held(ctx, db, unlocked, events)
	}}
	if outcome := r.run(0); outcome.lost != writtenPerSave {
		t.Errorf("%v without a lock, want the events lost that were overtaken", outcome)
	}
}

// The control for SQLite, whose transactions do not write at the same time: a
// store that takes its ids from a counter in memory, before it waits for the
// write lock, loses events all the same.
func TestRaceControlWithEarlyIDs(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.SQLiteFile(t))
	var counter atomic.Int64
	r := race{t: t, db: db, unordered: true, overtaken: func(ctx context.Context, events []persistence.StoredEvent) error {
		first := counter.Add(int64(len(events))) - int64(len(events)) + 1
		hold(ctx)
		return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			for i, e := range events {
				row := gormstore.StoredEvent{ID: first + int64(i), ApplicationName: schoolName, OriginatorID: gormstore.UUID(e.OriginatorID),
					OriginatorVersion: e.OriginatorVersion, Topic: e.Topic, State: e.State}
				if err := tx.Create(&row).Error; err != nil {
					return err
				}
			}
			return nil
		})
	}}
	if outcome := r.run(0); outcome.lost != writtenPerSave {
		t.Errorf("%v with early ids, want the events lost that were overtaken", outcome)
	}
}

// race is writers against a reader.
type race struct {
	t  *testing.T
	db *gorm.DB
	// write stores events, or undoes it on purpose with errUndone.
	write writing
	// overtaken is how two writers store events that overtake each other
	// before the others begin.
	overtaken writing
	// unordered says that the fast one does not wait for the slow one.
	unordered bool
}

var errUndone = errors.New("undone on purpose")

// outcome is what a reader has missed.
type outcome struct {
	stored, undone, lost, duplicate, late int
}

func (o outcome) broken() bool { return o.lost+o.duplicate+o.late > 0 }

func (o outcome) String() string {
	return fmt.Sprintf("of %d stored events, %d were lost, %d seen twice and %d late (%d saves were undone)",
		o.stored, o.lost, o.duplicate, o.late, o.undone)
}

// run lets the writers store the given number of events while the reader polls
// on its own handle.
func (r race) run(events int) outcome {
	r.t.Helper()
	log := countedLog{recorder(r.t, again(r.t, r.db), schoolName), new(atomic.Int64)}
	var seen []int64
	var reading sync.WaitGroup
	done := make(chan struct{})
	reading.Go(func() { seen = poll(r.t, log, done) })
	end := sync.OnceFunc(func() { close(done); reading.Wait() })
	r.t.Cleanup(end)
	overtaking{slow: r.overtaken, fast: r.overtaken, readings: log.readings.Load, waits: r.waits(log)}.run(r.t)
	var undone atomic.Int64
	left := atomic.Int64{}
	left.Store(int64(events / racePerSave))
	var writers sync.WaitGroup
	for range raceWriters {
		writers.Go(func() {
			for left.Add(-1) >= 0 {
				// Of several connections SQLite lets any write next, and one may wait
				// in vain for as long as it may wait.
				err := errUndone
				for errors.Is(err, errUndone) || errors.Is(err, persistence.ErrLockTimeout) {
					if err = r.write(r.t.Context(), history(uuid.New(), 1, racePerSave)); errors.Is(err, errUndone) {
						undone.Add(1)
					}
				}
				if err != nil {
					r.t.Errorf("write: %v", err)
					return
				}
			}
		})
	}
	writers.Wait()
	end()
	return r.compare(seen, int(undone.Load()))
}

// waits returns what reports whether the fast writer waits for the slow one.
// SQLite does not say so: there the fast one is given some readings to begin.
func (r race) waits(log countedLog) func() bool {
	began := log.readings.Load()
	return func() bool {
		if r.unordered {
			return false
		}
		if r.db.Name() == "sqlite" {
			return log.readings.Load() > began+10
		}
		return sessionsWaiting(r.t, r.db) > 0
	}
}

// poll reads the log after the last id it saw, again and again, until it is at
// the end after the writers are done.
func poll(t *testing.T, log persistence.ApplicationRecorder, done <-chan struct{}) []int64 {
	t.Helper()
	var seen []int64
	last, finished := int64(0), false
	for {
		page, err := log.SelectNotifications(t.Context(), persistence.NotificationRange{After: last, Limit: 100})
		if err != nil {
			t.Errorf("SelectNotifications: %v", err)
			<-done
			return seen
		}
		for _, n := range page {
			seen = append(seen, n.ID)
			last = n.ID
		}
		if len(page) > 0 {
			continue
		}
		if finished {
			return seen
		}
		select {
		case <-done:
			finished = true // what was committed before is there now, so one more page tells
		default:
		}
	}
}

// compare compares what the reader saw with what is there in the end.
func (r race) compare(seen []int64, undone int) outcome {
	r.t.Helper()
	o := outcome{undone: undone}
	times := map[int64]int{}
	for i, id := range seen {
		times[id]++
		if i > 0 && id <= seen[i-1] {
			o.late++
		}
	}
	for _, n := range wholeLog(r.t, recorder(r.t, r.db, schoolName)) {
		o.stored++
		switch times[n.ID] {
		case 0:
			o.lost++
		case 1:
		default:
			o.duplicate++
		}
	}
	return o
}

// held stores events in a transaction that stays open for a moment after it has
// its ids.
func held(ctx context.Context, db *gorm.DB, r persistence.ApplicationRecorder, events []persistence.StoredEvent) error {
	return gormstore.Transaction(ctx, db, func(ctx context.Context, _ *gorm.DB) error {
		_, err := r.InsertEvents(ctx, events)
		hold(ctx)
		return err
	})
}

// mixed stores events in all the ways there are: at once, in a transaction,
// after a savepoint that was rolled back, in one that was not, and not at all.
func mixed(db *gorm.DB, r persistence.ApplicationRecorder) func(context.Context, []persistence.StoredEvent) error {
	undo := func(ctx context.Context, _ *gorm.DB) error {
		_, err := r.InsertEvents(ctx, history(uuid.New(), 1, racePerSave))
		hold(ctx)
		return errors.Join(err, errUndone)
	}
	return func(ctx context.Context, events []persistence.StoredEvent) error {
		switch rand.N(6) {
		case 0:
			return gormstore.Transaction(ctx, db, undo)
		case 1: // an undone savepoint has drawn ids too
			return gormstore.Transaction(ctx, db, func(ctx context.Context, _ *gorm.DB) error {
				if err := gormstore.Transaction(ctx, db, undo); !errors.Is(err, errUndone) {
					return fmt.Errorf("savepoint that is undone: %w", err)
				}
				_, err := r.InsertEvents(ctx, events)
				hold(ctx)
				return err
			})
		case 2:
			return gormstore.Transaction(ctx, db, func(ctx context.Context, _ *gorm.DB) error { return held(ctx, db, r, events) })
		case 3:
			return held(ctx, db, r, events)
		}
		_, err := r.InsertEvents(ctx, events)
		return err
	}
}

// Of any number of writers that want to store the same next version at the same
// time, from several processes, in transactions or not, exactly one succeeds
// and the others are told of a conflict.
func TestRaceOneWinner(t *testing.T) {
	const racers, rounds = 12, 50
	eachShared(t, func(t *testing.T, db *gorm.DB) {
		here, there := recorder(t, db, schoolName, unhurried), recorder(t, again(t, db), schoolName, unhurried)
		ways := []func(context.Context, []persistence.StoredEvent) error{
			func(ctx context.Context, e []persistence.StoredEvent) error {
				_, err := here.InsertEvents(ctx, e)
				return err
			},
			func(ctx context.Context, e []persistence.StoredEvent) error {
				_, err := there.InsertEvents(ctx, e)
				return err
			},
			func(ctx context.Context, e []persistence.StoredEvent) error { return held(ctx, db, here, e) },
		}
		dog, winners, stored := uuid.New(), 0, 0
		for round := range rounds {
			start, results := make(chan struct{}), make(chan result, racers)
			for i := range racers {
				events := history(dog, int64(stored+1), 1+i%3)
				go func() {
					<-start
					results <- result{len(events), ways[i%len(ways)](t.Context(), events)}
				}()
			}
			close(start)
			for range racers {
				switch r := <-results; {
				case r.err == nil:
					winners++
					stored += r.events
				case !persistence.IsConflict(r.err):
					t.Errorf("round %d: the loser's error is %v, want a conflict", round, r.err)
				}
			}
		}
		if winners != rounds {
			t.Errorf("%d racers won in %d rounds, want one a round", winners, rounds)
		}
		if got := versions(t, here, dog); len(got) != stored || !slices.IsSorted(got) {
			t.Errorf("the versions %v are stored, want 1 to %d", got, stored)
		}
	})
}

// result is what became of a racer's events.
type result struct {
	events int
	err    error
}

// Ids of two saves that run at the same time do not interleave, however many
// events each has.
func TestRaceIDsDoNotInterleave(t *testing.T) {
	eachShared(t, func(t *testing.T, db *gorm.DB) {
		const saves, size = 8, 1000
		r := recorder(t, db, schoolName, gormstore.WithStrictOrder(), unhurried)
		var mu sync.Mutex // protects ranges
		var ranges [][]int64
		var writers sync.WaitGroup
		for range saves {
			writers.Go(func() {
				ids, err := r.InsertEvents(t.Context(), history(uuid.New(), 1, size))
				if err != nil || len(ids) != size || !slices.IsSorted(ids) {
					t.Errorf("InsertEvents: %d ids, %v; want %d in ascending order", len(ids), err, size)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				ranges = append(ranges, ids)
			})
		}
		writers.Wait()
		slices.SortFunc(ranges, func(a, b []int64) int { return int(a[0] - b[0]) })
		for i := 1; i < len(ranges); i++ {
			if before, after := ranges[i-1], ranges[i]; after[0] <= before[size-1] {
				t.Errorf("one save has ids from %d to %d, another from %d", before[0], before[size-1], after[0])
			}
		}
	})
}

// The lock that a store takes is the one of the rule, with the schema that its
// tables are in. See TestLockKeyGolden.
func TestOrderKeyOfStore(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.OpenPostgres(t))
	const want = -4984515810854983186
	if got := gormstore.OrderKeyOf(gormstore.New(db), schoolName); got != want {
		t.Errorf("the key of the order lock is %d, want %d", got, want)
	}
	transaction(t, db, func(ctx context.Context, tx *gorm.DB) error {
		if _, err := recorder(t, db, schoolName).InsertEvents(ctx, history(uuid.New(), 1, 1)); err != nil {
			return err
		}
		var key int64
		query := "SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND pid = pg_backend_pid()"
		if err := tx.Raw(query).Scan(&key).Error; err != nil || key != want {
			t.Errorf("the transaction holds the lock %d (%v), want %d", key, err, want)
		}
		return nil
	})
}

// A transaction has its two locks once, however many saves it has, so that it
// does not fill the server's table of locks.
func TestTransactionOfManySavesHasOneFloor(t *testing.T) {
	t.Parallel()
	db := migrated(t, testdb.OpenPostgres(t))
	transaction(t, db, func(ctx context.Context, tx *gorm.DB) error {
		for range 20 {
			if _, err := recorder(t, db, schoolName).InsertEvents(ctx, history(uuid.New(), 1, 1)); err != nil {
				return err
			}
		}
		var locks int
		query := "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
		if err := tx.Raw(query).Scan(&locks).Error; err != nil || locks != 2 {
			t.Errorf("the transaction has %d advisory locks (%v), want 2", locks, err)
		}
		return nil
	})
}
