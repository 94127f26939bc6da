package management_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
)

// service is the service with its database, seen from outside.
type service struct {
	address string
	db      *gorm.DB
	env     []string
}

// newSQLite and newPostgres make a service with a new, migrated database.
func newSQLite(t *testing.T) *service {
	t.Helper()
	return open(t, "sqlite:"+filepath.Join(t.TempDir(), "service.sqlite3"))
}

func newPostgres(t *testing.T) *service {
	t.Helper()
	return open(t, testdb.Postgres(t))
}

func open(t *testing.T, address string) *service {
	t.Helper()
	db, err := openDatabase(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		pool, err := db.DB()
		if err == nil {
			err = pool.Close()
		}
		if err != nil {
			t.Error(err)
		}
	})
	if err := gormstore.AutoMigrate(db); err != nil {
		t.Fatal(err)
	}
	return &service{address: address, db: db}
}

// each runs a test on both databases, in parallel with all other tests.
func each(t *testing.T, test func(t *testing.T, s *service)) {
	t.Helper()
	t.Parallel()
	for name, make := range map[string]func(*testing.T) *service{"sqlite": newSQLite, "postgres": newPostgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, make(t))
		})
	}
}

// result is what a run of the program has left.
type result struct {
	code           int
	stdout, stderr string
}

// command prepares a run of the program. Words with = before the program's name
// are its environment.
func (s *service) command(ctx context.Context, words ...string) *exec.Cmd {
	env := append([]string{asProgram + "=1", "GORACE=atexit_sleep_ms=0", "DATABASE=" + s.address}, s.env...)
	for len(words) > 0 && strings.Contains(words[0], "=") {
		env, words = append(env, words[0]), words[1:]
	}
	program, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.CommandContext(ctx, program, words...)
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

// manage runs the program in a new process.
func (s *service) manage(t *testing.T, words ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := s.command(ctx, words...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatalf("start %q: %v", words, err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// want fails the test unless a run has ended with this exit code and these
// outputs.
func (r result) want(t *testing.T, code int, stdout, stderr string) {
	t.Helper()
	if r.code != code || r.stdout != stdout || r.stderr != stderr {
		t.Errorf("exit code %d, output %q, errors %q; want %d, %q, %q", r.code, r.stdout, r.stderr, code, stdout, stderr)
	}
}

// train saves events of a leader.
func (s *service) train(t testing.TB, name string, n int) {
	t.Helper()
	app, err := leader(name)(application.WithStore(gormstore.New(s.db)))
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	for done := 0; done < n; done += 500 {
		if err := register(t.Context(), app, min(n-done, 500)); err != nil {
			t.Fatal(err)
		}
	}
}

// content is a hash of every row of every table.
func (s *service) content(t *testing.T) string {
	t.Helper()
	h := sha256.New()
	for _, table := range []string{"stored_events", "snapshots", "notification_tracking", "follower_status", "parked_events",
		"follower_runners", "follower_settings", "follower_partitions"} {
		fmt.Fprintln(h, table, rowsOf(t, s.db, table))
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

func rowsOf(t *testing.T, db *gorm.DB, table string) string {
	t.Helper()
	rows, err := db.Raw("SELECT * FROM " + table + " ORDER BY 1, 2, 3").Rows()
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for rows.Next() {
		values, targets := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			targets[i] = &values[i]
		}
		if err := rows.Scan(targets...); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&text, values...)
	}
	return text.String()
}

// rows counts the rows of a table that belong to an application.
func (s *service) rows(t *testing.T, table, application string) (n int64) {
	t.Helper()
	if err := s.db.Table(table).Where("application_name = ?", application).Count(&n).Error; err != nil {
		t.Fatal(err)
	}
	return n
}
