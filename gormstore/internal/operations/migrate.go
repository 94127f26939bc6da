package operations

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/inventory"
)

// MigrateOptions say what Migrate does.
type MigrateOptions struct {
	// Database is the name of a registered database; "" is "default".
	Database string
	// With Plan nothing is changed.
	Plan bool
	// Own creates the tables of the service's own, after those for events. It
	// may be nil.
	Own func(ctx context.Context, db *gorm.DB) error
}

// MigrateReport is what Migrate has done, or would do.
type MigrateReport struct {
	Database string
	// Tables are the tables for events and of projections that were absent.
	Tables []string
	// Changed are the tables of projections that lacked columns or indexes.
	Changed []string
}

// DatabaseError says that there is no database of a name.
type DatabaseError struct {
	Alias string
	// Known are the registered names, sorted.
	Known []string
}

func (e *DatabaseError) Error() string {
	return fmt.Sprintf("unknown database %q; known are %s", e.Alias, listed(e.Known))
}

// Migrate creates the tables that are absent, and never touches those that
// exist; see gormstore.AutoMigrate. Any number of processes may call it at
// once. It returns a *DatabaseError for an unknown name, and a
// gormstore.ErrSchema if an existing table lacks something, also with Plan.
func Migrate(ctx context.Context, options MigrateOptions) (MigrateReport, error) {
	report := MigrateReport{Database: options.Database}
	if report.Database == "" {
		report.Database = "default"
	}
	databases := inventory.Databases()
	db, ok := databases[report.Database]
	if !ok {
		return report, &DatabaseError{Alias: report.Database, Known: slices.Sorted(maps.Keys(databases))}
	}
	db = db.WithContext(ctx)
	var err error
	report.Tables, err = inventory.Missing(ctx, db)
	if err == nil {
		report.Changed, err = inventory.Outdated(ctx, db)
	}
	if options.Plan || err != nil && !errors.Is(err, gormstore.ErrSchema) {
		return report, err
	}
	err = gormstore.AutoMigrate(db)
	if err == nil && options.Own != nil {
		err = options.Own(ctx, db)
	}
	return report, err
}

// Schema returns the statements that create the tables for events, for "sqlite"
// or "postgres". It needs no database; see gormstore.Schema.
func Schema(dialect string) (string, error) { return gormstore.Schema(dialect) }
