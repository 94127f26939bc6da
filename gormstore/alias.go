package gormstore

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/internal/environment"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// databases are the handles that applications find by name. Like the databases
// of a Django project they belong to the program.
var databases struct {
	sync.RWMutex // protects byAlias
	byAlias      map[string]*registered
}

// registered is a call of RegisterDB: a database with the options of the stores
// that are made of it.
type registered struct {
	db      *gorm.DB
	options []Option
}

// RegisterDB gives a database a name, so that GORM_DB_ALIAS can select it.
// Register "default" at least, which is what applications use if the environment
// names none, before the first application is made. The options are those of
// New, for the stores that applications make by their environment. A later call
// for the same handle replaces them. RegisterDB panics if the name is already
// that of another handle: two parts of a program would write to each other's
// database.
//
// It returns a function that takes the name back, for tests and for programs
// that close databases. That function does nothing if the name was registered
// again since.
func RegisterDB(alias string, db *gorm.DB, options ...Option) (unregister func()) {
	databases.Lock()
	defer databases.Unlock()
	if other, taken := databases.byAlias[alias]; taken && other.db != db {
		panic(fmt.Sprintf("gormstore: alias %q is registered twice, for different databases", alias))
	}
	if databases.byAlias == nil {
		databases.byAlias = map[string]*registered{}
	}
	added := &registered{db, options}
	databases.byAlias[alias] = added
	return func() {
		databases.Lock()
		defer databases.Unlock()
		if databases.byAlias[alias] == added {
			delete(databases.byAlias, alias)
		}
	}
}

// DB returns the database with a name. The error for an unknown one lists those
// that are registered.
func DB(alias string) (*gorm.DB, error) {
	if found, ok := find(alias); ok {
		return found.db, nil
	}
	return nil, &persistence.Error{Class: persistence.ErrProgramming, Op: fmt.Sprintf("gormstore: find the database %q", alias),
		Hint: "registered are " + knownAliases()}
}

// find returns a database with its options.
func find(alias string) (*registered, bool) {
	databases.RLock()
	defer databases.RUnlock()
	found, ok := databases.byAlias[alias]
	return found, ok
}

// registeredDatabases are the databases by their names.
func registeredDatabases() map[string]*gorm.DB {
	databases.RLock()
	defer databases.RUnlock()
	all := make(map[string]*gorm.DB, len(databases.byAlias))
	for alias, found := range databases.byAlias {
		all[alias] = found.db
	}
	return all
}

// knownAliases lists the registered names.
func knownAliases() string {
	return cmp.Or(strings.Join(slices.Sorted(maps.Keys(registeredDatabases())), ", "), "none; call gormstore.RegisterDB first")
}

// The names that PERSISTENCE_MODULE selects this package with: its own, and
// that of the Python library.
func init() {
	environment.Register("gormstore", open)
	environment.Register("eventsourcing_django", openStrict)
}

// openStrict is open for a database that the Python library is expected to
// follow as well, unless STRICT_ORDER says otherwise.
func openStrict(env *environment.Environment) (persistence.Factory, error) {
	return openOrdered(env, true)
}

// open is for databases of this package's own.
func open(env *environment.Environment) (persistence.Factory, error) { return openOrdered(env, false) }

// openOrdered finds the database that GORM_DB_ALIAS names. An empty
// DJANGO_DB_ALIAS names the default database, as for the Python library.
func openOrdered(env *environment.Environment, strict bool) (persistence.Factory, error) {
	strict, err := env.Bool(strict, "STRICT_ORDER")
	if err != nil {
		return nil, err
	}
	setting, ok, err := env.Lookup("GORM_DB_ALIAS", "DJANGO_DB_ALIAS")
	if err != nil && !strings.HasSuffix(setting.Key, "DJANGO_DB_ALIAS") {
		return nil, err
	}
	if !ok {
		setting = environment.Setting{Key: "GORM_DB_ALIAS", Value: "default"}
	}
	found, ok := find(setting.Value)
	if !ok {
		return nil, setting.Wrong("is not a registered database; registered are " + knownAliases())
	}
	if strict {
		return New(found.db, append(slices.Clip(found.options), WithStrictOrder())...), nil
	}
	return New(found.db, found.options...), nil
}
