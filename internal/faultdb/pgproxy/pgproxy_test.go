package pgproxy_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/eventsourcing-go/eventsourcing/internal/faultdb/pgproxy"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
)

func TestMain(m *testing.M) { os.Exit(testdb.Main(m)) }

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}

// A statement that is cut before is not done, and one that is cut after is; the
// client learns of neither. It is the same whether the statement is sent as
// text or was prepared.
func TestCut(t *testing.T) {
	t.Parallel()
	dsn := testdb.Postgres(t)
	truth, proxy := connect(t, dsn), pgproxy.New(t, dsn)
	if _, err := truth.Exec(t.Context(), "CREATE TABLE t (x int)"); err != nil {
		t.Fatal(err)
	}
	rows := 0
	for _, arguments := range [][]any{nil, {7}} {
		for action, added := range map[pgproxy.Action]int{pgproxy.Forward: 1, pgproxy.CutBefore: 0, pgproxy.CutAfter: 1} {
			proxy.Use(func(statement string) pgproxy.Action {
				if strings.HasPrefix(statement, "INSERT") {
					return action
				}
				return pgproxy.Forward
			})
			query := "INSERT INTO t VALUES (7)"
			if arguments != nil {
				query = "INSERT INTO t VALUES ($1)"
			}
			_, err := connect(t, proxy.DSN()).Exec(t.Context(), query, arguments...)
			if (err == nil) != (action == pgproxy.Forward) {
				t.Errorf("action %d with %d arguments: %v, want an error of all but Forward", action, len(arguments), err)
			}
			rows += added
			var got int
			if err := truth.QueryRow(t.Context(), "SELECT COUNT(*) FROM t").Scan(&got); err != nil || got != rows {
				t.Errorf("action %d with %d arguments: %d rows (%v), want %d", action, len(arguments), got, err, rows)
			}
		}
	}
}

// A statement that is swallowed leaves a connection that is open and silent.
func TestSwallow(t *testing.T) {
	t.Parallel()
	proxy := pgproxy.New(t, testdb.Postgres(t))
	conn := connect(t, proxy.DSN())
	ctx, cancel := context.WithCancel(t.Context())
	proxy.Use(func(string) pgproxy.Action {
		cancel() // nothing else ends the wait
		return pgproxy.Swallow
	})
	if _, err := conn.Exec(ctx, "SELECT 1"); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	proxy := pgproxy.New(t, testdb.Postgres(t))
	proxy.Refuse(true)
	if conn, err := pgx.Connect(t.Context(), proxy.DSN()); err == nil {
		_ = conn.Close(t.Context())
		t.Error("a connection was accepted")
	}
	proxy.Refuse(false)
	connect(t, proxy.DSN())
}
