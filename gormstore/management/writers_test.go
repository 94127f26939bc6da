package management_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/operations"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
)

// How this program writes is in check and followers, in both forms.
func TestWritersAreShown(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 1)
		byDefault := operations.ConcurrentWriters
		if s.db.Name() == "sqlite" {
			byDefault = operations.StrictWriters
		}
		for setting, want := range map[string]string{"": byDefault, "STRICT_ORDER=y": operations.StrictWriters} {
			var words []string
			if setting != "" {
				words = []string{setting}
			}
			run := func(command ...string) string {
				got := s.manage(t, append(words[:len(words):len(words)], command...)...)
				if got.code != 0 {
					t.Errorf("%v: %+v, want code 0", command, got)
				}
				return got.stdout
			}
			if got := run("followers"); !strings.Contains(got, "WRITERS") || strings.Count(got, "  "+want) != 3 {
				t.Errorf("%s: followers printed %s, want it to contain %q and 3", setting, got, "WRITERS")
			}
			if got := run("check"); !strings.HasPrefix(got, "Writers are "+want+": TrainingSchool, Diary, Counter, CatSchool.\n") {
				t.Errorf("%s: check printed %s, want writers that are %s first", setting, got, want)
			}
			var states []operations.FollowerState
			if err := json.Unmarshal([]byte(run("followers", "-o", "json")), &states); err != nil || states[0].Writers != want {
				t.Errorf("%s: followers has %+v, %v, want no error and Writers %v", setting, states, err, want)
			}
			if report := checked(t, run("check", "-o", "json")); report.Applications[0].Writers != want {
				t.Errorf("%s: check has %+v, want Writers %v", setting, report, want)
			}
		}
	})
}

// checkReport is what check prints for programs.
type checkReport struct {
	Applications []operations.LogState
	Problems     []struct {
		Application  string
		OriginatorID uuid.UUID `json:"originator_id"`
		Version      int64     `json:"originator_version"`
		Problem      string
	}
	Omitted []operations.OmittedProblems `json:"omitted_problems"`
	Unknown []string                     `json:"unknown_applications"`
}

func checked(t *testing.T, text string) (report checkReport) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &report); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return report
}

// Problems are in the JSON of check as well, with the same exit code.
func TestCheckAsJSON(t *testing.T) {
	s := newSQLite(t)
	s.train(t, "TrainingSchool", 2)
	if err := s.db.Exec("UPDATE stored_events SET originator_version = 7 WHERE id = 2").Error; err != nil {
		t.Fatal(err)
	}
	got := s.manage(t, "check", "-o", "json", "TrainingSchool")
	report := checked(t, got.stdout)
	if got.code != 1 || got.stderr != "" || len(report.Problems) != 1 || report.Problems[0].Version != 7 ||
		report.Problems[0].Application != "TrainingSchool" || report.Problems[0].OriginatorID == uuid.Nil {
		t.Errorf("%+v, want code 1, 1 Problems, Version 7, Application %q and OriginatorID other than %v", got, "TrainingSchool", uuid.Nil)
	}
}

// One cause may make a problem of every event. Those of a kind are shown a few
// times and counted, and none of another kind is hidden by them.
func TestCheckShowsTheFirstOfEachKind(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 30)
		for _, statement := range []string{
			"UPDATE stored_events SET topic = 'Dog.Vaccinated' WHERE id BETWEEN 4 AND 20",
			"UPDATE stored_events SET topic = 'Dog.Chipped' WHERE id = 25",
		} {
			if err := s.db.Exec(statement).Error; err != nil {
				t.Fatal(err)
			}
		}
		got := s.manage(t, "check", "TrainingSchool")
		vaccinated, chipped := strings.Count(got.stdout, "Dog.Vaccinated"), strings.Count(got.stdout, "Dog.Chipped")
		if got.code != 1 || vaccinated != 12 || chipped != 2 || !strings.Contains(got.stdout, "TrainingSchool: 12 more of the kind: cannot be read: ") ||
			!strings.Contains(got.stdout, "checked: 18 problems.") {
			t.Errorf("got %d and %d lines: %+v, want code 1, 12, 2, stdout to contain %q and stdout to contain %q", vaccinated, chipped, got, "TrainingSchool: 12 more of the kind: cannot be read: ", "checked: 18 problems.")
		}
		report := checked(t, s.manage(t, "check", "-o", "json", "TrainingSchool").stdout)
		if len(report.Problems) != 6 || len(report.Omitted) != 1 || report.Omitted[0].Count != 12 || report.Omitted[0].Application != "TrainingSchool" {
			t.Errorf("got %+v, want 6 Problems, 1 Omitted, Count 12 and Application %q", report, "TrainingSchool")
		}
	})
}

// Names that the tables have and the program does not, as after a change of an
// application's name, are said and are no problem.
func TestCheckNamesUnknownApplications(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 1)
		s.train(t, "Old School", 3)
		if err := s.db.Exec("INSERT INTO notification_tracking (application_name, upstream_application_name, notification_id) " +
			"VALUES ('Old Counter', 'TrainingSchool', 1)").Error; err != nil {
			t.Fatal(err)
		}
		got := s.manage(t, "check")
		if got.code != 0 || !strings.HasPrefix(got.stdout, "Old Counter: is in the tables, and the runner's system has no application of that name; "+
			"if this program has it, add it with system.Pipe(app)\n"+
			"Old School: is in the tables, ") || !strings.HasSuffix(got.stdout, "4 applications checked: 0 problems.\n") {
			t.Errorf("%+v", got)
		}
		report := checked(t, s.manage(t, "check", "-o", "json").stdout)
		if strings.Join(report.Unknown, ", ") != "Old Counter, Old School" {
			t.Errorf("%+v, want %q", report, "Old Counter, Old School")
		}
		if got := s.manage(t, "check", "TrainingSchool"); strings.Contains(got.stdout, "Old") {
			t.Errorf("one application: %+v, want nothing about the others", got)
		}
	})
}

// A transaction that stays open is named by followers and check.
func TestOpenTransactionIsShown(t *testing.T) {
	t.Parallel()
	s := newPostgres(t)
	s.train(t, "TrainingSchool", 2)
	tx := s.db.Begin()
	defer tx.Rollback()
	app, err := leader("TrainingSchool")(application.WithStore(gormstore.New(s.db)))
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	if err := register(gormstore.WithTx(t.Context(), tx), app, 1); err != nil {
		t.Fatal(err)
	}
	s.train(t, "TrainingSchool", 3)
	const held = "events from 3 to 6 cannot be read before the transaction of server process "
	expect.Until(t, "followers names the transaction", func() bool {
		time.Sleep(200 * time.Millisecond) // a process costs as much as a test
		got := s.manage(t, "followers")
		return got.code == 0 && strings.Count(got.stdout, held) == 2 && strings.Contains(got.stdout, "idle in transaction, since 20")
	})
	if got := s.manage(t, "check", "TrainingSchool"); got.code != 0 || !strings.HasPrefix(got.stdout, "TrainingSchool: "+held) {
		t.Errorf("%+v, want code 0 and stdout to begin with %q", got, "TrainingSchool: "+held)
	}
	if report := checked(t, s.manage(t, "check", "-o", "json").stdout); report.Applications[0].Held == nil || report.Applications[0].Held.PID == 0 {
		t.Errorf("%+v, want Held other than nil and PID other than 0", report)
	}
}
