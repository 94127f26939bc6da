package gormstore_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/plugin/dbresolver"

	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// openFile opens a file by OpenSQLite until the test ends.
func openFile(t testing.TB, path string, config *gorm.Config) *gorm.DB {
	t.Helper()
	config.Logger = testdb.Quiet
	db, err := gormstore.OpenSQLite(sqlite.Open, path, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { poolOf(t, db).Close() })
	return db
}

func newFile(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "school.sqlite3")
}

func poolOf(t testing.TB, db *gorm.DB) *sql.DB {
	t.Helper()
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

// configs are the settings of GORM that change the pool of a handle.
func configs() map[string]*gorm.Config {
	return map[string]*gorm.Config{
		"plain":       {},
		"PrepareStmt": {PrepareStmt: true},
		"Plugin":      {Plugins: map[string]gorm.Plugin{"eventsourcing": gormstore.Plugin()}},
		"Plugin and PrepareStmt": {PrepareStmt: true,
			Plugins: map[string]gorm.Plugin{"eventsourcing": gormstore.Plugin()}},
	}
}

func eachConfig(t *testing.T, test func(t *testing.T, db *gorm.DB, path string)) {
	t.Helper()
	t.Parallel()
	for name, config := range configs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := newFile(t)
			test(t, migrated(t, openFile(t, path, config)), path)
		})
	}
}

func pragma(t testing.TB, pool *sql.DB, name string) (value string) {
	t.Helper()
	if err := pool.QueryRowContext(t.Context(), "PRAGMA "+name).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

// The handle writes on one connection that syncs each commit; the readers
// cannot write.
func TestOpenSQLiteSettings(t *testing.T) {
	eachConfig(t, func(t *testing.T, db *gorm.DB, _ string) {
		writer, readers := poolOf(t, db), gormstore.ReadersOf(db)
		if readers == nil {
			t.Fatal("there are no readers")
		}
		if got := writer.Stats().MaxOpenConnections; got != 1 {
			t.Errorf("the writer may have %d connections, want 1", got)
		}
		if got := readers.Stats().MaxOpenConnections; got < 2 {
			t.Errorf("the readers may have %d connections, want several", got)
		}
		for name, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "query_only": "0"} {
			if got := pragma(t, writer, name); got != want {
				t.Errorf("%s of the writer is %s, want %s", name, got, want)
			}
		}
		for name, want := range map[string]string{"journal_mode": "wal", "query_only": "1"} {
			if got := pragma(t, readers, name); got != want {
				t.Errorf("%s of the readers is %s, want %s", name, got, want)
			}
		}
		if _, err := readers.ExecContext(t.Context(), "DELETE FROM stored_events"); err == nil {
			t.Error("the readers have written")
		}
		wantWorking(t, db)
	})
}

// Recorders read while a transaction has the only connection that writes, and
// see what was committed before it.
func TestOpenSQLiteReadsWhileItWrites(t *testing.T) {
	eachConfig(t, func(t *testing.T, db *gorm.DB, _ string) {
		if err := readInTransaction(t.Context(), t, db); err != nil {
			t.Errorf("read: %v", err)
		}
	})
}

// The control: with one connection and no readers, it waits for the
// transaction.
func TestOpenSQLiteControlWithoutReaders(t *testing.T) {
	t.Parallel()
	db := migrated(t, oneConnection(testdb.SQLiteFile)(t))
	outside, cancel := context.WithCancel(t.Context())
	defer cancel()
	pool := poolOf(t, db)
	before := pool.Stats().WaitCount
	read := make(chan error, 1)
	go func() { read <- readInTransaction(outside, t, db) }()
	expect.Until(t, "the read waits", func() bool { return len(read) > 0 || pool.Stats().WaitCount > before })
	cancel()
	if err := <-read; !errors.Is(err, context.Canceled) {
		t.Errorf("read with one connection: error %v, want that it waits", err)
	}
}

