package gormstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/internal/faultdb"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
)

// patient is a database with two handles: one whose driver can be made to fail,
// and one that tells the truth.
type patient struct {
	db     *gorm.DB
	faults *faultdb.Injector
	truth  *gorm.DB
}

// eachPatient runs a test on every kind of database that can have two handles,
// also with a pool of one connection.
func eachPatient(t *testing.T, test func(t *testing.T, p *patient)) {
	t.Helper()
	t.Parallel()
	for _, backend := range []testdb.Backend{{Name: "sqlite-file", Open: impatientSQLite}, {Name: "postgres", Open: testdb.OpenPostgresSchema}} {
		for name, size := range map[string]int{"": 0, "-one-connection": 1} {
			t.Run(backend.Name+name, func(t *testing.T) {
				t.Parallel()
				p := newPatient(t, backend.Open(t))
				limit(t, p.db, size)
				test(t, p)
			})
		}
	}
}

// impatientSQLite is a database whose driver does not wait long for a lock that
// was not released.
func impatientSQLite(t testing.TB) *gorm.DB {
	t.Helper()
	return testdb.Open(t, sqlite.Open(strings.Replace(testdb.SQLiteFileDSN(t), "_busy_timeout=10000", "_busy_timeout=100", 1)))
}

func newPatient(t *testing.T, truth *gorm.DB) *patient {
	t.Helper()
	faults := faultdb.New()
	pool := sql.OpenDB(faults.Connector(driverConnector(t, truth)))
	d := sqlite.New(sqlite.Config{Conn: pool})
	if truth.Name() == "postgres" {
		d = postgres.New(postgres.Config{Conn: pool})
	}
	return &patient{db: testdb.Open(t, d), faults: faults, truth: truth}
}

// driverConnector opens connections to a database without database/sql.
func driverConnector(t *testing.T, db *gorm.DB) driver.Connector {
	t.Helper()
	if db.Name() == "postgres" {
		config, err := pgx.ParseConfig(dsn(t, db))
		if err != nil {
			t.Fatal(err)
		}
		return stdlib.GetConnector(*config)
	}
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	return opener{pool.Driver(), dsn(t, db)}
}

// opener is a connector of a driver that has none.
type opener struct {
	driver driver.Driver
	dsn    string
}

func (o opener) Connect(context.Context) (driver.Conn, error) { return o.driver.Open(o.dsn) }
func (o opener) Driver() driver.Driver                        { return o.driver }

// completing recognises the statement with which a write is done for good: the
// end of a transaction, or an INSERT that is in none. One recogniser watches
// the statements of one connection after the other.
type completing struct{ within bool }

func (c *completing) is(statement string) bool {
	verb, _, _ := strings.Cut(strings.ToUpper(statement), " ")
	switch {
	case verb == "BEGIN":
		c.within = true
	case verb == "ROLLBACK" && !strings.Contains(strings.ToUpper(statement), " TO "):
		c.within = false
	case verb == "COMMIT":
		c.within = false
		return true
	}
	return !c.within && strings.Contains(statement, "INSERT INTO")
}

// ofCall is is for a call of a driver, which may begin and end transactions
// without a statement.
func (c *completing) ofCall(call faultdb.Call) bool {
	switch call.Op {
	case faultdb.Begin:
		return c.is("BEGIN")
	case faultdb.Commit:
		return c.is("COMMIT")
	case faultdb.Rollback:
		return c.is("ROLLBACK")
	case faultdb.Exec, faultdb.Query:
		return c.is(call.Statement)
	}
	return false
}

// atCompletion is a plan in which the first write fails as it is completed. If
// blind is set, every later call fails too, so that the outcome cannot be
// looked up.
func atCompletion(fault faultdb.Fault, blind bool) faultdb.Plan {
	var c completing
	done := false
	return func(call faultdb.Call) faultdb.Fault {
		switch {
		case !done && c.ofCall(call):
			done = true
			return fault
		case done && blind:
			return faultdb.Fault{When: faultdb.Before, Err: fault.Err, Broken: true}
		}
		return faultdb.Fault{}
	}
}
