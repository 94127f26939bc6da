package gormstore_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	"gorm.io/gorm/schema"
	"gorm.io/plugin/dbresolver"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/persistencetest"
)

// cell is a setting on a database, or several of them. The table that users
// read is in docs/gorm-settings.md.
type cell struct {
	name     string
	database string
	// config changes the settings of a handle.
	config func(*gorm.Config)
	// parameters are added to the address of PostgreSQL.
	parameters map[string]string
	// use is called with the open handle.
	use func(t testing.TB, db *gorm.DB)
	// open replaces gorm.Open.
	open func(t testing.TB, address string, config *gorm.Config) (*gorm.DB, error)
	// reach replaces the address of PostgreSQL by one that leads there.
	reach func(t *testing.T, address string) string
	// apart says that the tables are made by a handle without the settings.
	apart bool
	// schema says that the table prefix is the name of a schema.
	schema bool
	// always says that a sample of the contract runs every time, and not only
	// the whole with full figures; partly says that the contract never runs.
	always, partly bool
}

// cells are the matrix of settings.
func cells(t *testing.T) []cell {
	t.Helper()
	settings := []struct {
		name   string
		config func(*gorm.Config)
	}{
		{"PrepareStmt", func(c *gorm.Config) { c.PrepareStmt = true }},
		{"SkipDefaultTransaction", func(c *gorm.Config) { c.SkipDefaultTransaction = true }},
		{"DisableNestedTransaction", func(c *gorm.Config) { c.DisableNestedTransaction = true }},
		{"CreateBatchSize", func(c *gorm.Config) { c.CreateBatchSize = 1 }},
		{"TranslateError", func(c *gorm.Config) { c.TranslateError = true }},
		{"QueryFields", func(c *gorm.Config) { c.QueryFields = true }},
		{"AllowGlobalUpdate", func(c *gorm.Config) { c.AllowGlobalUpdate = true }},
		{"DefaultContextTimeout", func(c *gorm.Config) { c.DefaultContextTimeout = time.Nanosecond }},
		{"DefaultTransactionTimeout", func(c *gorm.Config) { c.DefaultTransactionTimeout = time.Nanosecond }},
		{"SingularTable", func(c *gorm.Config) { c.NamingStrategy = schema.NamingStrategy{SingularTable: true} }},
	}
	everything := func(c *gorm.Config) {
		for _, s := range settings {
			if s.name != "SingularTable" { // would replace the prefix
				s.config(c)
			}
		}
	}
	// For GORM's own statements.
	tooShort := func(name string) bool { return name == "DefaultContextTimeout" }
	var all []cell
	for _, database := range []string{"sqlite", "postgres"} {
		for _, s := range settings {
			all = append(all, cell{name: s.name, database: database, config: s.config, apart: tooShort(s.name)})
		}
		all = append(all,
			cell{name: "dbresolver", database: database, use: withEmptyReplica},
			cell{name: "Plugin", database: database, use: withPluginOnly},
			cell{name: "Plugin, dbresolver and PrepareStmt", database: database, use: withPluginAndReplica,
				config: func(c *gorm.Config) { c.PrepareStmt = true }},
		)
	}
	all = append(all,
		cell{name: "all of them", database: "postgres", config: everything, use: withPluginAndReplica, apart: true, always: true},
		cell{name: "all of them", database: "sqlite", config: everything, use: withPluginAndReplica, apart: true, always: true,
			open: openTwoPools},
		cell{name: "OpenSQLite", database: "sqlite", open: openTwoPools},
		cell{name: "OpenSQLite with PrepareStmt", database: "sqlite", open: openTwoPools,
			config: func(c *gorm.Config) { c.PrepareStmt = true }},
		cell{name: "schema in TablePrefix", database: "postgres", schema: true},
		cell{name: "PreferSimpleProtocol", database: "postgres",
			open: func(t testing.TB, address string, config *gorm.Config) (*gorm.DB, error) {
				return gorm.Open(postgres.New(postgres.Config{DSN: address, PreferSimpleProtocol: true}), config)
			}},
	)
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		all = append(all, cell{name: "default_query_exec_mode=" + mode, database: "postgres",
			parameters: map[string]string{"default_query_exec_mode": mode}})
	}
	for _, level := range []string{"repeatable read", "serializable"} {
		all = append(all, cell{name: "default_transaction_isolation=" + level, database: "postgres",
			parameters: map[string]string{"default_transaction_isolation": level},
			// Reads may have to be repeated by the caller, for which the
			// contract has no place.
			partly: level == "serializable"})
	}
	if bouncer, err := findBouncer(); err == nil {
		for _, mode := range []string{"exec", "simple_protocol"} {
			all = append(all, cell{name: "pgbouncer with " + mode, database: "postgres",
				parameters: map[string]string{"default_query_exec_mode": mode},
				reach:      func(t *testing.T, address string) string { return throughBouncer(t, bouncer, address) }})
		}
	} else {
		t.Logf("NOT IN THE TABLE: pgbouncer in transaction mode, because it is not installed: %v", err)
	}
	return all
}

