package gormstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Bill is a table of the user.
type Bill struct {
	ID  uint
	Dog string
}

// office is an application whose events are saved together with bills.
type office struct {
	*application.Application
	dogs     *application.Repository[school.Dog]
	db       *gorm.DB
	recorded []mapper.Recording // what followers were told of
}

// eachOffice runs a test on every kind of database, also with pools of one
// connection: whatever needs a second connection inside a transaction waits for
// ever there.
func eachOffice(t *testing.T, test func(t *testing.T, o *office)) {
	t.Helper()
	each(t, func(t *testing.T, db *gorm.DB) {
		o := newOffice(t, db)
		test(t, o)
		wantIdle(t, db)
	})
}

func newOffice(t *testing.T, db *gorm.DB) *office {
	t.Helper()
	if err := db.AutoMigrate(&Bill{}); err != nil {
		t.Fatal(err)
	}
	app, err := application.New(schoolName, application.WithStore(gormstore.New(db)))
	if err != nil {
		t.Fatal(err)
	}
	o := &office{Application: app, dogs: expect.Must(application.NewRepository(app, school.Dogs)), db: db}
	bridge.Of(app).OnRecorded(func(_ context.Context, recordings []mapper.Recording) {
		o.recorded = append(o.recorded, recordings...)
	})
	return o
}

// do runs fn in a transaction that cannot hang.
func (o *office) do(t *testing.T, fn func(ctx context.Context, tx *gorm.DB) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return gormstore.Transaction(ctx, o.db, fn)
}

// bill saves dogs and a bill.
func (o *office) bill(ctx context.Context, tx *gorm.DB, dogs ...*school.Dog) error {
	if err := tx.Create(&Bill{Dog: dogs[0].Name}).Error; err != nil {
		return err
	}
	for _, dog := range dogs {
		if _, err := o.Save(ctx, dog); err != nil {
			return err
		}
	}
	return nil
}

// want fails the test unless so many bills and events are stored, followers
// know of these events, and so many events of each dog are pending.
func (o *office) want(t *testing.T, bills, events, pending int, dogs ...*school.Dog) {
	t.Helper()
	if got := count(t, o.db, "bills"); got != int64(bills) {
		t.Errorf("%d bills are stored, want %d", got, bills)
	}
	if got := len(wholeLog(t, bridge.Of(o).Recorder())); got != events {
		t.Errorf("%d events are stored, want %d", got, events)
	}
	if len(o.recorded) != events {
		t.Errorf("followers were told of %d events, want %d", len(o.recorded), events)
	}
	for _, dog := range dogs {
		if got := len(dog.PendingEvents()); got != pending {
			t.Errorf("%d events of %s are pending, want %d", got, dog.Name, pending)
		}
	}
}

// The user's row and the events of two aggregates commit together, and
// followers learn of them afterwards.
func TestTransactionCommits(t *testing.T) {
	eachOffice(t, func(t *testing.T, o *office) {
		fido, rex := newDog("Fido", "sit"), newDog("Rex", "sit")
		err := o.do(t, func(ctx context.Context, tx *gorm.DB) error {
			err := o.bill(ctx, tx, fido, rex)
			if len(o.recorded) > 0 {
				t.Errorf("followers were told before the commit: got %v, want 0 recorded", len(o.recorded))
			}
			return err
		})
		if err != nil {
			t.Fatalf("Transaction: %v", err)
		}
		o.want(t, 1, 4, 0, fido, rex)
	})
}

var errNoCredit = errors.New("the owner has no credit")

// All of it vanishes together when the transaction fails, however it does, and
// the events are pending again.
func TestTransactionRollsBack(t *testing.T) {
	for name, fail := range map[string]func() error{
		"an error": func() error { return errNoCredit },
		"a panic":  func() error { panic(errNoCredit) },
	} {
		t.Run(name, func(t *testing.T) {
			eachOffice(t, func(t *testing.T, o *office) {
				fido, rex := newDog("Fido", "sit"), newDog("Rex", "sit")
				err := recovered(func() error {
					return o.do(t, func(ctx context.Context, tx *gorm.DB) error {
						return errors.Join(o.bill(ctx, tx, fido, rex), fail())
					})
				})
				if !errors.Is(err, errNoCredit) {
					t.Errorf("Transaction: %v, want the error of its function", err)
				}
				o.want(t, 0, 0, 2, fido, rex)
				if err := o.do(t, func(ctx context.Context, tx *gorm.DB) error { return o.bill(ctx, tx, fido, rex) }); err != nil {
					t.Fatalf("Transaction again: %v", err)
				}
				o.want(t, 1, 4, 0, fido, rex)
			})
		})
	}
}

