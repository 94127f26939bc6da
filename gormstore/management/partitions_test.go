package management_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/operations"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// inFour has a program divide its followers.
const inFour = "PARTITIONS=4"

// syncInFour has all followers process what there is, divided.
func (s *service) syncInFour(t *testing.T) {
	t.Helper()
	if got := s.manage(t, inFour, "sync_followers", "-v", "0"); got.code != 0 {
		t.Fatalf("got %+v, want code 0", got)
	}
}

// states are what the command followers prints as JSON, by follower.
func (s *service) states(t *testing.T) map[string]operations.FollowerState {
	t.Helper()
	got := s.manage(t, inFour, "followers", "-o", "json")
	var all []operations.FollowerState
	if err := json.Unmarshal([]byte(got.stdout), &all); err != nil {
		t.Fatalf("%+v: %v", got, err)
	}
	states := map[string]operations.FollowerState{}
	for _, state := range all {
		states[state.Follower+" of "+state.Leader] = state
	}
	return states
}

// movePartition has a partition be at another position.
func (s *service) movePartition(t *testing.T, follower string, number int, to int64) {
	t.Helper()
	moved := s.db.Table("follower_partitions").Where("application_name = ? AND number = ?", follower, number).Update("position", to)
	if moved.Error != nil || moved.RowsAffected != 1 {
		t.Fatalf("moved %d partitions: %v, want no error and RowsAffected 1", moved.RowsAffected, moved.Error)
	}
}

// The command followers shows the partitions of a divided follower, and those
// of no other.
func TestFollowersShowPartitions(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 20)
		if got := s.manage(t, "sync_followers", "-v", "0"); got.code != 0 {
			t.Fatalf("got %+v, want code 0", got)
		}
		if got := s.manage(t, "followers"); strings.Contains(got.stdout, "PARTITION") {
			t.Errorf("of followers that are not divided: %s", got.stdout)
		}
		s.syncInFour(t)
		s.movePartition(t, "Diary", 2, 5)
		got := s.manage(t, inFour, "followers")
		expect.Contains(t, got.stdout, "\n\nFOLLOWER  LEADER          PARTITION  POSITION  LAG  OWNER\n")
		fields := func(line string) string { return strings.Join(strings.Fields(line), " ") }
		lines := strings.Split(got.stdout, "\n")
		want := []string{"Diary TrainingSchool not running 5 20 15 0 ", "Diary TrainingSchool 1 20 0 none since 2", "Diary TrainingSchool 2 5 15 none since 2"}
		for _, line := range lines {
			if len(want) > 0 && strings.HasPrefix(fields(line), want[0]) {
				want = want[1:]
			}
		}
		if len(want) > 0 {
			t.Errorf("lacks a line %q:\n%s", want[0], got.stdout)
		}
		state := s.states(t)["Diary of TrainingSchool"]
		if len(state.Partitions) != 4 || state.Position != 5 || state.Lag != 15 || state.PartitionKey != "" {
			t.Fatalf("got %+v, want 4 Partitions, Position 5 and Lag 15", state)
		}
		for number, p := range state.Partitions {
			lag := int64(0)
			if number == 2 {
				lag = 15
			}
			if p.Number != number || p.Lag != lag || p.Position != 20-lag || p.Owner != "" || p.Until.IsZero() || p.Error != "" {
				t.Errorf("partition %d is %+v, want Lag %v and Position %v", number, p, lag, 20-lag)
			}
		}
	})
}

