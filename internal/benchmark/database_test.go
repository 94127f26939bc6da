package benchmark

import (
	"context"
	"database/sql"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
)

// The kinds of databases.
const (
	postgresKind = "postgres"
	sqliteKind   = "sqlite"
)

// applicationName is the application whose events are saved.
const applicationName = "Benchmark"

// each runs a benchmark on a new database of each kind.
func each(b *testing.B, run func(b *testing.B, d *database)) {
	b.Helper()
	onPostgres(b, run)
	b.Run("database="+sqliteKind, func(b *testing.B) { run(b, newSQLite(b)) })
}

// onPostgres runs a benchmark on a new PostgreSQL database.
func onPostgres(b *testing.B, run func(b *testing.B, d *database)) {
	b.Helper()
	b.Run("database="+postgresKind, func(b *testing.B) { run(b, newPostgres(b, newServer(b, manyConnections))) })
}

// newServer starts a private PostgreSQL server.
func newServer(t testing.TB, settings ...string) *testdb.Cluster {
	t.Helper()
	return testdb.NewCluster(t, append(settings, "fsync=on", "synchronous_commit=on",
		"autovacuum=off", // every table is analysed before it is used
		"checkpoint_timeout=1h", "max_wal_size=8GB")...)
}

// manyConnections is for a cell of three ways with 64 writers each.
const manyConnections = "max_connections=400"

// A database is one that a cell has for itself, with the framework's tables.
type database struct {
	kind, dsn string
	admin     *sql.DB // for what is not measured

	// The rows that reset has filled the log with, and the highest of their
	// ids.
	filled  int
	highest int64
}

func newPostgres(t testing.TB, server *testdb.Cluster) *database {
	t.Helper()
	return newDatabase(t, postgresKind, server.Database(t))
}

func newSQLite(t testing.TB) *database {
	t.Helper()
	return newDatabase(t, sqliteKind, testdb.SQLiteDSN(filepath.Join(t.TempDir(), "test.db")))
}

// newDatabase makes the tables of an empty database.
func newDatabase(t testing.TB, kind, dsn string) *database {
	t.Helper()
	d := &database{kind: kind, dsn: dsn}
	db := d.gorm(t, 1)
	expect.NoError(t, gormstore.AutoMigrate(db))
	d.admin = expect.Must(db.DB())
	return d
}

// gorm opens a handle as a user would, with a connection kept for each of the
// callers.
func (d *database) gorm(t testing.TB, connections int) *gorm.DB {
	t.Helper()
	dialector := postgres.Open(d.dsn)
	if d.kind == sqliteKind {
		dialector = sqlite.Open(d.dsn)
	}
	db := testdb.Open(t, dialector)
	pool := expect.Must(db.DB())
	d.connect(t, pool, connections)
	return db
}

// pool opens the driver without GORM.
func (d *database) pool(t testing.TB, connections int) *sql.DB {
	t.Helper()
	driver := "pgx"
	if d.kind == sqliteKind {
		driver = sqlite.DriverName
	}
	pool := expect.Must(sql.Open(driver, d.dsn))
	t.Cleanup(func() { expect.NoError(t, pool.Close()) })
	d.connect(t, pool, connections)
	return pool
}

// connect opens all connections of a pool, so that none has to be opened while
// something is measured. A SQLite file has one writer at a time, and
// connections that would only wait for each other make it slower.
func (d *database) connect(t testing.TB, pool *sql.DB, connections int) {
	t.Helper()
	if d.kind == sqliteKind {
		connections = 1
	}
	pool.SetMaxOpenConns(connections)
	pool.SetMaxIdleConns(connections)
	for range connections {
		conn := expect.Must(pool.Conn(t.Context()))
		defer conn.Close()
	}
}

// prepare prepares a statement until the end of t.
func prepare(t testing.TB, pool *sql.DB, query string) *sql.Stmt {
	t.Helper()
	statement := expect.Must(pool.Prepare(query))
	t.Cleanup(func() { expect.NoError(t, statement.Close()) })
	return statement
}

// reset makes the log a number of rows again, and has the database look at
// them. A log of that many rows is kept, without what was added since: to fill
// in millions of rows takes longer than a turn.
func (d *database) reset(t testing.TB, rows int) {
	t.Helper()
	empty := []string{"TRUNCATE stored_events, snapshots"}
	if d.kind == sqliteKind {
		empty = []string{"DELETE FROM stored_events", "DELETE FROM snapshots"}
	}
	if rows == 0 || rows != d.filled {
		d.execute(t, empty...)
		d.fill(t, applicationName, rows, sampleTopic, sampleState)
		d.highest = d.number(t, "SELECT coalesce(max(id), 0) FROM stored_events")
		d.filled = rows
	} else {
		d.execute(t, fmt.Sprintf("DELETE FROM stored_events WHERE id > %d", d.highest), "DELETE FROM snapshots")
	}
	if d.kind == sqliteKind {
		d.execute(t, "ANALYZE", "PRAGMA wal_checkpoint(TRUNCATE)")
	} else {
		d.execute(t, "VACUUM (ANALYZE) stored_events")
	}
}

