package gormstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// migrateTimeout is how long AutoMigrate waits for other processes that create
// the tables as well. Services start together, so it may have to wait for many.
const migrateTimeout = time.Minute

// AutoMigrate creates the tables that are absent. It never touches tables that
// exist, whichever program made them: GORM's own AutoMigrate would rebuild
// Django's tables and drop their unique keys. If an existing table does not
// fit, it returns an ErrSchema that names every difference.
//
// On PostgreSQL a table exists if the connection finds it anywhere on its
// search path, and absent tables are created in the schema that has the others.
// A role that may not create tables in a database made by Django gets a warning
// by GORM's logger that names the tables of followers which are absent, and no
// error.
//
// Then GORM's AutoMigrate migrates the models of the projections that were made
// with this database (NewProjection): make them first. A table of theirs with
// another primary key than its model is a difference as well, as GORM changes
// none.
//
// It is safe to call from any number of processes at once; services call it
// when they start.
func AutoMigrate(db *gorm.DB) error {
	ctx := context.Background()
	if db != nil && db.Statement != nil && db.Statement.Context != nil {
		ctx = db.Statement.Context
	}
	s := New(db)
	s.lockTimeout = migrateTimeout // of this Store alone
	if err := s.migrateOwn(ctx); err != nil {
		return err
	}
	return s.migrateProjections(ctx)
}

// migrateOwn creates the tables of this module that are absent.
func (s *Store) migrateOwn(ctx context.Context) error {
	if err := s.inspectable(ctx); err != nil {
		return err
	}
	found, err := s.inspect(ctx, connection{s.pool, s})
	if err == nil && !found.creates() { // there is no other process to wait for
		s.warn(ctx, found)
		return schemaError(append(found.withheld(), found.differences...))
	}
	err = s.inTransaction(ctx, "migrate", func(ctx context.Context, pool openTx) error {
		c := connection{pool, s}
		if err := s.dialect.lock(ctx, c, locking{timeout: s.lockTimeout}, lockKey("migrate")); err != nil {
			return err
		}
		if found, err = s.inspect(ctx, c); err != nil || !found.creates() {
			return err
		}
		return s.create(ctx, pool, found)
	})
	if err != nil {
		return s.translate(ctx, "migrate", err)
	}
	s.warn(ctx, found)
	return schemaError(append(found.withheld(), found.differences...))
}

// create creates the absent tables. They belong in the schema of the others:
// the first schema of the search path may be another one.
func (s *Store) create(ctx context.Context, pool openTx, found inspection) error {
	tx := s.session(ctx, pool)
	if found.schema != "" {
		c := connection{pool, s}
		query := "SELECT set_config('search_path', quote_ident(?), true)"
		if _, err := c.exec(ctx, s.dialect.placeholders(query), found.schema); err != nil {
			return err
		}
	}
	for _, model := range found.absent {
		if err := tx.Migrator().CreateTable(model); err != nil {
			return err
		}
	}
	return nil
}

// warn tells GORM's logger what works now, and will not for ever.
func (s *Store) warn(ctx context.Context, found inspection) {
	for _, warning := range found.warnings {
		s.db.Logger.Warn(ctx, "gormstore: %s", warning)
	}
}

// inspectable is usable, except that differences of tables are no error yet:
// the caller is about to list all of them.
func (s *Store) inspectable(ctx context.Context) error {
	err := s.usable(ctx)
	if errors.Is(err, ErrSchema) {
		return nil
	}
	return err
}

func schemaError(differences []string) error {
	if len(differences) == 0 {
		return nil
	}
	return &differing{differences}
}

