package gormstore

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// AutoMigrate creates the tables that are absent. Tables that exist it never touches, whoever made them: GORM's own
// AutoMigrate would rebuild Django's tables and drop their unique keys. Where an existing table lacks something, it
// returns a *SchemaError that names every difference.
//
// It is safe to call from any number of processes at once; services call it when they start.
func AutoMigrate(db *gorm.DB) error {
	ctx := context.Background()
	if db != nil && db.Statement != nil && db.Statement.Context != nil {
		ctx = db.Statement.Context
	}
	s := New(db)
	if err := s.usable(ctx); err != nil {
		return err
	}
	var differences []string
	err := s.atomically(ctx, "migrate", func(ctx context.Context, pool unit) error {
		c := connection{pool, s}
		if err := s.dialect.lock(ctx, c, s.lockTimeout, false, lockKey("migrate", s.schemaOf(s.tables.events))); err != nil {
			return err
		}
		tx := s.session(ctx, pool)
		for _, model := range Models() {
			found, err := migrate(tx, model)
			if err != nil {
				return err
			}
			differences = append(differences, found...)
		}
		return nil
	})
	if err != nil {
		return s.translate(ctx, "migrate", err)
	}
	if len(differences) > 0 {
		return &SchemaError{Differences: differences}
	}
	return nil
}

// Validate reports what the tables of a database lack, as a *SchemaError, and changes nothing.
func Validate(ctx context.Context, db *gorm.DB) error {
	s := New(db)
	if err := s.usable(ctx); err != nil {
		return err
	}
	var differences []string
	for _, model := range Models() {
		tx := s.session(ctx, s.pool)
		if !tx.Migrator().HasTable(model) {
			differences = append(differences, fmt.Sprintf("table %s is missing", model.(schema.TablerWithNamer).TableName(db.NamingStrategy)))
			continue
		}
		found, err := compare(tx, model)
		if err != nil {
			return s.translate(ctx, "validate", err)
		}
		differences = append(differences, found...)
	}
	if len(differences) > 0 {
		return &SchemaError{Differences: differences}
	}
	return nil
}

// SchemaError says in what tables differ from what the recorders need. It is a persistence.ErrOperational.
type SchemaError struct {
	Differences []string
}

func (e *SchemaError) Error() string {
	return "database tables do not fit: " + strings.Join(e.Differences, "; ") +
		"; existing tables are never changed, so mend them or use another database"
}

// Unwrap makes the error a persistence.ErrOperational.
func (e *SchemaError) Unwrap() error { return persistence.ErrOperational }

// migrate creates the table of a model, or compares the one that exists.
func migrate(tx *gorm.DB, model any) ([]string, error) {
	if tx.Migrator().HasTable(model) {
		return compare(tx, model)
	}
	return nil, tx.Migrator().CreateTable(model)
}

// compare finds what a table lacks: columns, and the unique keys that keep conflicting events apart. Indexes are
// compared by their columns, because Django names them differently.
func compare(tx *gorm.DB, model any) ([]string, error) {
	statement := &gorm.Statement{DB: tx}
	if err := statement.Parse(model); err != nil {
		return nil, err
	}
	existing, err := tx.Migrator().ColumnTypes(model)
	if err != nil {
		return nil, err
	}
	types := map[string]string{}
	for _, column := range existing {
		types[column.Name()] = strings.ToLower(column.DatabaseTypeName())
	}
	differences := missingColumns(tx, statement, types)
	keyed, err := hasKey(tx, model, "application_name", "originator_id", "originator_version")
	if err == nil && !keyed && types["originator_version"] != "" {
		differences = append(differences, fmt.Sprintf("table %s has no unique key over application_name, originator_id, "+
			"originator_version", statement.Table))
	}
	return differences, err
}

func missingColumns(tx *gorm.DB, statement *gorm.Statement, types map[string]string) (differences []string) {
	for _, field := range statement.Schema.Fields {
		kind, ok := types[field.DBName]
		switch {
		case !ok:
			differences = append(differences, fmt.Sprintf("table %s has no column %s", statement.Table, field.DBName))
		case field.DBName == "originator_id" && !uuidFits(tx, kind):
			differences = append(differences, fmt.Sprintf("column %s.%s has type %s, which cannot keep every UUID",
				statement.Table, field.DBName, kind))
		}
	}
	return differences
}

// uuidFits refuses a column of SQLite whose type has numeric affinity: 32 digits without a letter would become a
// rounded number.
func uuidFits(tx *gorm.DB, kind string) bool {
	if tx.Dialector.Name() == postgresName {
		return kind == "uuid"
	}
	return strings.Contains(kind, "char") || strings.Contains(kind, "text") || strings.Contains(kind, "clob")
}

// hasKey tells whether a table has a unique index over exactly these columns; tables without the columns need none.
func hasKey(tx *gorm.DB, model any, columns ...string) (bool, error) {
	indexes, err := tx.Migrator().GetIndexes(model)
	if err != nil {
		return false, err
	}
	wanted := slices.Sorted(slices.Values(columns))
	for _, index := range indexes {
		unique, known := index.Unique()
		if known && unique && slices.Equal(slices.Sorted(slices.Values(index.Columns())), wanted) {
			return true, nil
		}
	}
	return false, nil
}
