package operations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/inventory"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// store is what the commands use of a *gormstore.Store, which an application
// may have wrapped, beside its inventory.
type store interface {
	persistence.Transactor
	DB() *gorm.DB
}

// yieldTime is how long a store that writers do not queue for is to be left
// alone.
func yieldTime(s store) time.Duration { return capability.Of(s).Yielder.YieldTime() }

// asStore returns a store of gormstore. It returns false for others.
func asStore(factory any) (store, bool) {
	s, ok := factory.(store)
	return s, ok && inventory.Of(s) != nil
}

// StoreOf returns the store of an application of the runner. It returns false if the
// application does not exist or is stored elsewhere.
func StoreOf(runner Runner, application string) (store, bool) {
	if runner == nil {
		return nil, false
	}
	app, ok := ApplicationOf(runner, application)
	if !ok {
		return nil, false
	}
	s, ok := asStore(app.Factory())
	return s, ok
}

// ApplicationOf returns an application of the runner. It returns false if there is none
// of that name in this process.
func ApplicationOf(runner Runner, name string) (bridge.Application, bool) {
	app := bridge.Of(memberOf(runner, name))
	return app, app != nil
}

// poolOf tells databases apart.
func poolOf(s store) *sql.DB {
	if s.DB() == nil {
		return nil
	}
	pool, err := s.DB().DB()
	if err != nil {
		return nil
	}
	return pool
}

func sameDatabase(a, b store) bool { return poolOf(a) == poolOf(b) }

// storesOf are the databases of a service, each once: those of the runner's
// applications and those that are registered.
func storesOf(runner Runner) (stores []store) {
	seen := map[*sql.DB]bool{}
	add := func(s store) {
		if pool := poolOf(s); pool != nil && !seen[pool] {
			seen[pool] = true
			stores = append(stores, s)
		}
	}
	if runner != nil {
		for _, name := range graphOf(runner).Names() {
			if s, ok := StoreOf(runner, name); ok {
				add(s)
			}
		}
	}
	databases := inventory.Databases()
	for _, alias := range slices.Sorted(maps.Keys(databases)) {
		add(gormstore.New(databases[alias]))
	}
	return stores
}

// aliasOf is the registered name of a store's database, or "".
func aliasOf(s store) string {
	databases := inventory.Databases()
	for _, alias := range slices.Sorted(maps.Keys(databases)) {
		if sameDatabase(gormstore.New(databases[alias]), s) {
			return alias
		}
	}
	return ""
}

// MigrationError says that tables of a database are missing, and which database
// it is.
type MigrationError struct {
	// Alias is the registered name of the database, or "".
	Alias string
	// Tables are those that are missing. There are none if a table lacks
	// something.
	Tables []string
	// Err is what has met with that, an ErrNotMigrated.
	Err error
}

func (e *MigrationError) Error() string {
	database, missing := "the database", e.missing()
	if e.Alias != "" {
		database += fmt.Sprintf(" %q", e.Alias)
	}
	switch len(e.Tables) {
	case 0:
	case 1:
		missing = "it lacks the table " + e.Tables[0]
	default:
		missing = "it lacks the tables " + strings.Join(e.Tables, ", ")
	}
	text := database + " is not migrated"
	if missing != "" {
		text += ": " + missing
	}
	return text
}

// missing is what the error says that is missing, without what to do, or "".
func (e *MigrationError) missing() string {
	failure := notMigrated(e.Err)
	if failure == nil {
		return ""
	}
	missing, _, _ := strings.Cut(failure.Hint, ";")
	return missing
}

// notMigrated returns the first error of the class ErrNotMigrated that err wraps,
// or nil.
func notMigrated(err error) *persistence.Error {
	if failure, ok := err.(*persistence.Error); ok && errors.Is(failure.Class, persistence.ErrNotMigrated) {
		return failure
	}
	switch wrapper := err.(type) {
	case interface{ Unwrap() error }:
		return notMigrated(wrapper.Unwrap())
	case interface{ Unwrap() []error }:
		for _, cause := range wrapper.Unwrap() {
			if failure := notMigrated(cause); failure != nil {
				return failure
			}
		}
	}
	return nil
}

// Unwrap returns the cause.
func (e *MigrationError) Unwrap() error { return e.Err }

// located turns the error of a database without tables into one that says which
// database it is.
func located(ctx context.Context, factory persistence.Factory, err error) error {
	if !errors.Is(err, persistence.ErrNotMigrated) {
		return err
	}
	migration := &MigrationError{Err: err}
	if s, ok := asStore(factory); ok {
		migration.Alias = aliasOf(s)
		// If they cannot be listed, err says one of them.
		migration.Tables, _ = inventory.Missing(ctx, s.DB())
	}
	return migration
}

func isMigration(err error) bool {
	_, ok := errors.AsType[*MigrationError](err)
	return ok
}
