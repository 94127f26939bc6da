package gormstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// migrateTimeout is how long AutoMigrate waits for other processes that create the tables as well. Services start together,
// so it may have to wait for many.
const migrateTimeout = time.Minute

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
	s := New(db, WithLockTimeout(migrateTimeout))
	if err := s.usable(ctx); err != nil {
		return err
	}
	if absent, differences, err := s.inspect(ctx); err == nil && len(absent) == 0 {
		return schemaError(differences) // there is nothing to create, and so nobody to wait for
	}
	var differences []string
	err := s.atomically(ctx, "migrate", func(ctx context.Context, pool unit) error {
		c := connection{pool, s}
		if err := s.dialect.lock(ctx, c, locking{timeout: s.lockTimeout}, lockKey("migrate")); err != nil {
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
	return schemaError(differences)
}

func schemaError(differences []string) error {
	if len(differences) == 0 {
		return nil
	}
	return &SchemaError{Differences: differences}
}

// Validate reports what the tables of a database lack, as a *SchemaError, and changes nothing.
func Validate(ctx context.Context, db *gorm.DB) error {
	s := New(db)
	if err := s.usable(ctx); err != nil {
		return err
	}
	absent, others, err := s.inspect(ctx)
	if err != nil {
		return s.translate(ctx, "validate", err)
	}
	var differences []string
	for _, model := range absent {
		if !isOwn(model) { // a database that Django has made has none of ours, and needs none until followers run
			differences = append(differences, fmt.Sprintf("table %s is missing", s.nameOf(model)))
		}
	}
	return schemaError(append(differences, others...))
}

// Missing returns the names of the tables that AutoMigrate would create, and changes nothing. Where a table that exists lacks
// something, it returns a *SchemaError as well, as AutoMigrate would.
func Missing(ctx context.Context, db *gorm.DB) (tables []string, err error) {
	s := New(db)
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	absent, differences, err := s.inspect(ctx)
	if err != nil {
		return nil, s.translate(ctx, "look at tables", err)
	}
	for _, model := range absent {
		tables = append(tables, s.nameOf(model))
	}
	return tables, schemaError(differences)
}

// inspect finds the models that have no table, and what the tables of the others lack.
func (s *Store) inspect(ctx context.Context) (absent []any, differences []string, err error) {
	tx := s.session(ctx, s.pool)
	for _, model := range Models() {
		exists, err := hasTable(tx, model)
		if err == nil && exists {
			var found []string
			found, err = compare(tx, model)
			differences = append(differences, found...)
		}
		if err != nil {
			return nil, nil, err
		}
		if !exists {
			absent = append(absent, model)
		}
	}
	return absent, differences, nil
}

func (s *Store) nameOf(model any) string {
	return model.(schema.TablerWithNamer).TableName(s.db.NamingStrategy)
}

// isOwn tells of tables that the original does not have.
func isOwn(model any) bool {
	switch model.(type) {
	case *FollowerStatus, *ParkedEvent, *FollowerRunner, *FollowerSetting:
		return true
	}
	return false
}

// pinned is a pool that looks like a transaction to plugins, so that dbresolver does not read from a replica in its place.
type pinned struct{ *sql.DB }

// Commit implements gorm.TxCommitter.
func (pinned) Commit() error { return gorm.ErrInvalidTransaction }

// Rollback implements gorm.TxCommitter.
func (pinned) Rollback() error { return gorm.ErrInvalidTransaction }

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
	exists, err := hasTable(tx, model)
	switch {
	case err != nil:
		return nil, err
	case exists:
		return compare(tx, model)
	}
	return nil, tx.Migrator().CreateTable(model)
}

// hasTable tells whether the table of a model exists. GORM's own HasTable takes trouble with the database for an answer.
func hasTable(tx *gorm.DB, model any) (bool, error) {
	table := tableOf(tx, model.(schema.TablerWithNamer))
	query, arguments := "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = ?", []any{table.name}
	if tx.Dialector.Name() == postgresName {
		query = "SELECT COUNT(*) FROM information_schema.tables " +
			"WHERE table_name = ? AND table_schema = COALESCE(NULLIF(?, ''), current_schema())"
		arguments = append(arguments, table.schema)
	}
	var tables int
	err := tx.Raw(query, arguments...).Scan(&tables).Error
	return tables > 0, err
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
	key := keys[model.(schema.TablerWithNamer).TableName(nil)]
	if len(key) == 0 || slices.ContainsFunc(key, func(column string) bool { return types[column] == "" }) {
		return differences, nil
	}
	keyed, err := hasKey(tx, model, key...)
	if err == nil && !keyed {
		differences = append(differences, fmt.Sprintf("table %s has no unique key over %s", statement.Table, strings.Join(key, ", ")))
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

// keyQueries count the unique keys of a table over exactly the columns that are given, sorted and with commas between.
// GORM's own list of a table's indexes leaves out those of PostgreSQL that belong to a constraint, as Django's do.
var keyQueries = map[string]string{
	postgresName: `SELECT COUNT(*) FROM pg_index i
		WHERE i.indrelid = to_regclass(?) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
		AND (SELECT string_agg(a.attname, ',' ORDER BY a.attname) FROM pg_attribute a
			WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])) = ?`,
	sqliteName: `SELECT COUNT(*) FROM pragma_index_list(?) AS l WHERE l."unique" AND NOT l.partial
		AND (SELECT group_concat(name) FROM (SELECT name FROM pragma_index_info(l.name) ORDER BY name)) = ?`,
}

// hasKey tells whether a table has a unique key over exactly these columns, which are given sorted.
func hasKey(tx *gorm.DB, model any, columns ...string) (bool, error) {
	table := tableOf(tx, model.(schema.TablerWithNamer))
	name := table.name
	if tx.Dialector.Name() == postgresName {
		name = table.quoted
	}
	var keys int
	err := tx.Raw(keyQueries[tx.Dialector.Name()], name, strings.Join(columns, ",")).Scan(&keys).Error
	return keys > 0, err
}
