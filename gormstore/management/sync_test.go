package management_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/operations"
	"github.com/eventsourcing-go/eventsourcing/internal/polling"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// A dry run leaves every row of every table as it was, also if a follower
// fails, before or after it has written.
func TestDryRunChangesNothing(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 700)
		s.manage(t, "DJ_FLAKY=1", "sync_followers", "-v", "0").want(t, 0, "", "")
		s.train(t, "TrainingSchool", 1200)
		s.train(t, "CatSchool", 3)
		before := s.content(t)
		for _, how := range []string{"", "es", "panic", "mid", "write"} {
			got := s.manage(t, "DJ_FLAKY=1", "FLAKY="+how, "sync_followers", "--dry-run", "-v", "2")
			if code := min(len(how), 1); got.code != code || !strings.Contains(got.stdout, "1200 events from TrainingSchool") {
				t.Errorf("FLAKY=%s: exit code %d, output %q, errors %q, want code %v and stdout to contain %q", how, got.code, got.stdout, got.stderr, code, "1200 events from TrainingSchool")
			}
			if s.content(t) != before {
				t.Errorf("FLAKY=%s: the database has changed", how)
			}
		}
		s.manage(t, "DJ_FLAKY=1", "sync_followers", "-v", "0").want(t, 0, "", "") // the control
		if s.content(t) == before {
			t.Error("a real run has changed nothing")
		}
	})
}

// A dry run leaves the caches of applications and what a runner knows of its
// followers as they were.
func TestDryRunLeavesTheRunnerAlone(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 3)
		m := &members{options: []application.Option{
			application.WithStore(gormstore.New(s.db)), application.WithEnv(map[string]string{"AGGREGATE_CACHE_MAXSIZE": "10"}),
		}}
		sys, err := m.system(system.Pipe(member(m, leader("TrainingSchool")), member(m, newDiary)))
		if err != nil {
			t.Fatal(err)
		}
		runner, err := system.NewSingleThreadedRunner(sys)
		if err != nil {
			t.Fatal(err)
		}
		defer runner.Close()
		before, err := runner.Statuses(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		report, err := operations.SyncFollowers(t.Context(), runner, operations.SyncOptions{DryRun: true}, operations.SyncObserver{})
		if err != nil || report.Failed() || len(report.Followers) != 1 || report.Followers[0].Processed[0].Events != 3 {
			t.Fatalf("%+v (%v), want no error, 1 Followers and Events 3", report, err)
		}
		after, err := runner.Statuses(t.Context())
		if err != nil || before[0] != after[0] {
			t.Errorf("the status was %+v and is %+v (%v)", before[0], after[0], err)
		}
		// What a cache had kept of the dry run would conflict.
		if err := runner.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := s.rows(t, "stored_events", "Diary"); got != 3 {
			t.Errorf("the diary has %d events, want 3", got)
		}
	})
}

// A follower in another database than its leader is processed in a dry run and synchronised,
// each database in its own transaction.
func TestTwoDatabases(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		other := newSQLite(t)
		s.env = []string{"OTHER_DATABASE=" + other.address}
		s.train(t, "TrainingSchool", 3)
		before, otherBefore := s.content(t), other.content(t)
		const dryRun = "Dry-run mode, the events will be processed but the changes will be rolled back.\n" +
			"2 followers selected for synchronization.\n" +
			"[1/2] Synchronizing Elsewhere... OK (dry-run)\n\t 3 events from TrainingSchool processed\n" +
			"[2/2] Synchronizing Diary... OK (dry-run)\n\t 3 events from TrainingSchool processed\n"
		s.manage(t, "sync_followers", "-n", "-v", "2", "Elsewhere", "Diary").want(t, 0, dryRun, "")
		if s.content(t) != before || other.content(t) != otherBefore {
			t.Error("a dry run has changed a database")
		}
		s.manage(t, "sync_followers").want(t, 0, "All followers selected for synchronization.\n[1/3] Synchronizing Diary... OK\n"+
			"[2/3] Synchronizing Counter... OK\n[3/3] Synchronizing Elsewhere... OK\n", "")
		s.manage(t, "reset_follower").want(t, 0, "No follower selected. Do you need a hint?\n"+
			"Known followers which tracking states that can be reset:\n\t- Counter, tracking 1 upstream application\n"+
			"\t- Diary, tracking 1 upstream application\n\t- Elsewhere, tracking 1 upstream application\n", "")
		s.manage(t, "reset_follower", "--yes", "-v", "2", "Elsewhere").want(t, 0, "The following tracking states of Elsewhere "+
			"will be reset:\n\t- TrainingSchool\n1 upstream app has been un-tracked (for a total of 3 notifications).\n", "")
		// That the follower has begun stays known.
		if err := other.db.Exec("DELETE FROM follower_settings WHERE began = 0 AND topics IS NULL").Error; err != nil {
			t.Fatal(err)
		}
		if other.content(t) != otherBefore {
			t.Error("the reset has left something behind")
		}
		if got := s.manage(t, "migrate", "--database", "other", "--plan"); got.code != 0 || !strings.Contains(got.stdout, `"other"`) {
			t.Errorf("%+v, want code 0 and stdout to contain %q", got, `"other"`)
		}
	})
}

