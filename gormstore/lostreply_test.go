package gormstore_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/faultdb"
	"github.com/eventsourcing-go/eventsourcing/internal/faultdb/pgproxy"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// kennel is an application over a database whose replies can be lost.
type kennel struct {
	*application.Application
	dogs  *application.Repository[school.Dog]
	db    *gorm.DB
	truth persistence.ProcessRecorder
	// lose has the next write fail as it is completed: before the database did
	// it, or after. Where blind is set the database cannot be reached
	// afterwards.
	lose func(when faultdb.When, blind bool)
	// heal ends all faults.
	heal func()
}

// eachKennel runs a test on SQLite, whose driver loses the replies, and on
// PostgreSQL, with a proxy that cuts the wire.
func eachKennel(t *testing.T, test func(t *testing.T, k *kennel)) {
	t.Helper()
	t.Parallel()
	for name, open := range map[string]func(*testing.T) *kennel{"sqlite-file": sqliteKennel, "postgres": postgresKennel} {
		for suffix, size := range map[string]int{"": 0, "-one-connection": 1} {
			t.Run(name+suffix, func(t *testing.T) {
				t.Parallel()
				k := open(t)
				limit(t, k.db, size)
				test(t, k)
				wantIdle(t, k.db)
			})
		}
	}
}

func sqliteKennel(t *testing.T) *kennel {
	t.Helper()
	p := newPatient(t, migrated(t, testdb.SQLiteFile(t)))
	k := newKennel(t, p.db, p.truth)
	k.lose = func(when faultdb.When, blind bool) {
		p.faults.Arm(atCompletion(faultdb.Fault{When: when, Err: io.ErrUnexpectedEOF, Broken: true}, blind))
	}
	k.heal = func() { p.faults.Disarm() }
	return k
}

func postgresKennel(t *testing.T) *kennel {
	t.Helper()
	truth := created(t, testdb.OpenPostgres(t))
	proxy := pgproxy.New(t, dsn(t, truth))
	k := newKennel(t, testdb.Open(t, dialector("postgres", proxy.DSN())), truth)
	k.lose = func(when faultdb.When, blind bool) {
		cut := map[faultdb.When]pgproxy.Action{faultdb.Before: pgproxy.CutBefore, faultdb.After: pgproxy.CutAfter}[when]
		var c completing
		done := false
		proxy.Use(func(statement string) pgproxy.Action {
			switch {
			case !done && c.is(statement):
				done = true
				return cut
			case done && blind:
				return pgproxy.CutBefore
			}
			return pgproxy.Forward
		})
	}
	k.heal = func() { proxy.Use(nil) }
	return k
}

func newKennel(t *testing.T, db, truth *gorm.DB) *kennel {
	t.Helper()
	app, err := application.New(schoolName, application.WithStore(gormstore.New(db)))
	if err != nil {
		t.Fatal(err)
	}
	return &kennel{Application: app, dogs: expect.Must(application.NewRepository(app, school.Dogs)), db: db, truth: recorder(t, truth, schoolName)}
}

// wantStored fails the test unless the dog's events are stored once, with these
// ids.
func (k *kennel) wantStored(t *testing.T, dog *school.Dog, saved application.Saved) {
	t.Helper()
	var want, got []int64
	for _, event := range saved.Events {
		want = append(want, event.NotificationID)
	}
	for _, n := range wholeLog(t, k.truth) {
		if n.OriginatorID == dog.ID() {
			got = append(got, n.ID)
		}
	}
	if len(got) != int(dog.Version()) || !slices.Equal(got, want) {
		t.Errorf("the events are stored under the ids %v; the save reported %v for %d events, want the same", got, want, dog.Version())
	}
	if pending := dog.PendingEvents(); len(pending) > 0 {
		t.Errorf("%d events are still pending, want 0", len(pending))
	}
}

// saves are the sizes of saves, which are written in different ways: one event,
// several, and more than a batch has.
var saves = map[string]int{"one event": 1, "several events": 3, "many events": 2500}

func dogOf(events int) *school.Dog {
	return newDog("Fido", slices.Repeat([]string{"sit"}, events-1)...)
}

// A save that the database did, but whose reply was lost, is reported as the
// success that it was, with the right ids.
func TestLostReply(t *testing.T) {
	eachKennel(t, func(t *testing.T, k *kennel) {
		for name, events := range saves {
			t.Run(name, func(t *testing.T) {
				dog := dogOf(events)
				k.lose(faultdb.After, false)
				defer k.heal()
				saved, err := k.Save(t.Context(), dog)
				if err != nil {
					t.Fatalf("Save: %v, want the success that it was", err)
				}
				k.wantStored(t, dog, saved)
			})
		}
	})
}

// A save that never reached the database fails, stores nothing, keeps the
// events pending, and can be repeated. That it was not done is known if a
// transaction was open. A single statement may still be on its way, for all the
// client knows, so its outcome may be called unknown.
func TestLostRequest(t *testing.T) {
	eachKennel(t, func(t *testing.T, k *kennel) {
		for name, events := range saves {
			t.Run(name, func(t *testing.T) {
				dog := dogOf(events)
				k.lose(faultdb.Before, false)
				defer k.heal()
				_, err := k.Save(t.Context(), dog)
				if !errors.Is(err, persistence.ErrOperational) {
					t.Fatalf("Save: %v, want an ErrOperational", err)
				}
				if inTransaction := k.db.Name() == "sqlite" || events > 2000; inTransaction && errors.Is(err, persistence.ErrOutcomeUnknown) {
					t.Errorf("Save: %v, want an outcome that is known", err)
				}
				wantVersions(t, k.truth, dog.ID())
				if got := len(dog.PendingEvents()); got != events {
					t.Errorf("%d events are pending, want all %d", got, events)
				}
				saved, err := k.Save(t.Context(), dog)
				if err != nil {
					t.Fatalf("Save again: %v", err)
				}
				k.wantStored(t, dog, saved)
			})
		}
	})
}

