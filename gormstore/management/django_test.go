package management_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/eventsourcing-go/eventsourcing/gormstore/management"
	"github.com/eventsourcing-go/eventsourcing/internal/pythontest"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
)

// emptyDjangoService makes a service on the tables that Django has made, without
// what the Python library has stored in them.
func emptyDjangoService(t *testing.T, file string) *service {
	t.Helper()
	s := djangoService(t, file)
	for _, table := range []string{"stored_events", "snapshots", "notification_tracking"} {
		if err := s.db.Exec("DELETE FROM " + table).Error; err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// djangoService makes a service on a database of the Python library.
func djangoService(t *testing.T, file string) *service {
	t.Helper()
	address := pythontest.Copy(t, filepath.Join("..", "testdata", "python", file))
	if !strings.HasSuffix(file, ".sql") {
		address = "sqlite:" + address
	}
	var err error
	s := &service{address: address}
	if s.db, err = openDatabase(address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if pool, err := s.db.DB(); err != nil || pool.Close() != nil {
			t.Error("the database was not closed")
		}
	})
	return s
}

// djangoCall is a call of a command on tables that Django has made.
type djangoCall struct {
	words string
	code  int
	want  string // in the output
}

// Every command works on a database that only Django has made, or says which
// table it needs. None of them changes a table but migrate, and none sends a
// statement that fails: GORM would log it.
func TestCommandsOnTablesOfDjango(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"plain.sqlite3", "postgres-zlib-aes.sql"} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			s := emptyDjangoService(t, file)
			s.env = []string{"LOGGING=1"}
			before := testdb.Schema(t, s.db)
			s.train(t, "TrainingSchool", 3)
			const lacks = "is not migrated: it lacks the tables follower_status"
			tests := []djangoCall{
				{words: "sync_followers --dry-run", want: "OK (dry-run)"},
				{words: "sync_followers --dry-run -v 3 Counter", want: "Counter"},
				{words: "sync_followers", want: "OK"},
				{words: "sync_followers Counter", want: "OK"},
				{words: "followers", want: "TrainingSchool"},
				{words: "followers --output json", want: `"follower"`},
				{words: "followers pause Counter", code: 1, want: lacks},
				{words: "followers resume Counter", code: 1, want: lacks},
				{words: "followers accept Counter", code: 1, want: lacks},
				{words: "followers skip --dry-run Counter", want: "Counter"},
				{words: "followers skip --yes Counter", want: "Counter"},
				{words: "followers continue --dry-run Counter", want: "nothing is to be done"},
				{words: "contents", want: "Dog.Registered"},
				{words: "check", want: "0 problems"},
				{words: "check --output json TrainingSchool", want: `"problems"`},
				{words: "events TrainingSchool", want: "Dog.Registered"},
				{words: "events --payload --output json TrainingSchool", want: `"payload"`},
				{words: "parked", code: 1, want: lacks},
				{words: "parked Counter", code: 1, want: lacks},
				{words: "retry_parked Counter", code: 1, want: lacks},
				{words: "discard_parked --dry-run Counter TrainingSchool 1", code: 1, want: lacks},
				{words: "reset_follower", want: "Known followers"},
				{words: "reset_follower --dry-run Counter", want: "dry-run"},
				{words: "reset_follower --yes Counter", want: "un-tracked"},
				{words: "delete_originator --dry-run TrainingSchool " + s.anyOriginator(t), want: "1 event"},
				{words: "delete_originator --yes TrainingSchool " + s.anyOriginator(t), want: "1 event"},
				{words: "sync_followers", want: "OK"},
				{words: "followers continue Counter", want: "nothing is to be done"},
				{words: "discard_parked --yes Counter TrainingSchool 1", code: 1, want: lacks},
				{words: "schema --dialect sqlite", want: "CREATE TABLE"},
				{words: "keygen", want: "="},
				{words: "migrate --plan", want: "follower_settings"},
			}
			for _, test := range tests {
				got := s.manage(t, strings.Fields(test.words)...)
				output := got.stdout + got.stderr
				if got.code != test.code || !strings.Contains(output, test.want) {
					t.Errorf("%s: exit code %d, %s\nwant %d, and %q", test.words, got.code, output, test.code, test.want)
				}
				for _, failed := range []string{"SQLSTATE", "no such table", "does not exist", "aborted"} {
					if strings.Contains(output, failed) {
						t.Errorf("%s sends a statement that fails: %s", test.words, output)
					}
				}
				if testdb.Schema(t, s.db) != before {
					t.Fatalf("%s has changed the tables", test.words)
				}
			}
			root := &cobra.Command{Use: "manage"}
			management.AddCommands(root, config())
			for _, command := range runnable(root.Commands()) {
				path := strings.TrimPrefix(command.CommandPath(), "manage ")
				played := func(with string) bool {
					return slices.ContainsFunc(tests, func(test djangoCall) bool {
						return strings.HasPrefix(test.words+" ", path+" ") && strings.Contains(test.words, with)
					})
				}
				if !played("") || command.Flags().Lookup("dry-run") != nil && !played("--dry-run") {
					t.Errorf("%s was not run, or not with --dry-run", path)
				}
			}
			s.manage(t, "migrate").want(t, 0, "The tables for events are in the database \"default\".\n", "")
			s.manage(t, "followers", "pause", "Counter").want(t, 0, "Counter is paused: it processes no events of CatSchool, TrainingSchool.\n", "")
		})
	}
}

