package gormstore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/inventory"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Rows of partitions that do not fit together are an error of everything that
// reads them or the position: to go on with what is left would leave out events
// or repeat them. A reset mends them.
func TestDamagedPartitions(t *testing.T) {
	t.Parallel()
	const of = "application_name = 'F' AND upstream_application_name = 'L'"
	damages := map[string]func(db *gorm.DB) error{
		"the first is gone": func(db *gorm.DB) error {
			return db.Where(of + " AND number = 0").Delete(&gormstore.FollowerPartition{}).Error
		},
		"one is gone": func(db *gorm.DB) error {
			return db.Where(of + " AND number = 2").Delete(&gormstore.FollowerPartition{}).Error
		},
		"the last is gone": func(db *gorm.DB) error {
			return db.Where(of + " AND number = 3").Delete(&gormstore.FollowerPartition{}).Error
		},
		"all are gone":         func(db *gorm.DB) error { return db.Where(of).Delete(&gormstore.FollowerPartition{}).Error },
		"one is too many":      func(db *gorm.DB) error { return insertPartition(db, 4, 4, "") },
		"those of another set": func(db *gorm.DB) error { return editPartitions(db, of+" AND number > 1", "partitions", 8) },
		"two keys":             func(db *gorm.DB) error { return editPartitions(db, of+" AND number = 1", "partition_key", "customer") },
		"a negative position":  func(db *gorm.DB) error { return editPartitions(db, of+" AND number = 1", "position", -1) },
		"another number":       func(db *gorm.DB) error { return editPartitions(db, of+" AND number = 3", "number", 7) },
	}
	eachMigrated(t, func(t *testing.T, db *gorm.DB) {
		ctx, store := t.Context(), gormstore.New(db)
		recorder, err := store.ProcessRecorder("F")
		if err != nil {
			t.Fatal(err)
		}
		r := recorder.(capability.PartitionRecorder)
		inside := func(do func(ctx context.Context) error) func() error {
			return func() error { return store.Transaction(ctx, do) }
		}
		reads := map[string]func() error{
			"MaxTrackingID": func() error { _, err := recorder.MaxTrackingID(ctx, "L"); return err },
			"Settings":      func() error { _, _, err := r.Settings(ctx, "L"); return err },
			"Partitions":    func() error { _, err := r.Partitions(ctx, "L"); return err },
			"RenewLeases":   func() error { _, err := r.RenewLeases(ctx, "L", "a", []int{1}, time.Second); return err },
			"ChangeLeases":  func() error { _, err := r.ChangeLeases(ctx, "L", "a", nil, time.Second); return err },
			"LockPosition": inside(func(ctx context.Context) error {
				_, err := recorder.LockPosition(ctx, "L")
				return err
			}),
			"LockPartitions": inside(func(ctx context.Context) error { _, _, err := r.LockPartitions(ctx, "L", 0); return err }),
			"Divide":         inside(func(ctx context.Context) error { return r.Divide(ctx, "L", "", 2) }),
		}
		reset := inside(func(ctx context.Context) error {
			_, err := capability.Of(store).Positions.DeleteTracking(ctx, "F", "L")
			return err
		})
		divide := inside(func(ctx context.Context) error { return r.Divide(ctx, "L", "", 4) })
		for what, damage := range damages {
			if err := errors.Join(divide(), damage(db)); err != nil {
				t.Fatal(err)
			}
			for name, read := range reads {
				if err := read(); !errors.Is(err, capability.ErrPartitionsDamaged) {
					t.Errorf("%s: %s: got the error %v, want an error that is %v", what, name, err, capability.ErrPartitionsDamaged)
				}
			}
			if states, err := inventory.Of(store).TrackingStates(ctx); err != nil || len(states) != 1 {
				t.Errorf("%s: listed are %+v, %v, want no error and 1 states", what, states, err)
			}
			if err := errors.Join(reset(), divide()); err != nil {
				t.Errorf("%s: reset, and divided: %v", what, err)
			}
			for name, read := range reads { // the control: without damage all of them succeed
				if err := read(); err != nil {
					t.Errorf("after the reset: %s: %v", name, err)
				}
			}
			if err := reset(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func editPartitions(db *gorm.DB, where, column string, to any) error {
	updated := db.Model(&gormstore.FollowerPartition{}).Where(where).Update(column, to)
	if updated.Error == nil && updated.RowsAffected == 0 {
		return errors.New("no row was changed")
	}
	return updated.Error
}

func insertPartition(db *gorm.DB, number, count int, key string) error {
	return db.Create(&gormstore.FollowerPartition{ApplicationName: "F", UpstreamApplicationName: "L", Number: number, Partitions: count,
		PartitionKey: key}).Error
}

// afterEach is a logger that calls next after each statement.
type afterEach struct {
	logger.Interface
	next func()
}

func (l afterEach) LogMode(logger.LogLevel) logger.Interface { return l }

func (l afterEach) Trace(context.Context, time.Time, func() (string, int64), error) { l.next() }

// A follower that is divided or made whole after each statement that reads it is
// never taken for a damaged one.
func TestPartitionsAreReadWhileTheyAreDivided(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(testing.TB) *gorm.DB{"sqlite-file": testdb.SQLiteFile, "postgres": testdb.OpenPostgresSchema} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testDivisionsBetweenReads(t, created(t, open(t)))
		})
	}
}

func testDivisionsBetweenReads(t *testing.T, db *gorm.DB) {
	store := gormstore.New(again(t, db))
	divider := expect.Must(store.ProcessRecorder("F"))
	if err := divider.InsertTracking(t.Context(), persistence.Tracking{ApplicationName: "L", NotificationID: 5}); err != nil {
		t.Fatal(err)
	}
	counts, divisions := []int{0, 1, 0, 2}, 0
	divide := func() {
		divisions++
		err := store.Transaction(t.Context(), func(ctx context.Context) error {
			return divider.(capability.PartitionRecorder).Divide(ctx, "L", "", counts[divisions%len(counts)])
		})
		if err != nil {
			panic(err) // the read that calls it would go on
		}
	}
	recorder := expect.Must(gormstore.New(db.Session(&gorm.Session{Logger: afterEach{logger.Discard, divide}})).ProcessRecorder("F"))
	r := recorder.(capability.PartitionRecorder)
	for reads := range 20 {
		position, err := recorder.MaxTrackingID(t.Context(), "L")
		at, settings, failed := r.Settings(t.Context(), "L")
		set, wrong := r.Partitions(t.Context(), "L")
		if err := errors.Join(err, failed, wrong); err != nil || position != 5 || at != 5 {
			t.Fatalf("read %d: the positions are %d and %d, the settings %+v: %v, want no error, 5 and 5", reads, position, at, settings, err)
		}
		for i, p := range set.Partitions {
			if p.Number != i || p.Position != 5 {
				t.Fatalf("read %d: the partitions are %+v, want Number %v and Position 5", reads, set.Partitions, i)
			}
		}
	}
}
