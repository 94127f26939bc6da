package testdb

import (
	"testing"

	"gorm.io/gorm"
)

// A Backend is a kind of database that tests run on.
type Backend struct {
	Name string
	// Open returns a handle on a new, empty database, which ends with the test.
	Open func(testing.TB) *gorm.DB
}

// Backends returns every kind of database that the framework supports. Of
// PostgreSQL a test has a schema; see [OpenPostgresSchema].
func Backends() []Backend {
	return []Backend{
		{"sqlite-memory", SQLiteMemory},
		{"sqlite-file", SQLiteFile},
		{"postgres", OpenPostgresSchema},
	}
}

// OneConnection returns the backends that have a larger pool by default, each
// with a pool of one connection. Code that takes a second connection while it
// holds one waits for ever on these.
func OneConnection() []Backend {
	return []Backend{
		{"sqlite-file-one-connection", func(t testing.TB) *gorm.DB { return singleConnection(t, SQLiteFile(t)) }},
		{"postgres-one-connection", func(t testing.TB) *gorm.DB { return singleConnection(t, OpenPostgresSchema(t)) }},
	}
}

// Each runs test as a subtest on each of [Backends], then on each of more:
//
//	testdb.Each(t, test, testdb.OneConnection()...)
//
// Every call of open makes a new database.
func Each(t *testing.T, test func(t *testing.T, open func(testing.TB) *gorm.DB), more ...Backend) {
	t.Helper()
	runOn(t, append(Backends(), more...), test)
}

// EachDatabase is [Each] for a test of the whole of a database: it has a
// database of PostgreSQL to itself, whose tables are in the schema public.
func EachDatabase(t *testing.T, test func(t *testing.T, open func(testing.TB) *gorm.DB)) {
	t.Helper()
	backends := Backends()
	for i := range backends {
		if backends[i].Name == "postgres" {
			backends[i].Open = OpenPostgres
		}
	}
	runOn(t, backends, test)
}

func runOn(t *testing.T, backends []Backend, test func(t *testing.T, open func(testing.TB) *gorm.DB)) {
	t.Helper()
	for _, backend := range backends {
		t.Run(backend.Name, func(t *testing.T) {
			test(t, backend.Open)
		})
	}
}
