package management_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/operations"
	"github.com/eventsourcing-go/eventsourcing/gormstore/management"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// execute runs a root command in this process.
func execute(t *testing.T, root *cobra.Command, words ...string) (result, error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	root.SetOut(&stdout)
	root.SetErr(&stderr)
	root.SetArgs(words)
	err := root.ExecuteContext(t.Context())
	return result{management.ExitCode(err), stdout.String(), stderr.String()}, err
}

// The commands live in a root whose flags have the same letters, defined before
// or after: their own letters win, and the root's flags keep their names and
// work.
func TestRootWithTheSameLetters(t *testing.T) {
	s := newSQLite(t)
	t.Setenv("DATABASE", s.address)
	s.train(t, "TrainingSchool", 2)
	var verbose, dry bool
	var user, host string
	newRoot := func(mountFirst bool) *cobra.Command {
		root := &cobra.Command{Use: "service"}
		root.SetGlobalNormalizationFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
			return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-"))
		})
		if mountFirst {
			management.AddCommands(root, config())
		}
		flags := root.PersistentFlags()
		flags.BoolVarP(&verbose, "verbose", "v", false, "talk")
		flags.BoolVarP(&dry, "dry", "n", false, "no water")
		flags.StringVarP(&user, "user", "u", "", "who")
		flags.StringVarP(&host, "host", "h", "", "where")
		flags.Bool("help", false, "help") // or cobra panics by itself beside a -h
		flags.StringP("other", "o", "", "of the service")
		flags.IntP("yards", "y", 0, "how far")
		if !mountFirst {
			management.AddCommands(root, config())
		}
		return root
	}
	for _, mountFirst := range []bool{true, false} {
		got, err := execute(t, newRoot(mountFirst), "--verbose", "sync_followers", "--user=me", "--host", "there", "-v", "2", "-n")
		if err != nil || got.code != 0 || !strings.Contains(got.stdout, "\t 2 events from TrainingSchool processed\n") {
			t.Errorf("%+v (%v), want no error, code 0 and stdout to contain %q", got, err, "\t 2 events from TrainingSchool processed\n")
		}
		if !verbose || dry || user != "me" || host != "there" {
			t.Errorf("the root has verbose %v, dry %v, user %q, host %q, want %q and %q", verbose, dry, user, host, "me", "there")
		}
		for _, command := range []string{"sync_followers", "reset_follower", "followers", "events", "check", "migrate", "schema", "keygen"} {
			got, err := execute(t, newRoot(mountFirst), command, "--help")
			if err != nil || !strings.Contains(got.stdout, "service "+command) {
				t.Errorf("%+v (%v), want no error and stdout to contain %q", got, err, "service "+command)
			}
		}
		got, err = execute(t, newRoot(mountFirst), "sync_followers", "-v", "9")
		if got.code != 2 || got.stdout != "" || strings.Count(got.stderr, "invalid choice") != 1 {
			t.Errorf("%+v (%v), want code 2 and one \"invalid choice\"", got, err)
		}
		got, _ = execute(t, newRoot(mountFirst), "sync_followers", "--dry_run", "-v", "1", "Nobody")
		got.want(t, 1, "", "CommandError: Unknown followers selected: Nobody. The known followers are: Diary, Counter.\n")
		for _, complete := range [][]string{{"sync_followers", "-v", ""}, {"reset_follower", "-u", ""}, {"sync_followers", ""}} {
			if _, err := execute(t, newRoot(mountFirst), append([]string{cobra.ShellCompRequestCmd}, complete...)...); err != nil {
				t.Error(err)
			}
		}
	}
}

// Errors of the service's own root are not kept to themselves.
func TestRootThatFails(t *testing.T) {
	root := &cobra.Command{Use: "service", PersistentPreRunE: func(*cobra.Command, []string) error { return errors.New("no configuration") }}
	management.AddCommands(root, management.Config{})
	if got, err := execute(t, root, "keygen"); err == nil || !strings.Contains(got.stderr, "no configuration") || got.code != 1 {
		t.Errorf("%+v (%v), want stderr to contain %q and code 1", got, err, "no configuration")
	}
}

