package gormstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// saveWays are the ways in which events reach a log.
func saveWays(db *gorm.DB, r persistence.ProcessRecorder) map[string]func(context.Context, []persistence.StoredEvent) error {
	save := func(ctx context.Context, events []persistence.StoredEvent) error {
		return last(r.InsertEvents(ctx, events))
	}
	return map[string]func(context.Context, []persistence.StoredEvent) error{
		"alone": save,
		"in a transaction": func(ctx context.Context, events []persistence.StoredEvent) error {
			return gormstore.Transaction(ctx, db, func(ctx context.Context, _ *gorm.DB) error { return save(ctx, events) })
		},
		"in a transaction of the caller's": func(ctx context.Context, events []persistence.StoredEvent) error {
			return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error { return save(gormstore.WithTx(ctx, tx), events) })
		},
		"processed": func(ctx context.Context, events []persistence.StoredEvent) error {
			head, err := r.MaxTrackingID(ctx, kennels)
			if err != nil {
				return err
			}
			return last(r.InsertProcessed(ctx, events, persistence.Tracking{ApplicationName: kennels, NotificationID: head + 1}))
		},
	}
}

// A save that does not continue its stream, because rows were deleted or an
// older state was restored, is a conflict in every way to save, and stores
// nothing.
func TestSaveAfterDeletedRows(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		r := recorder(t, db, schoolName)
		for name, save := range saveWays(db, r) {
			for _, n := range []int{1, 2, 600} {
				dog, other := uuid.New(), uuid.New()
				insert(t, r, history(dog, 1, 3)...)
				insert(t, r, history(other, 1, 3)...)
				if err := db.Exec("DELETE FROM stored_events WHERE originator_id = ? AND originator_version = 3", gormstore.UUID(dog)).Error; err != nil {
					t.Fatal(err)
				}
				if err := db.Exec("DELETE FROM stored_events WHERE originator_id = ?", gormstore.UUID(other)).Error; err != nil {
					t.Fatal(err)
				}
				before := count(t, db, "stored_events")
				for id, newest := range map[uuid.UUID]int64{dog: 2, other: -1} {
					err := save(t.Context(), history(id, 4, n))
					gap, ok := errors.AsType[*persistence.ConflictError](err)
					if !ok || !gap.Gap || gap.Current != newest || !persistence.IsConflict(err) {
						t.Errorf("%s, %d events: error %v, want a gap after version %d", name, n, err, newest)
					}
				}
				if after := count(t, db, "stored_events"); after != before {
					t.Errorf("%s, %d events: %d rows were stored, want 0", name, n, after-before)
				}
				if err := save(t.Context(), history(dog, 3, n)); err != nil {
					t.Errorf("%s: events that continue the stream: %v", name, err)
				}
			}
		}
	})
}

// Saves that are merged fail alone if they do not continue their streams.
func TestMergedSaveAfterDeletedRows(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		r := recorder(t, db, schoolName)
		const dogs = 40
		results := make(chan error, 2*dogs)
		for range dogs {
			good, bad := uuid.New(), uuid.New()
			insert(t, r, history(good, 1, 1)...)
			go func() { results <- last(r.InsertEvents(t.Context(), history(good, 2, 2))) }()
			go func() { results <- last(r.InsertEvents(t.Context(), history(bad, 2, 2))) }()
		}
		conflicts := 0
		for range 2 * dogs {
			if err := <-results; persistence.IsConflict(err) {
				conflicts++
			} else if err != nil {
				t.Error(err)
			}
		}
		if conflicts != dogs || count(t, db, "stored_events") != 3*dogs {
			t.Errorf("%d conflicts and %d rows, want %d and %d", conflicts, count(t, db, "stored_events"), dogs, 3*dogs)
		}
	})
}

// Update loads the aggregate again when its stream has become shorter.
func TestUpdateAfterDeletedRows(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		app, err := application.New(schoolName, application.WithStore(gormstore.New(db)))
		if err != nil {
			t.Fatal(err)
		}
		repository := expect.Must(application.NewRepository(app, school.Dogs))
		dog := newDog("Fido", "roll over", "play dead")
		if err := repository.Save(t.Context(), dog); err != nil {
			t.Fatal(err)
		}
		calls := 0
		err = repository.Update(t.Context(), dog.ID(), func(d *school.Dog) error {
			if calls++; calls == 1 {
				if err := db.Exec("DELETE FROM stored_events WHERE originator_version = 3").Error; err != nil {
					return err
				}
			}
			domain.Trigger(d, school.TrickAdded{Trick: "beg"})
			return nil
		})
		if err != nil || calls != 2 {
			t.Fatalf("Update: %v after %d calls, want success after 2", err, calls)
		}
		again, err := repository.Get(t.Context(), dog.ID())
		if err != nil || strings.Join(again.Tricks, ", ") != "roll over, beg" {
			t.Errorf("the dog knows %v, %v; want roll over and beg", again, err)
		}
	})
}

