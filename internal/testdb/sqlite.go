package testdb

import (
	"crypto/rand"
	"database/sql"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
)

// SQLiteFile returns a handle on a new database file with write-ahead log and
// full synchronisation. Writers wait ten seconds for each other.
func SQLiteFile(t testing.TB) *gorm.DB {
	t.Helper()
	return Open(t, sqlite.Open(SQLiteFileDSN(t)))
}

// SQLiteFileDSN returns the DSN of a database file that does not exist yet, in
// a folder that is removed when t ends. Any process may open it. The folder is
// in memory if clusters are; see the package comment.
func SQLiteFileDSN(t testing.TB) string {
	t.Helper()
	return SQLiteDSN(filepath.Join(sqliteFolder(t), "test.db"))
}

func sqliteFolder(t testing.TB) string {
	t.Helper()
	parent := memoryFolder()
	if parent == "" {
		return t.TempDir()
	}
	folder, err := os.MkdirTemp(parent, "es-sqlite-")
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Errorf("testdb: %v", err)
		}
	})
	return folder
}

// SQLiteDSN returns the DSN with which [SQLiteFile] opens a database file, for
// the file at path.
func SQLiteDSN(path string) string {
	query := url.Values{
		"_journal_mode": {"WAL"},
		"_synchronous":  {"FULL"},
		"_txlock":       {"immediate"},
		"_busy_timeout": {"10000"},
	}
	file := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(path), RawQuery: query.Encode()}
	return file.String()
}

// SQLiteMemory returns a handle on a new database in memory that nothing else
// can open. Its pool holds one connection.
func SQLiteMemory(t testing.TB) *gorm.DB {
	t.Helper()
	// A ":memory:" database ends with its connection, and database/sql discards
	// a connection of this driver when the context of a transaction is
	// cancelled. Later statements would find no tables. A named database of the
	// memdb file system lives as long as any connection to it, so one more is
	// held here.
	dsn := "file:/" + rand.Text() + "?vfs=memdb&_txlock=immediate"
	holdSQLite(t, dsn)
	return singleConnection(t, Open(t, sqlite.Open(dsn)))
}

// holdSQLite keeps a connection to the database open until t ends.
func holdSQLite(t testing.TB, dsn string) {
	t.Helper()
	db, err := sql.Open(sqlite.DriverName, dsn)
	if err != nil {
		t.Fatalf("testdb: hold %s: %v", dsn, err)
	}
	t.Cleanup(func() { db.Close() })
	if err := db.PingContext(t.Context()); err != nil {
		t.Fatalf("testdb: hold %s: %v", dsn, err)
	}
}

// singleConnection limits the pool of db to one connection and returns db.
func singleConnection(t testing.TB, db *gorm.DB) *gorm.DB {
	t.Helper()
	pool(t, db).SetMaxOpenConns(1)
	return db
}