// runnable returns the commands and those below them that do something.
func runnable(commands []*cobra.Command) (all []*cobra.Command) {
	for _, c := range commands {
		if c.Runnable() {
			all = append(all, c)
		}
		all = append(all, runnable(c.Commands())...)
	}
	return all
}

// anyOriginator is the id of an aggregate that has events.
func (s *service) anyOriginator(t *testing.T) (id string) {
	t.Helper()
	if err := s.db.Raw("SELECT originator_id FROM stored_events WHERE application_name = 'TrainingSchool' LIMIT 1").Scan(&id).Error; err != nil {
		t.Fatal(err)
	}
	return id
}

// The command contents says what is in a database of the Python library, also
// if this program does not know its applications or cannot open its states.
func TestContents(t *testing.T) {
	t.Parallel()
	s := djangoService(t, "plain.sqlite3")
	s.train(t, "TrainingSchool", 3)
	s.train(t, "CatSchool", 1)
	if err := s.db.Exec("UPDATE stored_events SET state = x'00' WHERE id = 91").Error; err != nil {
		t.Fatal(err)
	}
	got := s.manage(t, "contents")
	for _, want := range []string{
		"APPLICATION KIND TOPIC ROWS FIRST LAST LAYOUT VERSIONS NOTE",
		"CatSchool events Dog.Registered 1 92 92 own 1",
		"Counters events training_school.domain:Counter.Incremented 27 4 84 python the runner's system has no application of that name; if this program has it, add it with system.Pipe(app)",
		"TrainingSchool events Dog.Registered 3 89 91 own: 2, unopened: 1 1: 2 1 cannot be read, the first: TrainingSchool: cannot",
		"TrainingSchool events training_school.domain:Dog.TrickAdded 27 2 82 python 1 this program does not define the topic",
		"TrainingSchool snapshots eventsourcing.domain:Snapshot 2 python 1 2 cannot be read, the first: TrainingSchool: cannot",
		"FOLLOWER LEADER POSITION ROWS",
		"Counters TrainingSchool 88 34",
	} {
		if !strings.Contains(strings.Join(strings.Fields(got.stdout), " "), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if t.Failed() || got.code != 0 || got.stderr != "" {
		t.Errorf("exit code %d, want 0 and no errors\n%s%s", got.code, got.stdout, got.stderr)
	}
	if got := s.manage(t, "contents", "-o", "json", "CatSchool"); !strings.Contains(got.stdout, `"layouts": {
            "own": 1
          }`) || strings.Contains(got.stdout, "TrainingSchool") {
		t.Errorf("as JSON: %s%s", got.stdout, got.stderr)
	}
}
