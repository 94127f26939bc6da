package gormstore_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/faultdb"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// sweptFaults are the kinds of faults that a sweep tries: what the caller of
// the driver sees, and whether the connection survives.
var sweptFaults = map[string]faultdb.Fault{
	"before, broken":  {When: faultdb.Before, Err: io.ErrUnexpectedEOF, Broken: true},
	"after, broken":   {When: faultdb.After, Err: io.ErrUnexpectedEOF, Broken: true},
	"before, bad":     {When: faultdb.Before, Err: driver.ErrBadConn, Broken: true},
	"after, bad":      {When: faultdb.After, Err: driver.ErrBadConn, Broken: true},
	"before, passing": {When: faultdb.Before, Err: errPassing},
	"after, passing":  {When: faultdb.After, Err: errPassing},
	"twice":           {When: faultdb.Twice},
}

var errPassing = errors.New("a fault that leaves the connection as it is")

// skipOnOneConnection reports whether a sweep may skip a kind of fault without
// full figures: on a pool of one connection, faults after a call show what
// the pool changes, such as a connection that is never returned. PostgreSQL,
// where each broken connection costs a new one, skips one of two kinds of those.
func skipOnOneConnection(t *testing.T, kind string) bool {
	if testdb.Full() || !strings.Contains(t.Name(), "-one-connection") {
		return false
	}
	return strings.HasPrefix(kind, "before") || kind == "after, bad" && strings.Contains(t.Name(), "postgres")
}

// Whatever call of the driver fails during a write, before or after it had its
// effect: the write is done as a whole or not at all, the caller is told which
// (or that it is unknown), no transaction and no connection is left open, and
// the write can be done again. Unless every combination is tried, PostgreSQL has
// half of the kinds of faults in each write, and each kind in half of the writes.
func TestSweepWrites(t *testing.T) {
	put := func(ctx context.Context, s stores, events []domain.Event, _ int64) ([]mapper.Recording, error) {
		return s.events.Put(ctx, events)
	}
	process := func(ctx context.Context, s stores, events []domain.Event, position int64) ([]mapper.Recording, error) {
		stored := make([]persistence.StoredEvent, len(events))
		for i, event := range events {
			var err error
			if stored[i], err = s.mapper.ToStored(event); err != nil {
				return nil, err
			}
		}
		tracking := persistence.Tracking{ApplicationName: kennels, NotificationID: position}
		ids, err := s.process.InsertProcessed(ctx, stored, tracking)
		if persistence.IsConflict(err) { // with an earlier attempt, if that has moved the position
			if reached, failed := s.process.MaxTrackingID(ctx, kennels); failed == nil && reached == position {
				return s.events.Put(ctx, events)
			}
		}
		var recordings []mapper.Recording
		for _, id := range ids {
			recordings = append(recordings, mapper.Recording{Notification: persistence.Notification{ID: id}})
		}
		return recordings, err
	}
	operations := map[string]operation{
		"one event":           {events: 1, do: put},
		"events":              {events: 3, do: put},
		"position":            {moves: true, do: process},
		"events and position": {events: 2, moves: true, do: process},
		"snapshot": {events: 1, snapshots: true, do: func(ctx context.Context, s stores, events []domain.Event, _ int64) ([]mapper.Recording, error) {
			snapshot := history(events[0].OriginatorID, 1, 1)
			_, err := s.snapshots.InsertEvents(ctx, snapshot)
			if persistence.IsConflict(err) { // as an application does
				err = nil
			}
			return nil, err
		}},
		"transaction": {events: 2, moves: true, do: func(ctx context.Context, s stores, events []domain.Event, position int64) (stored []mapper.Recording, err error) {
			err = gormstore.Transaction(ctx, s.db, func(ctx context.Context, _ *gorm.DB) error {
				stored, err = process(ctx, s, events, position)
				return err
			})
			return stored, err
		}},
	}
	eachPatient(t, func(t *testing.T, p *patient) {
		migrated(t, p.truth)
		s := &sweep{patient: p, sick: newStores(t, p.db), sound: newStores(t, p.truth)}
		for i, name := range slices.Sorted(maps.Keys(operations)) {
			operation := operations[name]
			for j, kind := range slices.Sorted(maps.Keys(sweptFaults)) {
				fault := sweptFaults[kind]
				if skipOnOneConnection(t, kind) || !testdb.Exhaustive() && p.db.Name() == "postgres" && (i+j)%2 == 1 {
					continue
				}
				t.Run(name+"/"+kind, func(t *testing.T) {
					if err := s.run(t, operation, fault); err != nil {
						t.Error(err)
					}
				})
			}
		}
	})
}

