package gormstore_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/faultdb"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// In a batch, saves that conflict fail alone and leave nothing, whether with
// their first event or a later one; the others are stored whole, and none of
// them with a separate write.
func TestConflictInABatchFailsAlone(t *testing.T) {
	eachWatched(t, func(t *testing.T, w *watched) {
		r := recorder(t, w.db, schoolName)
		taken, partly := uuid.New(), uuid.New()
		insert(t, r, history(taken, 1, 1)...)
		insert(t, r, history(partly, 1, 3)...)
		good := make([][]persistence.StoredEvent, 6)
		var saves []func() ([]int64, error)
		for i := range good {
			good[i] = history(uuid.New(), 1, 1+i%3)
			saves = append(saves, saving(t.Context(), r, good[i]))
		}
		saves = slices.Insert(saves, 2, saving(t.Context(), r, history(taken, 1, 1)))
		saves = slices.Insert(saves, 4, saving(t.Context(), r, history(partly, 3, 4)))

		w.faults.Arm(never)
		answers := w.batch(t, saves...)[1:]
		if n := w.writes(w.faults.Disarm()); n > 3 {
			t.Errorf("%d saves took %d writes, want one for the leader, and two for the rest: one that finds out that there "+
				"are conflicts", len(saves)+1, n)
		}
		wantConflictOn(t, answers[4], partly, 3, 3)
		wantConflictOn(t, answers[2], taken, 1, 1)
		for i, a := range slices.Delete(slices.Delete(answers, 4, 5), 2, 3) {
			wantAnswer(t, r, a, good[i])
		}
		wantVersions(t, r, taken, 1)
		wantVersions(t, r, partly, 1, 2, 3)
		wantIdle(t, w.db)
	})
}

// A conflict that does not concern the first event of a save, as only a stream
// with a gap can have it, is found as well.
func TestConflictBehindAGapFailsAlone(t *testing.T) {
	eachWatched(t, func(t *testing.T, w *watched) {
		r := recorder(t, w.db, schoolName)
		gap := uuid.New()
		begun := history(gap, 2, 1)
		begun[0].Begins = true
		insert(t, r, begun...)
		first, last := history(uuid.New(), 1, 2), history(uuid.New(), 1, 1)
		answers := w.batch(t, saving(t.Context(), r, first), saving(t.Context(), r, history(gap, 1, 3)), saving(t.Context(), r, last))
		wantAnswer(t, r, answers[1], first)
		wantConflictOn(t, answers[2], gap, 2, 2)
		wantAnswer(t, r, answers[3], last)
		wantVersions(t, r, gap, 2)
	})
}

// Two saves of one originator are never in one batch, so that the second one
// gets the conflict that it would have got alone.
func TestSavesOfOneOriginatorInTurn(t *testing.T) {
	eachWatched(t, func(t *testing.T, w *watched) {
		r := recorder(t, w.db, schoolName)
		dog, other := uuid.New(), uuid.New()
		winner, next, third := history(dog, 1, 2), history(dog, 3, 1), history(other, 1, 1)
		answers := w.batch(t, saving(t.Context(), r, winner), saving(t.Context(), r, history(dog, 1, 1)),
			saving(t.Context(), r, third), saving(t.Context(), r, next))
		wantAnswer(t, r, answers[1], winner)
		wantConflictOn(t, answers[2], dog, 1, 2)
		wantAnswer(t, r, answers[3], third)
		wantAnswer(t, r, answers[4], next)
		wantVersions(t, r, dog, 1, 2, 3)
	})
}

// Two Stores of one handle are two instances of an application in one program:
// their saves meet in one queue.
func TestStoresOfOneHandleShareTheirBatches(t *testing.T) {
	eachWatched(t, func(t *testing.T, w *watched) {
		stores := []persistence.ProcessRecorder{recorder(t, w.db, schoolName), recorder(t, w.db.Session(&gorm.Session{}), schoolName)}
		var saves []func() ([]int64, error)
		for i := range 10 {
			saves = append(saves, saving(t.Context(), stores[i%2], history(uuid.New(), 1, 2)))
		}
		w.faults.Arm(never)
		for _, a := range w.batch(t, saves...) {
			if a.err != nil {
				t.Error(a.err)
			}
		}
		if n := w.writes(w.faults.Disarm()); n > 2 {
			t.Errorf("%d saves took %d writes, want one for the leader and one for the rest", len(saves)+1, n)
		}
	})
}

