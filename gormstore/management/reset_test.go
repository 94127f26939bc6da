package management_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/operations"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/polling"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// written are the originators and topics of the diary's events, which are the
// same however often they are made.
func (s *service) written(t *testing.T) string {
	t.Helper()
	var rows []struct {
		OriginatorID gormstore.UUID
		Topic        string
	}
	err := s.db.Model(&gormstore.StoredEvent{}).Where("application_name = ?", "Diary").Order("id").Find(&rows).Error
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(rows)
}

// Case 2: a follower that is reset clears its own events, makes them anew, and
// has what it had before.
func TestResetOwnEvents(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 20)
		s.manage(t, "sync_followers", "-v", "0").want(t, 0, "", "")
		want := s.written(t)
		s.manage(t, "reset_follower", "--yes", "-v", "0", "Diary").want(t, 0, "", "")
		if rows := s.rows(t, "stored_events", "Diary"); rows != 0 {
			t.Errorf("the diary has %d events after the reset, want 0", rows)
		}
		s.manage(t, "sync_followers", "-v", "0").want(t, 0, "", "")
		if got := s.written(t); got != want {
			t.Errorf("the diary has %s, want %s", got, want)
		}
		if got := s.manage(t, "check"); got.code != 0 || !strings.HasSuffix(got.stdout, "\n4 applications checked: 0 problems.\n") {
			t.Errorf("%+v, want code 0 and stdout to end with %q", got, "\n4 applications checked: 0 problems.\n")
		}
	})
}

// Case 1: a follower that keeps nothing is reset and processes everything
// again.
func TestResetStateless(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 3)
		s.manage(t, "sync_followers", "-v", "0").want(t, 0, "", "")
		s.manage(t, "reset_follower", "--yes", "-v", "0", "Counter").want(t, 0, "", "")
		s.manage(t, "sync_followers", "-v", "2", "Counter").want(t, 0, "1 follower selected for synchronization.\n"+
			"[1/1] Synchronizing Counter... OK\n\t 3 events from TrainingSchool processed\n\t 0 events from CatSchool processed\n", "")
	})
}

// A reset that is a dry run, refused or fails changes nothing.
func TestResetChangesNothing(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 20)
		s.manage(t, "DJ_FLAKY=1", "sync_followers", "-v", "0").want(t, 0, "", "")
		before := s.content(t)
		for _, test := range []struct {
			words string
			code  int
		}{
			{"reset_follower --dry-run Diary", 0},
			{"RESET=fails reset_follower --dry-run Diary", 1},
			{"RESET=fails reset_follower --yes Diary", 1},
			{"reset_follower Diary", 1},
			{"DJ_FLAKY=1 reset_follower --yes Flaky", 1},
			{"DJ_FLAKY=1 reset_follower --dry-run --force Flaky", 0},
			{"reset_follower --yes -u CatSchool Diary", 1},
			{"reset_follower", 0},
		} {
			if got := s.manage(t, strings.Fields(test.words)...); got.code != test.code {
				t.Errorf("%s: %+v, want code %v", test.words, got, test.code)
			}
			if s.content(t) != before {
				t.Fatalf("%s has changed the database", test.words)
			}
		}
	})
}

// A follower that runs elsewhere is refused, also by force, until it is stopped
// or has not been heard of for a while.
func TestResetWhileRunning(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 3)
		s.manage(t, "sync_followers", "-v", "0").want(t, 0, "", "")
		status := capability.FollowerStatus{ApplicationName: "Counter", UpstreamApplicationName: "TrainingSchool",
			State: "running", Heartbeat: time.Now(), Process: "kennel 42"}
		record := func() {
			t.Helper()
			if err := capability.Of(gormstore.New(s.db)).Statuses.RecordStatus(t.Context(), status); err != nil {
				t.Fatal(err)
			}
		}
		record()
		const refused = "CommandError: Counter is running (kennel 42, running). Stop it first, or reset it while it runs, with " +
			"runner.Rebuild or on the pages of gormstore/admin; one that was killed counts as running for half a minute.\n"
		for _, flag := range []string{"--dry-run", "--yes", "--force"} {
			s.manage(t, "reset_follower", flag, "Counter").want(t, 1, "", refused)
		}
		status.State, status.Error, status.NotificationID = "retrying", "no dog", 4
		record()
		got := s.manage(t, "STRICT_ORDER=y", "followers")
		if !strings.Contains(got.stdout, "Counter   TrainingSchool  retrying     3         3     0    0       strict   at 4: no dog\n") {
			t.Errorf("%+v, want stdout to contain %q", got, "Counter   TrainingSchool  retrying     3         3     0    0       strict   at 4: no dog\n")
		}
		old := map[string]any{"heartbeat": time.Now().UTC().Add(-time.Minute)}
		if err := s.db.Table("follower_status").Where("1 = 1").Updates(old).Error; err != nil {
			t.Fatal(err)
		}
		s.manage(t, "reset_follower", "--yes", "-v", "0", "Counter").want(t, 0, "", "")
	})
}

