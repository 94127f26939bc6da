package gormstore_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/internal/txscope"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// work is what is done in a transaction.
type work = func(ctx context.Context, tx *gorm.DB) error

// clinic has a table beside the events of an application.
type clinic struct {
	*school.TrainingSchool
	db   *gorm.DB
	door door

	mu       sync.Mutex // protects recorded
	recorded []string   // the names of registered dogs, as the application tells of them
}

func openClinic(t testing.TB, db *gorm.DB, d door, options ...application.Option) *clinic {
	t.Helper()
	if d.plugin {
		if err := db.Use(gormstore.Plugin()); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(gormstore.AutoMigrate(db), db.AutoMigrate(&Invoice{})); err != nil {
		t.Fatal(err)
	}
	app, err := school.New(append(options, application.WithStore(gormstore.New(db)))...)
	if err != nil {
		t.Fatal(err)
	}
	o := &clinic{TrainingSchool: app, db: db, door: d}
	bridge.Of(app).OnRecorded(func(ctx context.Context, recordings []mapper.Recording) {
		if txscope.From(ctx) != nil {
			t.Error("OnRecorded has a context with a transaction")
		}
		if _, err := bridge.Of(app).Recorder().MaxNotificationID(ctx); err != nil {
			t.Errorf("reading when a save is told of: %v", err)
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, r := range recordings {
			if registered, ok := r.Event.Data.(school.Registered); ok {
				o.recorded = append(o.recorded, registered.Name)
			}
		}
	})
	return o
}

// bill stores an invoice and the events of dogs.
func (o *clinic) bill(t testing.TB, dogs ...*school.Dog) work {
	return func(ctx context.Context, tx *gorm.DB) error {
		o.mu.Lock()
		before := len(o.recorded)
		o.mu.Unlock()
		if err := tx.Create(&Invoice{Dog: dogs[0].Name}).Error; err != nil {
			return err
		}
		changes := make([]domain.Changes, len(dogs))
		for i := range dogs {
			changes[i] = dogs[i]
		}
		if _, err := o.Save(ctx, changes...); err != nil {
			return err
		}
		for _, dog := range dogs {
			if _, err := o.Tricks(ctx, dog.Name); err != nil || len(dog.PendingEvents()) != 0 {
				t.Errorf("in the transaction %s has %d pending events and is read with %v; want none and no error",
					dog.Name, len(dog.PendingEvents()), err)
			}
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		if len(o.recorded) != before {
			t.Errorf("told of %v before the commit, want %v recorded", o.recorded[before:], before)
		}
		return nil
	}
}

// run does the work in a transaction through the door of the clinic.
func (o *clinic) run(t testing.TB, do work) error { return o.door.run(t.Context(), o.db, do) }

// nest does the work nested in a transaction.
func (o *clinic) nest(ctx context.Context, tx *gorm.DB, do work) error {
	if o.door.nested == nil || o.db.DisableNestedTransaction {
		return gormstore.Transaction(ctx, o.db, do)
	}
	return o.door.nested(ctx, tx, do)
}

// wantStored fails the test unless exactly these dogs have been stored so far,
// each with its own invoice or that of another one of them, and signaled in
// this order.
func (o *clinic) wantStored(t testing.TB, invoices int64, names ...string) {
	t.Helper()
	if got := count(t, o.db, "invoices"); got != invoices {
		t.Errorf("%d invoices, want %d", got, invoices)
	}
	var logged []string
	for _, n := range wholeLog(t, bridge.Of(o).Recorder()) {
		event, err := bridge.Of(o).Mapper().NotificationToDomain(n)
		if err != nil {
			t.Fatal(err)
		}
		if registered, ok := event.Data.(school.Registered); ok {
			logged = append(logged, registered.Name)
		}
	}
	if !slices.Equal(logged, names) {
		t.Errorf("stored are %v, want %v", logged, names)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if !slices.Equal(o.recorded, names) {
		t.Errorf("told of %v, want %v", o.recorded, names)
	}
}

func wantPendingEvents(t testing.TB, n int, dogs ...*school.Dog) {
	t.Helper()
	for _, dog := range dogs {
		if got := len(dog.PendingEvents()); got != n {
			t.Errorf("%s has %d pending events, want %d", dog.Name, got, n)
		}
	}
}

// configured opens a database again with settings of GORM.
func configured(t testing.TB, d gorm.Dialector, config gorm.Config) *gorm.DB {
	t.Helper()
	if config.Logger == nil {
		config.Logger = testdb.Quiet
	}
	db, err := gorm.Open(dialector(d.Name(), dsn(t, &gorm.DB{Config: &gorm.Config{Dialector: d}})), &config)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pool.Close() })
	return db
}

// An invoice and the events of two aggregates are committed together, and
// vanish together, nested and not.
func TestInvoiceAndEventsAreStoredTogether(t *testing.T) {
	eachDoor(t, func(t *testing.T, o *clinic) {
		fido, rex := school.RegisterDog("Fido"), school.RegisterDog("Rex")
		if err := o.run(t, o.bill(t, fido, rex)); err != nil {
			t.Fatalf("commit: %v", err)
		}
		o.wantStored(t, 1, "Fido", "Rex")
		wantPendingEvents(t, 0, fido, rex)

		bella, daisy := school.RegisterDog("Bella"), school.RegisterDog("Daisy")
		err := o.run(t, func(ctx context.Context, tx *gorm.DB) error {
			return errors.Join(o.bill(t, bella, daisy)(ctx, tx), errUndone)
		})
		if !errors.Is(err, errUndone) {
			t.Errorf("rollback: error %v, want the one of the function", err)
		}
		o.wantStored(t, 1, "Fido", "Rex")
		wantPendingEvents(t, 1, bella, daisy)

		func() {
			defer func() { _ = recover() }()
			_ = o.run(t, func(ctx context.Context, tx *gorm.DB) error {
				if err := o.bill(t, bella, daisy)(ctx, tx); err != nil {
					t.Error(err)
				}
				panic("on purpose")
			})
		}()
		o.wantStored(t, 1, "Fido", "Rex")
		wantPendingEvents(t, 1, bella, daisy)

		if err := o.run(t, o.bill(t, bella, daisy)); err != nil {
			t.Fatalf("saving again after rollbacks: %v", err)
		}
		o.wantStored(t, 2, "Fido", "Rex", "Bella", "Daisy")
	})
}

func TestNestedTransactions(t *testing.T) {
	eachDoor(t, func(t *testing.T, o *clinic) {
		// An inner transaction that is rolled back vanishes from an outer one
		// that commits; what the outer one does before and after it is stored.
		fido, rex, bella, daisy := school.RegisterDog("Fido"), school.RegisterDog("Rex"), school.RegisterDog("Bella"), school.RegisterDog("Daisy")
		err := o.run(t, func(ctx context.Context, tx *gorm.DB) error {
			if err := o.bill(t, fido)(ctx, tx); err != nil {
				return err
			}
			inner := o.nest(ctx, tx, func(ctx context.Context, tx *gorm.DB) error {
				return errors.Join(o.bill(t, rex, bella)(ctx, tx), errUndone)
			})
			if !errors.Is(inner, errUndone) {
				t.Errorf("inner rollback: error %v, want the one of the function", inner)
			}
			wantPendingEvents(t, 1, rex, bella)
			func() {
				defer func() { _ = recover() }()
				_ = o.nest(ctx, tx, func(ctx context.Context, tx *gorm.DB) error {
					if err := o.bill(t, rex, bella)(ctx, tx); err != nil {
						t.Error(err)
					}
					panic("on purpose")
				})
			}()
			wantPendingEvents(t, 1, rex, bella)
			return o.bill(t, daisy)(ctx, tx)
		})
		if err != nil {
			t.Fatalf("commit around an inner rollback: %v", err)
		}
		o.wantStored(t, 2, "Fido", "Daisy")
		wantPendingEvents(t, 0, fido, daisy)
		wantPendingEvents(t, 1, rex, bella)

		// An inner one that commits is undone with the outer one.
		err = o.run(t, func(ctx context.Context, tx *gorm.DB) error {
			return errors.Join(o.nest(ctx, tx, o.bill(t, rex)), errUndone)
		})
		if !errors.Is(err, errUndone) {
			t.Errorf("outer rollback: error %v, want the one of the function", err)
		}
		o.wantStored(t, 2, "Fido", "Daisy")
		wantPendingEvents(t, 1, rex, bella)

		// Both commit, two levels deep.
		err = o.run(t, func(ctx context.Context, tx *gorm.DB) error {
			return o.nest(ctx, tx, func(ctx context.Context, tx *gorm.DB) error {
				return errors.Join(o.bill(t, rex)(ctx, tx), o.nest(ctx, tx, o.bill(t, bella)))
			})
		})
		if err != nil {
			t.Fatalf("commit of both: %v", err)
		}
		o.wantStored(t, 4, "Fido", "Daisy", "Rex", "Bella")
		wantPendingEvents(t, 0, rex, bella)
	})
}

// A conflict inside a transaction undoes only the save, and the caller may go
// on.
func TestConflictInATransactionUndoesOnlyTheSave(t *testing.T) {
	eachDoor(t, func(t *testing.T, o *clinic) {
		if err := o.Register(t.Context(), "Fido"); err != nil {
			t.Fatal(err)
		}
		rival, rex := school.RegisterDog("Fido"), school.RegisterDog("Rex")
		err := o.run(t, func(ctx context.Context, tx *gorm.DB) error {
			if _, err := o.Save(ctx, rival); !persistence.IsConflict(err) {
				t.Errorf("error %v, want a conflict", err)
			}
			wantPendingEvents(t, 1, rival)
			return o.bill(t, rex)(ctx, tx)
		})
		if err != nil {
			t.Fatal(err)
		}
		o.wantStored(t, 1, "Fido", "Rex")
		wantPendingEvents(t, 1, rival)
	})
}

// GORM's own savepoints inside of Transaction are noticed as well.
func TestGORMNestedInTransaction(t *testing.T) {
	for _, backend := range sharedBackends {
		t.Run(backend.Name, func(t *testing.T) {
			t.Parallel()
			o := openClinic(t, backend.Open(t), door{})
			fido, rex := school.RegisterDog("Fido"), school.RegisterDog("Rex")
			transaction(t, o.db, func(ctx context.Context, tx *gorm.DB) error {
				inner := tx.Transaction(func(tx *gorm.DB) error {
					return errors.Join(o.bill(t, rex)(ctx, tx), errUndone)
				})
				if !errors.Is(inner, errUndone) {
					t.Errorf("inner rollback: error %v, want the one of the function", inner)
				}
				return o.bill(t, fido)(ctx, tx)
			})
			o.wantStored(t, 1, "Fido")
			wantPendingEvents(t, 1, rex)
			wantPendingEvents(t, 0, fido)
		})
	}
}

// Repositories keep in their cache only what is committed.
func TestCacheHasOnlyWhatIsCommitted(t *testing.T) {
	t.Parallel()
	backends := []testdb.Backend{{Name: "sqlite-file", Open: testdb.SQLiteFile}, {Name: "postgres", Open: testdb.OpenPostgresSchema}}
	for _, d := range doors {
		for _, backend := range backends {
			t.Run(d.name+"/"+backend.Name, func(t *testing.T) {
				t.Parallel()
				o := openClinic(t, backend.Open(t), d, application.WithEnv(map[string]string{
					"AGGREGATE_CACHE_MAXSIZE": "10", "AGGREGATE_CACHE_FASTFORWARD": "n"}))
				if err := o.Register(t.Context(), "Fido"); err != nil {
					t.Fatal(err)
				}
				wantTricks(t, o, "Fido")
				teach := func(trick string, end error) error {
					return o.run(t, func(ctx context.Context, _ *gorm.DB) error {
						if err := o.AddTrick(ctx, "Fido", trick); err != nil {
							return err
						}
						if tricks, err := o.Tricks(ctx, "Fido"); err != nil || !slices.Contains(tricks, trick) {
							t.Errorf("in the transaction: %v, %v; want the trick", tricks, err)
						}
						return end
					})
				}
				if err := teach("sit", errUndone); !errors.Is(err, errUndone) {
					t.Fatalf("got %v, want an error that is %v", err, errUndone)
				}
				wantTricks(t, o, "Fido")
				if err := teach("roll over", nil); err != nil {
					t.Fatal(err)
				}
				wantTricks(t, o, "Fido", "roll over")
				if err := teach("beg", errUndone); !errors.Is(err, errUndone) {
					t.Fatalf("got %v, want an error that is %v", err, errUndone)
				}
				wantTricks(t, o, "Fido", "roll over")
			})
		}
	}
}

func wantTricks(t testing.TB, o *clinic, name string, want ...string) {
	t.Helper()
	if got, err := o.Tricks(t.Context(), name); err != nil || !slices.Equal(got, want) {
		t.Errorf("tricks of %s are %v, %v; want %v", name, got, err, want)
	}
}

// everyCall is one call of each kind of recorder.
func everyCall(t testing.TB, db *gorm.DB) map[string]func(context.Context) error {
	t.Helper()
	r, snapshots := recorder(t, db, schoolName), snapshots(t, db, schoolName)
	upstream := persistence.Tracking{ApplicationName: "Upstream", NotificationID: 1}
	return map[string]func(context.Context) error{
		"InsertEvents":      func(ctx context.Context) error { return last(r.InsertEvents(ctx, history(uuid.New(), 1, 1))) },
		"InsertEvents many": func(ctx context.Context) error { return last(r.InsertEvents(ctx, history(uuid.New(), 1, 2001))) },
		"InsertProcessed": func(ctx context.Context) error {
			return last(r.InsertProcessed(ctx, history(uuid.New(), 1, 1), upstream))
		},
		"InsertTracking":     func(ctx context.Context) error { return r.InsertTracking(ctx, upstream) },
		"snapshot":           func(ctx context.Context) error { return last(snapshots.InsertEvents(ctx, history(uuid.New(), 1, 1))) },
		"MaxNotificationID":  func(ctx context.Context) error { _, err := r.MaxNotificationID(ctx); return err },
		"MaxTrackingID":      func(ctx context.Context) error { _, err := r.MaxTrackingID(ctx, "Upstream"); return err },
		"SelectNotification": func(ctx context.Context) error { return selectOne(ctx, r) },
		"SelectEvents": func(ctx context.Context) error {
			for _, err := range r.SelectEvents(ctx, uuid.New(), persistence.EventRange{}) {
				return err
			}
			return nil
		},
		"SelectHistory": func(ctx context.Context) error {
			_, _, err := r.(capability.HistoryReader).SelectHistory(ctx, uuid.New(), 0)
			return err
		},
		"Transaction": func(ctx context.Context) error {
			return gormstore.Transaction(ctx, db, func(context.Context, *gorm.DB) error { return nil })
		},
	}
}