// A service that has no root gets one; a runner that is given is not closed.
func TestRunWithoutRoot(t *testing.T) {
	s := newSQLite(t)
	s.train(t, "TrainingSchool", 2)
	runner := s.runner(t)
	c := management.Config{Runners: map[string]management.RunnerFunc{"given": management.Given(runner)}}
	for range 2 {
		var stdout, stderr bytes.Buffer
		code := management.Run(t.Context(), c, []string{"sync_followers", "-v", "0"}, &stdout, &stderr)
		result{code, stdout.String(), stderr.String()}.want(t, 0, "", "")
	}
	var stdout, stderr bytes.Buffer
	if code := management.Run(t.Context(), c, []string{"--nonsense"}, &stdout, &stderr); code != 2 || !strings.Contains(stderr.String(), "usage:") {
		t.Errorf("exit code %d, errors %q, want 2 and it to contain %q", code, stderr.String(), "usage:")
	}
	if code := management.Run(t.Context(), c, []string{"nonsense"}, io.Discard, &stderr); code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
	c.Runners["given"] = management.Given((*system.Runner)(nil))
	stderr.Reset()
	if code := management.Run(t.Context(), c, []string{"followers"}, io.Discard, &stderr); code != 1 || !strings.Contains(stderr.String(), "returned no runner") {
		t.Errorf("exit code %d, errors %q, want 1 and it to contain %q", code, stderr.String(), "returned no runner")
	}
}

// enough is an error whose type is not exported.
type enough struct{}

func (enough) Error() string { return "enough" }

// special is an error of a type that has another one.
type special[T any] struct{}

func (special[T]) Error() string { return "special" }

// The names of errors are those of the Python library if it has them, and
// otherwise those of Go.
func TestClassName(t *testing.T) {
	processing := func(err error) error {
		return &system.ProcessingError{Follower: "F", Leader: "L", NotificationID: 1, Err: err}
	}
	for _, test := range []struct {
		err  error
		want string
	}{
		{gorm.ErrRecordNotFound, "ObjectDoesNotExist"},
		{processing(fmt.Errorf("x: %w", gorm.ErrRecordNotFound)), "ObjectDoesNotExist"},
		{application.ErrAggregateNotFound, "AggregateNotFound"},
		{&persistence.ConflictError{}, "IntegrityError"},
		{persistence.ErrPositionMoved, "IntegrityError"},
		{persistence.ErrLockTimeout, "OperationalError"},
		{processing(persistence.ErrNotMigrated), "OperationalError"},
		{persistence.ErrData, "DataError"},
		{persistence.ErrInternal, "InternalError"},
		{persistence.ErrProgramming, "ProgrammingError"},
		{persistence.ErrNotSupported, "NotSupportedError"},
		{persistence.ErrDatabase, "DatabaseError"},
		{persistence.ErrClosed, "InterfaceError"},
		{persistence.ErrPersistence, "PersistenceError"},
		{domain.ErrEventSourcing, "EventSourcingError"},
		{&system.ProcessingError{Err: persistence.ErrData, Stack: []byte("goroutine 1")}, "PanicError"},
		{fmt.Errorf("F: %w", system.ErrAhead), "AheadError"},
		{processing(fmt.Errorf("x: %w", &ValueError{"boom"})), "ValueError"},
		{errors.Join(enough{}, &ValueError{"boom"}), "ValueError"},
		{enough{}, "enough"},
		{struct{ error }{enough{}}, "Error"},
		{special[enough]{}, "special"},
		{processing((*ValueError)(nil)), "ValueError"},
		{(*system.ProcessingError)(nil), "ProcessingError"},
		{errors.New("boom"), "errorString"},
	} {
		if got := management.ClassName(test.err); got != test.want {
			t.Errorf("%T %v is a %s, want %s", test.err, test.err, got, test.want)
		}
	}
}

