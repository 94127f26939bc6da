package gormstore_test

import (
	"context"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/capability/capabilitytest"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/persistencetest"
)

// Every kind of database, with usual pools and with pools of one connection,
// keeps the contract of stores; inside transactions of the caller as well. Two
// kinds run the whole contract if every combination is tried. The others run
// samples of it, which together are the whole contract, as those of each
// database are otherwise; with full figures they run all of it too.
func TestConformance(t *testing.T) {
	t.Parallel()
	backends := []struct {
		testdb.Backend
		part, of int // of the contract
	}{
		{testdb.Backend{Name: "sqlite-file", Open: testdb.SQLiteFile}, 0, 4},
		{testdb.Backend{Name: "sqlite-file-one-connection", Open: oneConnection(testdb.SQLiteFile)}, 1, 4},
		{testdb.Backend{Name: "sqlite-file-with-readers", Open: withReaders}, 2, 4},
		{testdb.Backend{Name: "sqlite-memory", Open: testdb.SQLiteMemory}, 3, 4},
		{testdb.Backend{Name: "postgres", Open: testdb.OpenPostgresSchema}, 0, 2},
		{testdb.Backend{Name: "postgres-one-connection", Open: oneConnection(testdb.OpenPostgresSchema)}, 1, 2},
	}
	if testdb.Exhaustive() {
		for i := range backends[:3] {
			backends[i].of = 3
		}
		backends[3].part, backends[3].of = 0, 1
		backends[4].of = 1
		backends[5].part, backends[5].of = 0, 3
	}
	for _, backend := range backends {
		t.Run(backend.Name, func(t *testing.T) {
			t.Parallel()
			h := harness(backend.Open)
			if backend.of > 1 && !testdb.Full() {
				h.Only = sample(h, backend.part, backend.of)
			}
			if left := persistencetest.LeftOut(h); len(left) > 0 {
				t.Errorf("%d rows are left out, want none: %v", len(left), left)
			}
			persistencetest.Run(t, h)
		})
	}
}

// sample selects one of so many parts of the rows of each group, and all rows
// about transactions, in which a pool of one connection matters most. Parts 0
// to of-1 together are all rows.
func sample(h persistencetest.Harness, part, of int) func(persistencetest.Row) bool {
	selected := map[string]bool{}
	seen := map[string]int{} // rows of each group
	for _, r := range persistencetest.Rows(h) {
		group, _, _ := strings.Cut(r.Name, "/")
		selected[r.Name] = seen[group]%of == part || group == "transaction"
		seen[group]++
	}
	return func(r persistencetest.Row) bool { return selected[r.Name] }
}

// The samples together are all rows of the contract.
func TestSample(t *testing.T) {
	t.Parallel()
	for _, of := range []int{2, 3, 4} {
		h, taken := harness(testdb.SQLiteMemory), map[string]int{}
		for part := range of {
			selected := sample(h, part, of)
			for _, r := range persistencetest.Rows(h) {
				if selected(r) {
					taken[r.Name]++
				}
			}
		}
		for _, r := range persistencetest.Rows(h) {
			want := 1
			if strings.HasPrefix(r.Name, "transaction/") {
				want = of
			}
			if taken[r.Name] != want {
				t.Errorf("%s is in %d samples of %d, want %d", r.Name, taken[r.Name], of, want)
			}
		}
	}
}

// harness makes a store over a new database for each row.
func harness(open func(testing.TB) *gorm.DB) persistencetest.Harness {
	return persistencetest.Harness{
		New: func(t testing.TB) persistence.Factory {
			return gormstore.New(created(t, open(t)))
		},
		Reopen: func(t testing.TB, f persistence.Factory) persistence.Factory {
			return gormstore.New(again(t, f.(*gormstore.Store).DB()))
		},
		Concurrent: true,
		Transaction: func(ctx context.Context, f persistence.Factory, fn func(context.Context) error) error {
			return gormstore.Transaction(ctx, f.(*gormstore.Store).DB(), func(ctx context.Context, _ *gorm.DB) error { return fn(ctx) })
		},
		Parallel: true,
	}
}

// created makes the tables in an empty database, by the statements that
// AutoMigrate sends, which for PostgreSQL takes a third of its time.
func created(t testing.TB, db *gorm.DB) *gorm.DB {
	t.Helper()
	if db.Name() != "postgres" {
		return migrated(t, db)
	}
	statements, err := gormstore.Schema("postgres")
	if err == nil {
		err = db.Exec(statements).Error
	}
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// withReaders opens a database file with one connection that writes and a pool
// beside it that reads.
func withReaders(t testing.TB) *gorm.DB {
	t.Helper()
	db, err := gormstore.OpenSQLite(sqlite.Open, filepath.Join(t.TempDir(), "test.db"), &gorm.Config{Logger: testdb.Quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if pool, err := db.DB(); err != nil || pool.Close() != nil {
			t.Errorf("the database cannot be closed: %v", err)
		}
	})
	return db
}

// withParameter adds a setting of the connection to the address of a PostgreSQL
// database.
func withParameter(t testing.TB, dsn, key, value string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme == "" {
		return dsn + " " + key + "=" + value
	}
	query := u.Query()
	query.Set(key, value)
	u.RawQuery = query.Encode()
	return u.String()
}

// oneConnection limits the pools that an opener makes.
func oneConnection(open func(testing.TB) *gorm.DB) func(testing.TB) *gorm.DB {
	return func(t testing.TB) *gorm.DB {
		t.Helper()
		db := open(t)
		limit(t, db, 1)
		return db
	}
}

// The rows about a capability pass for a store that lacks it.
func TestCapabilitiesOfTheStore(t *testing.T) {
	testdb.EachDatabase(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		store := gormstore.New(open(t))
		capabilitytest.Check(t, capabilitytest.Gormstore, store, expect.Must(store.ProcessRecorder("A")))
		python := expect.Must(capability.Of(store).Python.PythonProcessRecorder("A"))
		capabilitytest.Check(t, capabilitytest.GormstorePython, store, python)
	})
}
