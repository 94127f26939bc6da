package pythontest

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
)

// forPsql are the lines of a dump that are for psql.
var forPsql = regexp.MustCompile(`(?m)^\\.*$`)

// Copy copies a database that the Python library has made, which is a file of
// SQLite or a dump of PostgreSQL. It returns the path of the copy, or its
// address.
func Copy(t testing.TB, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Ext(file) == ".sql" {
		address := testdb.Postgres(t)
		restore(t, address, forPsql.ReplaceAllString(string(content), ""))
		return address
	}
	path := filepath.Join(t.TempDir(), filepath.Base(file))
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// restore executes a dump, on a separate connection because the dump changes
// its settings.
func restore(t testing.TB, address, dump string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.PgConn().Exec(ctx, dump).ReadAll(); err != nil {
		t.Fatalf("pythontest: restore: %v", strings.TrimSpace(err.Error()))
	}
}
