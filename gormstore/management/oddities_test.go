package management_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/management"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
)

// An error that panics when it is asked what it says, or says what a terminal
// must not get, is one plain line.
func TestOddErrors(t *testing.T) {
	s := newSQLite(t)
	s.train(t, "TrainingSchool", 1)
	for how, want := range map[string]string{
		"nil": "\tCaught a ValueError: Flaky: cannot process notification 1 (Dog.Registered) of TrainingSchool: <nil>\n",
		"odd": "\tCaught a errorString: Flaky: cannot process notification 1 (Dog.Registered) of TrainingSchool: bad[31m dog " +
			"cannot parse the address of the database\n",
	} {
		got := s.manage(t, "DJ_FLAKY=1", "FLAKY="+how, "sync_followers", "-v", "2", "Flaky")
		if got.code != 1 || got.stderr != want {
			t.Errorf("%s: %+v, want %q", how, got, want)
		}
	}
}

// Events that are parked are no processed ones. They are listed, and tried
// again.
func TestParked(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 3)
		s.manage(t, "PARKER=1", "parked", "-o", "json").want(t, 0, "[]\n", "")
		got := s.manage(t, "PARKER=1", "FLAKY=mid", "sync_followers", "-v", "2", "Flaky")
		if want := "\t 2 events from TrainingSchool processed\n\t 1 event from TrainingSchool parked\n"; got.code != 0 || !strings.HasSuffix(got.stdout, want) {
			t.Errorf("%+v, want %q", got, want)
		}
		got = s.manage(t, "PARKER=1", "parked", "Flaky")
		if got.code != 0 || strings.Count(got.stdout, "\n") != 2 || !strings.Contains(got.stdout, "Flaky     TrainingSchool  2   ") {
			t.Errorf("%+v, want code 0, 2 times \"\\n\" and stdout to contain %q", got, "Flaky     TrainingSchool  2   ")
		}
		got = s.manage(t, "PARKER=1", "FLAKY=mid", "retry_parked", "Flaky")
		if got.code != 1 || got.stdout != "0 parked events of Flaky processed, 1 still parked.\n" || !strings.HasPrefix(got.stderr, "\tCaught a AggregateNotFound: ") {
			t.Errorf("%+v, want code 1, stdout %q and stderr to begin with %q", got, "0 parked events of Flaky processed, 1 still parked.\n", "\tCaught a AggregateNotFound: ")
		}
		s.manage(t, "PARKER=1", "retry_parked", "Flaky").want(t, 0, "1 parked event of Flaky processed, 0 still parked.\n", "")
		s.manage(t, "retry_parked", "Nobody").want(t, 1, "", "CommandError: Unknown followers selected: Nobody. The known followers are: Diary, Counter.\n")
	})
}

// A parked event that is discarded is never processed. The command says first
// what it will do, and logs who has done it.
func TestDiscardParked(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 3)
		s.manage(t, "PARKER=1", "FLAKY=mid", "sync_followers", "Flaky")
		const says = "Flaky will never process event 2 of TrainingSchool (Dog.Registered, version 1 of "
		for _, wrong := range []struct {
			words []string
			code  int
			want  string
		}{
			{[]string{"Flaky", "TrainingSchool", "2"}, 1, says},
			{[]string{"--yes", "Flaky", "TrainingSchool", "1"}, 1, "CommandError: Flaky has not parked event 1 of TrainingSchool"},
			{[]string{"--yes", "Flaky", "Diary", "2"}, 1, "it does not follow Diary"},
			{[]string{"--yes", "Nobody", "TrainingSchool", "2"}, 1, "CommandError: Unknown followers selected: Nobody."},
			{[]string{"Flaky", "TrainingSchool", "x"}, 2, "is not the id of an event"},
			{[]string{"Flaky", "TrainingSchool"}, 2, "accepts 3 arg"},
		} {
			got := s.manage(t, append([]string{"PARKER=1", "discard_parked"}, wrong.words...)...)
			if got.code != wrong.code || !strings.Contains(got.stderr, wrong.want) {
				t.Errorf("%v: %+v, want %d and %q", wrong.words, got, wrong.code, wrong.want)
			}
		}
		if got := s.manage(t, "PARKER=1", "discard_parked", "-n", "Flaky", "TrainingSchool", "2"); got.code != 0 || !strings.HasPrefix(got.stdout, says) {
			t.Errorf("dry run: %+v, want %q", got, says)
		}
		if got := s.manage(t, "PARKER=1", "parked", "Flaky"); strings.Count(got.stdout, "\n") != 2 {
			t.Errorf("after a dry run and refusals: %+v, want the event parked", got)
		}
		got := s.manage(t, "PARKER=1", "discard_parked", "--yes", "Flaky", "TrainingSchool", "2")
		if got.code != 0 || got.stdout != "Event 2 of TrainingSchool was discarded by Flaky.\n" {
			t.Errorf("%+v, want code 0 and stdout %q", got, "Event 2 of TrainingSchool was discarded by Flaky.\n")
		}
		for _, want := range []string{"parked event was discarded", "follower=Flaky", "notification=2", "by="} {
			if !strings.Contains(got.stderr, want) {
				t.Errorf("stderr %q, want %q", got.stderr, want)
			}
		}
		s.manage(t, "PARKER=1", "retry_parked", "Flaky").want(t, 0, "0 parked events of Flaky processed, 0 still parked.\n", "")
	})
}

