package faultdb_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"path/filepath"
	"testing"

	"gorm.io/driver/sqlite"

	"github.com/eventsourcing-go/eventsourcing/internal/faultdb"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
)

var errFault = errors.New("a fault")

// connector opens connections to a file, as a driver without a connector needs
// it.
type connector struct {
	driver driver.Driver
	path   string
}

func (c connector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.path) }
func (c connector) Driver() driver.Driver                        { return c.driver }

// open returns a database with a table t, and its faults.
func open(t *testing.T) (*sql.DB, *faultdb.Injector) {
	t.Helper()
	pool, err := testdb.Open(t, sqlite.Open(":memory:")).DB()
	if err != nil {
		t.Fatal(err)
	}
	faults := faultdb.New()
	db := sql.OpenDB(faults.Connector(connector{pool.Driver(), filepath.Join(t.TempDir(), "test.db")}))
	t.Cleanup(func() { db.Close() })
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE t (x)"); err != nil {
		t.Fatal(err)
	}
	return db, faults
}

// rowsOf counts the rows of t.
func rowsOf(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM t").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestFaults(t *testing.T) {
	t.Parallel()
	insert := func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, "INSERT INTO t VALUES (1)")
		return err
	}
	returning := func(ctx context.Context, db *sql.DB) error {
		var x int
		return db.QueryRowContext(ctx, "INSERT INTO t VALUES (1) RETURNING x").Scan(&x)
	}
	prepared := func(ctx context.Context, db *sql.DB) error {
		statement, err := db.PrepareContext(ctx, "INSERT INTO t VALUES (1)")
		if err != nil {
			return err
		}
		defer statement.Close()
		_, err = statement.ExecContext(ctx)
		return err
	}
	transaction := func(ctx context.Context, db *sql.DB) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(ctx, "INSERT INTO t VALUES (1)"); err != nil {
			return err
		}
		return tx.Commit()
	}
	for name, test := range map[string]struct {
		plan faultdb.Plan
		do   func(context.Context, *sql.DB) error
		err  error
		rows int
	}{
		"no fault":                      {faultdb.Nth(99, faultdb.Fault{When: faultdb.Before, Err: errFault}), insert, nil, 1},
		"exec before":                   {faultdb.First(faultdb.Exec, faultdb.Fault{When: faultdb.Before, Err: errFault}), insert, errFault, 0},
		"exec after":                    {faultdb.First(faultdb.Exec, faultdb.Fault{When: faultdb.After, Err: errFault}), insert, errFault, 1},
		"exec after, broken":            {faultdb.First(faultdb.Exec, faultdb.Fault{When: faultdb.After, Err: errFault, Broken: true}), insert, errFault, 1},
		"exec twice":                    {faultdb.First(faultdb.Exec, faultdb.Fault{When: faultdb.Twice}), insert, nil, 2},
		"query before":                  {faultdb.First(faultdb.Query, faultdb.Fault{When: faultdb.Before, Err: errFault}), returning, errFault, 0},
		"query after":                   {faultdb.First(faultdb.Query, faultdb.Fault{When: faultdb.After, Err: errFault}), returning, errFault, 1},
		"query twice":                   {faultdb.First(faultdb.Query, faultdb.Fault{When: faultdb.Twice}), returning, nil, 2},
		"fetch after":                   {faultdb.First(faultdb.Fetch, faultdb.Fault{When: faultdb.After, Err: errFault}), returning, errFault, 1},
		"prepared exec after":           {faultdb.First(faultdb.Exec, faultdb.Fault{When: faultdb.After, Err: errFault}), prepared, errFault, 1},
		"prepare before":                {faultdb.First(faultdb.Prepare, faultdb.Fault{When: faultdb.Before, Err: errFault, Broken: true}), prepared, errFault, 0},
		"commit before, broken":         {faultdb.First(faultdb.Commit, faultdb.Fault{When: faultdb.Before, Err: errFault, Broken: true}), transaction, errFault, 0},
		"commit after":                  {faultdb.First(faultdb.Commit, faultdb.Fault{When: faultdb.After, Err: errFault, Broken: true}), transaction, errFault, 1},
		"begin after, then all is lost": {faultdb.Always(faultdb.Begin, faultdb.Fault{When: faultdb.Before, Err: errFault, Broken: true}), transaction, errFault, 0},
		"a bad connection is repeated":  {faultdb.Nth(1, faultdb.Fault{When: faultdb.After, Err: driver.ErrBadConn, Broken: true}), insert, nil, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, faults := open(t)
			faults.Arm(test.plan)
			err := test.do(t.Context(), db)
			calls := faults.Disarm()
			if !errors.Is(err, test.err) {
				t.Errorf("got the error %v, want %v", err, test.err)
			}
			if got := rowsOf(t, db); got != test.rows {
				t.Errorf("got %d rows, want %d, after %v", got, test.rows, calls)
			}
			if len(calls) == 0 || calls[0].N != 1 {
				t.Errorf("the calls are %v, want some calls and N 1", calls)
			}
			if err := insert(t.Context(), db); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}
