package management_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/operations"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// A follower that is paused, though it has never run, processes nothing in any
// process until it is resumed.
func TestPauseCommand(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 3)
		s.manage(t, "followers", "pause", "Diary").want(t, 0, "Diary is paused: it processes no events of TrainingSchool.\n", "")
		s.manage(t, "followers", "pause", "Counter", "TrainingSchool").want(t, 0,
			"Counter is paused: it processes no events of TrainingSchool.\n", "")
		got := s.manage(t, "followers")
		if n := strings.Count(got.stdout, " paused "); n != 4 || !strings.Contains(got.stdout, "paused since ") || !strings.Contains(got.stdout, "@") {
			t.Errorf("got %+v, want 4, stdout to contain %q and stdout to contain %q", got, "paused since ", "@")
		}
		s.train(t, "CatSchool", 2)
		s.manage(t, "sync_followers", "-v", "2").want(t, 0, "All followers selected for synchronization.\n"+
			"[1/2] Synchronizing Diary... PAUSED\n\t 0 events from TrainingSchool processed\n"+
			"[2/2] Synchronizing Counter... PAUSED\n\t 0 events from TrainingSchool processed\n"+
			"\t 2 events from CatSchool processed\n", "")
		if n := s.rows(t, "stored_events", "Diary"); n != 0 {
			t.Errorf("a follower that is paused has made %d events, want 0", n)
		}
		s.manage(t, "followers", "resume", "Diary").want(t, 0, "Diary processes events of TrainingSchool.\n", "")
		s.manage(t, "sync_followers", "-v", "0", "Diary").want(t, 0, "", "")
		if n := s.rows(t, "stored_events", "Diary"); n != 3 {
			t.Errorf("a follower that was resumed has made %d events, want 3", n)
		}
	})
}

// Mistakes of the commands under followers.
func TestPauseMistakes(t *testing.T) {
	s := newSQLite(t)
	for words, want := range map[string]string{
		"followers pause Nobody":        "Unknown followers selected: Nobody.",
		"followers pause Diary Nowhere": "it does not follow Nowhere; it follows TrainingSchool",
		"followers skip Diary":          "Without a terminal it needs --yes",
	} {
		if got := s.manage(t, strings.Fields(words)...); got.code != 1 || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: %+v, want code 1 and stderr to contain %q", words, got, want)
		}
	}
	if got := s.manage(t, "followers", "pause"); got.code != 2 {
		t.Errorf("got %+v, want code 2", got)
	}
	_, err := operations.Followed(s.runner(t), "Diary", []string{"Nowhere"})
	if !errors.Is(err, persistence.ErrProgramming) {
		t.Errorf("a leader that it does not follow: got %v, want an ErrProgramming", err)
	}
	if err := s.db.Migrator().DropTable("follower_settings"); err != nil {
		t.Fatal(err)
	}
	if got := s.manage(t, "followers", "pause", "Diary"); got.code != 1 || !strings.Contains(got.stderr, "migrate") {
		t.Errorf("without the table: %+v, want code 1 and stderr to contain %q", got, "migrate")
	}
}

// handler calls a handler for one payload.
func handler[E any](policy func(context.Context, domain.Event) error) system.FollowerOption {
	return system.On(func(ctx context.Context, event domain.Recorded[E]) error { return policy(ctx, event.Event) })
}

// Cat is an aggregate of the school that is not registered yet.
type Cat struct{ domain.Aggregate }

type found struct{}

func (found) Apply(*Cat) {}

var cats = domain.Define("Cat", domain.On("Found", found{}))