func (d *database) execute(t testing.TB, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		if _, err := d.admin.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// number is what a query returns.
func (d *database) number(t testing.TB, query string, arguments ...any) (n int64) {
	t.Helper()
	expect.NoError(t, d.admin.QueryRowContext(t.Context(), query, arguments...).Scan(&n))
	return n
}

// fill adds rows to the log of an application: aggregates of 100 events under
// random ids.
func (d *database) fill(t testing.TB, application string, rows int, topic string, state []byte) {
	t.Helper()
	const into = "INSERT INTO stored_events (application_name, originator_id, originator_version, topic, state) "
	statement := into + `SELECT $1, md5((n / 100)::text)::uuid, n % 100 + 1, $3::text, $4::bytea
		FROM generate_series(0, $2::bigint - 1) AS n`
	if d.kind == sqliteKind {
		statement = into + `WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers)
			SELECT ?1, printf('%08x%024x', (n / 100 * 2654435761) % 4294967296, n / 100), n % 100 + 1, ?3, ?4 FROM numbers LIMIT ?2`
	}
	expect.Must(d.admin.ExecContext(t.Context(), statement, application, rows, topic, state))
}

// verify checks that exactly so many rows were added since reset filled the
// log, and that the versions of the aggregates in them have no gap.
func (d *database) verify(t testing.TB, added int) {
	t.Helper()
	if stored := d.number(t, "SELECT count(*) FROM stored_events WHERE id > $1", d.highest); stored != int64(added) {
		t.Fatalf("void: %d rows were added, %d were acknowledged", stored, added)
	}
	broken := d.number(t, `SELECT count(*) FROM (SELECT originator_id FROM stored_events WHERE id > $1
		GROUP BY application_name, originator_id
		HAVING min(originator_version) <> 1 OR max(originator_version) <> count(*)) AS broken`, d.highest)
	if broken > 0 {
		t.Fatalf("void: the versions of %d aggregates are not contiguous", broken)
	}
}

// uuid is an id in the form that the database keeps it in.
func (d *database) uuid(id uuid.UUID) string {
	if d.kind == sqliteKind {
		return fmt.Sprintf("%x", id[:])
	}
	return id.String()
}

// meter reads the processor time that this process and the server have used.
func (d *database) meter(t testing.TB) func() time.Duration {
	t.Helper()
	if d.kind == sqliteKind {
		return processorTime
	}
	server := serverTime(int(d.number(t, "SELECT pg_backend_pid()")))
	return func() time.Duration { return processorTime() + server() }
}

//go:embed shim/fsync.c
var shimSource []byte

// buildShim compiles the library that makes syncs slower, and returns its path.
func buildShim(t testing.TB) string {
	t.Helper()
	folder := expect.Must(os.MkdirTemp("", "es-benchmark-"))
	t.Cleanup(func() { expect.NoError(t, os.RemoveAll(folder)) })
	expect.NoError(t, os.Chmod(folder, 0o755)) // the server may run under another account
	library, source := filepath.Join(folder, "fsync.so"), filepath.Join(folder, "fsync.c")
	expect.NoError(t, os.WriteFile(source, shimSource, 0o644))
	compiler := "cc"
	if given := os.Getenv("CC"); given != "" {
		compiler = given
	}
	output, err := exec.CommandContext(context.WithoutCancel(t.Context()), compiler, "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl").CombinedOutput()
	if err != nil {
		t.Fatalf("compile the slow disk: %v: %s", err, output)
	}
	return library
}

// newSlowServer starts a server whose syncs take a millisecond longer, by a
// library that it preloads.
//
// A server of testdb has its own environment, so the library cannot be named
// there. But testdb runs the pg_ctl that it finds first, and a script of that
// name can preload the library before it becomes the real one.
func newSlowServer(b *testing.B) *testdb.Cluster {
	b.Helper()
	library := buildShim(b)
	ordinary := newPostgres(b, newServer(b))
	var programs string
	expect.NoError(b, ordinary.admin.QueryRow("SELECT setting FROM pg_config WHERE name = 'BINDIR'").Scan(&programs))
	folder := filepath.Dir(library)
	script := fmt.Sprintf("#!/bin/sh\nLD_PRELOAD='%s' exec '%s' \"$@\"\n", library, filepath.Join(programs, "pg_ctl"))
	expect.NoError(b, os.WriteFile(filepath.Join(folder, "pg_ctl"), []byte(script), 0o755))
	b.Setenv("PATH", folder+string(os.PathListSeparator)+os.Getenv("PATH"))
	return newServer(b, manyConnections)
}