// A runner in another process is noticed as soon as it runs, and its end as
// soon as it is stopped.
func TestResetBesideRunner(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 3)
		sys, err := newSystem(application.WithStore(gormstore.New(s.db)))
		if err != nil {
			t.Fatal(err)
		}
		runner, err := system.NewRunner(sys, system.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer runner.Close()
		if err := runner.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		diary, err := gormstore.New(s.db).ProcessRecorder("Diary")
		if err != nil {
			t.Fatal(err)
		}
		waiting, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		if err := polling.WaitFor(waiting, diary, "TrainingSchool", 3); err != nil {
			t.Fatal(err)
		}
		if got := s.manage(t, "reset_follower", "--yes", "Diary"); got.code != 1 || !strings.HasPrefix(got.stderr, "CommandError: Diary is running (") {
			t.Errorf("%+v, want code 1 and stderr to begin with %q", got, "CommandError: Diary is running (")
		}
		if err := runner.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.manage(t, "reset_follower", "--yes", "-v", "0", "Diary").want(t, 0, "", "")
	})
}

// What the follower has parked is forgotten with its position, in the same
// transaction.
func TestResetForgetsParkedEvents(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 3)
		s.manage(t, "sync_followers", "-v", "0").want(t, 0, "", "")
		recorder, err := gormstore.New(s.db).ProcessRecorder("Counter")
		if err != nil {
			t.Fatal(err)
		}
		parking := recorder.(capability.ParkingRecorder)
		if err := parking.ParkEvent(t.Context(), persistence.ParkedEvent{ApplicationName: "Counter", UpstreamApplicationName: "TrainingSchool",
			NotificationID: 2, OriginatorID: uuid.New(), OriginatorVersion: 1, Topic: "Dog.Registered", Error: "no dog", ParkedAt: time.Now()}); err != nil {
			t.Fatal(err)
		}
		parked := func() int64 { return s.rows(t, "parked_events", "Counter") }
		if s.manage(t, "reset_follower", "--dry-run", "Counter"); parked() != 1 {
			t.Errorf("after a dry run %d events are parked, want 1", parked())
		}
		if s.manage(t, "reset_follower", "--yes", "Counter"); parked() != 0 {
			t.Errorf("after a reset %d events are parked, want 0", parked())
		}
	})
}

// The positions of Django are one row for each notification; what is replayed
// is their number, also without the leader.
func TestResetDjangoPositions(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		for _, table := range []string{"follower_status", "parked_events",
			"follower_runners", "follower_settings", "follower_partitions"} { // not Django's
			if err := s.db.Migrator().DropTable(table); err != nil {
				t.Fatal(err)
			}
		}
		for n := range int64(5) {
			s.addPosition(t, "Old", "Gone", 3*n+1)
		}
		s.addPosition(t, "Old", "Unreachable", 7)
		const header = "The following tracking states of Old will be reset:\n"
		s.manage(t, "reset_follower", "-n", "-v", "2", "--force", "-u", "Gone", "Old").want(t, 0,
			"Dry-run mode, the tracking states will be reset and the changes rolled back.\n"+header+
				"\t- Gone\n1 upstream app would have been un-tracked (for a total of 5 notifications) (dry-run).\n", "")
		s.manage(t, "reset_follower", "--force", "Old").want(t, 1, "", "CommandError: Old will replay all events. "+
			"Without a terminal it needs --yes, or --dry-run to see what would happen.\n")
		s.manage(t, "reset_follower", "--yes", "-v", "2", "--force", "Old").want(t, 0, header+
			"\t- Gone\n\t- Unreachable\n2 upstream apps have been un-tracked.\n", "")
		if left := s.rows(t, "notification_tracking", "Old"); left != 0 {
			t.Errorf("%d rows are left, want 0", left)
		}
	})
}