// running is a runner with one follower.
func (s *service) running(t *testing.T, handlers ...system.FollowerOption) *system.Runner {
	t.Helper()
	m := &members{options: []application.Option{application.WithStore(gormstore.New(s.db))}}
	sys, err := m.system(system.Pipe(member(m, leader("TrainingSchool"), application.WithDefinitions(cats)),
		member(m, func(options ...application.Option) (*system.Follower, error) {
			app, err := application.New("Mailer", options...)
			if err != nil {
				return nil, err
			}
			return system.NewFollower(app, handlers...)
		})))
	if err != nil {
		t.Fatal(err)
	}
	runner, err := system.NewRunner(sys, system.Config{})
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

// When Pause returns, the batch at hand has ended, and no later event has an
// effect, however busy the follower is.
func TestPauseWhileRunning(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		if err := s.db.Exec("CREATE TABLE mails (notification text)").Error; err != nil {
			t.Fatal(err)
		}
		mails := func() (n int64) {
			if err := s.db.Table("mails").Count(&n).Error; err != nil {
				t.Fatal(err)
			}
			return n
		}
		runner := s.running(t, system.OnEvery(func(ctx context.Context, event domain.Event) error {
			tx, err := gormstore.Tx(ctx)
			if err != nil {
				return err
			}
			return tx.Exec("INSERT INTO mails VALUES (?)", event.OriginatorID.String()).Error
		}))
		if err := runner.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		options := operations.PauseOptions{Follower: "Mailer", By: "a test"}
		for round := range int64(testdb.Sample(2, 5)) {
			s.train(t, "TrainingSchool", 300)
			expect.Until(t, "the follower is at work", func() bool { return mails() > round*300 })
			if err := operations.Pause(t.Context(), runner, options); err != nil {
				t.Fatal(err)
			}
			at := mails()
			s.train(t, "TrainingSchool", 1)
			expect.Until(t, "the follower has seen that it is paused", func() bool {
				statuses, err := runner.Statuses(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return statuses[0].State == system.Paused
			})
			if now := mails(); now != at {
				t.Errorf("%d events had effects after the pause, want 0", now-at)
			}
			if err := runner.WaitFor(t.Context(), called("Mailer")); !errors.Is(err, system.ErrPaused) {
				t.Errorf("waiting for a follower that is paused: %v, want an error that is %v", err, system.ErrPaused)
			}
			if _, err := runner.CatchUp(t.Context(), called("Mailer"), nil); !errors.Is(err, system.ErrPaused) {
				t.Errorf("catching up: %v, want an error that is %v", err, system.ErrPaused)
			}
			states, err := operations.Followers(t.Context(), runner)
			if err != nil || states[0].State != "paused" || states[0].PausedBy != "a test" || states[0].PausedAt.IsZero() {
				t.Errorf("the state is %+v (%v), want no error, State %q and PausedBy %q", states, err, "paused", "a test")
			}
			if err := operations.Resume(t.Context(), runner, options); err != nil {
				t.Fatal(err)
			}
			expect.Until(t, "the follower has caught up", func() bool { return mails() == (round+1)*301 })
		}
	})
}

// A pause waits for a handler, and gives up with an error if that takes too
// long.
func TestPauseWaitsForTheBatch(t *testing.T) {
	t.Parallel()
	s := newPostgres(t)
	begun, release := make(chan bool, 1), make(chan bool)
	runner := s.running(t, system.OnEvery(func(context.Context, domain.Event) error {
		select {
		case begun <- true:
		default: // it is tried again
		}
		<-release
		return nil
	}))
	s.train(t, "TrainingSchool", 1)
	if err := runner.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-begun
	options, paused := operations.PauseOptions{Follower: "Mailer"}, make(chan error, 1)
	go func() { paused <- operations.Pause(t.Context(), runner, options) }()
	expect.Until(t, "the pause waits for the lock", func() bool {
		var waiting int64
		err := s.db.Raw("SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted " +
			"AND database = (SELECT oid FROM pg_database WHERE datname = current_database())").Scan(&waiting).Error
		return err == nil && waiting > 0
	})
	select {
	case err := <-paused:
		t.Fatalf("the pause has not waited: %v", err)
	default:
	}
	close(release)
	if err := <-paused; err != nil {
		t.Error(err)
	}
}

