package testdb

import (
	"database/sql"
	"testing"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// Quiet is the logger of every handle that this package opens: it discards
// everything, since tests provoke errors on purpose. A test that wants to see
// its statements replaces it with db.Session or db.Debug.
var Quiet = logger.Discard

// idleConnections is how many idle connections the pool of a handle on
// PostgreSQL keeps. A connection costs more than most tests do with it, and with
// the default of database/sql, 2, concurrent tests close and open them all the
// time.
const idleConnections = 16

// Open opens a handle that is closed when t ends. The other functions of this
// package choose the dialector; use Open for a second handle on a database they
// made.
func Open(t testing.TB, dialector gorm.Dialector) *gorm.DB {
	t.Helper()
	db, err := gorm.Open(dialector, &gorm.Config{Logger: Quiet})
	if err != nil {
		t.Fatalf("testdb: open %s: %v", dialector.Name(), err)
	}
	connections := pool(t, db)
	if d, ok := dialector.(*postgres.Dialector); ok && d.Conn == nil {
		connections.SetMaxIdleConns(idleConnections)
	}
	t.Cleanup(func() {
		if err := connections.Close(); err != nil {
			t.Errorf("testdb: close %s: %v", dialector.Name(), err)
		}
	})
	return db
}

// pool returns the connection pool under db.
func pool(t testing.TB, db *gorm.DB) *sql.DB {
	t.Helper()
	connections, err := db.DB()
	if err != nil {
		t.Fatalf("testdb: connection pool: %v", err)
	}
	return connections
}