// Applications in memory are refused: a command is meant for those of a
// database.
func TestMemory(t *testing.T) {
	s := newSQLite(t)
	for _, words := range []string{"followers", "sync_followers", "check", "events TrainingSchool", "reset_follower Counter", "parked"} {
		got := s.manage(t, append([]string{"RUNNER=memory"}, strings.Fields(words)...)...)
		if got.code != 1 || got.stdout != "" || !strings.HasSuffix(got.stderr, "\nCommandError: these applications "+
			"keep events in memory: TrainingSchool, Diary, Counter, CatSchool; give application.WithStore, or set PERSISTENCE_MODULE\n") {
			t.Errorf("%s: %+v", words, got)
		}
	}
}

// Calls that mean something else than they seem to are wrong ones.
func TestWrongCalls(t *testing.T) {
	s := newSQLite(t)
	s.train(t, "TrainingSchool", 3)
	s.manage(t, "sync_followers", "-v", "0").want(t, 0, "", "")
	for words, want := range map[string]string{
		"reset_follower --yes --upstream-apps= Counter":              "argument -u/--upstream-apps: a name is empty\n",
		"reset_follower --yes -u TrainingSchool, Counter":            "argument -u/--upstream-apps: a name is empty\n",
		"events TrainingSchool 00000000-0000-0000-0000-000000000000": "no aggregate has the nil UUID\n",
		"nonsense": "unknown command \"nonsense\" for \"manage\"\n",
	} {
		if got := s.manage(t, strings.Fields(words)...); got.code != 2 || !strings.HasSuffix(got.stderr, want) {
			t.Errorf("%s: %+v, want code 2 and stderr to end with %q", words, got, want)
		}
	}
	if got := s.manage(t, "reset_follower", "--yes", "-u", `"TrainingSchool"`, "Counter"); got.code != 1 || !strings.Contains(got.stderr, `track "TrainingSchool"`) {
		t.Errorf("%+v, want code 1 and stderr to contain %q", got, `track "TrainingSchool"`)
	}
	const someone = "11111111-1111-1111-1111-111111111111"
	s.manage(t, "events", "--after", "9223372036854775807", "TrainingSchool", someone).want(t, 0, "ID  ORIGINATOR  VERSION  TIMESTAMP  TOPIC\n", "")
	s.manage(t, "check", "Diary", "Diary").want(t, 0, "Writers are strict: Diary.\n1 application checked: 0 problems.\n", "")
}

// Errors at or before the position are over.
func TestErrorsThatAreOver(t *testing.T) {
	s := newSQLite(t)
	s.train(t, "TrainingSchool", 3)
	s.manage(t, "sync_followers", "-v", "0").want(t, 0, "", "")
	for _, status := range []capability.FollowerStatus{{NotificationID: 2}, {Ahead: 7}} {
		status.ApplicationName, status.UpstreamApplicationName, status.State = "Counter", "TrainingSchool", "stopped"
		status.Error, status.Heartbeat, status.Process = "over and done", time.Now(), "kennel 42"
		if err := capability.Of(gormstore.New(s.db)).Statuses.RecordStatus(t.Context(), status); err != nil {
			t.Fatal(err)
		}
		if got := s.manage(t, "followers"); got.code != 0 || strings.Contains(got.stdout, "over and done") {
			t.Errorf("%+v, want code 0", got)
		}
	}
}