// wholeMatrix is a switch: every cell passes the whole contract. It is on with
// full figures.
const wholeMatrix = "GORMSTORE_WHOLE_MATRIX"

// Every setting of the user's handle is respected or has no effect on what is
// stored. Each cell does once what stores do; the cells that have all settings
// at once pass a sample of the contract of stores, and all cells pass the whole
// contract in the whole matrix.
func TestSettings(t *testing.T) {
	t.Parallel()
	for _, c := range cells(t) {
		t.Run(c.database+"/"+c.name, func(t *testing.T) {
			t.Parallel()
			m := &matrix{cell: c}
			if c.database == "postgres" {
				m.address = testdb.Postgres(t)
				if c.reach != nil {
					m.address = c.reach(t, m.address)
				}
				for key, value := range c.parameters {
					m.address = strings.ReplaceAll(withParameter(t, m.address, key, value), "+", "%20")
				}
			}
			t.Run("sound", func(t *testing.T) { m.wantSound(t) })
			h, whole := m.harness(), testdb.Full() || os.Getenv(wholeMatrix) != ""
			switch {
			case whole && !c.partly:
				persistencetest.Run(t, h)
			case c.always:
				h.Only = sample(h, 0, testdb.Sample(12, 4))
				persistencetest.Run(t, h)
			}
		})
	}
}

// matrix makes stores of a cell: SQLite files, or tables with their own prefix
// in one PostgreSQL database.
type matrix struct {
	cell
	address string
}

func (m *matrix) harness() persistencetest.Harness {
	h := harness(nil)
	h.New = func(t testing.TB) persistence.Factory { return gormstore.New(m.fresh(t, testdb.Quiet)) }
	h.Reopen = func(t testing.TB, f persistence.Factory) persistence.Factory {
		db := f.(*gormstore.Store).DB()
		naming, _ := db.NamingStrategy.(schema.NamingStrategy)
		return gormstore.New(m.handle(t, addressOf(t, db), naming.TablePrefix, testdb.Quiet))
	}
	return h
}

// fresh opens an empty store with tables.
func (m *matrix) fresh(t testing.TB, l logger.Interface) *gorm.DB {
	t.Helper()
	address, prefix := m.address, "es"+strings.ToLower(rand.Text()[:8])+"_"
	if m.database == "sqlite" {
		address = testdb.SQLiteFileDSN(t)
	}
	if m.schema {
		prefix = strings.Replace(prefix, "_", ".", 1)
		admin := testdb.Open(t, postgres.Open(address))
		if err := admin.Exec("CREATE SCHEMA " + strings.TrimSuffix(prefix, ".")).Error; err != nil {
			t.Fatal(err)
		}
	}
	if m.apart {
		plain := &matrix{cell: cell{database: m.database}}
		migrated(t, plain.handle(t, address, prefix, testdb.Quiet))
		return m.handle(t, address, prefix, l)
	}
	return migrated(t, m.handle(t, address, prefix, l))
}

