package main

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore/management"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
)

// asProgram has this test program be the program that it tests.
const asProgram = "TRAININGSCHOOL_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(testdb.Main(m))
}

// environment is the settings of a run of the program, beside those of the
// process.
type environment map[string]string

// with returns the environment with more settings.
func (e environment) with(settings ...string) environment {
	more := environment{}
	for key, value := range e {
		more[key] = value
	}
	for i := 0; i < len(settings); i += 2 {
		more[settings[i]] = settings[i+1]
	}
	return more
}

// result is what a run of the program has left.
type result struct {
	code           int
	stdout, stderr string
}

// call runs the program in this process.
func (e environment) call(t *testing.T, arguments ...string) result {
	t.Helper()
	for key, value := range e {
		t.Setenv(key, value)
	}
	var stdout, stderr bytes.Buffer
	code := management.Run(t.Context(), config(), arguments, &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// start runs the program in a new process.
func (e environment) start(t *testing.T, arguments ...string) result {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, arguments...)
	// The race detector waits at the end.
	cmd.Env = append(os.Environ(), asProgram+"=1", "GORACE=atexit_sleep_ms=0")
	for key, value := range e {
		cmd.Env = append(cmd.Env, key+"="+value)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatalf("start %q: %v", arguments, err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// want fails the test unless a run ended well with this output.
func (r result) want(t *testing.T, stdout string) {
	t.Helper()
	if r.code != 0 || r.stdout != stdout || r.stderr != "" {
		t.Errorf("exit code %d, output %q, errors %q; want 0, %q and none", r.code, r.stdout, r.stderr, stdout)
	}
}

// wantFailure fails the test unless a run ended with exit code 1 and one line
// on its standard error, which has all of the texts in it.
func (r result) wantFailure(t *testing.T, texts ...string) {
	t.Helper()
	if r.code != 1 || r.stdout != "" || strings.Count(r.stderr, "\n") != 1 || !strings.HasSuffix(r.stderr, "\n") {
		t.Errorf("exit code %d, output %q, errors %q; want 1, no output and one line", r.code, r.stdout, r.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(r.stderr, text) {
			t.Errorf("the error %q does not say %q", r.stderr, text)
		}
	}
}

// sqliteEnvironment has the program use a new database file.
func sqliteEnvironment(t *testing.T) environment {
	t.Helper()
	return environment{"SQLITE_PATH": filepath.Join(t.TempDir(), "school.sqlite3")}
}

// postgresEnvironment has it use a new PostgreSQL database.
func postgresEnvironment(t *testing.T) environment {
	t.Helper()
	return sqliteEnvironment(t).with("POSTGRES_DSN", testdb.Postgres(t), "GORM_DB_ALIAS", "postgres")
}

// each runs a test on both databases.
func each(t *testing.T, test func(t *testing.T, e environment)) {
	t.Helper()
	for name, make := range map[string]func(*testing.T) environment{"sqlite": sqliteEnvironment, "postgres": postgresEnvironment} {
		t.Run(name, func(t *testing.T) { test(t, make(t)) })
	}
}

// migrate creates the tables.
func (e environment) migrate(t *testing.T) {
	t.Helper()
	alias := "default"
	if e["GORM_DB_ALIAS"] != "" {
		alias = e["GORM_DB_ALIAS"]
	}
	e.call(t, "migrate", "--database", alias).want(t, fmt.Sprintf("The tables for events are in the database %q.\n", alias))
}

// stored is everything in the database's tables, as one text.
func (e environment) stored(t *testing.T) string {
	t.Helper()
	driver, dsn := "sqlite3", e["SQLITE_PATH"]
	if e["GORM_DB_ALIAS"] == "postgres" {
		driver, dsn = "pgx", e["POSTGRES_DSN"]
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var text strings.Builder
	for _, table := range []string{"stored_events", "snapshots"} {
		rows, err := db.QueryContext(t.Context(), "SELECT application_name, topic, state FROM "+table)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var application, topic string
			var state []byte
			if err := rows.Scan(&application, &topic, &state); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&text, table, application, topic, string(state))
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return text.String()
}

const (
	firstDemonstration  = "Fido is registered.\nFido learns to roll over.\nFido learns to play dead.\nFido knows: roll over, play dead.\n" + counted
	secondDemonstration = "Fido was registered before.\nFido knows: roll over, play dead.\n" + counted
	counted             = "1 dog knows how to play dead.\n1 dog knows how to roll over.\n"
)

// Without arguments the program shows what it can do, and does it only once.
func TestDemonstration(t *testing.T) {
	each(t, func(t *testing.T, e environment) {
		e.call(t).want(t, firstDemonstration)
		e.call(t).want(t, secondDemonstration)
		e.start(t).want(t, secondDemonstration)
		e.call(t, "tricks", "Fido").want(t, "roll over\nplay dead\n")
	})
}

// The commands do what they say, each in a new process.
func TestCommands(t *testing.T) {
	each(t, func(t *testing.T, e environment) {
		e.migrate(t)
		e.migrate(t)
		e.start(t, "register", "Fido").want(t, "")
		e.start(t, "tricks", "Fido").want(t, "")
		e.start(t, "add-trick", "Fido", "roll over").want(t, "")
		e.start(t, "add-trick", "Fido", "走る 🐕").want(t, "")
		e.start(t, "register", "Rex").want(t, "")
		e.start(t, "tricks", "Fido").want(t, "roll over\n走る 🐕\n")
		e.start(t, "tricks", "Rex").want(t, "")
	})
}

// The followers are synchronised by hand, and reset in both ways: TrickCounts
// empties its table, and DogNames may process its events again as it is.
// Afterwards the tables hold what they held.
func TestFollowers(t *testing.T) {
	const counted = "2 dogs know how to roll over.\n1 dog knows how to play dead.\n"
	each(t, func(t *testing.T, e environment) {
		e.migrate(t)
		for _, words := range [][]string{{"register", "Fido"}, {"register", "Rex"}, {"add-trick", "Fido", "roll over"},
			{"add-trick", "Fido", "play dead"}, {"add-trick", "Rex", "roll over"}} {
			e.call(t, words...).want(t, "")
		}
		e.call(t, "counts").want(t, "")
		e.start(t, "sync_followers", "-n", "-v", "0").want(t, "")
		e.call(t, "counts").want(t, "")
		e.start(t, "sync_followers", "-v", "2").want(t, "All followers selected for synchronization.\n"+
			"[1/2] Synchronizing TrickCounts... OK\n\t 3 events from TrainingSchool processed\n"+
			"[2/2] Synchronizing DogNames... OK\n\t 2 events from TrainingSchool processed\n")
		e.call(t, "counts").want(t, counted)
		e.call(t, "dogs").want(t, "Fido\nRex\n")

		e.start(t, "reset_follower", "TrickCounts").wantFailure(t, "TrickCounts will replay 5 events", "--yes")
		e.start(t, "reset_follower", "--yes", "--upstream-apps", "TrainingSchool", "TrickCounts").want(t,
			"The tracking states of TrickCounts will be reset (1 upstream app).\nTrickCounts will replay 5 events.\n1 upstream app has been un-tracked.\n")
		e.call(t, "counts").want(t, "")
		e.start(t, "reset_follower", "--yes", "-v", "2", "DogNames").want(t, "The following tracking states of DogNames will be reset:\n"+
			"\t- TrainingSchool\n1 upstream app has been un-tracked (for a total of 5 notifications).\n")
		e.call(t, "dogs").want(t, "Fido\nRex\n")
		e.start(t, "sync_followers", "-v", "2").want(t, "All followers selected for synchronization.\n"+
			"[1/2] Synchronizing TrickCounts... OK\n\t 3 events from TrainingSchool processed\n"+
			"[2/2] Synchronizing DogNames... OK\n\t 2 events from TrainingSchool processed\n")
		e.call(t, "counts").want(t, counted)
		e.call(t, "dogs").want(t, "Fido\nRex\n")
		if got := e.start(t, "check"); got.code != 0 || !strings.HasSuffix(got.stdout, "\n3 applications checked: 0 problems.\n") {
			t.Errorf("%+v, want code 0 and stdout to end with %q", got, "\n3 applications checked: 0 problems.\n")
		}
	})
}

// What a user does wrong is one line, without a stack or the name of a
// database's driver, and exit code 1.
func TestMistakes(t *testing.T) {
	each(t, func(t *testing.T, e environment) {
		e.call(t, "register", "Fido").wantFailure(t, "not migrated", "stored_events", "migrate")
		e.migrate(t)
		e.call(t, "register", "Fido").want(t, "")
		for _, test := range []struct {
			arguments []string
			want      string
		}{
			{[]string{"register", "Fido"}, "Fido is registered already\n"},
			{[]string{"tricks", "Rex"}, "Rex is not registered\n"},
			{[]string{"add-trick", "Rex", "sit"}, "Rex is not registered\n"},
		} {
			for name, run := range map[string]func(*testing.T, ...string) result{"in this process": e.call, "in its own": e.start} {
				got := run(t, test.arguments...)
				if got.wantFailure(t); got.stderr != test.want {
					t.Errorf("%q %s: %q, want %q", test.arguments, name, got.stderr, test.want)
				}
			}
		}
		e.call(t, "register").wantFailure(t, "accepts 1 arg")
		e.call(t, "add-trick", "Fido").wantFailure(t, "accepts 2 arg")
		if got := e.call(t, "bark"); got.code != 2 || !strings.Contains(got.stderr, `unknown command "bark"`) {
			t.Errorf("%+v, want code 2 and stderr to contain %q", got, `unknown command "bark"`)
		}
		e.call(t, "--loud").wantFailure(t, "--loud")
		e.call(t, "migrate", "--database", "oracle").wantFailure(t, `unknown database "oracle"`, "default")
		e.with("GORM_DB_ALIAS", "oracle").call(t, "tricks", "Fido").wantFailure(t, "GORM_DB_ALIAS", "oracle", "default")
		e.with("IS_SNAPSHOTTING_ENABLED", "maybe").call(t, "tricks", "Fido").wantFailure(t, "IS_SNAPSHOTTING_ENABLED", "maybe")
	})
}

// A database that cannot be reached is one line as well, which does not have
// the password in it.
func TestUnreachableDatabase(t *testing.T) {
	u := url.URL{Scheme: "postgres", User: url.UserPassword("school", "hunter2"), Host: "127.0.0.1:1", Path: "/school"}
	got := sqliteEnvironment(t).with("POSTGRES_DSN", u.String()).call(t, "tricks", "Fido")
	if got.wantFailure(t, `"postgres"`, "connection refused"); strings.Contains(got.stderr, "hunter2") {
		t.Errorf("the error has the password: %q", got.stderr)
	}
	for _, dsn := range []string{u.String(), "postgres://school:hun ter2@127.0.0.1:x/school", "host=127.0.0.1 port=x password='hun ter2"} {
		for _, command := range []string{"migrate", "followers", "sync_followers", "tricks"} {
			arguments := []string{command}
			if command == "tricks" {
				arguments = append(arguments, "Fido")
			}
			got := sqliteEnvironment(t).with("POSTGRES_DSN", dsn).start(t, arguments...)
			if got.wantFailure(t, `"postgres"`); strings.Contains(got.stderr, "ter2") {
				t.Errorf("the error has the password: %q", got.stderr)
			}
		}
	}
	missing := environment{"SQLITE_PATH": filepath.Join(t.TempDir(), "no", "such", "folder", "school.sqlite3")}
	missing.call(t, "tricks", "Fido").wantFailure(t, `"default"`, missing["SQLITE_PATH"], "unable to open database file")
}

// A cancelled program ends with an error.
func TestInterrupted(t *testing.T) {
	each(t, func(t *testing.T, e environment) {
		e.migrate(t)
		for key, value := range e {
			t.Setenv(key, value)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var stdout, stderr bytes.Buffer
		code := management.Run(ctx, config(), []string{"register", "Fido"}, &stdout, &stderr)
		result{code, stdout.String(), stderr.String()}.wantFailure(t, "context canceled")
	})
}

const (
	key      = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	otherKey = "HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHgA="
)

// With a cipher the database holds neither names nor tricks. With another key
// the program says which row it cannot read, and nothing of what is in it.
func TestEncrypted(t *testing.T) {
	each(t, func(t *testing.T, e environment) {
		encrypted := e.with("CIPHER_KEY", key, "COMPRESSOR_TOPIC", "zlib", "SNAPSHOTTING_INTERVALS", "Dog=2")
		encrypted.call(t).want(t, firstDemonstration)
		encrypted.call(t, "tricks", "Fido").want(t, "roll over\nplay dead\n")
		stored := e.stored(t)
		if !strings.Contains(stored, "stored_events TrainingSchool Dog.TrickAdded") || !strings.Contains(stored, "snapshots TrainingSchool Dog") {
			t.Errorf("the events and snapshots are not where they are looked for: %q, want it to contain %q and to contain %q", stored, "stored_events TrainingSchool Dog.TrickAdded", "snapshots TrainingSchool Dog")
		}
		for _, secret := range []string{"Fido", "roll over", "play dead"} {
			if strings.Contains(stored, secret) {
				t.Errorf("the database holds %q", secret)
			}
		}
		wrong := e.with("CIPHER_KEY", otherKey, "COMPRESSOR_TOPIC", "zlib").call(t, "tricks", "Fido")
		wrong.wantFailure(t, "Dog.Registered version 1", school.DogID("Fido").String())
		for _, secret := range []string{"roll over", "play dead", key, otherKey} {
			if strings.Contains(wrong.stderr, secret) {
				t.Errorf("the error %q has %q in it", wrong.stderr, secret)
			}
		}
		for _, key := range []string{"CIPHER_KEY", "SNAPSHOTTING_INTERVALS"} {
			if err := os.Unsetenv(key); err != nil { // which t.Setenv has set, and restores
				t.Fatal(err)
			}
		}
		e.call(t, "tricks", "Fido").wantFailure(t, school.DogID("Fido").String())
	})
}

// Without a cipher the database does hold them: the control of the test above.
func TestEncryptedControl(t *testing.T) {
	each(t, func(t *testing.T, e environment) {
		e.call(t).want(t, firstDemonstration)
		if stored := e.stored(t); !strings.Contains(stored, "Fido") || !strings.Contains(stored, "roll over") {
			t.Errorf("the states are not where they are looked for: %q, want it to contain %q and to contain %q", stored, "Fido", "roll over")
		}
	})
}

// Snapshots are taken as the settings want them, and the tricks remain the same
// with and without.
func TestSnapshots(t *testing.T) {
	each(t, func(t *testing.T, e environment) {
		e.migrate(t)
		snapshotting := e.with("SNAPSHOTTING_INTERVALS", "Dog=2", "SNAPSHOTS_KEPT", "0")
		snapshotting.call(t, "register", "Fido").want(t, "")
		var want strings.Builder
		for i := range 5 { // versions 2 to 6
			trick := fmt.Sprintf("trick %d", i)
			snapshotting.call(t, "add-trick", "Fido", trick).want(t, "")
			want.WriteString(trick + "\n")
		}
		if got := strings.Count(e.stored(t), "snapshots TrainingSchool Dog"); got != 3 {
			t.Errorf("%d snapshots are stored, want 3, of the versions 2, 4 and 6", got)
		}
		snapshotting.call(t, "tricks", "Fido").want(t, want.String())
		t.Setenv("SNAPSHOTTING_INTERVALS", "")
		e.call(t, "tricks", "Fido").want(t, want.String())
	})
}

// Many processes teach one dog at once, and every trick is learned once.
func TestManyProcesses(t *testing.T) {
	const processes = 20
	each(t, func(t *testing.T, e environment) {
		e.migrate(t)
		e.call(t, "register", "Fido").want(t, "")
		each := testdb.Figure(testdb.Sample(1, 3), 25)
		var teachers sync.WaitGroup
		var want []string
		for teacher := range processes {
			for lesson := range each {
				want = append(want, fmt.Sprintf("trick %d of teacher %d", lesson, teacher))
			}
			teachers.Go(func() {
				for lesson := range each {
					e.start(t, "add-trick", "Fido", fmt.Sprintf("trick %d of teacher %d", lesson, teacher)).want(t, "")
				}
			})
		}
		teachers.Wait()
		known := strings.Split(strings.TrimSpace(e.call(t, "tricks", "Fido").stdout), "\n")
		slices.Sort(known)
		slices.Sort(want)
		if !slices.Equal(known, want) {
			t.Errorf("Fido knows %d tricks, want %d, each once: %q", len(known), len(want), known)
		}
	})
}

// Hound is Dog under another Go type, with other types of events. The names
// that are stored are the same.
type Hound struct {
	domain.Aggregate
	Title string
	Skill []string
}

type enrolled struct {
	Name string `json:"name"`
}

func (e enrolled) Apply(h *Hound) { h.Title = e.Name }

type skillLearned struct {
	Trick string `json:"trick"`
}

func (e skillLearned) Apply(h *Hound) { h.Skill = append(h.Skill, e.Trick) }

// Renaming Go types keeps the history: what is stored has separate names.
func TestRenamedTypes(t *testing.T) {
	each(t, func(t *testing.T, e environment) {
		e.call(t).want(t, firstDemonstration)
		closeAll, err := openDatabases()
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := closeAll(); err != nil {
				t.Error(err)
			}
		}()
		app, err := application.New("TrainingSchool", application.WithLookup(lookup))
		if err != nil {
			t.Fatal(err)
		}
		defer app.Close()
		hounds, err := application.NewRepository(app, domain.Define("Dog",
			domain.On("Registered", enrolled{}), domain.On("TrickAdded", skillLearned{})))
		if err != nil {
			t.Fatal(err)
		}
		hound, err := hounds.Get(t.Context(), school.DogID("Fido"))
		if err != nil {
			t.Fatal(err)
		}
		if hound.Title != "Fido" || !slices.Equal(hound.Skill, []string{"roll over", "play dead"}) {
			t.Errorf("%q knows %q, want Title %q and Skill %q", hound.Title, hound.Skill, "Fido", []string{"roll over", "play dead"})
		}
	})
}