// Another process commits while a merged statement, which has begun already,
// waits for the order lock. The statement does not see that commit and runs
// into the unique key; it is repeated, and no save is lost or split.
func TestMergedStatementThatIsBeatenIsRepeated(t *testing.T) {
	t.Parallel()
	w := watch(t, created(t, testdb.OpenPostgres(t)))
	r := recorder(t, w.db, schoolName)
	hot := uuid.New()
	good := [][]persistence.StoredEvent{history(uuid.New(), 1, 3), history(uuid.New(), 1, 1)}
	first := block(t, w.other, nil)
	leader := w.plug(t)
	if !expect.Eventually(func() bool { return waitingForLock(t, w.other) == 1 }) {
		t.Fatal("the leader does not wait for the lock")
	}
	// PostgreSQL grants locks in the order in which they were asked for, so
	// this gets it after the leader.
	var second *blocker
	blocked := make(chan struct{})
	go func() {
		defer close(blocked)
		second = block(t, w.other, func(ctx context.Context, _ *gorm.DB) error {
			_, err := recorder(t, w.other, schoolName).InsertEvents(ctx, history(hot, 1, 1))
			return err
		})
	}()
	if !expect.Eventually(func() bool { return waitingForLock(t, w.other) == 2 }) {
		t.Fatal("the second transaction does not wait for the lock")
	}
	all := w.queue(t, saving(t.Context(), r, good[0]), saving(t.Context(), r, history(hot, 1, 2)), saving(t.Context(), r, good[1]))
	w.faults.Arm(never)
	first.end(t)
	leader.get(t)
	<-blocked
	if !expect.Eventually(func() bool { return waitingForLock(t, w.other) == 1 }) {
		t.Fatal("the batch does not wait for the lock")
	}
	second.end(t)
	wantAnswer(t, r, all[0].get(t), good[0])
	wantConflictOn(t, all[1].get(t), hot, 1, 1)
	wantAnswer(t, r, all[2].get(t), good[1])
	merged := 0
	for _, call := range w.faults.Disarm() {
		if isMerged(call) {
			merged++
		}
	}
	if merged != 2 {
		t.Errorf("the merged statement was executed %d times, want twice", merged)
	}
	wantVersions(t, r, hot, 1)
}

func limit(t testing.TB, db *gorm.DB, connections int) {
	t.Helper()
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	pool.SetMaxOpenConns(connections)
}

