package gormstore_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/inventory"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
)

// withModels makes a projection that has these models.
func withModels(t *testing.T, db *gorm.DB, models ...any) {
	t.Helper()
	_, err := gormstore.NewProjection("Learners", gormstore.New(db), gormstore.Models(models...),
		gormstore.On(func(context.Context, *gorm.DB, domain.Recorded[school.Registered]) error { return nil }))
	if err != nil {
		t.Fatal(err)
	}
}

// wantTables requires what a migration would create and change.
func wantTables(t *testing.T, db *gorm.DB, create, change string) {
	t.Helper()
	missing, err := gormstore.Missing(t.Context(), db)
	outdated, otherErr := gormstore.Outdated(t.Context(), db)
	missing = slices.DeleteFunc(missing, func(name string) bool { return !strings.HasPrefix(name, "learn") })
	if err := errors.Join(err, otherErr); err != nil || strings.Join(missing, " ") != create || strings.Join(outdated, " ") != change {
		t.Errorf("missing are %q and outdated %q (%v), want %q and %q", missing, outdated, err, create, change)
	}
}

// wantTableDifference requires that a migration, the validation and the plan of a
// migration name a difference of the tables.
func wantTableDifference(t *testing.T, db *gorm.DB, want string) {
	t.Helper()
	_, missing := gormstore.Missing(t.Context(), db)
	for name, err := range map[string]error{"AutoMigrate": gormstore.AutoMigrate(db), "Validate": gormstore.Validate(t.Context(), db), "Missing": missing} {
		differences := inventory.Differences(err)
		if want == "" && err != nil || want != "" && (len(differences) != 1 || !strings.Contains(differences[0], want)) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
}

// What the plan says of the tables of projections is what the migration does,
// and the plan does nothing.
func TestOutdatedTablesOfProjections(t *testing.T) {
	type learnedTrick struct { // as it is in the next version
		ID    int64
		Trick string
		Level int `gorm:"index"`
	}
	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		db := open(t)
		withModels(t, db, &learner{})
		if err := gormstore.AutoMigrate(db); err != nil {
			t.Fatal(err)
		}
		run(t, db, "CREATE TABLE learned_tricks (id bigint PRIMARY KEY, trick text)")
		wantTables(t, db, "", "")
		withModels(t, db, &learnedTrick{}, &learnerOfTricks{})
		before := schemaDump(t, db)
		for range 2 {
			wantTables(t, db, "learners_of_tricks", "learned_tricks")
		}
		wantSame(t, "the schema after the plan", schemaDump(t, db), before)
		if err := gormstore.Validate(t.Context(), db); err == nil || !strings.Contains(err.Error(), "table learners_of_tricks is missing") ||
			!strings.Contains(err.Error(), "table learned_tricks has no column level") {
			t.Errorf("Validate: %v, want an error that contains %q and that contains %q", err, "table learners_of_tricks is missing", "table learned_tricks has no column level")
		}
		if err := errors.Join(gormstore.AutoMigrate(db), gormstore.Validate(t.Context(), db)); err != nil {
			t.Error(err)
		}
		wantTables(t, db, "", "")
		var level []int
		if err := db.Table("learned_tricks").Select("level").Find(&level).Error; err != nil {
			t.Error(err)
		}
	})
}

// learnerOfTricks is a learner with another primary key.
type learnerOfTricks struct {
	Dog   string `gorm:"primaryKey"`
	Trick string `gorm:"primaryKey"`
}

func (learnerOfTricks) TableName() string { return "learners_of_tricks" }

// If rows of the model would not fit into the table, the difference is named and
// nothing is changed. A difference that leaves room for them is not named.
func TestPrimaryKeysOfProjections(t *testing.T) {
	tests := map[string]struct{ create, want string }{
		"the same": {"(dog varchar(99), trick varchar(99), PRIMARY KEY (trick, dog))", ""},
		"a part":   {"(dog varchar(99), trick varchar(99), PRIMARY KEY (dog))", "table learners_of_tricks has the primary key (dog), and its model has (dog, trick)"},
		"a part beside a unique key": {"(dog varchar(99), trick varchar(99), PRIMARY KEY (dog), UNIQUE (dog, trick))",
			"has the primary key (dog), and its model has (dog, trick)"},
		"more":                      {"(dog varchar(99), trick varchar(99), n integer, PRIMARY KEY (dog, trick, n))", "has the primary key (dog, n, trick)"},
		"another":                   {"(id integer PRIMARY KEY, dog varchar(99), trick varchar(99))", "has the primary key (id)"},
		"another with a unique key": {"(id integer PRIMARY KEY, dog varchar(99), trick varchar(99), UNIQUE (dog, trick))", ""},
		"none":                      {"(dog varchar(99), trick varchar(99))", "has no primary key, and its model has (dog, trick)"},
		"none but a unique key":     {"(dog varchar(99), trick varchar(99), UNIQUE (dog, trick))", ""},
		"none but a wider one":      {"(dog varchar(99), trick varchar(99), n integer, UNIQUE (dog, trick, n))", "has no primary key"},
	}
	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		db := migrated(t, open(t))
		withModels(t, db, &learnerOfTricks{})
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				run(t, db, "DROP TABLE IF EXISTS learners_of_tricks")
				run(t, db, "CREATE TABLE learners_of_tricks "+test.create)
				before := schemaDump(t, db)
				wantTableDifference(t, db, test.want)
				if test.want != "" {
					wantSame(t, "the schema", schemaDump(t, db), before)
				}
			})
		}
	})
}

// The primary keys of the tables for events are compared as well.
func TestPrimaryKeysOfOwnTables(t *testing.T) {
	const columns = "application_name varchar(32) NOT NULL, upstream_application_name varchar(32) NOT NULL, notification_id bigint NOT NULL, " +
		"UNIQUE (application_name, upstream_application_name, notification_id)"
	tests := map[string]struct{ create, want string }{
		"the same":   {"(uid integer PRIMARY KEY AUTOINCREMENT, " + columns + ")", ""},
		"another":    {"(uid bigint NOT NULL DEFAULT 1, " + columns + ", PRIMARY KEY (application_name))", "table notification_tracking has the primary key (application_name)"},
		"none":       {"(uid bigint NOT NULL DEFAULT 1, " + columns + ")", "table notification_tracking has no primary key, and its model has (uid)"},
		"partitions": {"(uid bigint NOT NULL DEFAULT 1, " + columns + ", PRIMARY KEY (uid, application_name))", ""},
	}
	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		db := migrated(t, open(t))
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				create := test.create
				if db.Name() == "postgres" {
					create = strings.Replace(create, "integer PRIMARY KEY AUTOINCREMENT", "bigserial PRIMARY KEY", 1)
					create = strings.Replace(create, "uid bigint NOT NULL DEFAULT 1", "uid bigserial", 1)
				}
				run(t, db, "DROP TABLE notification_tracking")
				run(t, db, "CREATE TABLE notification_tracking "+create)
				wantTableDifference(t, db, test.want)
			})
		}
	})
}