// A partition that fails is shown with its error and makes its follower
// unhealthy in the end, and the others are processed. When it has recovered,
// nothing of it is shown.
func TestFollowersShowPartitionThatFails(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 20)
		flaky := func(words ...string) result { return s.manage(t, append([]string{inFour, "DJ_FLAKY=1"}, words...)...) }
		got := flaky("FLAKY=mid", "sync_followers", "-v", "2", "Flaky")
		if got.code != 1 || !strings.Contains(got.stderr, "cannot process notification 2 ") {
			t.Fatalf("got %+v, want code 1 and stderr to contain %q", got, "cannot process notification 2 ")
		}
		var done int64
		if err := s.db.Table("follower_partitions").Where("position = 20").Count(&done).Error; err != nil || done != 3 {
			t.Errorf("%d partitions are at the end (%v), want 3 of 4", done, err)
		}
		const line = "Flaky TrainingSchool "
		shown := func() string {
			var found []string
			for row := range strings.SplitSeq(flaky("followers").stdout, "\n") {
				if row = strings.Join(strings.Fields(row), " "); strings.HasPrefix(row, line) && strings.Contains(row, "at 2: ") {
					found = append(found, row)
				}
			}
			return strings.Join(found, "\n")
		}
		if got := shown(); strings.Count(got, line) != 2 {
			t.Errorf("the follower and one partition have failed at event 2; got %q, want 2", got)
		}
		// That it fails again says nothing new of since when.
		since := func() string {
			var row struct{ Since *time.Time }
			if err := s.db.Table("follower_partitions").Where("application_name = 'Flaky' AND error <> ''").Take(&row).Error; err != nil || row.Since == nil {
				t.Fatalf("the partition that fails is %+v: %v", row, err)
			}
			return row.Since.UTC().String()
		}
		before := since()
		if got := flaky("FLAKY=mid", "sync_followers", "-v", "0", "Flaky"); got.code != 1 {
			t.Errorf("got %+v, want code 1", got)
		}
		if after := since(); after != before {
			t.Errorf("it fails since %s, and then since %s", before, after)
		}
		flaky("sync_followers", "-v", "0", "Flaky").want(t, 0, "", "")
		if got := shown(); got != "" {
			t.Errorf("after it has recovered: %q", got)
		}
		// A failure in the status of a process is over, although the position,
		// that of another partition, is before it.
		s.movePartition(t, "Flaky", 1, 1)
		old := capability.FollowerStatus{ApplicationName: "Flaky", UpstreamApplicationName: "TrainingSchool",
			State: "retrying", Error: "an old error", NotificationID: 2, Process: "kennel 42"}
		record := capability.Of(gormstore.New(s.db)).Statuses.RecordStatus
		retrying := record(t.Context(), old)
		old.State = "stopped"
		if err := errors.Join(retrying, record(t.Context(), old)); err != nil {
			t.Fatal(err)
		}
		if got := shown(); got != "" {
			t.Errorf("an error that is over: %q", got)
		}
	})
}

// A pause holds for all partitions, and a resume ends it.
func TestPauseOfPartitions(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 5)
		s.syncInFour(t)
		s.manage(t, inFour, "followers", "pause", "Diary").want(t, 0, "Diary is paused: it processes no events of TrainingSchool.\n", "")
		s.train(t, "TrainingSchool", 5)
		if got := s.manage(t, inFour, "sync_followers", "-v", "2", "Diary"); got.code != 0 || !strings.Contains(got.stdout, "PAUSED") {
			t.Errorf("got %+v, want code 0 and stdout to contain %q", got, "PAUSED")
		}
		if state := s.states(t)["Diary of TrainingSchool"]; state.State != "paused" || len(state.Partitions) != 4 || !state.Healthy {
			t.Errorf("got %+v, want State %q and 4 Partitions", state, "paused")
		}
		if n := s.rows(t, "stored_events", "Diary"); n != 5 {
			t.Errorf("the diary has %d events, want 5", n)
		}
		s.manage(t, inFour, "followers", "resume", "Diary").want(t, 0, "Diary processes events of TrainingSchool.\n", "")
		s.syncInFour(t)
		if n := s.rows(t, "stored_events", "Diary"); n != 10 {
			t.Errorf("the diary has %d events, want 10", n)
		}
	})
}

// A reset clears what all partitions have made, and their positions, also if
// they are at different ones. A dry run changes nothing.
func TestResetOfPartitions(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 10)
		s.syncInFour(t)
		before := s.content(t)
		for _, dry := range [][]string{{"reset_follower", "-n", "Diary"}, {"sync_followers", "-n"}, {"followers", "skip", "-n", "Diary"}} {
			if got := s.manage(t, append([]string{inFour}, dry...)...); got.code != 0 {
				t.Errorf("%s: %+v, want code 0", dry, got)
			}
			if s.content(t) != before {
				t.Errorf("%s has changed something", dry)
			}
		}
		s.movePartition(t, "Diary", 1, 3)
		got := s.manage(t, inFour, "reset_follower", "--yes", "Diary")
		if got.code != 0 || s.rows(t, "stored_events", "Diary") != 0 || s.rows(t, "follower_partitions", "Diary") != 0 ||
			s.rows(t, "notification_tracking", "Diary") != 0 {
			t.Errorf("the reset has left something: %+v, want code 0, rows 0, rows 0 and rows 0", got)
		}
		s.syncInFour(t)
		if n := s.rows(t, "stored_events", "Diary"); n != 10 {
			t.Errorf("the diary has %d events, want 10", n)
		}
	})
}