// handle opens a handle with the settings of the cell.
func (m *matrix) handle(t testing.TB, address, prefix string, l logger.Interface) *gorm.DB {
	t.Helper()
	config := &gorm.Config{Logger: l}
	if m.config != nil {
		m.config(config)
	}
	naming, _ := config.NamingStrategy.(schema.NamingStrategy)
	naming.TablePrefix = prefix
	config.NamingStrategy = naming
	open := m.open
	if open == nil {
		open = func(_ testing.TB, address string, config *gorm.Config) (*gorm.DB, error) {
			return gorm.Open(dialector(m.database, address), config)
		}
	}
	db, err := open(t, address, config)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pool.Close() })
	if m.use != nil {
		m.use(t, db)
	}
	return db
}

// addressOf is the address that a handle of the matrix was opened with.
func addressOf(t testing.TB, db *gorm.DB) string {
	t.Helper()
	if p, ok := db.Dialector.(*postgres.Dialector); ok {
		return p.DSN
	}
	return db.Dialector.(*sqlite.Dialector).DSN
}

// wantSound fails the test unless a handle can be used for all that stores do,
// in batches and transactions, and unless payloads stay out of its log.
func (m *matrix) wantSound(t *testing.T) {
	t.Helper()
	written := &lines{}
	db := m.fresh(t, logger.New(log.New(written, "", 0), logger.Config{LogLevel: logger.Info}))
	wantWorking(t, db)
	if !m.apart {
		if err := errors.Join(gormstore.Validate(t.Context(), db), gormstore.AutoMigrate(db)); err != nil {
			t.Errorf("Validate and AutoMigrate of what AutoMigrate made: %v", err)
		}
	}
	r := recorder(t, db, schoolName)
	canary := "canary-" + rand.Text()
	secret := func() []persistence.StoredEvent {
		events := history(uuid.New(), 1, 2)
		for i := range events {
			events[i].State = []byte(canary)
		}
		return events
	}
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for range 4 {
				if _, err := r.InsertEvents(t.Context(), secret()); err != nil {
					t.Errorf("a save beside others: %v", err)
				}
			}
		})
	}
	writers.Wait()
	stored := secret()
	insert(t, r, stored...)
	if _, err := r.InsertEvents(t.Context(), stored); !persistence.IsConflict(err) {
		t.Errorf("a save again: error %v, want a conflict", err)
	}
	before := len(wholeLog(t, r))
	transaction(t, db, func(ctx context.Context, _ *gorm.DB) error {
		inner := gormstore.Transaction(ctx, db, func(ctx context.Context, _ *gorm.DB) error {
			return errors.Join(last(r.InsertEvents(ctx, secret())), errUndone)
		})
		if !errors.Is(inner, errUndone) {
			t.Errorf("inner rollback: error %v, want the one of the function", inner)
		}
		return last(r.InsertEvents(ctx, secret()))
	})
	if got := len(wholeLog(t, r)); got != before+2 {
		t.Errorf("%d events more after the transaction, want 2", got-before)
	}
	if text := written.String(); strings.Contains(text, canary) || !strings.Contains(text, "INSERT INTO") {
		t.Errorf("the log has the payload: %v, statements: %v; want only statements",
			strings.Contains(text, canary), strings.Contains(text, "INSERT INTO"))
	}
	wantIdle(t, db)
}

// lines collects what is logged.
type lines struct {
	mu     sync.Mutex // protects buffer
	buffer bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.String()
}

