package gormstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/mattn/go-sqlite3"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// A transaction that conflicts is repeated as a whole, and its rows are stored
// once.
func TestRetryAfterConflict(t *testing.T) {
	eachOffice(t, func(t *testing.T, o *office) {
		r, dog, tries := recorder(t, o.db, "Kennels"), uuid.New(), 0
		insert(t, r, history(dog, 1, 1)...)
		err := gormstore.Retry(t.Context(), o.db, 5, func(ctx context.Context, tx *gorm.DB) error {
			tries++
			if err := tx.Create(&Bill{Dog: "Fido"}).Error; err != nil {
				return err
			}
			// The first one is stored already.
			_, err := r.InsertEvents(ctx, history(dog, int64(tries), 2))
			return err
		})
		if err != nil || tries != 2 {
			t.Errorf("%d tries, %v; want 2 and success", tries, err)
		}
		if bills := count(t, o.db, "bills"); bills != 1 {
			t.Errorf("%d bills are stored, want 1", bills)
		}
		wantVersions(t, r, dog, 1, 2, 3)
	})
}

// A caller that has seen an older version decides again; to repeat its
// transaction cannot succeed.
func TestRetryDoesNotRepeatUpdateAt(t *testing.T) {
	eachOffice(t, func(t *testing.T, o *office) {
		app, err := application.New(schoolName, application.WithStore(gormstore.New(o.db)))
		if err != nil {
			t.Fatal(err)
		}
		dogs, err := application.NewRepository(app, school.Dogs)
		if err != nil {
			t.Fatal(err)
		}
		fido := school.RegisterDog("Fido")
		fido.AddTrick("sit")
		if err := dogs.Save(t.Context(), fido); err != nil {
			t.Fatal(err)
		}
		tries := 0
		err = gormstore.Retry(t.Context(), o.db, 5, func(ctx context.Context, _ *gorm.DB) error {
			tries++
			return dogs.UpdateAt(ctx, fido.ID(), 1, func(d *school.Dog) error { d.AddTrick("roll over"); return nil })
		})
		const want = "is at version 2, and the caller has seen version 1"
		if tries != 1 || !persistence.IsConflict(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("after %d tries: %v; want one, and %q", tries, err, want)
		}
	})
}

// Transactions that deadlock are all stored.
func TestRetryAfterDeadlock(t *testing.T) {
	t.Parallel()
	truth := created(t, testdb.OpenPostgresSchema(t))
	ids := sortedIDs(2)
	var met, both sync.WaitGroup
	met.Add(2)
	victims := make([]*deadlocks, 2)
	for i := range victims {
		db, counter := beside(t, truth, "100ms")
		victims[i] = counter
		both.Go(func() {
			r, tries := recorder(t, db, schoolName), 0
			err := gormstore.Retry(t.Context(), db, 5, func(ctx context.Context, _ *gorm.DB) error {
				tries++
				for n, id := range []uuid.UUID{ids[i], ids[1-i]} {
					next := int64(len(versions(t, readingIn{r, ctx}, id)) + 1)
					if _, err := r.InsertEvents(ctx, history(id, next, 1)); err != nil {
						return err
					}
					if tries == 1 && n == 0 {
						met.Done()
						met.Wait()
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	if victims[0].count.Load()+victims[1].count.Load() == 0 {
		t.Error("there was no deadlock: the test proves nothing")
	}
	for _, id := range ids {
		wantVersions(t, recorder(t, truth, schoolName), id, 1, 2)
	}
}

// A transaction whose connection is lost before its commit is repeated,
// wherever the loss is noticed.
func TestRetryAfterALostConnection(t *testing.T) {
	t.Parallel()
	truth := created(t, testdb.OpenPostgresSchema(t))
	for name, lose := range losses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := again(t, truth)
			r, dog, tries := recorder(t, db, schoolName), uuid.New(), 0
			err := gormstore.Retry(t.Context(), db, 5, func(ctx context.Context, tx *gorm.DB) error {
				tries++
				if tries > 1 {
					_, err := r.InsertEvents(ctx, history(dog, 1, 1))
					return err
				}
				return lose(ctx, db, tx, r, func() { terminate(t, truth, tx) })
			})
			if err != nil || tries != 2 {
				t.Errorf("%d tries, %v; want 2 and success", tries, err)
			}
			wantVersions(t, r, dog, 1)
			wantIdle(t, db)
		})
	}
}

// What Retry repeats, and what it returns at once.
func TestRetryDecides(t *testing.T) {
	failure := func(class error) error { return &persistence.Error{Class: class, Op: "save"} }
	conflict := &persistence.ConflictError{Application: schoolName, OriginatorID: uuid.New(), Version: 3}
	for name, test := range map[string]struct {
		err   error
		tries int
	}{
		"success":                       {nil, 1},
		"conflict":                      {fmt.Errorf("move: %w", conflict), 5},
		"deadlock":                      {failure(persistence.ErrRetryTransaction), 5},
		"unavailable":                   {failure(persistence.ErrUnavailable), 5},
		"lock timeout":                  {failure(persistence.ErrLockTimeout), 1},
		"outcome unknown":               {failure(persistence.ErrOutcomeUnknown), 1},
		"outcome unknown of a conflict": {errors.Join(failure(persistence.ErrOutcomeUnknown), conflict), 1},
		"originator of another type":    {&persistence.Error{Class: persistence.ErrOriginatorType, Op: "save", Err: conflict}, 1},
		"the caller's":                  {errNoCredit, 1},
		"the driver's":                  {&pgconn.PgError{Code: "23505"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, db *gorm.DB) {
				tries := 0
				err := gormstore.Retry(t.Context(), db, 5, func(context.Context, *gorm.DB) error { tries++; return test.err })
				if tries != test.tries || !errors.Is(err, test.err) {
					t.Errorf("%d tries, %v; want %d and %v", tries, err, test.tries, test.err)
				}
				if tries > 1 && !strings.Contains(err.Error(), "5 tries") {
					t.Errorf("got %v, want an error that says how often it was tried", err)
				}
			})
		})
	}
}

// The drivers' own errors, of statements of the caller's, are repeated as well.
func TestRetryAfterADriversError(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		failures := []error{&pgconn.PgError{Code: "40001"}, &pgconn.PgError{Code: "40P01"}}
		if db.Name() == "sqlite" {
			failures = []error{sqlite3.Error{Code: sqlite3.ErrBusy, ExtendedCode: sqlite3.ErrBusySnapshot}}
		}
		for _, failure := range failures {
			tries := 0
			err := gormstore.Retry(t.Context(), db, 5, func(context.Context, *gorm.DB) error {
				if tries++; tries > 1 {
					return nil
				}
				return fmt.Errorf("count the invoices: %w", failure)
			})
			if err != nil || tries != 2 {
				t.Errorf("%v: %d tries, %v; want 2 and success", failure, tries, err)
			}
		}
	})
}