// readInTransaction reads, in a transaction that has written, with a context
// that is not of the transaction.
func readInTransaction(outside context.Context, t *testing.T, db *gorm.DB) error {
	t.Helper()
	r := recorder(t, db, schoolName, unhurried)
	stored := history(uuid.New(), 1, 2)
	insert(t, r, stored...)
	var result error
	transaction(t, db, func(ctx context.Context, _ *gorm.DB) error {
		if _, err := r.InsertEvents(ctx, history(stored[0].OriginatorID, 3, 1)); err != nil {
			return err
		}
		head, err := r.MaxNotificationID(outside)
		if err == nil && head != 2 {
			t.Errorf("the highest id outside of the transaction is %d, want 2", head)
		}
		if _, errLog := r.SelectNotifications(outside, persistence.NotificationRange{Limit: 10}); errLog != nil {
			err = errors.Join(err, errLog)
		}
		for _, errEvents := range r.SelectEvents(outside, stored[0].OriginatorID, persistence.EventRange{}) {
			err = errors.Join(err, errEvents)
		}
		result = err
		if inside, err := r.MaxNotificationID(ctx); err != nil || inside != 3 {
			t.Errorf("the highest id in the transaction is %d, %v; want 3", inside, err)
		}
		return nil
	})
	if head, err := r.MaxNotificationID(t.Context()); err != nil || head != 3 {
		t.Errorf("the highest id after the commit is %d, %v; want 3", head, err)
	}
	return result
}

func TestOpenSQLiteClosesBoth(t *testing.T) {
	eachConfig(t, func(t *testing.T, db *gorm.DB, path string) {
		r, readers := recorder(t, db, schoolName), gormstore.ReadersOf(db)
		insert(t, r, history(uuid.New(), 1, 1)...)
		if _, err := r.MaxNotificationID(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := poolOf(t, db).Close(); err != nil {
			t.Fatal(err)
		}
		if err := readers.PingContext(t.Context()); err == nil {
			t.Error("the readers are open")
		}
		if _, err := r.MaxNotificationID(t.Context()); !errors.Is(err, persistence.ErrClosed) {
			t.Errorf("read: error %v, want ErrClosed", err)
		}
		if _, err := r.InsertEvents(t.Context(), history(uuid.New(), 1, 1)); !errors.Is(err, persistence.ErrClosed) {
			t.Errorf("save: error %v, want ErrClosed", err)
		}
		// The last connection to a file in WAL mode removes the log.
		if _, err := os.Stat(path + "-wal"); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the write-ahead log is there: %v; a connection must be open", err)
		}
	})
}

// The hooks of the plugin survive, wherever it was given.
func TestOpenSQLiteWithThePlugin(t *testing.T) {
	t.Parallel()
	for name, config := range configs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			later := config.Plugins == nil
			c := openClinic(t, openFile(t, newFile(t), config), door{"", later, withPlugin, withPlugin})
			fido, rex := school.RegisterDog("Fido"), school.RegisterDog("Rex")
			if err := c.run(t, c.bill(t, fido)); err != nil {
				t.Error(err)
			}
			err := c.run(t, func(ctx context.Context, tx *gorm.DB) error { return errors.Join(c.bill(t, rex)(ctx, tx), errUndone) })
			expect.ErrorIs(t, err, errUndone)
			c.wantStored(t, 1, "Fido")
			wantPendingEvents(t, 1, rex)
		})
	}
}

// Several handles on one file, of which each writes, do not lose or overtake
// each other.
func TestOpenSQLiteTwice(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	first := migrated(t, openFile(t, path, &gorm.Config{}))
	second := openFile(t, path, &gorm.Config{})
	third := testdb.Open(t, sqlite.Open(testdb.SQLiteDSN(path)))
	var recorders []persistence.ProcessRecorder
	for _, db := range []*gorm.DB{first, second, third} {
		recorders = append(recorders, recorder(t, db, schoolName, unhurried))
	}
	contest{recorders: recorders, writers: 8, aggregates: 4, saves: testdb.Figure(8, 100)}.run(t, first)
}

// The process that is first puts the file into WAL mode, which SQLite refuses at
// once while another one has begun to write.
func TestOpenSQLiteBesideAWriterOfANewFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new.sqlite3")
	other := expect.Must(sql.Open(sqlite.DriverName, path))
	other.SetMaxOpenConns(1)
	t.Cleanup(func() { expect.NoError(t, other.Close()) })
	expect.Must(other.Exec("CREATE TABLE others (id integer)"))
	expect.Must(other.Exec("BEGIN IMMEDIATE"))
	refused := make(chan error, 1)
	observed := func(dsn string) gorm.Dialector { return observedDialector{sqlite.Dialector{DSN: dsn}, refused} }
	opened := make(chan error, 1)
	go func() {
		db, err := gormstore.OpenSQLite(observed, path)
		if err == nil {
			err = errors.Join(gormstore.AutoMigrate(db), expect.Must(db.DB()).Close())
		}
		opened <- err
	}()
	if err := <-refused; !strings.Contains(err.Error(), "locked") {
		t.Errorf("got %v, want the refusal that is to be awaited", err)
	}
	expect.Must(other.Exec("COMMIT"))
	expect.NoError(t, <-opened)
}

