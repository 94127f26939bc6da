package gormstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/faultdb"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

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
		{"postgres repeated", testdb.OpenPostgresSchema, false, inPostgres(faultdb.Fault{When: faultdb.Twice})},
		{"postgres lost", testdb.OpenPostgresSchema, false, inPostgres(lost)},
		{"postgres lost with one connection", testdb.OpenPostgresSchema, true, inPostgres(lost)},
		{"sqlite lost", testdb.SQLiteFile, false, inSQLite(lost)},
		{"sqlite lost with one connection", testdb.SQLiteFile, true, inSQLite(lost)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := watch(t, migrated(t, test.open(t)))
			if test.one {
				limit(t, w.db, 1)
			}
			r := recorder(t, w.db, schoolName, unhurried)
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
			watch := measure(t)
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
			if took := watch.took(); took > longestWait {
				t.Errorf("it took %v to find out, want at most %v", took, longestWait)
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

// A panic of the service's logger in a batch undoes what is not committed. No
// save is acknowledged that is not stored, also not one whose rows had been
// written.
func TestPanicInABatch(t *testing.T) {
	eachWatched(t, func(t *testing.T, w *watched) {
		fuse := &fuse{Interface: logger.Discard}
		r := recorder(t, w.db.Session(&gorm.Session{Logger: fuse}), schoolName)
		errPanicked := errors.New("the caller panicked")
		var dogs [][]persistence.StoredEvent
		var saves []func() ([]int64, error)
		for range 3 {
			events := history(uuid.New(), 1, 2)
			dogs = append(dogs, events)
			saves = append(saves, func() (ids []int64, err error) {
				defer func() {
					if recover() != nil {
						ids, err = nil, errPanicked
					}
				}()
				return r.InsertEvents(t.Context(), events)
			})
		}
		fuse.statement, fuse.left = "INSERT INTO", 1
		if w.db.Name() == "sqlite" {
			fuse.statement, fuse.left = "SAVEPOINT eventsourcing", 5 // each save sets one, and releases it
		}
		answers := w.batch(t, saves...)[1:]
		panicked := 0
		for i, a := range answers {
			if a.err == errPanicked {
				panicked++
			} else if !errors.Is(a.err, persistence.ErrOutcomeUnknown) {
				t.Errorf("save %d: ids %v, error %v; want ErrOutcomeUnknown", i, a.ids, a.err)
			}
			var stored []int64 // on PostgreSQL the statement has committed
			if w.db.Name() == "postgres" {
				stored = []int64{1, 2}
			}
			wantVersions(t, r, dogs[i][0].OriginatorID, stored...)
		}
		if panicked != 1 {
			t.Errorf("%d callers panicked, want the one that leads", panicked)
		}
		wantIdle(t, w.db)
	})
}

// A fuse is a logger that panics when it sees a statement for the last time that
// is left.
type fuse struct {
	logger.Interface
	statement string
	left      int
}

// Trace implements logger.Interface.
func (f *fuse) Trace(_ context.Context, _ time.Time, call func() (string, int64), _ error) {
	if statement, _ := call(); strings.Contains(statement, f.statement) {
		if f.left--; f.left == 0 {
			panic("on purpose")
		}
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
		if !expect.Eventually(func() bool { waiting, led := gormstore.WaitingSaves(w.db); return led && waiting == 0 }) {
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
		b.end(t)
		// The caller who led waits for a moment only, which a slow machine may
		// exceed; how long, TestLoneWriteEndsAfterItsCaller says.
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
				openConnections(t, db, connections)
				gormstore.LookLong(db)
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
						watch := measure(t)
						err := write()
						if took := watch.took(); took > longestWait {
							t.Errorf("%s: gave up after %v, want about %v", name, took, timeout)
						}
						if !errors.Is(err, persistence.ErrLockTimeout) || !strings.Contains(err.Error(), "inside a transaction whose context lacks it") {
							t.Errorf("%s: error %v, want ErrLockTimeout that names the mistake", name, err)
						}
						oneWriter := connections == 1 || strings.HasPrefix(backend.Name, "sqlite")
						if says := strings.Contains(err.Error(), "a statement through db inside a transaction"); says != oneWriter {
							t.Errorf("%s: error %v: names a statement through db: %v, want %v", name, err, says, oneWriter)
						}
					}
					return nil
				})
				if got := len(wholeLog(t, r)); got != 1 {
					t.Errorf("%d events are stored, want the one of the transaction", got)
				}
				// The queue works on.
				insert(t, recorder(t, db, schoolName, gormstore.WithStrictOrder(), unhurried), history(uuid.New(), 1, 2)...)
				wantIdle(t, db)
			})
		}
	}
}

func last(_ []int64, err error) error { return err }

// openConnections opens connections of a pool, so that no save has to wait until
// one is open. It keeps as many as are asked for.
func openConnections(t testing.TB, db *gorm.DB, connections int) {
	t.Helper()
	pool := poolOf(t, db)
	pool.SetMaxIdleConns(connections)
	for range connections {
		conn, err := pool.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
}

// impatient opens a database again, so that SQLite's driver does not itself
// wait for locks.
func impatient(t testing.TB, db *gorm.DB) *gorm.DB {
	t.Helper()
	return testdb.Open(t, dialector(db.Name(), strings.Replace(dsn(t, db), "_busy_timeout=10000", "_busy_timeout=10", 1)))
}
