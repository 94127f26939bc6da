package testdb

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
)

// OpenPostgresSchema returns a handle on a new, empty schema of a PostgreSQL
// database that tests share. It takes a tenth of the time of [OpenPostgres],
// mostly because connections of tests that have ended are used again.
//
// Use it for a test that looks at no other schema, does not change settings of
// the database or of its connections' defaults (RESET ALL makes a connection
// forget its schema), and does not care how many connections there are. The DSN
// of the handle's dialector is for more handles on the same schema.
func OpenPostgresSchema(t testing.TB) *gorm.DB {
	t.Helper()
	d, err := acquireShared(postgresServer(t), func(server string) string { return createDatabase(t, server, administer) })
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
	t.Cleanup(func() {
		if err := d.release(); err != nil {
			t.Errorf("testdb: %v", err)
		}
	})
	schema := "test_" + strings.ToLower(rand.Text())
	db := lender{d, schema}.open(t)
	if err := db.Exec("CREATE SCHEMA " + schema).Error; err != nil {
		t.Fatalf("testdb: %v", err)
	}
	return db
}

// A sharedDatabase has the schemas of several tests.
type sharedDatabase struct {
	server, name string

	mu      sync.Mutex // protects the fields below
	schemas int        // that were made
	tests   int        // that still use the database
	idle    []*stdlib.Conn
}

// schemasOfDatabase is how many schemas a database gets: its catalog becomes
// slow with many.
const schemasOfDatabase = 40

// newest is the shared database that gets the next schema.
var newest struct {
	mu       sync.Mutex // protects the field below
	database *sharedDatabase
}

// acquireShared returns the database for the next schema. The caller must
// release it.
func acquireShared(server string, create func(server string) (name string)) (*sharedDatabase, error) {
	newest.mu.Lock()
	defer newest.mu.Unlock()
	if d := newest.database; d != nil && d.server == server && d.take() {
		return d, nil
	}
	former := newest.database
	// The two users are a test, and newest.
	newest.database = &sharedDatabase{server: server, name: create(server), schemas: 1, tests: 2}
	if former == nil {
		return newest.database, nil
	}
	return newest.database, former.release()
}

func (d *sharedDatabase) take() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.schemas == schemasOfDatabase {
		return false
	}
	d.schemas++
	d.tests++
	return true
}

// release drops the database if it was the last one that used it.
func (d *sharedDatabase) release() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tests--; d.tests > 0 {
		return nil
	}
	var errs []error
	for _, c := range d.idle {
		errs = append(errs, c.Close())
	}
	d.idle = nil
	return errors.Join(append(errs, dropDatabase(d.server, d.name))...)
}

// closeNewest drops the newest shared database.
func closeNewest() error {
	newest.mu.Lock()
	defer newest.mu.Unlock()
	d := newest.database
	newest.database = nil
	if d == nil {
		return nil
	}
	return d.release()
}

// A lender is the connector of a schema. It lends connections of the database
// that have no user.
type lender struct {
	database *sharedDatabase
	schema   string
}

// lenders are the lenders of handles that are open, by DSN.
var lenders sync.Map

// open opens a handle on the schema.
func (l lender) open(t testing.TB) *gorm.DB {
	t.Helper()
	address := withParameter(withDatabase(l.database.server, l.database.name), "search_path", l.schema)
	lenders.Store(address, l)
	t.Cleanup(func() { lenders.Delete(address) }) // of the last handle or an earlier one
	pool := sql.OpenDB(l)
	pool.SetMaxIdleConns(idleConnections)
	return Open(t, postgres.New(postgres.Config{DSN: address, Conn: pool}))
}

// OpenPostgresAgain opens a second handle on a PostgreSQL database or schema of
// this package, as another process would.
func OpenPostgresAgain(t testing.TB, dsn string) *gorm.DB {
	t.Helper()
	if l, ok := lenders.Load(dsn); ok {
		return l.(lender).open(t)
	}
	return Open(t, postgres.Open(dsn))
}

// Driver implements [driver.Connector].
func (l lender) Driver() driver.Driver { return stdlib.GetDefaultDriver() }

// Connect implements [driver.Connector].
func (l lender) Connect(ctx context.Context) (driver.Conn, error) {
	for c := l.database.idleConnection(); c != nil; c = l.database.idleConnection() {
		if err := l.reset(ctx, c.Conn()); err != nil {
			_ = c.Close() // it does not work, and another one may
			continue
		}
		return &lentConnection{driverConn: c, database: l.database}, nil
	}
	config, err := pgx.ParseConfig(withDatabase(l.database.server, l.database.name))
	if err != nil {
		return nil, err
	}
	made, err := stdlib.GetConnector(*config).Connect(ctx)
	if err != nil {
		return nil, err
	}
	c := made.(*stdlib.Conn)
	if err := l.reset(ctx, c.Conn()); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &lentConnection{driverConn: c, database: l.database}, nil
}

// reset makes a connection as good as new, in the schema.
func (l lender) reset(ctx context.Context, c *pgx.Conn) error {
	if err := c.DeallocateAll(ctx); err != nil {
		return err
	}
	if _, err := c.Exec(ctx, "DISCARD ALL", pgx.QueryExecModeSimpleProtocol); err != nil {
		return err
	}
	_, err := c.Exec(ctx, "SET search_path = "+l.schema, pgx.QueryExecModeSimpleProtocol)
	return err
}

func (d *sharedDatabase) idleConnection() (c *stdlib.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if last := len(d.idle) - 1; last >= 0 {
		c, d.idle = d.idle[last], d.idle[:last]
	}
	return c
}

// keep keeps a connection for the next user, if there may be one.
func (d *sharedDatabase) keep(c *stdlib.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tests == 0 || len(d.idle) == idleConnections {
		return false
	}
	d.idle = append(d.idle, c)
	return true
}

type driverConn = stdlib.Conn

// A lentConnection goes back to its database when it is closed, unless it is in
// a transaction or waits for an answer, or its user has discarded it: a request
// to cancel its statement may then still reach the next one.
//
// It embeds the driver's connection under another name than Conn, which would
// hide the method that hands out the connection of pgx.
type lentConnection struct {
	*driverConn
	database *sharedDatabase
	idle     bool // in the pool of its user, which takes back no connection that is discarded
	returned bool
}

// ResetSession implements [driver.SessionResetter]: the connection is used
// again.
func (c *lentConnection) ResetSession(ctx context.Context) error {
	c.idle = false
	return c.driverConn.ResetSession(ctx)
}

// IsValid implements [driver.Validator]: the connection goes back to the pool.
func (c *lentConnection) IsValid() bool {
	c.idle = true
	return true
}

// Close implements [driver.Conn].
func (c *lentConnection) Close() error {
	if c.returned {
		return nil
	}
	server := c.Conn().PgConn()
	if c.idle && !server.IsClosed() && !server.IsBusy() && server.TxStatus() == 'I' && c.database.keep(c.driverConn) {
		c.returned = true
		return nil
	}
	return c.driverConn.Close()
}

// withParameter adds a setting of the connection to the address of a PostgreSQL
// database.
func withParameter(dsn, key, value string) string {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme == "" {
		return dsn + " " + key + "=" + value
	}
	query := u.Query()
	query.Set(key, value)
	u.RawQuery = query.Encode()
	return u.String()
}