// Creating an aggregate that exists is a conflict on every try. It ends, and
// its error says why.
func TestRetryOfACreation(t *testing.T) {
	eachOffice(t, func(t *testing.T, o *office) {
		id, tries := uuid.New(), 0
		create := func(ctx context.Context) error {
			_, err := o.Save(ctx, school.Dogs.Create(id, school.Registered{Name: "Fido"}))
			return err
		}
		if err := create(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := gormstore.Retry(t.Context(), o.db, 2, func(ctx context.Context, _ *gorm.DB) error { tries++; return create(ctx) })
		conflict, ok := errors.AsType[*persistence.ConflictError](err)
		if tries != 2 || !ok || !conflict.Exists || !strings.Contains(err.Error(), "exists") {
			t.Errorf("%d tries, %v; want 2 and a conflict that says that the aggregate exists", tries, err)
		}
	})
}

// A wait ends with the context, and with the error of the last try.
func TestRetryEndsWithItsContext(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r, dog, tries := recorder(t, db, schoolName), uuid.New(), 0
		insert(t, r, history(dog, 1, 1)...)
		err := gormstore.Retry(ctx, db, 1000, func(ctx context.Context, _ *gorm.DB) error {
			tries++
			_, err := r.InsertEvents(ctx, history(dog, 1, 1))
			cancel()
			return err
		})
		if tries != 1 || !errors.Is(err, context.Canceled) || !persistence.IsConflict(err) {
			t.Errorf("%d tries, %v; want 1, and the conflict with the end of the context", tries, err)
		}
	})
}

// A wait that is over at the moment when the context ends has been ended by the
// context: another try would fail, and hide the error of the last one.
func TestRetryWaitsNotAfterItsContext(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 1_000 {
		if gormstore.Sleep(ended, 0) {
			t.Fatal("the next try begins although the context has ended")
		}
	}
}

// Inside another transaction nothing is run: Retry could not repeat that one.
func TestRetryInATransaction(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		for name, join := range joins {
			err := join(t.Context(), db, func(ctx context.Context, _ *gorm.DB) error {
				return gormstore.Retry(ctx, db, 5, func(context.Context, *gorm.DB) error {
					t.Errorf("%s: the function was called", name)
					return nil
				})
			})
			if !errors.Is(err, persistence.ErrProgramming) {
				t.Errorf("%s: %v, want an ErrProgramming", name, err)
			}
		}
	})
}

// A panic is the caller's, and rolls back.
func TestRetryAfterAPanic(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		r, dog, tries := recorder(t, db, schoolName), uuid.New(), 0
		err := recovered(func() error {
			return gormstore.Retry(t.Context(), db, 5, func(ctx context.Context, _ *gorm.DB) error {
				tries++
				if _, err := r.InsertEvents(ctx, history(dog, 1, 1)); err != nil {
					return err
				}
				panic(errNoCredit)
			})
		})
		if !errors.Is(err, errNoCredit) || tries != 1 {
			t.Errorf("%d tries, %v; want 1 and the panic", tries, err)
		}
		wantVersions(t, r, dog)
		wantIdle(t, db)
	})
}