// A skip passes over what no partition has processed, and repeats nothing of
// what some have.
func TestSkipOfPartitions(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 6)
		s.syncInFour(t)
		s.movePartition(t, "Diary", 3, 2)
		s.train(t, "TrainingSchool", 4)
		// The ids between them are of other logs.
		const what = "Diary will never process what it has not processed yet: TrainingSchool from 2 to 16 (8 events)"
		if got := s.manage(t, inFour, "followers", "skip", "-n", "Diary"); got.code != 0 || !strings.Contains(got.stdout, what) {
			t.Errorf("got %+v, want code 0 and stdout to contain %q", got, what)
		}
		if got := s.manage(t, inFour, "followers", "skip", "--yes", "Diary"); got.code != 0 {
			t.Errorf("got %+v, want code 0", got)
		}
		s.train(t, "TrainingSchool", 3)
		s.syncInFour(t)
		if n := s.rows(t, "stored_events", "Diary"); n != 9 {
			t.Errorf("the diary has %d events, want the 6 before the skip and the 3 after it", n)
		}
		if state := s.states(t)["Diary of TrainingSchool"]; len(state.Partitions) != 4 || state.Lag != 0 {
			t.Errorf("after the skip: %+v, want 4 Partitions and Lag 0", state)
		}
	})
}

// A skip whose plan one of the partitions has passed meanwhile is refused: it
// would move that one back. One that is ahead of the log is moved back.
func TestSkipMovesNoPartitionBack(t *testing.T) {
	t.Parallel()
	s := newPostgres(t)
	s.train(t, "TrainingSchool", 6)
	runner := s.running(t, system.Partitions(4), system.OnEvery(func(context.Context, domain.Event) error { return nil }))
	if _, err := runner.CatchUp(t.Context(), called("Mailer"), nil); err != nil {
		t.Fatal(err)
	}
	s.movePartition(t, "Mailer", 3, 2)
	skip := func() error {
		_, err := operations.SkipToHead(t.Context(), runner, operations.SkipOptions{Follower: "Mailer"})
		return err
	}
	skipped := make(chan error, 1)
	store := gormstore.New(s.db)
	err := store.Transaction(t.Context(), func(ctx context.Context) error {
		recorder, err := store.ProcessRecorder("Mailer")
		if err != nil {
			return err
		}
		if _, err := recorder.LockPosition(ctx, "TrainingSchool"); err != nil {
			return err
		}
		go func() { skipped <- skip() }()
		expect.Until(t, "the skip waits for the lock", func() bool {
			var waiting int64
			err := s.db.Raw("SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted " +
				"AND database = (SELECT oid FROM pg_database WHERE datname = current_database())").Scan(&waiting).Error
			return err == nil && waiting > 0
		})
		s.train(t, "TrainingSchool", 3)
		tx, err := gormstore.Tx(ctx)
		if err != nil {
			return err
		}
		return tx.Table("follower_partitions").Where("number = 0").Update("position", 9).Error
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-skipped; err == nil || !strings.Contains(err.Error(), "has processed events of TrainingSchool meanwhile") {
		t.Errorf("a skip that moves a partition back: %v, want an error that contains %q", err, "has processed events of TrainingSchool meanwhile")
	}
	s.movePartition(t, "Mailer", 0, 100)
	if err := skip(); err != nil {
		t.Error(err)
	}
	if states, err := operations.Followers(t.Context(), runner); err != nil || states[0].Position != 9 || states[0].Lag != 0 {
		t.Errorf("after the skip: %+v, %v, want no error, Position 9 and Lag 0", states, err)
	}
}

// What a divided follower has parked is listed, discarded and retried as that
// of another one.
func TestParkedEventsOfPartitions(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 8)
		parker := func(words ...string) result { return s.manage(t, append([]string{inFour, "PARKER=1"}, words...)...) }
		got := parker("FLAKY=es", "sync_followers", "-v", "2", "Flaky")
		if got.code != 0 || !strings.Contains(got.stdout, "8 events from TrainingSchool parked") {
			t.Fatalf("got %+v, want code 0 and stdout to contain %q", got, "8 events from TrainingSchool parked")
		}
		if got := parker("discard_parked", "--yes", "Flaky", "TrainingSchool", "3"); got.code != 0 {
			t.Errorf("got %+v, want code 0", got)
		}
		if got := parker("FLAKY=mid", "retry_parked", "Flaky"); got.code != 1 ||
			!strings.Contains(got.stdout, "6 parked events of Flaky processed, 1 still parked.") {
			t.Errorf("got %+v, want code 1 and stdout to contain %q", got, "6 parked events of Flaky processed, 1 still parked.")
		}
		parker("retry_parked", "Flaky").want(t, 0, "1 parked event of Flaky processed, 0 still parked.\n", "")
		parker("parked", "Flaky").want(t, 0, parker("parked").stdout, "")
	})
}

