package gormstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// OpenSQLite opens a SQLite file in the way that suits this package best: one connection that writes, which is the handle
// it returns, and a small pool beside it for the reads of the recorders, so that neither waits for the other. Commits
// are synced to disk; transactions take the write lock when they begin. Closing the handle closes both.
//
//	db, err := gormstore.OpenSQLite(sqlite.Open, "school.sqlite3")
//
// The first argument is Open of gorm.io/driver/sqlite or of a driver like it. A handle that was opened in any other way
// can be used as well. Databases in memory cannot be shared by two pools, and are refused.
//
// The handle has one connection: code that runs in a transaction must use the transaction's context and tx for
// everything, or it waits for itself.
func OpenSQLite(open func(dsn string) gorm.Dialector, path string, options ...gorm.Option) (*gorm.DB, error) {
	if path == "" || strings.HasPrefix(path, "file:") || strings.Contains(path, ":memory:") || strings.Contains(path, "mode=memory") {
		return nil, errors.New("gormstore: OpenSQLite needs the path of a file; open a database in memory with gorm.Open")
	}
	db, err := gorm.Open(open(sqliteDSN(path, nil)), options...)
	if err != nil {
		return nil, err
	}
	if _, resolving := db.Plugins["gorm:db_resolver"]; resolving {
		return nil, errors.Join(errors.New("gormstore: use dbresolver after OpenSQLite, not in its options"), closePool(db))
	}
	readers, err := openReaders(open, path)
	if err != nil {
		return nil, errors.Join(err, closePool(db))
	}
	if err := closeTogether(db, sqliteDSN(path, nil), readers); err != nil {
		return nil, errors.Join(err, readers.Close(), closePool(db))
	}
	return db, nil
}

// sqliteDSN names the file with the settings as mattn's driver and, beside them, as modernc's driver wants them; each
// ignores the other's.
func sqliteDSN(path string, more url.Values) string {
	query := url.Values{
		"_journal_mode": {"WAL"},
		"_synchronous":  {"FULL"},
		"_txlock":       {"immediate"},
		"_busy_timeout": {"10000"},
		"_pragma":       {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)"},
	}
	for key, values := range more {
		query[key] = append(query[key], values...)
	}
	file := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(path), RawQuery: query.Encode()}
	return file.String()
}

// openReaders opens the pool for reads. It cannot write.
func openReaders(open func(dsn string) gorm.Dialector, path string) (*sql.DB, error) {
	onlyReads := url.Values{"_query_only": {"true"}, "_pragma": {"query_only(1)"}}
	db, err := gorm.Open(open(sqliteDSN(path, onlyReads)), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, err
	}
	readers, err := db.DB()
	if err != nil {
		return nil, err
	}
	size := max(4, runtime.GOMAXPROCS(0))
	readers.SetMaxOpenConns(size)
	readers.SetMaxIdleConns(size)
	return readers, nil
}

// closeTogether gives the handle a pool of one connection that closes the readers with it, and has the store's reads go
// to the readers.
func closeTogether(db *gorm.DB, dsn string, readers *sql.DB) error {
	opened, err := db.DB()
	if err != nil {
		return err
	}
	writer := sql.OpenDB(&writerConnector{driver: opened.Driver(), dsn: dsn, readers: readers})
	writer.SetMaxOpenConns(1)
	writer.SetMaxIdleConns(1)
	db.ConnPool = replaced(db.ConnPool, writer)
	db.Statement.ConnPool = db.ConnPool
	handleOf(writer).readers = readers
	return opened.Close()
}

// replaced puts another pool in the place of the one that prepared statements and the Plugin are around.
func replaced(pool gorm.ConnPool, with *sql.DB) gorm.ConnPool {
	switch p := pool.(type) {
	case *gorm.PreparedStmtDB:
		p.ConnPool = replaced(p.ConnPool, with)
		return p
	case *hookedPool:
		p.ConnPool = replaced(p.ConnPool, with)
		return p
	}
	return with
}

func closePool(db *gorm.DB) error {
	pool, err := db.DB()
	if err != nil {
		return err
	}
	return pool.Close()
}

// writerConnector opens the connections of a pool, and closes the readers when the pool is closed.
type writerConnector struct {
	driver  driver.Driver
	dsn     string
	readers *sql.DB
}

// Connect implements driver.Connector.
func (c *writerConnector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }

// Driver implements driver.Connector.
func (c *writerConnector) Driver() driver.Driver { return c.driver }

// Close implements io.Closer, which sql.DB calls.
func (c *writerConnector) Close() error { return c.readers.Close() }