// If the outcome of a save cannot be looked up, it is unknown and its events
// stay pending. Saving again is then a success, whether they were stored or
// not.
func TestLostReplyUnknown(t *testing.T) {
	eachKennel(t, func(t *testing.T, k *kennel) {
		for name, events := range saves {
			for _, when := range []faultdb.When{faultdb.Before, faultdb.After} {
				t.Run(name+"/"+when.String(), func(t *testing.T) {
					dog := dogOf(events)
					k.lose(when, true)
					defer k.heal()
					if _, err := k.Save(t.Context(), dog); !errors.Is(err, persistence.ErrOutcomeUnknown) || persistence.IsRetryable(err) {
						t.Fatalf("Save: %v, want ErrOutcomeUnknown", err)
					}
					if got := len(dog.PendingEvents()); got != events {
						t.Errorf("%d events are pending, want all %d", got, events)
					}
					k.heal()
					saved, err := k.Save(t.Context(), dog)
					if err != nil {
						t.Fatalf("Save again: %v", err)
					}
					k.wantStored(t, dog, saved)
				})
			}
		}
	})
}

// The outcome of a transaction whose commit was not answered is unknown,
// because the store does not know all that was in it. The events are pending
// again, and the transaction can be repeated.
func TestLostReplyTransaction(t *testing.T) {
	eachKennel(t, func(t *testing.T, k *kennel) {
		for _, when := range []faultdb.When{faultdb.Before, faultdb.After} {
			t.Run(when.String(), func(t *testing.T) {
				dog := dogOf(3)
				var saved application.Saved
				save := func(ctx context.Context, _ *gorm.DB) (err error) {
					saved, err = k.Save(ctx, dog)
					return err
				}
				k.lose(when, false)
				defer k.heal()
				if err := gormstore.Transaction(t.Context(), k.db, save); !errors.Is(err, persistence.ErrOutcomeUnknown) {
					t.Fatalf("Transaction: %v, want ErrOutcomeUnknown", err)
				}
				if got := len(dog.PendingEvents()); got != 3 {
					t.Errorf("%d events are pending, want all 3", got)
				}
				if err := gormstore.Transaction(t.Context(), k.db, save); err != nil {
					t.Fatalf("Transaction again: %v", err)
				}
				k.wantStored(t, dog, saved)
			})
		}
	})
}

// The control: the fault is real. A plain insert through the same fault fails
// although its row is stored, and repeating it conflicts with its own row.
// (With simple_protocol the driver of PostgreSQL even repeats it unasked.)
func TestLostReplyControl(t *testing.T) {
	eachKennel(t, func(t *testing.T, k *kennel) {
		dog := uuid.New()
		insert := func() error {
			return k.db.Create(&gormstore.StoredEvent{ApplicationName: schoolName, OriginatorID: gormstore.UUID(dog),
				OriginatorVersion: 1, Topic: "Dog.Registered", State: []byte("{}")}).Error
		}
		k.lose(faultdb.After, false)
		defer k.heal()
		if err := insert(); err == nil {
			t.Error("a plain insert survives the fault: the test proves nothing")
		}
		wantVersions(t, k.truth, dog, 1)
		if err := insert(); err == nil {
			t.Error("a repeated insert does not conflict with itself")
		}
	})
}

// twice is a recorder below which every insert is done twice, and only the
// second answer arrives.
type twice struct{ persistence.ProcessRecorder }

func (r twice) InsertEvents(ctx context.Context, events []persistence.StoredEvent) ([]int64, error) {
	if _, err := r.ProcessRecorder.InsertEvents(ctx, events); err != nil {
		return nil, err
	}
	return r.ProcessRecorder.InsertEvents(ctx, events)
}

// A save that was repeated by a layer below, because the first reply was lost,
// finds its own events stored: it is the success that it was. The control is
// the recorder itself, which only knows of a conflict.
func TestLostReplyRepeatedBelow(t *testing.T) {
	each(t, func(t *testing.T, db *gorm.DB) {
		r := recorder(t, db, schoolName)
		for name, events := range saves {
			t.Run(name, func(t *testing.T) {
				pending := dogOf(events).PendingEvents()
				recordings, err := eventStore(t, twice{r}).Put(t.Context(), pending)
				if err != nil {
					t.Fatalf("Put: %v, want the success that it was", err)
				}
				wantRecorded(t, r, pending, recordings)
				if _, err := (twice{r}).InsertEvents(t.Context(), history(uuid.New(), 1, events)); !persistence.IsConflict(err) {
					t.Errorf("without the event store: %v, want a conflict of the events with themselves", err)
				}
			})
		}
	})
}

// wantRecorded fails the test unless the log ends with the events, under the
// ids of the recordings.
func wantRecorded(t *testing.T, r persistence.ProcessRecorder, events []domain.Event, recordings []mapper.Recording) {
	t.Helper()
	log := wholeLog(t, r)
	if len(recordings) != len(events) || len(log) < len(events) {
		t.Fatalf("%d recordings for %d events, %d in the log", len(recordings), len(events), len(log))
	}
	for i, n := range log[len(log)-len(events):] {
		if got := recordings[i].Notification; got.ID != n.ID || n.OriginatorID != events[i].OriginatorID || n.OriginatorVersion != events[i].OriginatorVersion {
			t.Errorf("recording %d has the id %d, stored is id %d version %d, want OriginatorID %v and OriginatorVersion %v", i, got.ID, n.ID, n.OriginatorVersion, events[i].OriginatorID, events[i].OriginatorVersion)
		}
	}
}