// What is at the end of the log already is skipped, and later events are
// processed.
func TestSkipCommand(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 3)
		const what = "Diary will never process what it has not processed yet: TrainingSchool from 0 to 3 (3 events)."
		s.manage(t, "followers", "skip", "-n", "Diary").want(t, 0, what+" (dry-run)\n", "")
		s.manage(t, "followers", "skip", "--yes", "Diary").want(t, 0, "Diary is at 3 in the log of TrainingSchool. It has skipped 3 events.\n", "")
		s.train(t, "TrainingSchool", 2)
		s.manage(t, "sync_followers", "-v", "0").want(t, 0, "", "")
		if n := s.rows(t, "stored_events", "Diary"); n != 2 {
			t.Errorf("the diary has %d events, want the 2 after the skip", n)
		}
		// A position that is ahead of the log is taken back to its end.
		if err := s.db.Exec("UPDATE notification_tracking SET notification_id = 1000 WHERE application_name = 'Diary'").Error; err != nil {
			t.Fatal(err)
		}
		if got := s.manage(t, "sync_followers", "-v", "2", "Diary"); got.code != 1 || !strings.Contains(got.stderr, "ahead") {
			t.Errorf("ahead: %+v, want code 1", got)
		}
		if got := s.manage(t, "followers", "skip", "--yes", "Diary"); got.code != 0 {
			t.Errorf("got %+v, want code 0", got)
		}
		s.train(t, "TrainingSchool", 1)
		s.manage(t, "sync_followers", "-v", "0", "Diary").want(t, 0, "", "")
		if n := s.rows(t, "stored_events", "Diary"); n != 3 {
			t.Errorf("the diary has %d events, want 3", n)
		}
	})
}

// A filter that grows is reported by followers and sync_followers, until the
// follower is reset or the change accepted.
func TestTopicsThatGrow(t *testing.T) {
	each(t, func(t *testing.T, s *service) {
		s.train(t, "TrainingSchool", 3)
		seen := 0
		policy := func(context.Context, domain.Event) error { seen++; return nil }
		none := s.running(t, handler[found](policy))
		if report, err := operations.SyncFollowers(t.Context(), none, operations.SyncOptions{}, operations.SyncObserver{}); err != nil ||
			report.Failed() || report.Followers[0].Processed[0].Note != "" {
			t.Fatalf("%+v, %v", report, err)
		}
		grown := s.running(t, handler[found](policy), handler[registered](policy))
		want := "Dog.Registered: processed only since position 3"
		for range 2 {
			report, err := operations.SyncFollowers(t.Context(), grown, operations.SyncOptions{}, operations.SyncObserver{})
			if err != nil || report.Failed() || !strings.Contains(report.Followers[0].Processed[0].Note, want) {
				t.Errorf("%+v, %v, want no error and Note to contain %q", report, err, want)
			}
		}
		note := func() string {
			states, err := operations.Followers(t.Context(), grown)
			if err != nil {
				t.Fatal(err)
			}
			return states[0].Note
		}
		if got := note(); !strings.Contains(got, want) || strings.Contains(got, "Cat") {
			t.Errorf("the note is %q, want %q", got, want)
		}
		if err := operations.AcceptTopics(t.Context(), grown, operations.PauseOptions{Follower: "Mailer"}); err != nil {
			t.Fatal(err)
		}
		if _, err := grown.CatchUp(t.Context(), called("Mailer"), nil); err != nil || note() != "" {
			t.Errorf("after it was accepted the note is %q (%v)", note(), err)
		}
		if _, err := operations.ResetFollower(t.Context(), grown, operations.ResetOptions{Follower: "Mailer", Force: true}); err != nil {
			t.Fatal(err)
		}
		if _, err := grown.CatchUp(t.Context(), called("Mailer"), nil); err != nil || note() != "" || seen != 3 {
			t.Errorf("after the reset the note is %q (%v), and %d of 3 events were seen, want no error and 3", note(), err, seen)
		}
	})
}