// recovered returns the error that fn panics with.
func recovered(fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = r.(error)
		}
	}()
	return fn()
}

// A nested transaction that fails undoes what was done in it and nothing else.
// One that succeeds shares the fate of the outer one.
func TestTransactionNested(t *testing.T) {
	for name, test := range map[string]struct {
		inner, outer            error
		bills, events           int
		pendingFido, pendingRex int
	}{
		"both succeed": {nil, nil, 2, 4, 0, 0},
		"inner fails":  {errNoCredit, nil, 1, 2, 0, 2},
		"outer fails":  {nil, errNoCredit, 0, 0, 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			eachOffice(t, func(t *testing.T, o *office) {
				fido, rex := newDog("Fido", "sit"), newDog("Rex", "sit")
				err := o.do(t, func(ctx context.Context, tx *gorm.DB) error {
					if err := o.bill(ctx, tx, fido); err != nil {
						return err
					}
					err := gormstore.Transaction(ctx, o.db, func(ctx context.Context, tx *gorm.DB) error {
						return errors.Join(o.bill(ctx, tx, rex), test.inner)
					})
					if !errors.Is(err, test.inner) {
						t.Errorf("inner Transaction: %v, want %v", err, test.inner)
					}
					return test.outer
				})
				if !errors.Is(err, test.outer) {
					t.Errorf("Transaction: %v, want %v", err, test.outer)
				}
				o.want(t, test.bills, test.events, test.pendingFido, fido)
				o.want(t, test.bills, test.events, test.pendingRex, rex)
			})
		})
	}
}

// A panic in a nested transaction that is recovered outside of it undoes what
// was done in it and nothing else.
func TestTransactionNestedPanic(t *testing.T) {
	eachOffice(t, func(t *testing.T, o *office) {
		fido, rex := newDog("Fido", "sit"), newDog("Rex", "sit")
		err := o.do(t, func(ctx context.Context, tx *gorm.DB) error {
			err := recovered(func() error {
				return gormstore.Transaction(ctx, o.db, func(ctx context.Context, tx *gorm.DB) error {
					panic(errors.Join(o.bill(ctx, tx, rex), errNoCredit))
				})
			})
			if !errors.Is(err, errNoCredit) {
				t.Errorf("inner Transaction: %v, want an error that is %v", err, errNoCredit)
			}
			return o.bill(ctx, tx, fido)
		})
		if err != nil {
			t.Fatalf("Transaction: %v", err)
		}
		o.want(t, 1, 2, 0, fido)
		o.want(t, 1, 2, 2, rex)
	})
}

// A conflict undoes its own save and leaves the transaction usable, which
// PostgreSQL alone would not.
func TestTransactionSurvivesConflict(t *testing.T) {
	eachOffice(t, func(t *testing.T, o *office) {
		fido := newDog("Fido")
		if _, err := o.Save(t.Context(), fido); err != nil {
			t.Fatal(err)
		}
		stale, err := o.dogs.Get(t.Context(), fido.ID())
		if err != nil {
			t.Fatal(err)
		}
		domain.Trigger(fido, school.TrickAdded{Trick: "sit"})
		if _, err := o.Save(t.Context(), fido); err != nil {
			t.Fatal(err)
		}
		domain.Trigger(stale, school.TrickAdded{Trick: "roll over"})
		rex := newDog("Rex")
		err = o.do(t, func(ctx context.Context, tx *gorm.DB) error {
			if _, err := o.Save(ctx, stale, newDog("Bella")); !persistence.IsConflict(err) {
				t.Errorf("Save of a stale dog: %v, want a conflict", err)
			}
			return o.bill(ctx, tx, rex)
		})
		if err != nil {
			t.Fatalf("Transaction: %v", err)
		}
		o.want(t, 1, 3, 0, fido, rex)
		if got := len(stale.PendingEvents()); got != 1 {
			t.Errorf("%d events of the stale dog are pending, want 1", got)
		}
	})
}

