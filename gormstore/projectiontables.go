package gormstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"sync"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	"gorm.io/gorm/schema"
)

// addModels keeps models for AutoMigrate.
func (h *poolState) addModels(models []any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.models = append(h.models, models...)
}

// projectionModels returns the models of the projections of this database.
func (s *Store) projectionModels() []any {
	s.poolState.mu.Lock()
	defer s.poolState.mu.Unlock()
	return slices.Clone(s.poolState.models)
}

// migrateProjections migrates the models of the projections of this database.
func (s *Store) migrateProjections(ctx context.Context) error {
	models := s.projectionModels()
	if len(models) == 0 {
		return nil
	}
	err := s.inTransaction(ctx, "migrate projections", func(ctx context.Context, pool openTx) error {
		c := connection{pool, s}
		if err := s.dialect.lock(ctx, c, locking{timeout: s.lockTimeout}, lockKey("migrate")); err != nil {
			return err
		}
		found, err := s.inspectProjections(ctx, c)
		if err != nil {
			return err
		}
		if err := schemaError(found.differences); err != nil {
			return err
		}
		for _, model := range models {
			if err := s.session(ctx, pool).AutoMigrate(model); err != nil {
				return fmt.Errorf("migrate %T: %w", model, err)
			}
		}
		return nil
	})
	return s.translate(ctx, "migrate projections", err)
}

// projectionTables is what the tables of projections are like.
type projectionTables struct {
	absent      []string // tables
	differences []string // what a migration does not mend
	lacking     []string // columns, which a migration adds
}

// inspectProjections compares the tables of projections with their models.
func (s *Store) inspectProjections(ctx context.Context, c connection) (found projectionTables, err error) {
	models := s.projectionModels()
	if len(models) == 0 {
		return found, nil
	}
	tx := s.session(ctx, c.pool)
	parsed, tables := make([]*schema.Schema, len(models)), make([]table, len(models))
	for i, model := range models {
		statement := &gorm.Statement{DB: tx}
		if err := statement.Parse(model); err != nil {
			return found, err
		}
		parsed[i], tables[i] = statement.Schema, tableNamed(tx, statement.Table)
	}
	described, err := s.dialect.describe(ctx, c, tables)
	if err != nil {
		return found, err
	}
	for i, d := range described {
		name := parsed[i].Table
		if !d.exists {
			found.absent = append(found.absent, name)
			continue
		}
		difference, err := keyDifference(tx, tables[i], name, parsed[i], d)
		if err != nil {
			return found, err
		}
		if difference != "" {
			found.differences = append(found.differences, difference+
				"; reset the projection and drop the table, or give the model another table name, and migrate")
		}
		for _, column := range parsed[i].DBNames {
			if !parsed[i].FieldsByDBName[column].IgnoreMigration && !d.has(column) {
				found.lacking = append(found.lacking, fmt.Sprintf("table %s has no column %s", name, column))
			}
		}
	}
	return found, nil
}

// outdatedTables returns the names of the tables of projections that AutoMigrate
// would change, and changes nothing: it adds columns and indexes of their
// models. Tables that are absent are not among them; see missingTables.
func outdatedTables(ctx context.Context, db *gorm.DB) (tables []string, err error) {
	s := New(db)
	if err := s.inspectable(ctx); err != nil {
		return nil, err
	}
	c := connection{s.pool, s}.quiet()
	found, err := s.inspectProjections(ctx, c)
	if err != nil {
		return nil, s.translate(ctx, "look at tables", err)
	}
	for _, model := range s.projectionModels() {
		changes := &recordingPool{ConnPool: primaryOnly{s.pool}}
		tx := s.session(ctx, changes).Session(&gorm.Session{Logger: logger.Discard})
		statement := &gorm.Statement{DB: tx}
		if err := statement.Parse(model); err != nil {
			return nil, err
		}
		if slices.Contains(found.absent, statement.Table) {
			continue
		}
		if err := tx.AutoMigrate(model); err != nil {
			return nil, s.translate(ctx, "look at tables", fmt.Errorf("migrate %T: %w", model, err))
		}
		if changes.recorded() {
			tables = append(tables, statement.Table)
		}
	}
	return tables, nil
}

// recordingPool reads from a database, and only notes whether anything would
// change it. It looks like a transaction, so that GORM begins none.
type recordingPool struct {
	gorm.ConnPool

	mu      sync.Mutex
	changes bool
}

func (p *recordingPool) recorded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changes
}

// ExecContext executes nothing. Settings of the connection and savepoints are no
// changes.
func (p *recordingPool) ExecContext(_ context.Context, query string, _ ...any) (sql.Result, error) {
	switch word, _, _ := strings.Cut(strings.TrimSpace(query), " "); strings.ToUpper(word) {
	case "PRAGMA", "SAVEPOINT", "RELEASE", "ROLLBACK":
	default:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.changes = true
	}
	return noResult{}, nil
}

// Commit implements gorm.TxCommitter.
func (p *recordingPool) Commit() error { return gorm.ErrInvalidTransaction }

// Rollback implements gorm.TxCommitter.
func (p *recordingPool) Rollback() error { return gorm.ErrInvalidTransaction }

// noResult is the result of a statement that was not executed.
type noResult struct{}

// LastInsertId implements sql.Result.
func (noResult) LastInsertId() (int64, error) { return 0, nil }

// RowsAffected implements sql.Result.
func (noResult) RowsAffected() (int64, error) { return 0, nil }