// Events are shown a page at a time, decoded if they can be.
func TestEvents(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 5)
		var shown []struct {
			NotificationID int64           `json:"notification_id"`
			OriginatorID   string          `json:"originator_id"`
			Topic          string          `json:"topic"`
			Payload        json.RawMessage `json:"payload"`
		}
		read := func(words ...string) result {
			t.Helper()
			got := s.manage(t, append([]string{"events", "-o", "json"}, words...)...)
			shown = nil
			if err := json.Unmarshal([]byte(got.stdout), &shown); err != nil || got.code != 0 {
				t.Fatalf("%+v (%v), want no error and code 0", got, err)
			}
			return got
		}
		got := read("--limit", "2", "TrainingSchool")
		if len(shown) != 2 || shown[0].Topic != "Dog.Registered" || shown[0].Payload != nil {
			t.Errorf("%+v, want 2 of them, Topic %q and Payload nil", got, "Dog.Registered")
		}
		if want := fmt.Sprintf("There may be more: --after %d\n", shown[1].NotificationID); got.stderr != want {
			t.Errorf("%q, want %q", got.stderr, want)
		}
		read("--after", fmt.Sprint(shown[1].NotificationID), "--payload", "TrainingSchool")
		if len(shown) != 3 || string(bytes.Join(bytes.Fields(shown[0].Payload), nil)) != `{"Number":3}` {
			t.Errorf("%+v, want 3 of them and %q", shown, `{"Number":3}`)
		}
		one := shown[0].OriginatorID
		if read("TrainingSchool", one); len(shown) != 1 || shown[0].OriginatorID != one || shown[0].NotificationID != 0 {
			t.Errorf("%+v, want 1 of them, OriginatorID %v and NotificationID 0", shown, one)
		}
		page, err := operations.Events(t.Context(), s.runner(t), operations.EventsOptions{Application: "TrainingSchool", Limit: 1 << 20})
		if err != nil || len(page.Events) != 5 || page.Next != 0 {
			t.Errorf("%+v (%v), want no error, 5 Events and Next 0", page, err)
		}
		if err := s.db.Exec("UPDATE stored_events SET topic = 'Cat' WHERE id = (SELECT MAX(id) FROM stored_events)").Error; err != nil {
			t.Fatal(err)
		}
		if got := s.manage(t, "events", "TrainingSchool"); !strings.Contains(got.stdout, "cannot be read: ") || strings.Count(got.stdout, "\n") != 6 {
			t.Errorf("%+v, want stdout to contain %q and 6 times \"\\n\"", got, "cannot be read: ")
		}
		damaged := s.manage(t, "check", "TrainingSchool")
		if damaged.code != 1 || damaged.stderr != "" || !strings.Contains(damaged.stdout, "cannot be read") ||
			!strings.HasSuffix(damaged.stdout, "1 application checked: 1 problem.\n") {
			t.Errorf("%+v, want code 1, stdout to contain %q and stdout to end with %q", damaged, "cannot be read", "1 application checked: 1 problem.\n")
		}
	})
}

// Every key is another one, of the size that was asked for.
func TestKeygen(t *testing.T) {
	s := &service{}
	first, second := s.manage(t, "keygen"), s.manage(t, "keygen", "--size", "16")
	for size, got := range map[int]result{32: first, 16: second} {
		key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(got.stdout))
		if err != nil || len(key) != size || got.code != 0 {
			t.Errorf("%+v (%v), want no error, %v of them and code 0", got, err, size)
		}
	}
}

// terminalMaker is the program script of Linux, which makes pseudo-terminals.
// That of other systems has other flags.
func terminalMaker(t *testing.T) string {
	t.Helper()
	script, err := exec.LookPath("script")
	if err != nil || runtime.GOOS != "linux" {
		t.Skip("there is no program script of Linux, which makes terminals")
	}
	return script
}

