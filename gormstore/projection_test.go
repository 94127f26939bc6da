package gormstore_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// learner is a row of a projection, which its users hide rather than delete.
type learner struct {
	Dog     string `gorm:"primaryKey"`
	Tricks  int
	Deleted gorm.DeletedAt
}

func (learner) TableName() string { return "learners" }

// learnedTrick is a row of the second table of the projection.
type learnedTrick struct {
	ID    int64
	Trick string
}

func (learnedTrick) TableName() string { return "learned_tricks" }

// A projection's tables are migrated with those of events, its rows commit with
// its position, and a rebuild empties them, with the rows that are hidden.
func TestProjection(t *testing.T) {
	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		db := open(t)
		store := gormstore.New(db)
		dogs, err := school.New(application.WithStore(store))
		if err != nil {
			t.Fatal(err)
		}
		fails := errors.New("no room")
		full := false
		learners, err := gormstore.NewProjection("Learners", store,
			gormstore.Models(&learner{}, &learnedTrick{}),
			gormstore.On(func(_ context.Context, tx *gorm.DB, e domain.Recorded[school.Registered]) error {
				return tx.Create(&learner{Dog: e.Data.Name}).Error
			}),
			gormstore.On(func(_ context.Context, tx *gorm.DB, e domain.Recorded[school.TrickAdded]) error {
				if err := tx.Create(&learnedTrick{Trick: e.Data.Trick}).Error; err != nil || !full {
					return err
				}
				return fails
			}),
		)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // a service migrates each time it starts
			if err := gormstore.AutoMigrate(db); err != nil {
				t.Fatal(err)
			}
		}
		sys, err := system.New(system.Pipe(dogs, learners))
		if err != nil {
			t.Fatal(err)
		}
		runner, err := system.NewSingleThreadedRunner(sys)
		if err != nil {
			t.Fatal(err)
		}
		defer runner.Close()
		count := func() (n int64) {
			t.Helper()
			if err := learners.DB(t.Context()).Model(&learnedTrick{}).Count(&n).Error; err != nil {
				t.Fatal(err)
			}
			return n
		}
		err = errors.Join(runner.Start(t.Context()), dogs.Register(t.Context(), "Fido"),
			dogs.AddTrick(t.Context(), "Fido", "sit"), runner.Err())
		if err != nil || count() != 1 {
			t.Fatalf("got %v and %d tricks, want 1", err, count())
		}
		full = true
		if err := dogs.AddTrick(t.Context(), "Fido", "roll over"); err != nil || !errors.Is(runner.Err(), fails) || count() != 1 {
			t.Errorf("got %v, %v and %d tricks; want the follower to have failed and nothing of it stored", err, runner.Err(), count())
		}
		full = false
		if err := db.Delete(&learner{Dog: "Fido"}).Error; err != nil { // which hides it
			t.Fatal(err)
		}
		if err := errors.Join(runner.Rebuild(t.Context(), learners), runner.WaitFor(t.Context(), learners)); err != nil {
			t.Fatal(err)
		}
		var rows []learner
		if err := learners.DB(t.Context()).Find(&rows).Error; err != nil || len(rows) != 1 || count() != 2 {
			t.Errorf("got %+v, %v and %d tricks; want Fido, not hidden, and 2", rows, err, count())
		}
	})
}

// Queries of a projection do not wait for a transaction that writes, and see the
// one that they are in.
func TestProjectionIsReadBesideATransaction(t *testing.T) {
	db, err := gormstore.OpenSQLite(sqlite.Open, filepath.Join(t.TempDir(), "test.sqlite3"))
	if err != nil {
		t.Fatal(err)
	}
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	tricks, err := gormstore.NewProjection("Tricks", gormstore.New(db), gormstore.Models(&learnedTrick{}),
		gormstore.On(func(context.Context, *gorm.DB, domain.Recorded[school.TrickAdded]) error { return nil }))
	if err != nil {
		t.Fatal(err)
	}
	if err := gormstore.AutoMigrate(db); err != nil {
		t.Fatal(err)
	}
	err = gormstore.Transaction(t.Context(), db, func(inside context.Context, tx *gorm.DB) error {
		if err := tx.Create(&learnedTrick{Trick: "sit"}).Error; err != nil {
			return err
		}
		// On the one connection of the transaction it would wait for ever.
		for ctx, want := range map[context.Context]int64{inside: 1, t.Context(): 0} {
			var n int64
			if err := tricks.DB(ctx).Model(&learnedTrick{}).Count(&n).Error; err != nil || n != want {
				t.Errorf("counted %d, %v; want %d", n, err, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// What a projection cannot be made of is an error that says what.
func TestProjectionsThatCannotBe(t *testing.T) {
	store := gormstore.New(nil)
	handle := gormstore.On(func(context.Context, *gorm.DB, domain.Recorded[school.Registered]) error { return nil })
	for want, made := range map[string]func() (*gormstore.Projection, error){
		"the store is nil":         func() (*gormstore.Projection, error) { return gormstore.NewProjection("P", nil, handle) },
		"database handle is nil":   func() (*gormstore.Projection, error) { return gormstore.NewProjection("P", store, handle) },
		"has 40 characters":        func() (*gormstore.Projection, error) { return gormstore.NewProjection(strings.Repeat("P", 40), store) },
		"has no handler":           projectionOn(t),
		"two handlers are given":   projectionOn(t, handle, handle),
		"handler of school.Regist": projectionOn(t, gormstore.On[school.Registered](nil)),
	} {
		if p, err := made(); p != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, %v; want an error with %q", p, err, want)
		}
	}
}

func projectionOn(t *testing.T, options ...gormstore.ProjectionOption) func() (*gormstore.Projection, error) {
	return func() (*gormstore.Projection, error) {
		return gormstore.NewProjection("P", gormstore.New(testdb.SQLiteMemory(t)), options...)
	}
}