// An interrupt ends between two batches: what was processed is kept, and the
// next run goes on there.
func TestInterrupt(t *testing.T) {
	const events = 2000
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", events)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		cmd := s.command(ctx, "PAUSE=20ms", "sync_followers", "-v", "2", "Counter")
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		recorder, err := gormstore.New(s.db).ProcessRecorder("Counter")
		if err != nil {
			t.Fatal(err)
		}
		if err := polling.WaitFor(ctx, recorder, "TrainingSchool", 10); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // its exit code is looked at below
		const want = "1 follower selected for synchronization.\n[1/1] Synchronizing Counter... INTERRUPTED\n"
		if code := cmd.ProcessState.ExitCode(); code != 130 || !strings.HasPrefix(stdout.String(), want) ||
			stderr.String() != "CommandError: interrupted; what was processed before is kept\n" {
			t.Errorf("exit code %d, output %q, errors %q, want 130, it to begin with %q and %q", code, stdout.String(), stderr.String(), want, "CommandError: interrupted; what was processed before is kept\n")
		}
		position, err := recorder.MaxTrackingID(ctx, "TrainingSchool")
		if err != nil || position < 10 || position >= events {
			t.Errorf("the position is %d (%v), want no error, at least 10 and less than %v", position, err, events)
		}
		s.manage(t, "sync_followers", "-v", "0", "Counter").want(t, 0, "", "")
		if position, err = recorder.MaxTrackingID(ctx, "TrainingSchool"); err != nil || position < events {
			t.Errorf("the position is %d in the end (%v), want no error and at least %v", position, err, events)
		}
	})
}

// An ended context is the error of the function, and no failure of a follower.
func TestEndedContext(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		runner := s.runner(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, dry := range []bool{false, true} {
			report, err := operations.SyncFollowers(ctx, runner, operations.SyncOptions{DryRun: dry}, operations.SyncObserver{})
			if !errors.Is(err, context.Canceled) || report.Failed() {
				t.Errorf("%+v (%v), want an error that is %v", report, err, context.Canceled)
			}
		}
	})
}

// runner makes the runner of the service in this process.
func (s *service) runner(t *testing.T) operations.Runner {
	t.Helper()
	sys, err := newSystem(application.WithStore(gormstore.New(s.db)))
	if err != nil {
		t.Fatal(err)
	}
	runner, err := system.NewSingleThreadedRunner(sys)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := runner.Close(); err != nil {
			t.Error(err)
		}
	})
	return runner
}

// While followers are synchronised, another process saves to their leader. The
// figures are logged, with those of the same saves beside nothing, which are
// what the machine itself makes them wait. What is asserted is only that no
// writer waits for the whole run, as in one transaction for everything, which
// the dry run is: the control.
func TestWritersAreNotStopped(t *testing.T) {
	events := testdb.Figure(testdb.Sample(300, 1_000), 100_000)
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", events)
		app, err := leader("TrainingSchool")(application.WithStore(gormstore.New(s.db, gormstore.WithLockTimeout(5*time.Minute))))
		if err != nil {
			t.Fatal(err)
		}
		defer app.Close()
		if strings.HasPrefix(s.address, "sqlite:") {
			t.Logf("control, a dry run of %d events: %v", events, s.saveDuring(t, app, "sync_followers", "--dry-run", "-v", "0"))
		}
		// The run takes so long that no moment in which the machine does nothing is
		// half of it.
		synced := s.saveDuring(t, app, fmt.Sprintf("PAUSE=%dms", testdb.Figure(2, 0)), "sync_followers", "-v", "0")
		t.Logf("%d events: %v", events, synced)
		t.Logf("beside nothing: %v", saveUntil(t, app, time.After(synced.took)))
		if len(synced.saves) < 10 || synced.longest() > synced.took/2 {
			t.Errorf("writers had to wait for the run: got %v, want at least 10 saves and longest at most %v", len(synced.saves), synced.took/2)
		}
	})
}

// waits are how long saves took, and how long all of it took.
type waits struct {
	saves []time.Duration
	took  time.Duration
}

func (w waits) longest() time.Duration { return slices.Max(w.saves) }