// The control: a store that writes its rows without a transaction around them
// does not survive the sweep.
func TestSweepControlWithoutTransaction(t *testing.T) {
	naive := operation{events: 2, do: func(_ context.Context, s stores, events []domain.Event, _ int64) (stored []mapper.Recording, err error) {
		for _, e := range events {
			row := gormstore.StoredEvent{ApplicationName: schoolName, OriginatorID: gormstore.UUID(e.OriginatorID),
				OriginatorVersion: e.OriginatorVersion, Topic: e.Topic, State: []byte("{}")}
			if err := s.db.Create(&row).Error; err != nil {
				return nil, &persistence.Error{Class: persistence.ErrOperational, Op: "naive save", Err: err}
			}
			stored = append(stored, mapper.Recording{Notification: persistence.Notification{ID: row.ID}})
		}
		return stored, nil
	}}
	eachPatient(t, func(t *testing.T, p *patient) {
		migrated(t, p.truth)
		s := &sweep{patient: p, sick: newStores(t, p.db), sound: newStores(t, p.truth)}
		if err := s.run(t, naive, sweptFaults["after, broken"]); err == nil {
			t.Error("writing without a transaction survived the sweep: the sweep proves nothing")
		}
	})
}

// operation is a write that is swept.
type operation struct {
	events    int  // how many events it stores
	moves     bool // whether it moves the position
	snapshots bool // whether the events are snapshots
	do        func(ctx context.Context, s stores, events []domain.Event, position int64) ([]mapper.Recording, error)
}

// stores are the recorders over one handle.
type stores struct {
	db        *gorm.DB
	process   persistence.ProcessRecorder
	events    *mapper.EventStore
	mapper    *mapper.Mapper
	snapshots persistence.AggregateRecorder
}

func newStores(t testing.TB, db *gorm.DB) stores {
	t.Helper()
	// A transaction that was left open is soon noticed.
	r := recorder(t, db, schoolName, gormstore.WithLockTimeout(2*time.Second))
	return stores{db, r, eventStore(t, r), newMapper(t), snapshots(t, db, schoolName)}
}

// kennels is the application whose log the swept one follows.
const kennels = "Kennels"

// sweep does an operation again and again on one database.
type sweep struct {
	patient     *patient
	sick, sound stores
}

// attempt is one time that the operation was done.
type attempt struct {
	op     operation
	dog    *school.Dog // whose events it stores
	before int64       // the position before it
	ids    []int64
	err    error
	calls  []faultdb.Call
}

// mostCalls is more calls than any operation makes.
const mostCalls = 100

// run has every call of an operation fail once, the first, the second and so
// on, until there are no more. It returns what went wrong.
func (s *sweep) run(t *testing.T, op operation, fault faultdb.Fault) error {
	t.Helper()
	for n := 1; n <= mostCalls; n++ {
		a := attempt{op: op, dog: newDog("Fido", "sit", "roll over"), before: s.position(t)}
		events := a.dog.PendingEvents()[:op.events]
		s.patient.faults.Arm(nth(s.patient.db, n, fault))
		var recorded []mapper.Recording
		recorded, a.err = op.do(t.Context(), s.sick, events, a.before+1)
		a.calls = s.patient.faults.Disarm()
		for _, r := range recorded {
			a.ids = append(a.ids, r.Notification.ID)
		}
		stored, err := s.check(t, a)
		if len(a.calls) < n && a.err != nil {
			err = errors.Join(err, errors.New("it fails without a fault"))
		}
		if err == nil && !stored { // then it can be done again
			_, err = op.do(t.Context(), s.sick, events, a.before+1)
		}
		if err != nil {
			return fmt.Errorf("%w; the fault was in call %d of %v, and the operation returned: %w", err, n, a.calls, a.err)
		}
		if len(a.calls) < n {
			return nil
		}
	}
	return fmt.Errorf("the operation makes more than %d calls", mostCalls)
}

// nth is a fault in the n-th call. The driver of PostgreSQL gives up a
// connection whose transaction it cannot end, so there the end of a transaction
// never fails on a connection that goes on.
func nth(db *gorm.DB, n int, fault faultdb.Fault) faultdb.Plan {
	return func(c faultdb.Call) faultdb.Fault {
		if c.N != n {
			return faultdb.Fault{}
		}
		f := fault
		if ends := c.Op == faultdb.Commit || c.Op == faultdb.Rollback; ends && db.Name() == "postgres" && f.Err != nil {
			f.Broken = true
		}
		return f
	}
}