// onTerminal runs the program on a pseudo-terminal, with something typed in.
func (s *service) onTerminal(t *testing.T, typed string, words ...string) string {
	t.Helper()
	script := terminalMaker(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := s.command(ctx, words...)
	inner := "'" + cmd.Path + "' " + strings.Join(cmd.Args[1:], " ")
	terminal := exec.CommandContext(ctx, script, "-qec", inner, os.DevNull)
	terminal.Env, terminal.Stdin = cmd.Env, strings.NewReader(typed)
	output, err := terminal.CombinedOutput()
	if failed := (*exec.ExitError)(nil); err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	return string(output)
}

// On a terminal there are colours and progress, unless NO_COLOR is set; in a
// pipe there are not, as the transcripts show.
func TestTerminal(t *testing.T) {
	t.Parallel()
	s := newSQLite(t)
	s.train(t, "TrainingSchool", 300)
	coloured := s.onTerminal(t, "", "PAUSE=1ms", "sync_followers", "Counter")
	for _, want := range []string{"\x1b[36;1m1 follower selected", "\r\x1b[K[1/1] Synchronizing \x1b[1mCounter\x1b[0m... TrainingSchool: ",
		" of 300, ", " events/s, ", "\r\x1b[K[1/1] Synchronizing \x1b[1mCounter\x1b[0m... \x1b[32;1mOK\x1b[0m"} {
		if !strings.Contains(coloured, want) {
			t.Errorf("%q lacks %q", coloured, want)
		}
	}
	for _, words := range [][]string{{"NO_COLOR=1", "sync_followers"}, {"sync_followers", "--no-color"}} {
		if plain := s.onTerminal(t, "", words...); strings.Contains(plain, "m") && strings.Contains(plain, "\x1b[3") || !strings.Contains(plain, "OK\r\n") {
			t.Errorf("got %q, want OK without color", plain)
		}
	}
}

// On a terminal reset_follower says what will be replayed, and asks.
func TestQuestion(t *testing.T) {
	t.Parallel()
	s := newSQLite(t)
	s.train(t, "TrainingSchool", 3)
	s.manage(t, "sync_followers", "-v", "0").want(t, 0, "", "")
	for _, typed := range []string{"n\n", "\n", "\x04"} {
		got := s.onTerminal(t, typed, "reset_follower", "Diary")
		if !strings.Contains(got, "Diary will replay 3 events. Are you sure? [y/N] ") || !strings.Contains(got, "Nothing was reset.") ||
			s.rows(t, "notification_tracking", "Diary") != 1 {
			t.Errorf("after %q: %q, want it to contain %q, to contain %q and rows 1", typed, got, "Diary will replay 3 events. Are you sure? [y/N] ", "Nothing was reset.")
		}
	}
	nobody := s.command(t.Context(), "reset_follower", "Diary") // its input is /dev/null
	if output, err := nobody.CombinedOutput(); err == nil || !strings.Contains(string(output), "Without a terminal it needs") {
		t.Errorf("with nobody there: %q (%v), want it to contain %q", output, err, "Without a terminal it needs")
	}
	got := s.onTerminal(t, "y\n", "reset_follower", "Diary")
	if !strings.Contains(got, "1 upstream app has been un-tracked.") || s.rows(t, "notification_tracking", "Diary") != 0 {
		t.Errorf("after yes: %q, want it to contain %q and rows 0", got, "1 upstream app has been un-tracked.")
	}
}

// Tables of the service's own are created after those for events, and not for a
// plan.
func TestMigrateOwn(t *testing.T) {
	s := newSQLite(t)
	defer gormstore.RegisterDB("kennel", s.db)()
	made := 0
	options := operations.MigrateOptions{Database: "kennel", Plan: true, Own: func(context.Context, *gorm.DB) error { made++; return nil }}
	if _, err := operations.Migrate(t.Context(), options); err != nil || made != 0 {
		t.Errorf("a plan has made %d tables (%v), want no error and 0", made, err)
	}
	options.Plan = false
	if report, err := operations.Migrate(t.Context(), options); err != nil || made != 1 || len(report.Tables) != 0 {
		t.Errorf("%+v, %d tables (%v), want no error, 1 and 0 Tables", report, made, err)
	}
	if err := s.db.Exec("DROP TABLE snapshots; CREATE TABLE snapshots (uid integer)").Error; err != nil {
		t.Fatal(err)
	}
	options.Plan = true
	if _, err := operations.Migrate(t.Context(), options); err == nil || !strings.Contains(err.Error(), "table snapshots has no column topic") {
		t.Errorf("the error is %v, want an error that contains %q", err, "table snapshots has no column topic")
	}
}

// A plan for an empty database names all tables, and for one that Django made
// those that it has not.
func TestPlan(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		tables := []string{"stored_events", "snapshots", "notification_tracking", "follower_status", "parked_events",
			"follower_runners", "follower_settings", "follower_partitions"}
		for _, absent := range [][]string{tables[3:], tables} {
			for _, table := range absent {
				if err := s.db.Exec("DROP TABLE IF EXISTS " + table).Error; err != nil {
					t.Fatal(err)
				}
			}
			s.manage(t, "migrate", "--plan").want(t, 0, fmt.Sprintf("The database \"default\" lacks the tables %s.\n", strings.Join(absent, ", ")), "")
		}
	})
}