func (w waits) String() string {
	slices.Sort(w.saves)
	at := func(part float64) time.Duration {
		return w.saves[int(part*float64(len(w.saves)-1))].Round(10 * time.Microsecond)
	}
	slow := len(slices.DeleteFunc(slices.Clone(w.saves), func(d time.Duration) bool { return d <= 100*time.Millisecond }))
	return fmt.Sprintf("%d saves in %v, half of them within %v, 99%% within %v, the longest %v; %d took more than 100ms",
		len(w.saves), w.took.Round(time.Millisecond), at(0.5), at(0.99), at(1), slow)
}

// saveDuring saves again and again while the program runs.
func (s *service) saveDuring(t *testing.T, app *application.Application, words ...string) waits {
	t.Helper()
	ended := make(chan time.Time)
	go func() {
		s.manage(t, words...).want(t, 0, "", "")
		close(ended)
	}()
	return saveUntil(t, app, ended)
}

func saveUntil(t *testing.T, app *application.Application, ended <-chan time.Time) (w waits) {
	t.Helper()
	began := time.Now()
	for {
		select {
		case <-ended:
			w.took = time.Since(began)
			return w
		case <-time.After(2 * time.Millisecond):
		}
		before := time.Now()
		if err := register(t.Context(), app, 1); err != nil {
			t.Error(err)
		}
		w.saves = append(w.saves, time.Since(before))
	}
}

// A database that cannot be opened is said in one line.
func TestNoDatabase(t *testing.T) {
	s := &service{address: "sqlite:" + filepath.Join(t.TempDir(), "new.sqlite3")}
	const lacks = "CommandError: the database \"default\" is not migrated: it lacks the tables stored_events, snapshots, " +
		"notification_tracking, follower_status, parked_events, follower_runners, follower_settings, follower_partitions. Run: manage migrate --database default\n"
	for _, command := range []string{"sync_followers", "reset_follower", "followers", "check"} {
		s.manage(t, command).want(t, 1, "", lacks)
	}
	s.manage(t, "followers", "skip", "--yes", "Diary").want(t, 1, "", lacks)
	s.manage(t, "migrate").want(t, 0, "The tables for events are in the database \"default\".\n", "")
	s.manage(t, "sync_followers", "-v", "0").want(t, 0, "", "")
}

// followers shows what sync_followers has failed with, until it succeeds.
func TestFailedSyncIsShown(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.env = append(s.env, "DJ_FLAKY=1")
		s.train(t, "TrainingSchool", 3)
		if got := s.manage(t, "FLAKY=value", "sync_followers", "-v", "0", "--dry-run"); got.code != 1 {
			t.Errorf("%+v, want code 1", got)
		}
		if got := s.manage(t, "followers"); strings.Contains(got.stdout, "boom") {
			t.Errorf("after a dry run: %+v", got)
		}
		if got := s.manage(t, "FLAKY=value", "sync_followers", "-v", "0"); got.code != 1 {
			t.Errorf("%+v, want code 1", got)
		}
		got := s.manage(t, "followers")
		if strings.Count(got.stdout, "at 1: Flaky: cannot process notification 1 ") != 1 || !strings.Contains(got.stdout, "boom") ||
			!strings.Contains(got.stdout, "Flaky     TrainingSchool  not running") {
			t.Errorf("%+v, want one \"at 1: Flaky: cannot process notification 1 \", stdout to contain %q and stdout to contain %q", got, "boom", "Flaky     TrainingSchool  not running")
		}
		s.manage(t, "sync_followers", "-v", "0").want(t, 0, "", "")
		if got := s.manage(t, "followers"); strings.Contains(got.stdout, "boom") {
			t.Errorf("after a success: %+v", got)
		}
	})
}

// The library's own look at tables is not in the output of a command, whatever
// GORM's logger is.
func TestOutputWithoutProbes(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.env = append(s.env, "LOGGING=1")
		s.train(t, "TrainingSchool", 1)
		var states []operations.FollowerState
		if got := s.manage(t, "followers", "-o", "json"); json.Unmarshal([]byte(got.stdout), &states) != nil || got.stderr != "" {
			t.Errorf("got %+v, want JSON and no errors", got)
		}
		for _, table := range []string{"follower_status", "parked_events", "follower_settings", "notification_tracking", "stored_events"} {
			if err := s.db.Exec("DROP TABLE " + table).Error; err != nil {
				t.Fatal(err)
			}
			for _, words := range []string{"followers -o json", "check", "sync_followers -v 0", "reset_follower Counter", "migrate --plan"} {
				got := s.manage(t, strings.Fields(words)...)
				if strings.Contains(got.stdout+got.stderr, ".go:") {
					t.Errorf("without %s, %s: %+v, want no stack", table, words, got)
				}
			}
		}
	})
}
