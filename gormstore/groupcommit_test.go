package gormstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
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
	before := waitingForLock(t, w.other)
	first := block(t, w.other, nil)
	leader := w.plug(t)
	if !eventually(func() bool { return waitingForLock(t, w.other) == before+1 }) {
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
	if !eventually(func() bool { return waitingForLock(t, w.other) == before+2 }) {
		t.Fatal("the second transaction does not wait for the lock")
	}
	all := w.queue(t, saving(t.Context(), r, good[0]), saving(t.Context(), r, history(hot, 1, 2)), saving(t.Context(), r, good[1]))
	w.faults.Arm(never)
	first.end(t)
	leader.get(t)
	<-blocked
	if !eventually(func() bool { return waitingForLock(t, w.other) == before+1 }) {
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

// A merged write is done and its reply is lost; or it is lost and the write is
// repeated. Every save of the batch is reported as the success that it was.
func TestBatchWhoseReplyIsLostIsASuccess(t *testing.T) {
	lost := faultdb.Fault{When: faultdb.After, Err: io.ErrUnexpectedEOF, Broken: true}
	inPostgres := func(fault faultdb.Fault) faultdb.Plan { return once(isMerged, fault) }
	inSQLite := func(fault faultdb.Fault) faultdb.Plan {
		return once(func(c faultdb.Call) bool { return c.Op == faultdb.Commit }, fault)
	}
	for _, test := range []struct {
		name string
		open func(testing.TB) *gorm.DB
		one  bool // connection
		plan faultdb.Plan
	}{
		{"postgres repeated", testdb.OpenPostgres, false, inPostgres(faultdb.Fault{When: faultdb.Twice})},
		{"postgres lost", testdb.OpenPostgres, false, inPostgres(lost)},
		{"postgres lost with one connection", testdb.OpenPostgres, true, inPostgres(lost)},
		{"sqlite lost", testdb.SQLiteFile, false, inSQLite(lost)},
		{"sqlite lost with one connection", testdb.SQLiteFile, true, inSQLite(lost)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := watch(t, migrated(t, test.open(t)))
			if test.one {
				limit(t, w.db, 1)
			}
			r := recorder(t, w.db, schoolName)
			store := eventStore(t, r)
			var saves []func() ([]int64, error)
			for i := range 8 {
				dog := newDog("Fido", make([]string, i%3)...)
				saves = append(saves, func() ([]int64, error) {
					recordings, err := store.Put(t.Context(), dog.PendingEvents())
					var ids []int64
					for _, recording := range recordings {
						ids = append(ids, recording.Notification.ID)
					}
					return ids, err
				})
			}
			b := block(t, w.other, nil)
			leader := w.plug(t)
			all := w.queue(t, saves...)
			w.faults.Arm(test.plan)
			begin := time.Now()
			b.end(t)
			leader.get(t)
			var acknowledged []int64
			for i, a := range all {
				got := a.get(t)
				if got.err != nil || len(got.ids) != 1+i%3 {
					t.Errorf("save %d: ids %v, error %v; want a success", i, got.ids, got.err)
				}
				acknowledged = append(acknowledged, got.ids...)
			}
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("it took %v to find out", took)
			}
			w.faults.Disarm()
			var stored []int64
			// After those of the blocker and the leader.
			for _, n := range wholeLog(t, recorder(t, w.other, schoolName))[2:] {
				stored = append(stored, n.ID)
			}
			slices.Sort(acknowledged)
			if !slices.Equal(stored, acknowledged) {
				t.Errorf("stored are %v, acknowledged %v", stored, acknowledged)
			}
		})
	}
}

// once is a plan in which the first call that is wanted fails.
func once(wanted func(faultdb.Call) bool, fault faultdb.Fault) faultdb.Plan {
	done := false
	return func(c faultdb.Call) faultdb.Fault {
		if done || !wanted(c) {
			return faultdb.Fault{}
		}
		done = true
		return fault
	}
}

