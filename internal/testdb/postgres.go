package testdb

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
)

// OpenPostgres returns a handle on a new PostgreSQL database.
func OpenPostgres(t testing.TB) *gorm.DB {
	t.Helper()
	return Open(t, postgres.Open(Postgres(t)))
}

// Postgres returns the DSN of a new PostgreSQL database that is dropped when t
// ends, by force if connections remain. It skips the test where PostgreSQL is
// missing; see the package comment for the variables that forbid this.
func Postgres(t testing.TB) string {
	t.Helper()
	server := postgresServer(t)
	name := createDatabase(t, server, administer)
	t.Cleanup(func() {
		if err := dropDatabase(server, name); err != nil {
			t.Errorf("testdb: %v", err)
		}
	})
	return withDatabase(server, name)
}

// PreparingPostgres is [Postgres] on a server that can prepare transactions: the
// shared cluster, or one for t alone if POSTGRES_DSN names a server.
func PreparingPostgres(t testing.TB) string {
	t.Helper()
	if os.Getenv("POSTGRES_DSN") != "" {
		return NewCluster(t, "max_prepared_transactions=100", "fsync=off").Database(t)
	}
	return Postgres(t)
}

// postgresServer returns the DSN of the server that tests share.
func postgresServer(t testing.TB) string {
	t.Helper()
	if dsn := os.Getenv("POSTGRES_DSN"); dsn != "" {
		return dsn
	}
	cluster, err := sharedCluster()
	if err != nil {
		unavailable(t, err)
	}
	return cluster.DSN("postgres")
}

// unavailable ends the test because there is no cluster. Where PostgreSQL is
// installed, or required, that is a failure.
func unavailable(t testing.TB, err error) {
	t.Helper()
	if !errors.Is(err, errNotInstalled) || enabled("CI") || enabled("REQUIRE_POSTGRES") {
		t.Fatalf("testdb: %v", err)
	}
	t.Skipf("testdb: THIS TEST DID NOT RUN: %v", err)
}

// createDatabase creates an empty database on the server and returns its name.
func createDatabase(t testing.TB, server string, execute func(server, statement string) error) string {
	t.Helper()
	name := "es_test_" + strings.ToLower(rand.Text())
	// No session can connect to template0, so concurrent tests can always copy
	// it.
	if err := execute(server, "CREATE DATABASE "+name+" TEMPLATE template0"+strategy(server)); err != nil {
		t.Fatalf("testdb: %v", err)
	}
	return name
}

// strategy returns the end of the statement that copies a database. A copy of
// the files takes a third of the time of the default of PostgreSQL 15 and later,
// which logs each page; but it needs checkpoints, which are cheap only on the
// cluster of this process, which does not sync.
func strategy(server string) string {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.cluster == nil || shared.cluster.DSN("postgres") != server || shared.cluster.version() < 15 {
		return ""
	}
	return " STRATEGY file_copy"
}

// dropDatabase drops a database of the server that tests share. It first waits
// for connections that are being closed: DROP DATABASE would look for them every
// 100 ms only.
func dropDatabase(server, name string) error {
	err := administer(server, fmt.Sprintf(`DO $$
		BEGIN
			FOR i IN 1..50 LOOP
				PERFORM pg_stat_clear_snapshot();
				EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = '%s');
				PERFORM pg_sleep(0.002);
			END LOOP;
		END $$`, name))
	if err := errors.Join(err, administer(server, "DROP DATABASE "+name+" WITH (FORCE)")); err != nil {
		return fmt.Errorf("%w\nwhile these were connected:\n%s", err, sessions(server))
	}
	return nil
}

// sessions says what all processes of a server do. DROP DATABASE waits for each
// of them, whatever its database.
func sessions(server string) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return err.Error()
	}
	defer conn.Close(ctx)
	var all string
	err = conn.QueryRow(ctx, `SELECT COALESCE(string_agg(concat_ws(' ', pid, backend_type, datname, state,
		wait_event_type || '/' || wait_event, now() - state_change, left(query, 200)), E'\n' ORDER BY pid), '')
		FROM pg_stat_activity`).Scan(&all)
	if err != nil {
		return err.Error()
	}
	return all
}

// admin is the connection that creates and drops the databases of the server
// that tests share: a connection costs more than a database.
var admin struct {
	mu     sync.Mutex // protects the fields below
	server string
	conn   *pgx.Conn
}

// administer runs one statement on the connection admin, which it opens if it
// is not open to the server.
func administer(server, statement string) error {
	admin.mu.Lock()
	defer admin.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if admin.server != server || admin.conn == nil || admin.conn.IsClosed() {
		closeAdmin(ctx)
		conn, err := pgx.Connect(ctx, server)
		if err != nil {
			return err
		}
		admin.server, admin.conn = server, conn
	}
	if _, err := admin.conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// closeAdmin closes the connection admin, if it is open. The caller holds its
// mutex.
func closeAdmin(ctx context.Context) {
	if admin.conn != nil {
		_ = admin.conn.Close(ctx) // the server ends it as well if it is broken
		admin.conn = nil
	}
}

// execute runs one statement on a new connection.
func execute(dsn, statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// withDatabase returns the DSN, a URL or a list of key=value, with the database
// replaced.
func withDatabase(dsn, database string) string {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme == "" {
		return dsn + " dbname=" + database // the last of two equal keys counts
	}
	u.Path = "/" + database
	query := u.Query()
	query.Del("dbname") // would win over the path
	query.Del("database")
	u.RawQuery = query.Encode()
	return u.String()
}

// shared is the cluster of this process, and the template that its clusters are
// copies of, which takes a tenth of the time of initdb. A failure to make one of
// them is remembered, so that every test reports it but only the first waits for
// it.
var shared struct {
	mu      sync.Mutex // protects the fields below
	cluster *Cluster
	err     error

	templateMu  sync.Mutex // protects the fields below
	template    *Cluster   // is never started
	templateErr error
}

// template returns the template of the clusters of this process.
func template() (*Cluster, error) {
	shared.templateMu.Lock()
	defer shared.templateMu.Unlock()
	if shared.template != nil || shared.templateErr != nil {
		return shared.template, shared.templateErr
	}
	made, err := makeCluster(memoryFolder())
	if err == nil {
		if err = made.initialise(); err != nil {
			err = errors.Join(err, made.close())
		}
	}
	if shared.templateErr = err; err == nil {
		shared.template = made
	}
	return shared.template, shared.templateErr
}

// sharedCluster returns the cluster of this process, started on first use.
func sharedCluster() (*Cluster, error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.cluster == nil && shared.err == nil {
		shared.cluster, shared.err = startCluster("fsync=off", "full_page_writes=off", "autovacuum=off",
			"max_prepared_transactions=100", "max_connections=800", "max_wal_size=128MB",
			"wal_level=minimal", "max_wal_senders=0") // copies of template0 are not logged
	}
	return shared.cluster, shared.err
}

// closeShared ends the cluster of this process, if it was started, and removes
// the template.
func closeShared() error {
	failure := closeNewest()
	admin.mu.Lock()
	closeAdmin(context.Background())
	admin.mu.Unlock()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	shared.templateMu.Lock()
	defer shared.templateMu.Unlock()
	errs := []error{failure}
	for _, cluster := range []**Cluster{&shared.cluster, &shared.template} {
		if *cluster != nil {
			errs = append(errs, (*cluster).close())
			*cluster = nil
		}
	}
	return errors.Join(errs...)
}