// Validate reports how the tables of a database differ from what the recorders
// need, as an ErrSchema, and changes nothing. It compares columns with their
// types, lengths, NOT NULL and defaults, primary and unique keys, privileges,
// row level security, and the source of ids with the log: a sequence of
// PostgreSQL must hand out ascending ids above those in the log and have some
// left, and a table of SQLite needs AUTOINCREMENT. What only wastes space is no
// difference. Of the tables of projections it compares the names of columns and
// the primary keys.
//
// An integer key, as old versions of Django made it, is a difference once nine
// tenths of the ids are used; from one half on, AutoMigrate warns of it by
// GORM's logger.
func Validate(ctx context.Context, db *gorm.DB) error {
	s := New(db)
	if err := s.inspectable(ctx); err != nil {
		return err
	}
	found, err := s.inspect(ctx, connection{s.pool, s})
	if err != nil {
		return s.translate(ctx, "validate", err)
	}
	projections, err := s.inspectProjections(ctx, connection{s.pool, s})
	if err != nil {
		return s.translate(ctx, "validate", err)
	}
	var differences []string
	for _, model := range found.absent {
		// A database that Django has made has none of ours, and needs none
		// until followers run.
		if !isOwn(model) {
			differences = append(differences, fmt.Sprintf("table %s is missing", s.nameOf(model)))
		}
	}
	for _, name := range projections.absent {
		differences = append(differences, fmt.Sprintf("table %s is missing", name))
	}
	return schemaError(slices.Concat(differences, found.differences, projections.differences, projections.lacking))
}

// missingTables returns the names of the tables that AutoMigrate would create,
// those of projections last, and changes nothing. If a table that exists does
// not fit, it returns an ErrSchema as well, as AutoMigrate would. GORM's
// logger is not told of its statements.
func missingTables(ctx context.Context, db *gorm.DB) (tables []string, err error) {
	s := New(db)
	if err := s.inspectable(ctx); err != nil {
		return nil, err
	}
	found, err := s.inspect(ctx, connection{s.pool, s}.quiet())
	if err != nil {
		return nil, s.translate(ctx, "look at tables", err)
	}
	projections, err := s.inspectProjections(ctx, connection{s.pool, s}.quiet())
	if err != nil {
		return nil, s.translate(ctx, "look at tables", err)
	}
	for _, model := range found.absent {
		tables = append(tables, s.nameOf(model))
	}
	return append(tables, projections.absent...), schemaError(append(found.differences, projections.differences...))
}

func (s *Store) nameOf(model any) string {
	return model.(schema.TablerWithNamer).TableName(s.db.NamingStrategy)
}

// isOwn tells of tables that the Python library does not have.
func isOwn(model any) bool {
	switch model.(type) {
	case *followerStatus, *parkedEvent, *followerRunner, *followerSetting, *followerPartition:
		return true
	}
	return false
}

// primaryOnly is a pool that looks like a transaction to plugins, so that
// dbresolver does not read from a replica in its place.
type primaryOnly struct{ *sql.DB }

// Commit implements gorm.TxCommitter.
func (primaryOnly) Commit() error { return gorm.ErrInvalidTransaction }

// Rollback implements gorm.TxCommitter.
func (primaryOnly) Rollback() error { return gorm.ErrInvalidTransaction }

// ErrSchema says that tables differ from what the recorders need. It is a
// persistence.ErrOperational. The errors of migration and validation name every
// difference; recorders return it at the first use of a database whose tables
// would lose events or hide them.
var ErrSchema error = schemaClass{}

// schemaClass is ErrSchema.
type schemaClass struct{}

func (schemaClass) Error() string { return "database tables do not fit" }

// Unwrap makes the error a persistence.ErrOperational.
func (schemaClass) Unwrap() error { return persistence.ErrOperational }

// differing is an ErrSchema with the differences.
type differing struct{ differences []string }

func (e *differing) Error() string {
	return ErrSchema.Error() + ": " + strings.Join(e.differences, "; ") +
		"; existing tables are never changed, so mend them or use another database"
}

// Unwrap makes the error an ErrSchema.
func (e *differing) Unwrap() error { return ErrSchema }

// differencesIn returns the differences if err is an ErrSchema.
func differencesIn(err error) []string {
	if e, ok := errors.AsType[*differing](err); ok {
		return e.differences
	}
	return nil
}
