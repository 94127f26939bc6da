package testdb

import (
	"database/sql/driver"
	"errors"
	"strings"
	"testing"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
)

// A connection that a test has left is as good as new for the next one, in
// another schema; one that was left in a transaction is not used again.
func TestLentConnection(t *testing.T) {
	t.Parallel()
	server := postgresServer(t)
	d := &sharedDatabase{server: server, name: createDatabase(t, server, administer), tests: 1}
	const state = `SELECT pg_backend_pid(), current_schema(), current_setting('work_mem') = '5MB',
		to_regclass('mine') IS NOT NULL, (SELECT count(*) FROM pg_prepared_statements WHERE name = 'mine'),
		(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())`
	type session struct {
		backend          int
		schema           string
		setting, table   bool
		statement, locks int
	}
	// use is one test: it leaves what a session can leave.
	use := func(schema string, leave ...string) (s session) {
		t.Run(schema, func(t *testing.T) {
			db := lender{d, schema}.open(t)
			pool(t, db).SetMaxOpenConns(1)
			for _, statement := range []string{"CREATE SCHEMA " + schema, "CREATE TABLE " + schema + ".its_own ()", "SELECT 'its_own'::regclass"} {
				run(t, db, statement)
			}
			if err := db.Raw(state).Row().Scan(&s.backend, &s.schema, &s.setting, &s.table, &s.statement, &s.locks); err != nil {
				t.Fatal(err)
			}
			for _, statement := range leave {
				run(t, db, statement)
			}
		})
		return s
	}
	first := use("first", "SET work_mem = '5MB'", "CREATE TEMPORARY TABLE mine ()", "PREPARE mine AS SELECT 1", "SELECT pg_advisory_lock(1)")
	second := use("second", "BEGIN")
	if want := (session{backend: first.backend, schema: "second"}); second != want {
		t.Errorf("the second test: got %+v, want %+v", second, want)
	}
	observer := Open(t, postgres.Open(server))
	waitUntil(t, "the transaction of the second test has ended", func() bool {
		var open int
		row := observer.Raw("SELECT count(*) FROM pg_stat_activity WHERE pid = ? AND xact_start IS NOT NULL", second.backend).Row()
		return row.Scan(&open) == nil && open == 0
	})
	if third := use("third"); third.backend == second.backend {
		t.Errorf("the third test has the transaction of the second one: backend %d", third.backend)
	}
	if err := d.release(); err != nil {
		t.Error(err)
	}
	if err := execute(withDatabase(server, d.name), "SELECT 1"); err == nil || !strings.Contains(err.Error(), "3D000") {
		t.Errorf("after the last test: got %v, want no database", err)
	}
}

// A connection that its user has discarded is not lent again, and one that was
// closed is.
func TestDiscardedConnectionIsNotLent(t *testing.T) {
	t.Parallel()
	server := postgresServer(t)
	d := &sharedDatabase{server: server, name: createDatabase(t, server, administer), tests: 1}
	use := func(name string, discarded error) (backend uint32) {
		t.Run(name, func(t *testing.T) {
			conn, err := pool(t, lender{d, "public"}.open(t)).Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			err = conn.Raw(func(raw any) error {
				backend = raw.(*lentConnection).Conn().PgConn().PID()
				return discarded
			})
			if !errors.Is(err, discarded) {
				t.Fatal(err)
			}
		})
		return backend
	}
	closed, discarded := use("closed", nil), use("discarded", driver.ErrBadConn)
	if closed != discarded {
		t.Errorf("a connection that was closed was not lent again: got backend %d, want %d", discarded, closed)
	}
	if next := use("next", nil); next == discarded {
		t.Errorf("a connection that was discarded was lent again: backend %d", next)
	}
	if err := d.release(); err != nil {
		t.Error(err)
	}
}

// What a test sees of a shared database does not change with what another test
// does in its schema.
func TestSchemaOfASharedDatabase(t *testing.T) {
	t.Parallel()
	own, other := OpenPostgresSchema(t), OpenPostgresSchema(t)
	createTable(t, own)
	before := Schema(t, own)
	createTable(t, other)
	if after := Schema(t, own); after != before {
		t.Errorf("a table of another test is in the schema: got %s, want %s", after, before)
	}
	run(t, own, "CREATE TABLE one_more (id bigserial PRIMARY KEY)")
	// Column, index, key and sequence.
	if after := Schema(t, own); strings.Count(after, "one_more") < 4 {
		t.Errorf("got the schema %s, want all of the table in it", after)
	}
}

// A shared database gets a limited number of schemas, and stays until the last
// test that uses it has ended.
func TestSharedDatabase(t *testing.T) {
	t.Parallel()
	d := &sharedDatabase{schemas: schemasOfDatabase - 1, tests: 1}
	if !d.take() || d.take() || d.tests != 2 {
		t.Errorf("got %d schemas of %d tests, want %d of 2", d.schemas, d.tests, schemasOfDatabase)
	}
}

// Two handles on one schema see the same tables.
func TestOpenPostgresAgain(t *testing.T) {
	t.Parallel()
	first := OpenPostgresSchema(t)
	address := first.Dialector.(*postgres.Dialector).DSN
	createTable(t, first)
	if !hasTable(OpenPostgresAgain(t, address)) {
		t.Error("the second handle does not see the table of the first")
	}
	if hasTable(OpenPostgresSchema(t)) {
		t.Error("another schema has the table")
	}
}

func run(t *testing.T, db *gorm.DB, statement string) {
	t.Helper()
	if err := db.Exec(statement).Error; err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}