// check reports whether the operation was done. Its error says if it was not
// done as a whole or not at all, or did not say so, or left something open.
func (s *sweep) check(t *testing.T, a attempt) (stored bool, err error) {
	t.Helper()
	there := s.stored(t, a)
	// How many parts were done, and how many not.
	done := map[bool]int{true: len(there), false: a.op.events - len(there)}
	if a.op.moves {
		done[s.position(t) == a.before+1]++
	}
	stored = done[true] > 0
	switch {
	case done[true] > 0 && done[false] > 0:
		return stored, fmt.Errorf("%d parts of it were done and %d were not", done[true], done[false])
	case a.err == nil && !stored:
		return stored, errors.New("it was reported as done and is not")
	case a.err == nil && !a.op.snapshots && !slices.Equal(a.ids, there):
		return stored, fmt.Errorf("it returned the ids %v, and the events have %v", a.ids, there)
	case a.err != nil && stored && !errors.Is(a.err, persistence.ErrOutcomeUnknown):
		return stored, errors.New("it was done and reported as a failure")
	case a.err != nil && !errors.Is(a.err, persistence.ErrPersistence):
		return stored, errors.New("its error has no class")
	}
	wantIdle(t, s.patient.db)
	// Who writes now would wait for a transaction that was left open.
	if _, err := s.sound.process.InsertEvents(t.Context(), history(uuid.New(), 1, 1)); err != nil {
		return stored, fmt.Errorf("a write of somebody else after it: %w", err)
	}
	return stored, nil
}

// position reads the position as it is.
func (s *sweep) position(t *testing.T) int64 {
	t.Helper()
	id, err := s.sound.process.MaxTrackingID(t.Context(), kennels)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// stored returns the ids of the attempt's events that are stored; those of
// snapshots are their versions.
func (s *sweep) stored(t *testing.T, a attempt) (ids []int64) {
	t.Helper()
	if a.op.snapshots {
		return versions(t, s.sound.snapshots, a.dog.ID())
	}
	for _, n := range wholeLog(t, s.sound.process) {
		if n.OriginatorID == a.dog.ID() {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// Whatever call of the driver fails while the tables are created: there are all
// of them afterwards or none, and creating them can be repeated. Unless every
// combination is tried, each kind of fault is in every third call, and the kinds
// do not begin with the same one.
func TestSweepAutoMigrate(t *testing.T) {
	eachPatient(t, func(t *testing.T, p *patient) {
		step, swept := testdb.Sample(3, 1), -1
		for _, kind := range slices.Sorted(maps.Keys(sweptFaults)) {
			fault := sweptFaults[kind]
			if !testdb.Full() && !strings.HasSuffix(kind, "broken") && kind != "twice" {
				continue // creating tables takes many calls
			}
			if skipOnOneConnection(t, kind) {
				continue
			}
			swept++
			t.Run(kind, func(t *testing.T) {
				for n := 1 + swept%step; ; n += step {
					p.faults.Arm(nth(p.db, n, fault))
					err := gormstore.AutoMigrate(p.db)
					calls := p.faults.Disarm()
					checkMigration(t, p, err)
					if t.Failed() {
						t.Fatalf("the fault was in call %d of %v; AutoMigrate returned %v", n, calls, err)
					}
					if len(calls) < n {
						return
					}
				}
			})
		}
	})
}

// checkMigration fails the test unless the tables were all created, or none,
// and leaves none.
func checkMigration(t *testing.T, p *patient, err error) {
	t.Helper()
	there := 0
	for _, model := range gormstore.OwnModels() {
		if p.truth.Migrator().HasTable(model) {
			there++
		}
	}
	switch {
	case there != 0 && there != len(gormstore.OwnModels()):
		t.Errorf("%d tables were created", there)
	case err == nil && there == 0:
		t.Error("it was reported as done and is not")
	case err != nil && !errors.Is(err, persistence.ErrPersistence):
		t.Errorf("the error has no class: %v", err)
	}
	wantIdle(t, p.db)
	if err := gormstore.AutoMigrate(p.db); err != nil {
		t.Errorf("repeating it: %v", err)
	}
	if err := gormstore.Validate(t.Context(), p.truth); err != nil {
		t.Errorf("Validate: %v", err)
	}
	if err := p.truth.Migrator().DropTable(gormstore.OwnModels()...); err != nil {
		t.Fatal(err)
	}
}