// After a deletion of the newest events, the partitions of a follower in
// another database that were at them go on. The positions of the others do not
// change.
func TestContinueOfPartitions(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		other := newSQLite(t)
		s.env = append(s.env, "OTHER_DATABASE="+other.address)
		s.train(t, "TrainingSchool", 8)
		s.syncInFour(t)
		other.movePartition(t, "Elsewhere", 1, 3)
		if err := s.db.Exec("DELETE FROM stored_events WHERE id IN (3, 7, 8)").Error; err != nil {
			t.Fatal(err)
		}
		s.manage(t, inFour, "followers", "continue", "Elsewhere").want(t, 0,
			"Elsewhere goes on after 6 in the log of TrainingSchool, instead of 8; there are no events in between.\n", "")
		s.manage(t, inFour, "followers", "continue", "Elsewhere").want(t, 0, "Elsewhere is at an event that exists; nothing is to be done.\n", "")
		var positions []int64
		if err := other.db.Table("follower_partitions").Where("application_name = 'Elsewhere'").Order("number").
			Pluck("position", &positions).Error; err != nil || fmt.Sprint(positions) != "[6 3 6 6]" {
			t.Errorf("the positions are %v (%v), want [6 3 6 6]", positions, err)
		}
		s.train(t, "TrainingSchool", 2)
		if got := s.manage(t, inFour, "sync_followers", "-v", "2", "Elsewhere"); got.code != 0 {
			t.Errorf("got %+v, want code 0", got)
		}
	})
}

// The command check finds partitions that are ahead of the log or damaged, and
// a reset mends the latter.
func TestCheckOfPartitions(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 8)
		s.syncInFour(t)
		if got := s.manage(t, inFour, "check"); got.code != 0 {
			t.Errorf("got %+v, want code 0", got)
		}
		s.movePartition(t, "Diary", 2, 100)
		got := s.manage(t, inFour, "check")
		if got.code != 1 || !strings.Contains(got.stdout, "Diary notification 100: position in TrainingSchool is ahead of its log, which ends at 8") {
			t.Errorf("got %+v, want code 1 and stdout to contain %q", got, "Diary notification 100: position in TrainingSchool is ahead of its log, which ends at 8")
		}
		if err := s.db.Exec("DELETE FROM follower_partitions WHERE application_name = 'Diary' AND number = 2").Error; err != nil {
			t.Fatal(err)
		}
		got = s.manage(t, inFour, "check")
		if got.code != 1 || !strings.Contains(got.stdout, "Diary: its position in TrainingSchool cannot be told: ") ||
			!strings.Contains(got.stdout, "or reset the follower") {
			t.Errorf("got %+v, want code 1, stdout to contain %q and stdout to contain %q", got, "Diary: its position in TrainingSchool cannot be told: ", "or reset the follower")
		}
		if got := s.manage(t, inFour, "sync_followers", "-v", "2", "Diary"); got.code != 1 || !strings.Contains(got.stderr, "reset the follower") {
			t.Errorf("got %+v, want code 1 and stderr to contain %q", got, "reset the follower")
		}
		if got := s.manage(t, inFour, "followers"); got.code != 1 || !strings.Contains(got.stdout, "cannot be read: ") {
			t.Errorf("got %+v, want code 1 and stdout to contain %q", got, "cannot be read: ")
		}
		if got := s.manage(t, inFour, "reset_follower", "--yes", "Diary"); got.code != 0 {
			t.Errorf("got %+v, want code 0", got)
		}
		s.syncInFour(t)
		if got := s.manage(t, inFour, "check"); got.code != 0 || s.rows(t, "stored_events", "Diary") != 8 {
			t.Errorf("got %+v, want code 0 and rows 8", got)
		}
	})
}
