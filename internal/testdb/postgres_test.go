package testdb

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"gorm.io/driver/postgres"
)

func TestPostgresInParallel(t *testing.T) {
	t.Parallel()
	for range 4 {
		t.Run("database", func(t *testing.T) {
			t.Parallel()
			createTable(t, OpenPostgres(t))
		})
	}
}

func TestPostgresDropsDatabase(t *testing.T) {
	t.Parallel()
	var dsn string
	t.Run("user", func(t *testing.T) {
		dsn = Postgres(t)
		// This connection is still open when the database is dropped.
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn
	})
	const unknownDatabase = "3D000"
	if err := execute(dsn, "SELECT 1"); err == nil || !strings.Contains(err.Error(), unknownDatabase) {
		t.Errorf("connect after the test: got %v, want SQLSTATE %s", err, unknownDatabase)
	}
}

func TestPostgresDSNVariable(t *testing.T) {
	cluster := NewCluster(t, "fsync=off")
	t.Setenv("POSTGRES_DSN", cluster.DSN("postgres"))
	if got, want := Postgres(t), cluster.address(); !strings.Contains(got, want) {
		t.Errorf("got %s, want a database at %s", got, want)
	}
}

func TestUnavailable(t *testing.T) {
	for _, row := range []struct {
		name        string
		err         error
		ci, require string
		want        string
	}{
		{"missing on a workstation", errNotInstalled, "", "", "skipped"},
		{"missing, switches off", errNotInstalled, "false", "0", "skipped"},
		{"missing in CI", errNotInstalled, "true", "", "failed"},
		{"missing though required", errNotInstalled, "", "1", "failed"},
		{"installed but broken", errors.New("disk full"), "", "", "failed"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Setenv("CI", row.ci)
			t.Setenv("REQUIRE_POSTGRES", row.require)
			test := &recorder{}
			unavailable(test, fmt.Errorf("start: %w", row.err))
			if test.outcome != row.want {
				t.Errorf("got %q, want %q", test.outcome, row.want)
			}
		})
	}
}

func TestWithDatabase(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]string{
		"postgres://u:p@h:1/old?sslmode=disable":      "postgres://u:p@h:1/new?sslmode=disable",
		"postgresql://h":                              "postgresql://h/new",
		"postgres://h/?dbname=old&sslmode=disable":    "postgres://h/new?sslmode=disable",
		"host=h port=1 dbname=old":                    "host=h port=1 dbname=old dbname=new",
		"host=/var/run/postgresql password='a b://c'": "host=/var/run/postgresql password='a b://c' dbname=new",
	} {
		got := withDatabase(dsn, "new")
		if got != want {
			t.Errorf("%s: got %s, want %s", dsn, got, want)
		}
		config, err := pgx.ParseConfig(got)
		if err != nil || config.Database != "new" {
			t.Errorf("%s: the driver reads %v, %v, want no error and Database %q", got, config, err, "new")
		}
	}
}

// A handle opened by DSN shares the database with other handles.
func TestPostgresCanBeOpenedAgain(t *testing.T) {
	t.Parallel()
	dsn := Postgres(t)
	createTable(t, Open(t, postgres.Open(dsn)))
	if !hasTable(Open(t, postgres.Open(dsn))) {
		t.Error("a second handle does not see the table of the first")
	}
}

// The time that a test pays for its database.
func BenchmarkPostgres(b *testing.B) {
	for b.Loop() {
		name := createDatabase(b, postgresServer(b), administer)
		if err := dropDatabase(postgresServer(b), name); err != nil {
			b.Fatal(err)
		}
	}
}