// The second event of a definition that begins at version 0 does not begin the
// stream if the first was deleted, in no way to save, also merged with others.
func TestSecondEventAfterDeletedFirst(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		r := recorder(t, db, schoolName)
		for name, save := range saveWays(db, r) {
			for _, n := range []int{1, 2, 600} {
				events := history(uuid.New(), 1, n)
				events[0].Continues = true
				err := save(t.Context(), events)
				gap, ok := errors.AsType[*persistence.ConflictError](err)
				if !ok || !gap.Gap || gap.Current != -1 {
					t.Errorf("%s, %d events: error %v, want a gap", name, n, err)
				}
			}
		}
		const saves = 40
		results := make(chan error, saves)
		for range saves {
			events := history(uuid.New(), 1, 1)
			events[0].Continues = true
			go func() { results <- last(r.InsertEvents(t.Context(), events)) }()
		}
		for range saves {
			if err := <-results; !persistence.IsConflict(err) {
				t.Errorf("a save among others: error %v, want a conflict", err)
			}
		}
		if n := count(t, db, "stored_events"); n != 0 {
			t.Errorf("%d rows were stored, want 0", n)
		}
	})
}

// An aggregate whose definition begins at version 0 and that was deleted is not
// saved without its first event.
func TestFirstVersionZeroAfterDeletion(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		fromZero := domain.Define("Dog", domain.FirstVersion[school.Dog](0), domain.On("Registered", school.Registered{}), domain.On("TrickAdded", school.TrickAdded{}))
		app, err := application.New(schoolName, application.WithStore(gormstore.New(db)))
		if err != nil {
			t.Fatal(err)
		}
		repository := expect.Must(application.NewRepository(app, fromZero))
		dog := fromZero.Create(uuid.New(), school.Registered{Name: "Fido"})
		if err := repository.Save(t.Context(), dog); err != nil {
			t.Fatal(err)
		}
		if err := db.Exec("DELETE FROM stored_events").Error; err != nil {
			t.Fatal(err)
		}
		domain.Trigger(dog, school.TrickAdded{Trick: "beg"})
		if err := repository.Save(t.Context(), dog); !persistence.IsConflict(err) {
			t.Errorf("error %v, want a conflict", err)
		}
		if err := repository.Save(t.Context(), fromZero.Create(dog.ID(), school.Registered{Name: "Fido"})); err != nil {
			t.Errorf("made anew: %v", err)
		}
	})
}

// An id that followers may have passed is refused in every way to save, with
// what to do about the sequence.
func TestSequenceBehindTheLog(t *testing.T) {
	t.Parallel()
	breakings := map[string]string{
		"set back":                 "SELECT setval('stored_events_id_seq', 50)",
		"set back, not yet called": "SELECT setval('stored_events_id_seq', 50, false)",
		"restarted":                "ALTER SEQUENCE stored_events_id_seq RESTART",
		"counting down":            "ALTER SEQUENCE stored_events_id_seq INCREMENT -7 MINVALUE -1000000",
	}
	for breaking, statement := range breakings {
		for _, options := range [][]gormstore.Option{nil, {gormstore.WithStrictOrder()}} {
			t.Run(breaking, func(t *testing.T) {
				t.Parallel()
				db := created(t, testdb.OpenPostgresSchema(t))
				r := recorder(t, db, schoolName, options...)
				insert(t, r, history(uuid.New(), 1, 1)...)
				for _, prepare := range []string{
					"SELECT setval('stored_events_id_seq', 100)", "DELETE FROM stored_events",
				} {
					if err := db.Exec(prepare).Error; err != nil {
						t.Fatal(err)
					}
				}
				insert(t, r, history(uuid.New(), 1, 2)...)
				if err := db.Exec(statement).Error; err != nil {
					t.Fatal(err)
				}
				for name, save := range saveWays(db, r) {
					for _, n := range []int{1, 2} {
						err := save(t.Context(), history(uuid.New(), 1, n))
						low, ok := errors.AsType[*gormstore.SequenceError](err)
						if !ok || low.Application != schoolName || low.Head != 102 || low.ID > low.Head || !strings.Contains(err.Error(), "setval") {
							t.Fatalf("%s, %d events: error %v, want a SequenceError", name, n, err)
						}
						if persistence.IsConflict(err) || persistence.IsRetryable(err) || !errors.Is(err, persistence.ErrOperational) {
							t.Errorf("%s: %v has the wrong class, want an error that is %v", name, err, persistence.ErrOperational)
						}
					}
				}
				if got := count(t, db, "stored_events"); got != 2 {
					t.Errorf("%d rows are stored, want 2", got)
				}
			})
		}
	}
}