// A plan names the tables of projections as well, and check those whose primary
// key is not that of their model.
func TestPlanOfProjections(t *testing.T) {
	type kennel struct {
		Dog  string `gorm:"primaryKey"`
		Name string `gorm:"index"`
	}
	each(t, func(t *testing.T, s *service) {
		alias := "kennels-" + s.db.Name()
		defer gormstore.RegisterDB(alias, s.db)()
		runner := s.runner(t)
		_, err := gormstore.NewProjection("Kennels", gormstore.New(s.db), gormstore.Models(&kennel{}),
			gormstore.On(func(context.Context, *gorm.DB, domain.Recorded[registered]) error { return nil }))
		if err != nil {
			t.Fatal(err)
		}
		command := func(words ...string) (got result) {
			var stdout, stderr bytes.Buffer
			c := management.Config{Runners: map[string]management.RunnerFunc{"given": management.Given(runner)}}
			code := management.Run(t.Context(), c, words, &stdout, &stderr)
			return result{code, stdout.String(), stderr.String()}
		}
		plan := func(want string) {
			t.Helper()
			command("migrate", "--plan", "--database", alias).want(t, 0, want+"\n", "")
		}
		plan(fmt.Sprintf("The database %q lacks the tables kennels.", alias))
		if err := s.db.Exec("CREATE TABLE kennels (dog varchar(99) PRIMARY KEY)").Error; err != nil {
			t.Fatal(err)
		}
		plan(fmt.Sprintf("The tables kennels of projections in the database %q lack columns or indexes.", alias))
		command("migrate", "--database", alias).want(t, 0, fmt.Sprintf("The tables for events are in the database %q.\n", alias), "")
		plan(fmt.Sprintf("The database %q has all tables for events and projections.", alias))
		if got := command("check"); got.code != 0 {
			t.Errorf("check: %+v, want code 0", got)
		}
		if err := errors.Join(s.db.Exec("DROP TABLE kennels").Error, s.db.Exec("CREATE TABLE kennels (name varchar(99) PRIMARY KEY, dog text)").Error); err != nil {
			t.Fatal(err)
		}
		const want = "table kennels has the primary key (name), and its model has (dog)"
		if got := command("check"); got.code != 1 || !strings.Contains(got.stdout+got.stderr, want) {
			t.Errorf("check: %+v, want code 1 and it to contain %q", got, want)
		}
		if got := command("migrate", "--plan", "--database", alias); got.code != 1 || !strings.Contains(got.stderr, want) {
			t.Errorf("migrate --plan: %+v, want code 1 and stderr to contain %q", got, want)
		}
	})
}

// An interrupt ends the question at once, and resets nothing, whatever is
// answered later.
func TestInterruptedQuestion(t *testing.T) {
	s := newSQLite(t)
	s.train(t, "TrainingSchool", 3)
	s.manage(t, "sync_followers", "-v", "0").want(t, 0, "", "")
	script := terminalMaker(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := s.command(ctx, "reset_follower", "--no-color", "Diary")
	terminal := exec.CommandContext(ctx, script, "-qec", "'"+cmd.Path+"' "+strings.Join(cmd.Args[1:], " "), os.DevNull)
	terminal.Env = cmd.Env
	typed, err := terminal.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	got := interrupt(t, terminal, "[y/N] ", func() error {
		_, err := typed.Write([]byte("\x03")) // Ctrl-C
		return err
	})
	if got.code != 130 || !strings.HasSuffix(got.stdout, "[y/N] ^C\r\nCommandError: interrupted\r\n") ||
		s.rows(t, "notification_tracking", "Diary") != 1 {
		t.Errorf("%+v, want code 130, stdout to end with %q and rows 1", got, "[y/N] ^C\r\nCommandError: interrupted\r\n")
	}
}
