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
	name := createDatabase(t, server)
	t.Cleanup(func() {
		if err := execute(server, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("testdb: %v", err)
		}
	})
	return withDatabase(server, name)
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
func createDatabase(t testing.TB, server string) string {
	t.Helper()
	name := "es_test_" + strings.ToLower(rand.Text())
	// No session can connect to template0, so concurrent tests can always copy
	// it.
	if err := execute(server, "CREATE DATABASE "+name+" TEMPLATE template0"); err != nil {
		t.Fatalf("testdb: %v", err)
	}
	return name
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

// shared is the cluster of this process. A failure to start it is remembered,
// so that every test reports it but only the first waits for it.
var shared struct {
	mu      sync.Mutex // protects the fields below
	cluster *Cluster
	err     error
}

// sharedCluster returns the cluster of this process, started on first use.
func sharedCluster() (*Cluster, error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.cluster == nil && shared.err == nil {
		shared.cluster, shared.err = startCluster("fsync=off", "full_page_writes=off", "autovacuum=off")
	}
	return shared.cluster, shared.err
}

// closeShared ends the cluster of this process, if it was started.
func closeShared() error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.cluster == nil {
		return nil
	}
	err := shared.cluster.close()
	shared.cluster = nil
	return err
}