// observedDialector tells of its first failure to open a database.
type observedDialector struct {
	sqlite.Dialector
	failed chan<- error
}

func (d observedDialector) Initialize(db *gorm.DB) error {
	err := d.Dialector.Initialize(db)
	if err != nil {
		select {
		case d.failed <- err:
		default:
		}
	}
	return err
}

func TestOpenSQLiteRefuses(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{"nothing": "", "memory": ":memory:", "memory by name": "file::memory:?cache=shared",
		"memory by mode": "file:school?mode=memory", "an address": "file:school.sqlite3"} {
		if db, err := gormstore.OpenSQLite(sqlite.Open, path); err == nil || db != nil || !strings.Contains(err.Error(), "path of a file") {
			t.Errorf("%s: error %v, want one that asks for the path of a file", name, err)
		}
	}
	missing := filepath.Join(t.TempDir(), "missing", "school.sqlite3")
	db, err := gormstore.OpenSQLite(sqlite.Open, missing, &gorm.Config{Logger: testdb.Quiet})
	if err == nil || db != nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("in a folder that does not exist: error %v, want one that names the file", err)
	}
	for _, option := range []string{"_journal_mode=DELETE", "_synchronous=OFF", "_txlock=deferred", "_query_only=1", "cache=shared",
		"_foreign_keys=on&_sync=0", "_pragma=synchronous(OFF)", "_foreign_keys=%zz"} {
		if db, err := gormstore.OpenSQLite(sqlite.Open, newFile(t)+"?"+option); err == nil || db != nil {
			t.Errorf("with the option %s: no error", option)
		}
	}
	hidden := func(dsn string) gorm.Dialector { return struct{ gorm.Dialector }{sqlite.Open(dsn)} }
	if _, err := gormstore.OpenSQLite(hidden, newFile(t)); err == nil || !strings.Contains(err.Error(), "DSN") {
		t.Errorf("with a dialector that hides its DSN: error %v, want one that asks for it", err)
	}
	config := &gorm.Config{Logger: testdb.Quiet, Plugins: map[string]gorm.Plugin{"gorm:db_resolver": dbresolver.Register(dbresolver.Config{})}}
	if _, err := gormstore.OpenSQLite(sqlite.Open, newFile(t), config); err == nil || !strings.Contains(err.Error(), "dbresolver") {
		t.Errorf("with dbresolver already in the configuration: error %v, want one that names it", err)
	}
}

// What the caller adds to the DSN holds for the connection that writes and for
// those that read, and does not replace what the promises depend on.
func TestOpenSQLiteOptions(t *testing.T) {
	t.Parallel()
	added := func(dsn string) gorm.Dialector {
		return sqlite.Open(dsn + "&_foreign_keys=on&_cache_size=-4321&_synchronous=OFF")
	}
	ways := map[string]func(path string) (*gorm.DB, error){
		"by the dialector": func(path string) (*gorm.DB, error) { return gormstore.OpenSQLite(added, path) },
		"after the path": func(path string) (*gorm.DB, error) {
			return gormstore.OpenSQLite(sqlite.Open, path+"?_foreign_keys=on&_cache_size=-4321")
		},
	}
	for name, open := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := newFile(t)
			db, err := open(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { poolOf(t, db).Close() })
			wantWorking(t, migrated(t, db))
			for pool, queryOnly := range map[*sql.DB]string{poolOf(t, db): "0", gormstore.ReadersOf(db): "1"} {
				for name, want := range map[string]string{"foreign_keys": "1", "cache_size": "-4321", "synchronous": "2",
					"journal_mode": "wal", "query_only": queryOnly} {
					if got := pragma(t, pool, name); got != want {
						t.Errorf("%s is %s, want %s", name, got, want)
					}
				}
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("the file has another name: %v", err)
			}
		})
	}
}

// A path is a path, whatever characters are in it.
func TestOpenSQLitePaths(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a b.db", "50%.db", "what?.db", "school#1.db", "schäferhund.db", "a&b=c.db", "a+b.db", "'a'.db"} {
		path := filepath.Join(t.TempDir(), name)
		db := migrated(t, openFile(t, path, &gorm.Config{}))
		wantWorking(t, db)
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}