// The function returns what it has done, and refuses what the command refuses.
func TestResetFollower(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 3)
		runner := s.runner(t)
		if _, err := operations.SyncFollowers(t.Context(), runner, operations.SyncOptions{}, operations.SyncObserver{}); err != nil {
			t.Fatal(err)
		}
		tracked, err := operations.TrackedFollowers(t.Context(), runner)
		if err != nil || len(tracked) != 2 || tracked[0].Name != "Counter" {
			t.Errorf("%+v (%v), want no error, 2 of them and Name %q", tracked, err, "Counter")
		}
		for _, f := range tracked {
			if f.NeedsForce {
				t.Errorf("%s needs force, and its code says how it is reset", f.Name)
			}
		}
		tracked, err = operations.TrackedFollowers(t.Context(), nil)
		if err != nil {
			t.Error(err)
		}
		for _, f := range tracked {
			if !f.NeedsForce {
				t.Errorf("%s does not need force, and no code says how it is reset", f.Name)
			}
		}
		report, err := operations.ResetFollower(t.Context(), runner, operations.ResetOptions{Follower: "Diary"})
		if err != nil || report.Notifications != 3 || !slices.Equal(report.UpstreamApps, []string{"TrainingSchool"}) {
			t.Errorf("%+v (%v), want no error, Notifications 3 and UpstreamApps %q", report, err, []string{"TrainingSchool"})
		}
		_, err = operations.ResetFollower(t.Context(), runner, operations.ResetOptions{Follower: "Diary"})
		expect.ErrorAs[*operations.ResetError](t, err)
	})
}

// A follower at work in another goroutine finishes its batch before its
// position is deleted, and then begins anew: what it makes of the events is
// there once.
func TestResetBesideSync(t *testing.T) {
	events := testdb.Sample(1_000, 3_000)
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", events)
		runner, resetter := s.runner(t), s.runner(t)
		sync := func(ctx context.Context, runner operations.Runner) {
			report, err := operations.SyncFollowers(ctx, runner, operations.SyncOptions{Followers: []string{"Diary"}}, operations.SyncObserver{})
			if err != nil || report.Failed() {
				t.Errorf("%+v (%v)", report, err)
			}
		}
		done := make(chan struct{})
		go func() { sync(t.Context(), runner); close(done) }()
		for reset := 0; reset < 2; {
			_, err := operations.ResetFollower(t.Context(), resetter, operations.ResetOptions{Follower: "Diary"})
			if _, early := errors.AsType[*operations.ResetError](err); early {
				time.Sleep(time.Millisecond)
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			reset++
		}
		<-done
		sync(t.Context(), runner)
		if rows := s.rows(t, "stored_events", "Diary"); rows != int64(events) {
			t.Errorf("the diary has %d events, want %d", rows, events)
		}
	})
}

// An event that takes long is in the columns AT and SINCE, until its follower
// is dead.
func TestFollowersShowWhatIsProcessed(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 3)
		status := capability.FollowerStatus{ApplicationName: "Counter", UpstreamApplicationName: "TrainingSchool",
			State: "running", NotificationID: 2, Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Process: "kennel 42"}
		if err := capability.Of(gormstore.New(s.db)).Statuses.RecordStatus(t.Context(), status); err != nil {
			t.Fatal(err)
		}
		shows := func() bool {
			got := s.manage(t, "followers")
			return strings.Contains(got.stdout, " AT ") && strings.Contains(got.stdout, " 2   2026-01-02T03:04:05Z ")
		}
		if !shows() {
			t.Error("event 2 is not shown")
		}
		old := map[string]any{"heartbeat": time.Now().UTC().Add(-time.Minute)}
		if err := s.db.Table("follower_status").Where("1 = 1").Updates(old).Error; err != nil {
			t.Fatal(err)
		}
		if shows() {
			t.Error("event 2 of a dead follower is shown")
		}
	})
}