// A context that ends before the save, or while it waits for its batch, ends
// the save, and nothing is stored. Once the batch is being written the outcome
// is awaited for a moment, and reported truly or as unknown.
func TestCancellationAtEveryStepOfASave(t *testing.T) {
	eachWatched(t, func(t *testing.T, w *watched) {
		r := recorder(t, w.db, schoolName)
		before, waiting, written := history(uuid.New(), 1, 2), history(uuid.New(), 1, 2), history(uuid.New(), 1, 2)
		neighbour := history(uuid.New(), 1, 1)
		ctx, cancel := context.WithCancel(t.Context())
		later, cancelLater := context.WithCancel(t.Context())

		b := block(t, w.other, nil)
		leader := ask(saving(later, r, written))
		if !eventually(func() bool { waiting, led := gormstore.WaitingSaves(w.db); return led && waiting == 0 }) {
			t.Fatal("no save leads")
		}
		all := w.queue(t, saving(ctx, r, waiting), saving(t.Context(), r, neighbour))
		cancel()
		if got := all[0].get(t); !errors.Is(got.err, context.Canceled) || !errors.Is(got.err, persistence.ErrOperational) || got.ids != nil {
			t.Errorf("while waiting: ids %v, error %v; want context.Canceled and ErrOperational", got.ids, got.err)
		}
		if _, err := r.InsertEvents(ctx, before); !errors.Is(err, context.Canceled) {
			t.Errorf("before: error %v, want context.Canceled", err)
		}
		cancelLater()
		select {
		case got := <-leader.answer:
			t.Errorf("while it was written: %v; want its outcome awaited", got)
			leader.answer <- got
		case <-time.After(50 * time.Millisecond):
		}
		b.end(t)
		// The caller who led waits for a moment only, which a slow machine may
		// exceed.
		if got := leader.get(t); !errors.Is(got.err, persistence.ErrOutcomeUnknown) || !errors.Is(got.err, context.Canceled) {
			wantAnswer(t, r, got, written)
		}
		wantAnswer(t, r, all[1].get(t), neighbour)
		wantVersions(t, r, written[0].OriginatorID, 1, 2)
		wantVersions(t, r, before[0].OriginatorID)
		wantVersions(t, r, waiting[0].OriginatorID)
		wantIdle(t, w.db)
	})
}

// A save in a transaction that was not given the transaction's context waits
// for a connection that the transaction has, or, in strict order, for its lock.
// It gives up, with an error that names the mistake.
func TestSaveThatForgotItsTransaction(t *testing.T) {
	const timeout = 200 * time.Millisecond
	for _, backend := range sharedBackends {
		for _, connections := range []int{1, 4} {
			t.Run(fmt.Sprintf("%s with %d connections", backend.Name, connections), func(t *testing.T) {
				t.Parallel()
				db := impatient(t, created(t, backend.Open(t)))
				limit(t, db, connections)
				r := recorder(t, db, schoolName, gormstore.WithLockTimeout(timeout), gormstore.WithStrictOrder())
				snapshots, err := gormstore.New(db, gormstore.WithLockTimeout(timeout)).SnapshotRecorder(schoolName)
				if err != nil {
					t.Fatal(err)
				}
				outer := t.Context()
				writes := map[string]func() error{
					"one event":   func() error { return last(r.InsertEvents(outer, history(uuid.New(), 1, 1))) },
					"two events":  func() error { return last(r.InsertEvents(outer, history(uuid.New(), 1, 2))) },
					"many events": func() error { return last(r.InsertEvents(outer, history(uuid.New(), 1, 3000))) },
					"a position": func() error {
						return last(r.InsertProcessed(outer, history(uuid.New(), 1, 1), persistence.Tracking{ApplicationName: "Up", NotificationID: 1}))
					},
				}
				if connections == 1 { // snapshots take no lock
					writes["a snapshot"] = func() error { return last(snapshots.InsertEvents(outer, history(uuid.New(), 1, 1))) }
				}
				transaction(t, db, func(ctx context.Context, _ *gorm.DB) error {
					if _, err := r.InsertEvents(ctx, history(uuid.New(), 1, 1)); err != nil {
						return err
					}
					for name, write := range writes {
						begin := time.Now()
						err := write()
						if took := time.Since(begin); took > 5*time.Second {
							t.Errorf("%s: gave up after %v, want about %v", name, took, timeout)
						}
						if !errors.Is(err, persistence.ErrLockTimeout) || !strings.Contains(err.Error(), "inside a transaction whose context lacks it") {
							t.Errorf("%s: error %v, want ErrLockTimeout that names the mistake", name, err)
						}
					}
					return nil
				})
				if got := len(wholeLog(t, r)); got != 1 {
					t.Errorf("%d events are stored, want the one of the transaction", got)
				}
				insert(t, r, history(uuid.New(), 1, 2)...) // the queue works on
				wantIdle(t, db)
			})
		}
	}
}

func last(_ []int64, err error) error { return err }

// impatient opens a database again, so that SQLite's driver does not itself
// wait for locks.
func impatient(t testing.TB, db *gorm.DB) *gorm.DB {
	t.Helper()
	return testdb.Open(t, dialector(db.Name(), strings.Replace(dsn(t, db), "_busy_timeout=10000", "_busy_timeout=10", 1)))
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
			missing, ok := errors.AsType[*persistence.NotMigratedError](a.err)
			if !ok || !strings.Contains(missing.Missing, "stored_events") || missing.Fix == "" || a.ids != nil {
				t.Errorf("save %d: ids %v, error %v; want a NotMigratedError", i, a.ids, a.err)
			}
		}
		wantIdle(t, w.db)
	})
}

// A statement that the server gives up for the sake of other transactions is
// repeated, alone and in a batch.
func TestStatementThatIsOvertakenIsRepeated(t *testing.T) {
	t.Parallel()
	w := watch(t, created(t, testdb.OpenPostgres(t)))
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
							t.Errorf("read: %v", err)
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
					t.Errorf("the refused save: %v", a.err)
				}
				continue
			}
			wantAnswer(t, r, a, all[i])
		}
	})
}
