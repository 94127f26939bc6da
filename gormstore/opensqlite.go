package gormstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// OpenSQLite opens a SQLite file with one connection that writes, which is the
// handle it returns, and a small pool for the reads of the recorders, so that
// neither waits for the other. Commits are synced to disk, and transactions
// take the write lock when they begin. Closing the handle closes both pools.
//
//	db, err := gormstore.OpenSQLite(sqlite.Open, "school.sqlite3")
//
// The first argument is Open of gorm.io/driver/sqlite or of a similar driver.
// Both pools get what it adds to the DSN, and the options that follow the path:
//
//	db, err := gormstore.OpenSQLite(sqlite.Open, "school.sqlite3?_foreign_keys=on")
//
// Options that OpenSQLite sets itself are refused. Databases in memory are
// refused too, because two pools cannot share one. A handle that was opened in
// another way, with gorm.Open, can be used as well.
//
// The handle has one connection: code in a transaction must use the context and
// the tx of the transaction for everything, or it waits for itself.
func OpenSQLite(open func(dsn string) gorm.Dialector, path string, options ...gorm.Option) (*gorm.DB, error) {
	path, extra, err := splitOptions(path)
	if err != nil {
		return nil, err
	}
	dialector := open(sqliteDSN(path, extra))
	dsn, ok := dsnOf(dialector)
	if !ok {
		return nil, fmt.Errorf("gormstore: OpenSQLite: the %T does not show the DSN that it opens; "+
			"return one with a field DSN, such as sqlite.Open(dsn), or open the database with gorm.Open", dialector)
	}
	db, err := openPatiently(dialector, options...)
	if err != nil {
		return nil, fmt.Errorf("gormstore: open the SQLite file %q: %w", path, err)
	}
	if _, resolving := db.Plugins["gorm:db_resolver"]; resolving {
		return nil, errors.Join(errors.New("gormstore: use dbresolver after OpenSQLite, not in its options"), closePool(db))
	}
	readers, err := openReaders(open, path, extra)
	if err != nil {
		return nil, errors.Join(err, closePool(db))
	}
	if err := closeTogether(db, dsn, readers); err != nil {
		return nil, errors.Join(err, readers.Close(), closePool(db))
	}
	return db, nil
}

// openPatiently opens a file, for as long as a statement waits for its lock. The
// first to open a new file puts it into WAL mode; SQLite refuses that at once,
// without a wait, while another process has begun to write.
func openPatiently(dialector gorm.Dialector, options ...gorm.Option) (*gorm.DB, error) {
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		db, err := gorm.Open(dialector, options...)
		if err == nil || (sqlite{}).errorInfo(err).class != persistence.ErrLockTimeout || time.Since(begin) > sqliteBusyTimeout {
			return db, err
		}
	}
}

// sqliteBusyTimeout is how long a statement waits for the lock of a file by
// itself.
const sqliteBusyTimeout = 10 * time.Second

// ownOptions are the options of the DSN that the promises of OpenSQLite depend
// on.
var ownOptions = []string{"_journal_mode", "_journal", "_synchronous", "_sync", "_txlock", "_query_only", "mode", "cache", "immutable"}

// splitOptions separates a path from the options that follow it. A question
// mark that no key and value follow belongs to the path.
func splitOptions(given string) (path string, options url.Values, err error) {
	path = given
	if before, after, ok := cutLast(given, "?"); ok && strings.Contains(after, "=") {
		path = before
		if options, err = url.ParseQuery(after); err != nil {
			return "", nil, fmt.Errorf("gormstore: OpenSQLite: the options of the path %q cannot be read: %w", given, err)
		}
	}
	if path == "" || strings.HasPrefix(path, "file:") || strings.Contains(path, ":memory:") || options.Get("mode") == "memory" {
		return "", nil, errors.New("gormstore: OpenSQLite needs the path of a file; open a database in memory with gorm.Open")
	}
	for key := range options {
		if slices.Contains(ownOptions, key) {
			return "", nil, fmt.Errorf("gormstore: OpenSQLite sets the option %s itself; remove it, or open the database with gorm.Open", key)
		}
	}
	for _, pragma := range options["_pragma"] {
		name, _, _ := strings.Cut(pragma, "(")
		if slices.Contains(ownOptions, "_"+strings.TrimSpace(name)) {
			return "", nil, fmt.Errorf("gormstore: OpenSQLite sets the pragma %s itself; remove it, or open the database with gorm.Open", name)
		}
	}
	return path, options, nil
}

func cutLast(s, separator string) (before, after string, found bool) {
	if i := strings.LastIndex(s, separator); i >= 0 {
		return s[:i], s[i+len(separator):], true
	}
	return s, "", false
}

// dsnOf returns the DSN that a dialector opens. Drivers for SQLite have it in a
// field, for which GORM has no interface.
func dsnOf(dialector gorm.Dialector) (string, bool) {
	v := reflect.Indirect(reflect.ValueOf(dialector))
	if v.Kind() != reflect.Struct {
		return "", false
	}
	field := v.FieldByName("DSN")
	if !field.IsValid() || field.Kind() != reflect.String {
		return "", false
	}
	return field.String(), field.String() != ""
}

// sqliteDSN names the file with the settings of mattn's driver and those of
// modernc's; each ignores the other's.
func sqliteDSN(path string, more ...url.Values) string {
	wait := strconv.FormatInt(sqliteBusyTimeout.Milliseconds(), 10)
	query := url.Values{
		"_journal_mode": {"WAL"},
		"_synchronous":  {"FULL"},
		"_txlock":       {"immediate"},
		"_busy_timeout": {wait},
		"_pragma":       {"busy_timeout(" + wait + ")", "journal_mode(WAL)", "synchronous(FULL)"},
	}
	for _, values := range more {
		for key, value := range values {
			if key == "_pragma" {
				value = append(query[key], value...)
			}
			query[key] = value
		}
	}
	file := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(path), RawQuery: query.Encode()}
	return file.String()
}

// openReaders opens the pool for reads. It cannot write.
func openReaders(open func(dsn string) gorm.Dialector, path string, extra url.Values) (*sql.DB, error) {
	onlyReads := url.Values{"_query_only": {"true"}, "_pragma": {"query_only(1)"}}
	db, err := gorm.Open(open(sqliteDSN(path, extra, onlyReads)), &gorm.Config{Logger: logger.Discard})
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

// closeTogether gives the handle a pool of one connection that closes the
// readers with it, and has the store's reads go to the readers.
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
	poolStateOf(writer).readers = readers
	return opened.Close()
}

// replaced puts another pool in the place of the one that prepared statements
// and the Plugin are around.
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

// writerConnector opens the connections of a pool, and closes the readers when
// the pool is closed.
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