// Reads with the transaction's context see what was saved in it, and no other
// reader does before the commit.
func TestTransactionReadsItsOwnWrites(t *testing.T) {
	eachOffice(t, func(t *testing.T, o *office) {
		fido := newDog("Fido", "sit")
		err := o.do(t, func(ctx context.Context, tx *gorm.DB) error {
			if err := o.bill(ctx, tx, fido); err != nil {
				return err
			}
			read, err := o.dogs.Get(ctx, fido.ID())
			if err != nil || !slices.Equal(read.Tricks, fido.Tricks) {
				return fmt.Errorf("Get: %v, %w", read, err)
			}
			domain.Trigger(read, school.TrickAdded{Trick: "roll over"})
			if _, err := o.Save(ctx, read); err != nil {
				return err
			}
			head, err := bridge.Of(o).Recorder().MaxNotificationID(ctx)
			page, errPage := bridge.Of(o).Recorder().SelectNotifications(ctx, persistence.NotificationRange{Limit: 10})
			if err != nil || errPage != nil || len(page) != 3 || page[2].ID != head {
				return fmt.Errorf("%d notifications up to %d: %w", len(page), head, errors.Join(err, errPage))
			}
			joined, err := gormstore.Tx(ctx)
			if err != nil {
				return err
			}
			var events int64
			if err := joined.Model(&gormstore.StoredEvent{}).Count(&events).Error; err != nil || events != 3 {
				return fmt.Errorf("Tx sees %d events: %w", events, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		o.want(t, 1, 3, 0, fido)
	})
}

// No other reader sees what a transaction has not committed.
func TestTransactionIsInvisibleBeforeItsCommit(t *testing.T) {
	eachShared(t, func(t *testing.T, db *gorm.DB) {
		r, other, dog := recorder(t, db, schoolName), recorder(t, again(t, db), schoolName), uuid.New()
		transaction(t, db, func(ctx context.Context, _ *gorm.DB) error {
			_, err := r.InsertEvents(ctx, history(dog, 1, 2))
			wantVersions(t, other, dog)
			return err
		})
		wantVersions(t, other, dog, 1, 2)
	})
}

// The store may be used for the first time inside a transaction, although its
// preparation needs the database and the pool has no second connection.
func TestTransactionFirstUse(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		dog := uuid.New()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		err := gormstore.Transaction(ctx, db, func(ctx context.Context, _ *gorm.DB) error {
			_, err := recorder(t, db, schoolName).InsertEvents(ctx, history(dog, 1, 1))
			return err
		})
		if err != nil {
			t.Fatalf("Transaction: %v", err)
		}
		wantVersions(t, recorder(t, db, schoolName), dog, 1)
	})
}

// A context that ends during a transaction undoes it.
func TestTransactionCancelled(t *testing.T) {
	for name, when := range map[string]func(ctx context.Context, o *office, tx *gorm.DB, fido *school.Dog, cancel func()) error{
		"before the save": func(ctx context.Context, o *office, tx *gorm.DB, fido *school.Dog, cancel func()) error {
			cancel()
			return o.bill(ctx, tx, fido)
		},
		"after the save": func(ctx context.Context, o *office, tx *gorm.DB, fido *school.Dog, cancel func()) error {
			defer cancel()
			return o.bill(ctx, tx, fido)
		},
		"the error is dropped": func(ctx context.Context, o *office, tx *gorm.DB, fido *school.Dog, cancel func()) error {
			err := o.bill(ctx, tx, fido)
			cancel()
			_ = o.bill(ctx, tx, newDog("Rex"))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachOffice(t, func(t *testing.T, o *office) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				fido := newDog("Fido", "sit")
				err := gormstore.Transaction(ctx, o.db, func(ctx context.Context, tx *gorm.DB) error {
					return when(ctx, o, tx, fido, cancel)
				})
				if !errors.Is(err, context.Canceled) {
					t.Errorf("Transaction: %v, want context.Canceled", err)
				}
				o.want(t, 0, 0, 2, fido)
			})
		})
	}
}

// Snapshots wait for the commit, with the rest of what follows a save.
func TestTransactionSnapshots(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		app, err := application.New(schoolName, application.WithStore(gormstore.New(db)), application.WithSnapshotting(map[string]int{"Dog": 2}))
		if err != nil {
			t.Fatal(err)
		}
		expect.Must(application.NewRepository(app, school.Dogs))
		fido := newDog("Fido", "sit", "roll over", "play dead")
		transaction(t, db, func(ctx context.Context, tx *gorm.DB) error {
			_, err := app.Save(ctx, fido)
			var taken int64
			if err := errors.Join(err, tx.Model(&gormstore.Snapshot{}).Count(&taken).Error); err != nil || taken > 0 {
				t.Errorf("%d snapshots before the commit, %v, want no error and 0", taken, err)
			}
			return nil
		})
		wantVersions(t, snapshots(t, db, schoolName), fido.ID(), 2, 4)
	})
}