// What cannot be read is said in the row of its follower; the others are there
// all the same.
func TestFollowersThatCannotBeRead(t *testing.T) {
	s := newSQLite(t)
	s.train(t, "TrainingSchool", 3)
	s.manage(t, "sync_followers", "-v", "0").want(t, 0, "", "")
	if err := s.db.Exec("DROP TABLE parked_events; CREATE VIEW parked_events AS SELECT 'Counter' AS application_name, " +
		"'TrainingSchool' AS upstream_application_name WHERE abs(-9223372036854775807 - 1) > 0").Error; err != nil {
		t.Fatal(err)
	}
	got := s.manage(t, "followers")
	if got.code != 1 || got.stderr != "" || strings.Count(got.stdout, "\n") != 4 || strings.Count(got.stdout, "cannot be read: ") != 3 {
		t.Errorf("%+v, want code 1, 4 times \"\\n\" and 3 times \"cannot be read: \"", got)
	}
}

// broken cannot be written to.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("the disk is full") }

// Output that cannot be written is a failure.
func TestBrokenOutput(t *testing.T) {
	s := newSQLite(t)
	t.Setenv("DATABASE", s.address)
	s.train(t, "TrainingSchool", 3)
	s.manage(t, "sync_followers", "-v", "0").want(t, 0, "", "")
	for _, words := range []string{"schema --dialect sqlite", "keygen", "check", "sync_followers", "reset_follower --yes Counter",
		"reset_follower", "followers", "events TrainingSchool", "migrate", "parked"} {
		var stderr bytes.Buffer
		code := management.Run(t.Context(), config(), strings.Fields(words), broken{}, &stderr)
		if code != 1 || !strings.Contains(stderr.String(), "the disk is full") {
			t.Errorf("%s: exit code %d, errors %q, want 1 and it to contain %q", words, code, stderr.String(), "the disk is full")
		}
	}
}

// The function that normalizes names may come after the commands, and the
// letter of a root's flag is explained.
func TestRootChangesItsMind(t *testing.T) {
	root := &cobra.Command{Use: "service"}
	root.PersistentFlags().BoolP("verbose", "v", false, "talk")
	management.AddCommands(root, config())
	root.SetGlobalNormalizationFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName { return pflag.NormalizedName(name) })
	got, _ := execute(t, root, "-v", "sync_followers")
	if got.code != 2 || !strings.Contains(got.stderr, "for that of service write --verbose)") {
		t.Errorf("%+v, want code 2 and stderr to contain %q", got, "for that of service write --verbose)")
	}
}

// interrupt starts a command, and interrupts it once it has printed something.
func interrupt(t *testing.T, cmd *exec.Cmd, printed string, how func() error) result {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var text []byte
	for buffer := make([]byte, 1000); ; {
		before := strings.Contains(string(text), printed)
		n, err := stdout.Read(buffer)
		text = append(text, buffer[:n]...)
		if err != nil {
			break
		}
		if !before && strings.Contains(string(text), printed) {
			time.Sleep(200 * time.Millisecond)
			if err := how(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // its exit code is what counts
	return result{cmd.ProcessState.ExitCode(), string(text), stderr.String()}
}

// An interrupted dry run has changed nothing, and says so.
func TestInterruptedDryRun(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 1000)
		before := s.content(t)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		cmd := s.command(ctx, "PAUSE=20ms", "sync_followers", "-n", "-v", "2", "Counter")
		got := interrupt(t, cmd, "Counter... ", func() error { return cmd.Process.Signal(os.Interrupt) })
		if got.code != 130 || !strings.Contains(got.stdout, "Counter... INTERRUPTED (dry-run)\n\t ") ||
			got.stderr != "CommandError: interrupted; nothing was changed\n" {
			t.Errorf("%+v, want code 130, stdout to contain %q and stderr %q", got, "Counter... INTERRUPTED (dry-run)\n\t ", "CommandError: interrupted; nothing was changed\n")
		}
		if s.content(t) != before {
			t.Error("the database was changed")
		}
	})
}