// What a follower has failed with, and a position that was ahead of the log, go
// with the position.
func TestResetForgetsStatus(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 3)
		s.manage(t, "sync_followers", "-v", "0").want(t, 0, "", "")
		status := capability.FollowerStatus{ApplicationName: "Counter", UpstreamApplicationName: "TrainingSchool",
			State: "stopped", Error: "ahead", Ahead: 3, Heartbeat: time.Now(), Process: "kennel 42"}
		if err := capability.Of(gormstore.New(s.db)).Statuses.RecordStatus(t.Context(), status); err != nil {
			t.Fatal(err)
		}
		s.manage(t, "reset_follower", "--yes", "-v", "0", "Counter").want(t, 0, "", "")
		if got := s.manage(t, "followers"); strings.Contains(got.stdout, "ahead") || s.rows(t, "follower_status", "Counter") != 0 {
			t.Errorf("%+v, want rows 0", got)
		}
		s.manage(t, "sync_followers", "-v", "0", "Counter").want(t, 0, "", "")
	})
}

// A process that starts the follower between the plan and the reset is noticed,
// and nothing is reset.
func TestResetBesideStart(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 3)
		s.manage(t, "sync_followers", "-v", "0").want(t, 0, "", "")
		plan, err := operations.PlanReset(t.Context(), s.runner(t), operations.ResetOptions{Follower: "Counter"})
		if err != nil {
			t.Fatal(err)
		}
		status := capability.FollowerStatus{ApplicationName: "Counter", UpstreamApplicationName: "TrainingSchool",
			State: "running", Heartbeat: time.Now(), Process: "kennel 42"}
		if err := capability.Of(gormstore.New(s.db)).Statuses.RecordStatus(t.Context(), status); err != nil {
			t.Fatal(err)
		}
		_, err = plan.Do(t.Context())
		if refused, ok := errors.AsType[*operations.ResetError](err); !ok || !strings.Contains(refused.Error(), "is running") {
			t.Errorf("the error is %v, want an error that contains %q", err, "is running")
		}
		if s.rows(t, "notification_tracking", "Counter") == 0 {
			t.Error("a position was deleted")
		}
	})
}

// addPosition adds a row of the table of positions, as Django does.
func (s *service) addPosition(t *testing.T, follower, upstream string, id int64) {
	t.Helper()
	row := map[string]any{"application_name": follower, "upstream_application_name": upstream, "notification_id": id}
	if err := s.db.Table("notification_tracking").Create(row).Error; err != nil {
		t.Fatal(err)
	}
}

// Where Django's rows and a position of this package are mixed, the leader is
// asked.
func TestResetCountsAtTheLeader(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 5)
		for _, position := range []int64{1, 5} {
			s.addPosition(t, "Counter", "TrainingSchool", position)
		}
		plan, err := operations.PlanReset(t.Context(), s.runner(t), operations.ResetOptions{Follower: "Counter"})
		if err != nil || plan.Report().Notifications != 5 {
			t.Errorf("%+v (%v), want no error and Notifications 5", plan, err)
		}
	})
}

// A reset that cannot read the parked events does not take them for none: their
// originators would stay parked although everything is processed again.
func TestResetWithoutParkedEvents(t *testing.T) {
	s := newPostgres(t)
	s.train(t, "TrainingSchool", 3)
	s.manage(t, "sync_followers", "-v", "0").want(t, 0, "", "")
	role := "es_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	for _, statement := range []string{"CREATE ROLE " + role, "GRANT ALL ON ALL TABLES IN SCHEMA public TO " + role,
		"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO " + role, "REVOKE ALL ON parked_events FROM " + role} {
		if err := s.db.Exec(statement).Error; err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := errors.Join(s.db.Exec("DROP OWNED BY "+role).Error, s.db.Exec("DROP ROLE "+role).Error); err != nil {
			t.Error(err)
		}
	})
	pool, err := s.db.DB()
	if err != nil {
		t.Fatal(err)
	}
	pool.SetMaxOpenConns(1) // which has the role
	if err := s.db.Exec("SET ROLE " + role).Error; err != nil {
		t.Fatal(err)
	}
	plan, err := operations.PlanReset(t.Context(), s.runner(t), operations.ResetOptions{Follower: "Counter"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = plan.Do(t.Context()); !errors.Is(err, persistence.ErrProgramming) && !errors.Is(err, persistence.ErrOperational) {
		t.Errorf("got %v, want that the table cannot be read", err)
	}
	if err := s.db.Exec("RESET ROLE").Error; err != nil {
		t.Fatal(err)
	}
	pool.SetMaxOpenConns(5)
	if s.rows(t, "notification_tracking", "Counter") == 0 {
		t.Error("the position was deleted")
	}
}