// A transaction keeps the time limit for locks that the user has given it,
// whatever is saved in it.
func TestTransactionKeepsItsLockTimeout(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.OpenPostgresSchema(t))
	for name, options := range map[string][]gormstore.Option{"": nil, "with signals": {gormstore.WithNotify()}} {
		t.Run(name, func(t *testing.T) {
			store := gormstore.New(db, options...)
			recorder, err := store.ProcessRecorder(schoolName)
			if err != nil {
				t.Fatal(err)
			}
			id := uuid.New()
			event := persistence.StoredEvent{OriginatorID: id, OriginatorVersion: 1, Topic: "Dog.Registered", State: []byte("{}")}
			next := event
			next.OriginatorVersion = 2
			err = gormstore.Transaction(t.Context(), db, func(ctx context.Context, tx *gorm.DB) error {
				check := func(what string) {
					t.Helper()
					var limit string
					if err := tx.Raw("SELECT current_setting('lock_timeout')").Scan(&limit).Error; err != nil || limit != "1234ms" {
						t.Errorf("%s: the limit is %q, %v, want no error and %q", what, limit, err, "1234ms")
					}
				}
				if err := tx.Exec("SET LOCAL lock_timeout = '1234ms'").Error; err != nil {
					return err
				}
				_, err := recorder.LockPosition(ctx, "Upstream")
				check("a position")
				_, errSave := recorder.InsertEvents(ctx, []persistence.StoredEvent{event, next})
				check("a save")
				_, errConflict := recorder.InsertEvents(ctx, []persistence.StoredEvent{next})
				check("a conflict")
				if !persistence.IsConflict(errConflict) {
					t.Errorf("got %v, want a conflict", errConflict)
				}
				return errors.Join(err, errSave)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// Transaction waits as long as the Store does that was made last with a lock
// timeout, and a migration leaves that as it is.
func TestTransactionHasTheLockTimeoutOfItsStore(t *testing.T) {
	t.Parallel()
	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		db := open(t)
		for _, timeout := range []time.Duration{time.Minute, shortLockTimeout} {
			gormstore.New(db, gormstore.WithLockTimeout(timeout))
		}
		gormstore.New(db)
		migrated(t, db)
		pool, err := db.DB()
		if err != nil {
			t.Fatal(err)
		}
		pool.SetMaxOpenConns(1)
		taken, err := pool.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wait := measure(t)
		err = gormstore.Transaction(t.Context(), db, func(context.Context, *gorm.DB) error { return nil })
		wantTimelyLockTimeout(t, wait, err)
		if err := taken.Close(); err != nil {
			t.Error(err)
		}
	})
}

// What waits for the commit of a transaction happens then, and never if it is
// rolled back, whichever way the transaction was begun. Without the plugin and
// without Ended it never happens.
func TestOnCommitInEveryTransaction(t *testing.T) {
	untold := door{name: "WithTx alone", run: withPlugin}
	for _, d := range append(slices.Clone(doors), untold) {
		t.Run(d.name, func(t *testing.T) {
			testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
				db := migrated(t, open(t))
				if d.plugin {
					if err := db.Use(gormstore.Plugin()); err != nil {
						t.Fatal(err)
					}
				}
				happened, inTime := 0, true
				do := func(result error) work {
					return func(ctx context.Context, _ *gorm.DB) error {
						persistence.OnCommit(ctx, func(context.Context) { happened++ })
						inTime = inTime && happened == 0
						return result
					}
				}
				if err := d.run(t.Context(), db, do(errUndone)); !errors.Is(err, errUndone) || happened != 0 {
					t.Errorf("rolled back: got %v, and it happened %d times", err, happened)
				}
				want := 1
				if d.name == untold.name {
					want = 0
				}
				if err := d.run(t.Context(), db, do(nil)); err != nil || happened != want || !inTime {
					t.Errorf("committed: got %v, and it happened %d times, want %d", err, happened, want)
				}
			})
		})
	}
}