// A save that is too large for a batch is written alone, and the events keep
// their order.
func TestSaveThatIsLargerThanABatch(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		r := recorder(t, db, schoolName)
		large := history(uuid.New(), 1, 10_000)
		var others sync.WaitGroup
		for range 4 {
			others.Go(func() {
				id := uuid.New()
				for version := range int64(10) {
					if _, err := r.InsertEvents(t.Context(), history(id, version+1, 1)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		ids := insert(t, r, large...)
		others.Wait()
		if len(ids) != len(large) || !slices.IsSorted(ids) {
			t.Fatalf("%d ids, sorted %v; want %d, sorted", len(ids), slices.IsSorted(ids), len(large))
		}
		log := wholeLog(t, r)
		if len(log) != len(large)+40 {
			t.Errorf("%d events are stored, want %d", len(log), len(large)+40)
		}
		inLog := slices.DeleteFunc(log, func(n persistence.Notification) bool { return n.OriginatorID != large[0].OriginatorID })
		for i, n := range inLog {
			if n.ID != ids[i] || n.OriginatorVersion != int64(i+1) || !slices.Equal(n.State, large[i].State) {
				t.Fatalf("event %d of the log has id %d and version %d, want %d and %d", i, n.ID, n.OriginatorVersion, ids[i], i+1)
			}
		}
	})
}

// If the tables are missing, every save of a batch says so.
func TestEverySaveOfABatchSaysThatTablesAreMissing(t *testing.T) {
	eachWatched(t, func(t *testing.T, w *watched) {
		r := recorder(t, w.db, schoolName)
		insert(t, r, history(uuid.New(), 1, 1)...)
		b := block(t, w.other, func(_ context.Context, tx *gorm.DB) error { return tx.Exec("DROP TABLE stored_events").Error })
		var saves []func() ([]int64, error)
		for i := range 6 {
			saves = append(saves, saving(t.Context(), r, history(uuid.New(), 1, 1+i%2)))
		}
		for i, a := range w.batchBehind(t, b, saves...) {
			wantNotMigrated(t, fmt.Sprint("save ", i), a.err, "stored_events")
			if a.ids != nil {
				t.Errorf("save %d: got ids %v, want none", i, a.ids)
			}
		}
		wantIdle(t, w.db)
	})
}

// A statement that the server gives up for the sake of other transactions is
// repeated, alone and in a batch.
func TestStatementThatIsOvertakenIsRepeated(t *testing.T) {
	t.Parallel()
	w := watch(t, created(t, testdb.OpenPostgresSchema(t)))
	r := recorder(t, w.db, schoolName)
	overtaken := faultdb.Fault{When: faultdb.Before, Err: &pgconn.PgError{Code: "40001"}}
	for _, events := range [][]persistence.StoredEvent{history(uuid.New(), 1, 1), history(uuid.New(), 1, 3)} {
		w.faults.Arm(once(isInsert, overtaken))
		wantAnswer(t, r, answer{ids: insert(t, r, events...)}, events)
	}
	w.faults.Arm(once(isMerged, overtaken))
	first, second := history(uuid.New(), 1, 2), history(uuid.New(), 1, 1)
	answers := w.batch(t, saving(t.Context(), r, first), saving(t.Context(), r, second))
	wantAnswer(t, r, answers[1], first)
	wantAnswer(t, r, answers[2], second)
	merged := 0
	for _, call := range w.faults.Disarm() {
		if isMerged(call) {
			merged++
		}
	}
	if merged != 2 {
		t.Errorf("the merged statement was sent %d times, want twice", merged)
	}
}

// If the server makes every transaction serializable, or as good as that,
// merged statements run so as well. What the server then refuses of them for
// the sake of other transactions is repeated, and no caller sees it.
func TestSavesWhereTransactionsAreSerializable(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"serializable", "repeatable read"} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			address := withParameter(t, testdb.Postgres(t), "default_transaction_isolation", level)
			db := migrated(t, testdb.Open(t, postgres.Open(strings.ReplaceAll(address, "+", "%20"))))
			names := []string{schoolName, countersName}
			var writers sync.WaitGroup
			saves := testdb.Figure(30, 1000)
			for i := range 16 {
				r := recorder(t, db, names[i%2])
				writers.Go(func() {
					id := uuid.New()
					for version := range int64(saves) {
						if _, err := r.InsertEvents(t.Context(), history(id, version+1, 1)); err != nil {
							t.Errorf("save: %v", err)
						}
						// The server may give up a read, too, for which the
						// caller is told to repeat it.
						if _, err := r.MaxNotificationID(t.Context()); err != nil && !persistence.IsRetryable(err) {
							t.Errorf("read: %v, want no error or one that is retryable", err)
						}
					}
				})
			}
			writers.Wait()
			for _, name := range names {
				if got := len(wholeLog(t, recorder(t, db, name))); got != 8*saves {
					t.Errorf("%d events of %s are stored, want %d", got, name, 8*saves)
				}
			}
		})
	}
}

// A database that refuses one save of a batch, and rolls everything back with
// it, does not keep the others from being written.
func TestBatchWithARefusedSave(t *testing.T) {
	eachWatched(t, func(t *testing.T, w *watched) {
		refuse := "CREATE TRIGGER refuse BEFORE INSERT ON stored_events WHEN NEW.topic = 'Refused' " +
			"BEGIN SELECT RAISE(ROLLBACK, 'refused'); END"
		if w.db.Name() == "postgres" {
			refuse = "ALTER TABLE stored_events ADD CONSTRAINT refuse CHECK (topic <> 'Refused')"
		}
		if err := w.db.Exec(refuse).Error; err != nil {
			t.Fatal(err)
		}
		r := recorder(t, w.db, schoolName)
		var all [][]persistence.StoredEvent
		var saves []func() ([]int64, error)
		for i := range 5 {
			events := history(uuid.New(), 1, 1)
			if i == 2 {
				events[0].Topic = "Refused"
			}
			all = append(all, events)
			saves = append(saves, saving(t.Context(), r, events))
		}
		for i, a := range w.batch(t, saves...)[1:] {
			if i == 2 {
				if a.err == nil || persistence.IsConflict(a.err) {
					t.Errorf("the refused save: %v, want an error that is no conflict", a.err)
				}
				continue
			}
			wantAnswer(t, r, a, all[i])
		}
	})
}