// withEmptyReplica has GORM read from another database, which has no tables:
// whatever is read there fails.
func withEmptyReplica(t testing.TB, db *gorm.DB) {
	t.Helper()
	pool, err := sql.Open(sqlite.DriverName, "file:/"+rand.Text()+"?vfs=memdb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pool.Close() })
	empty := sqlite.New(sqlite.Config{Conn: pool})
	if err := db.Use(dbresolver.Register(dbresolver.Config{Replicas: []gorm.Dialector{empty}})); err != nil {
		t.Fatal(err)
	}
}

func withPluginAndReplica(t testing.TB, db *gorm.DB) {
	t.Helper()
	withPluginOnly(t, db)
	withEmptyReplica(t, db)
}

func withPluginOnly(t testing.TB, db *gorm.DB) {
	t.Helper()
	if err := db.Use(gormstore.Plugin()); err != nil {
		t.Fatal(err)
	}
}

// openTwoPools opens a file by OpenSQLite. The address is one of this package's
// tests.
func openTwoPools(t testing.TB, address string, config *gorm.Config) (*gorm.DB, error) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	return gormstore.OpenSQLite(sqlite.Open, u.Path, config)
}

// The control for the replica: GORM itself does read from it.
func TestSettingsControlReplicaIsUsed(t *testing.T) {
	t.Parallel()
	for _, backend := range sharedBackends {
		db := created(t, backend.Open(t))
		withEmptyReplica(t, db)
		var n int64
		if err := db.Model(&gormstore.StoredEvent{}).Count(&n).Error; err == nil {
			t.Errorf("%s: GORM has read from the replica, which has no tables", backend.Name)
		}
	}
}

// What cannot work is refused when an application is made, by an error that
// says why.
func TestSettingsThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, backend := range sharedBackends {
		t.Run(backend.Name, func(t *testing.T) {
			t.Parallel()
			db := created(t, backend.Open(t))
			tx := db.Begin()
			defer tx.Rollback()
			for name, refused := range map[string]struct {
				db   *gorm.DB
				says string
			}{
				"DryRun in the configuration": {configured(t, db.Dialector, gorm.Config{DryRun: true}), "dry run"},
				"DryRun in a session":         {db.Session(&gorm.Session{DryRun: true}), "dry run"},
				"a transaction":               {tx, "transaction"},
			} {
				_, err := gormstore.New(refused.db).ProcessRecorder(schoolName)
				if !errors.Is(err, persistence.ErrInterface) || !strings.Contains(err.Error(), refused.says) {
					t.Errorf("%s: error %v, want ErrInterface that says %q", name, err, refused.says)
				}
			}
		})
	}
}

// findBouncer finds the program pgbouncer, also where distributions hide it
// from users.
func findBouncer() (string, error) {
	if path, err := exec.LookPath("pgbouncer"); err == nil {
		return path, nil
	}
	const hidden = "/usr/sbin/pgbouncer"
	_, err := os.Stat(hidden)
	return hidden, err
}

// throughBouncer starts pgbouncer in transaction mode for a PostgreSQL server,
// for as long as the test lasts, and returns the address at which it serves the
// same database.
func throughBouncer(t *testing.T, program, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close() // pgbouncer takes it over
	password, _ := u.User.Password()
	server := fmt.Sprintf("host=%s port=%s user=%s", u.Hostname(), u.Port(), u.User.Username())
	if password != "" {
		server += " password=" + password
	}
	settings := filepath.Join(t.TempDir(), "pgbouncer.ini")
	text := fmt.Sprintf("[databases]\n* = %s\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\nauth_type = any\n"+
		"unix_socket_dir =\npool_mode = transaction\nmax_client_conn = 500\ndefault_pool_size = 20\n", server, port)
	if err := os.WriteFile(settings, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	arguments := []string{settings}
	if os.Geteuid() == 0 { // as which it does not run
		arguments = append(arguments, "-u", "nobody")
	}
	output := &lines{}
	cmd := exec.Command(program, arguments...)
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("pgbouncer: %s", output)
		}
	})
	u.Host = fmt.Sprintf("127.0.0.1:%d", port)
	if !expect.Eventually(func() bool {
		conn, err := net.Dial("tcp", u.Host)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}) {
		t.Fatalf("pgbouncer does not answer: %s", output)
	}
	return u.String()
}