// Two processes with a sequence that caches numbers for each connection get ids
// in any order. Those that followers may have passed are refused.
func TestSequenceThatCaches(t *testing.T) {
	t.Parallel()
	for _, options := range [][]gormstore.Option{nil, {gormstore.WithStrictOrder()}} {
		db := created(t, testdb.OpenPostgresSchema(t))
		here, there := recorder(t, db, schoolName, options...), recorder(t, again(t, db), schoolName, options...)
		insert(t, here, history(uuid.New(), 1, 1)...)
		insert(t, there, history(uuid.New(), 1, 1)...) // both have looked at the sequence
		if err := db.Exec("ALTER SEQUENCE stored_events_id_seq CACHE 50").Error; err != nil {
			t.Fatal(err)
		}
		refused := 0
		var highest int64
		for i := range 20 {
			r := []persistence.ProcessRecorder{here, there}[i%2]
			ids, err := r.InsertEvents(t.Context(), history(uuid.New(), 1, 1))
			if _, ok := errors.AsType[*gormstore.SequenceError](err); ok {
				refused++
				continue
			}
			if err != nil || ids[0] <= highest {
				t.Fatalf("got the id %v, %v after %d", ids, err, highest)
			}
			highest = ids[0]
		}
		if refused == 0 {
			t.Error("no save was refused: the sequence does not cache")
		}
	}
}

// A save that has waited for its log does not get an id from the cache of its
// connection that is below one which was committed in the meantime.
func TestSequenceThatCachesWhileASaveWaits(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.OpenPostgres(t))
	here, there := db, again(t, db)
	limit(t, here, 1)
	limit(t, there, 1)
	waiting, first := recorder(t, here, schoolName, gormstore.WithStrictOrder()), recorder(t, there, schoolName, gormstore.WithStrictOrder())
	insert(t, waiting, history(uuid.New(), 1, 1)...)
	insert(t, first, history(uuid.New(), 1, 1)...) // both have looked at the sequence
	run(t, db, "ALTER SEQUENCE stored_events_id_seq CACHE 20")
	insert(t, waiting, history(uuid.New(), 1, 1)...) // its connection keeps 19 ids
	var waited error
	done := make(chan struct{})
	observer := again(t, db)
	err := gormstore.Transaction(t.Context(), there, func(ctx context.Context, _ *gorm.DB) error {
		if _, err := first.InsertEvents(ctx, history(uuid.New(), 1, 1)); err != nil {
			return err
		}
		go func() {
			defer close(done)
			_, waited = waiting.InsertEvents(t.Context(), history(uuid.New(), 1, 1))
		}()
		if !expect.Eventually(func() bool { return waitingForLock(t, observer) > 0 }) {
			t.Error("the save does not wait for the log")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	<-done
	expect.ErrorAs[*gormstore.SequenceError](t, waited)
}

// A trigger that takes events away or changes them is no conflict.
func TestTriggerOnEvents(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"no row":          "RETURN NULL;",
		"another version": "NEW.originator_version = NEW.originator_version + 7; RETURN NEW;",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := created(t, testdb.OpenPostgresSchema(t))
			r := recorder(t, db, schoolName)
			run(t, db, "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "+body+" END $$")
			run(t, db, "CREATE TRIGGER meddle BEFORE INSERT ON stored_events FOR EACH ROW EXECUTE FUNCTION meddle()")
			for range 2 {
				_, err := r.InsertEvents(t.Context(), history(uuid.New(), 1, 1))
				if name == "no row" && (err == nil || persistence.IsConflict(err)) {
					t.Errorf("got %v, want an error that is no conflict", err)
				}
				t.Log(err)
			}
		})
	}
}

// A table of SQLite that gives the ids of deleted events again is refused at
// the first use.
func TestReusedIDsAtFirstUse(t *testing.T) {
	t.Parallel()
	db := testdb.SQLiteFile(t)
	create := `CREATE TABLE stored_events (id integer PRIMARY KEY, application_name varchar(32) NOT NULL, originator_id char(32) NOT NULL,
		originator_version bigint NOT NULL, topic text NOT NULL, state blob NOT NULL, UNIQUE (application_name, originator_id, originator_version))`
	if err := db.Exec(create).Error; err != nil {
		t.Fatal(err)
	}
	_, err := recorder(t, db, schoolName).InsertEvents(t.Context(), history(uuid.New(), 1, 1))
	if !errors.Is(err, gormstore.ErrSchema) || !strings.Contains(err.Error(), "AUTOINCREMENT") {
		t.Errorf("got %v, want ErrSchema that asks for AUTOINCREMENT", err)
	}
}
