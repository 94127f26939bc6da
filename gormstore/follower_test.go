package gormstore_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// eachMigrated runs a test on all databases, with their tables.
func eachMigrated(t *testing.T, test func(t *testing.T, db *gorm.DB)) {
	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		t.Parallel()
		db := open(t)
		if err := gormstore.AutoMigrate(db); err != nil {
			t.Fatal(err)
		}
		test(t, db)
	})
}

func TestFollowerStatus(t *testing.T) {
	t.Parallel()
	eachMigrated(t, func(t *testing.T, db *gorm.DB) {
		ctx, store := t.Context(), gormstore.New(db)
		now := time.Now().UTC().Truncate(time.Millisecond)
		wanted := map[string]capability.FollowerStatus{}
		put := func(process, follower string, change func(*capability.FollowerStatus)) {
			t.Helper()
			s := capability.FollowerStatus{ApplicationName: follower, UpstreamApplicationName: "School", State: "running",
				Heartbeat: now, Process: process}
			change(&s)
			if err := capability.Of(store).Statuses.RecordStatus(ctx, s); err != nil {
				t.Fatal(err)
			}
			s.Ahead = max(s.Ahead, 0)
			wanted[follower] = s
		}
		check := func(what string) {
			t.Helper()
			got, err := capability.Of(store).Statuses.FollowerStatuses(ctx)
			for i := range got {
				// The heartbeat is by the database's clock.
				if got[i].Heartbeat.Sub(now).Abs() < time.Minute {
					got[i].Heartbeat = now
				}
			}
			want := []capability.FollowerStatus{wanted["A"], wanted["B"]}
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%s:\n got %+v, %v\nwant %+v", what, got, err, want)
			}
		}
		put("first", "B", func(*capability.FollowerStatus) {})
		put("first", "A", func(s *capability.FollowerStatus) {
			s.State, s.Error, s.NotificationID, s.Ahead = "retrying", "no such dog", 7, 12
			s.Since, s.NextRetry = now.Add(-time.Minute), now.Add(time.Minute)
		})
		check("two followers")
		put("second", "A", func(*capability.FollowerStatus) {})
		check("one that has recovered, in another process")

		kept := wanted["A"]
		stopped := func(s *capability.FollowerStatus) { s.State, s.Ahead = "stopped", -1 }
		put("first", "A", stopped)
		wanted["A"] = kept
		check("one that has stopped while another process goes on")
		put("second", "A", stopped)
		check("one that has stopped")
		ahead := func(s *capability.FollowerStatus) { s.State, s.Ahead = "stopped", 9 }
		put("third", "A", ahead)
		put("third", "A", func(s *capability.FollowerStatus) { s.Ahead = capability.KeepAhead })
		wanted["A"] = capability.FollowerStatus{ApplicationName: "A", UpstreamApplicationName: "School", State: "running",
			Ahead: 9, Heartbeat: now, Process: "third"}
		check("one that was ahead, which a heartbeat does not change")
	})
}

func TestAlive(t *testing.T) {
	now := time.Now()
	status := func(state string, age time.Duration) capability.FollowerStatus {
		return capability.FollowerStatus{State: state, Heartbeat: now.Add(-age)}
	}
	for _, c := range []struct {
		status capability.FollowerStatus
		want   bool
	}{
		{status("running", time.Second), true},
		{status("retrying", 2*capability.HeartbeatInterval), true},
		{status("running", 3*capability.HeartbeatInterval), false},
		{status("stopped", 0), false},
		{status("running", -time.Second), true}, // as clocks of hosts differ
		{status("running", -3*capability.HeartbeatInterval), false},
	} {
		if got := c.status.Alive(now); got != c.want {
			t.Errorf("%+v: got %v, want %v", c.status, got, c.want)
		}
	}
}

// The clock of a runner's host does not matter: it may be wrong in either
// direction.
func TestHeartbeatIsTheDatabasesTime(t *testing.T) {
	t.Parallel()
	eachMigrated(t, func(t *testing.T, db *gorm.DB) {
		store := gormstore.New(db)
		status := capability.FollowerStatus{ApplicationName: "A", UpstreamApplicationName: "School", State: "running", Process: "first"}
		alive := func() bool {
			t.Helper()
			statuses, err := capability.Of(store).Statuses.FollowerStatuses(t.Context())
			if err != nil || len(statuses) != 1 {
				t.Fatal(statuses, err)
			}
			return statuses[0].Alive(time.Now())
		}
		for _, wrong := range []time.Duration{-time.Hour, -time.Minute, time.Minute, time.Hour} {
			status.Heartbeat = time.Now().Add(wrong)
			if err := capability.Of(store).Statuses.RecordStatus(t.Context(), status); err != nil {
				t.Fatal(err)
			}
			if !alive() {
				t.Errorf("a runner whose clock is wrong by %v has just written its status, and counts as dead", wrong)
			}
		}
		// Rows of other programs may have these.
		for _, wrong := range []time.Duration{-time.Minute, time.Minute, time.Hour} {
			if err := db.Model(&gormstore.FollowerStatus{}).Where("1 = 1").Update("heartbeat", time.Now().UTC().Add(wrong)).Error; err != nil {
				t.Fatal(err)
			}
			if alive() {
				t.Errorf("a heartbeat that is %v old counts", -wrong)
			}
		}
	})
}

// A runner that stops does not hide one that goes on, whichever of them wrote
// last.
func TestStoppedRunnerHidesNoOther(t *testing.T) {
	t.Parallel()
	eachMigrated(t, func(t *testing.T, db *gorm.DB) {
		store := gormstore.New(db)
		record := func(process, state string, ahead int64) {
			t.Helper()
			err := capability.Of(store).Statuses.RecordStatus(t.Context(), capability.FollowerStatus{ApplicationName: "A", UpstreamApplicationName: "School",
				State: state, Process: process, Ahead: ahead})
			if err != nil {
				t.Fatal(err)
			}
		}
		want := func(what, process, state string) {
			t.Helper()
			statuses, err := capability.Of(store).Statuses.FollowerStatuses(t.Context())
			if err != nil || len(statuses) != 1 || statuses[0].Process != process || statuses[0].State != state {
				t.Errorf("%s: got %+v, %v, want no error, 1 statuses, Process %v and State %v", what, statuses, err, process, state)
			}
		}
		record("first", "running", -1)
		record("second", "running", -1)
		record("third", "retrying", -1)
		record("third", "stopped", -1)
		want("the last of three has stopped", "second", "running")
		record("first", "stopped", -1)
		want("the first has stopped, too", "second", "running")
		record("command", "stopped", 0)
		want("a command has found the position mended", "second", "running")
		record("second", "stopped", -1)
		want("all have stopped", "second", "stopped")

		record("first", "running", -1)
		if err := db.Model(&gormstore.FollowerRunner{}).Where("1 = 1").Update("heartbeat", time.Now().UTC().Add(-time.Minute)).Error; err != nil {
			t.Fatal(err)
		}
		record("second", "running", -1)
		record("second", "stopped", -1)
		want("the other was killed a minute ago", "second", "stopped")

		record("first", "running", -1)
		record("second", "stopped", 9)
		want("the position is ahead of the log", "second", "stopped")

		if err := db.Migrator().DropTable(&gormstore.FollowerRunner{}); err != nil {
			t.Fatal(err)
		}
		record("first", "running", -1)
		want("without the table of runners", "first", "running")
		record("first", "stopped", -1)
		want("without the table of runners", "first", "stopped")
	})
}

// Runners that stop at the same moment, in several processes, leave no status
// that says that one of them goes on.
func TestRunnersThatStopTogether(t *testing.T) {
	t.Parallel()
	for _, backend := range []testdb.Backend{
		{Name: "sqlite-file", Open: testdb.SQLiteFile},
		{Name: "postgres", Open: testdb.OpenPostgres},
	} {
		t.Run(backend.Name, func(t *testing.T) {
			t.Parallel()
			db := backend.Open(t)
			if err := gormstore.AutoMigrate(db); err != nil {
				t.Fatal(err)
			}
			store := gormstore.New(db)
			record := func(ctx context.Context, follower, process, state string) {
				err := capability.Of(store).Statuses.RecordStatus(ctx, capability.FollowerStatus{ApplicationName: follower,
					UpstreamApplicationName: "School", State: state, Process: process, Ahead: capability.KeepAhead})
				if err != nil {
					t.Error(err)
				}
			}
			isWaiting := func() bool {
				var n int
				if err := db.Raw("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid' AND pid IN " +
					"(SELECT pid FROM pg_stat_activity WHERE datname = current_database())").Scan(&n).Error; err != nil {
					t.Error(err)
				}
				return n > 0
			}
			for n, states := range [][]string{{"running", "running"}, {"running", "standing by"}, {"standing by", "running"}} {
				follower := fmt.Sprint("Follower ", n)
				record(t.Context(), follower, "first", states[0])
				record(t.Context(), follower, "second", states[1])
				stopped := make(chan struct{})
				err := store.Transaction(t.Context(), func(ctx context.Context) error {
					record(ctx, follower, "second", "stopped") // finds that the first one goes on
					go func() {
						defer close(stopped)
						record(t.Context(), follower, "first", "stopped")
					}()
					if backend.Name == "postgres" && !expect.Eventually(func() bool { return isClosed(stopped) || isWaiting() }) {
						t.Error("the other end was neither recorded nor waits")
					}
					return nil
				})
				<-stopped
				if err != nil {
					t.Fatal(err)
				}
			}
			statuses, err := capability.Of(store).Statuses.FollowerStatuses(t.Context())
			if err != nil || len(statuses) != 3 {
				t.Fatal(len(statuses), err)
			}
			for _, s := range statuses {
				if s.Alive(time.Now()) {
					t.Errorf("all runners of %s have stopped: got %+v", s.ApplicationName, s)
				}
			}
			var rows []gormstore.FollowerStatus
			if err := db.Where("state <> 'stopped'").Find(&rows).Error; err != nil || len(rows) > 0 {
				t.Errorf("rows that say that a runner goes on: %+v, %v, want no error and 0 rows", rows, err)
			}
		})
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// A status counts as long as its runner has a row, whatever the status says.
func TestStatusWithoutRunner(t *testing.T) {
	t.Parallel()
	eachMigrated(t, func(t *testing.T, db *gorm.DB) {
		store := gormstore.New(db)
		for _, process := range []string{"first", "second"} {
			err := capability.Of(store).Statuses.RecordStatus(t.Context(), capability.FollowerStatus{ApplicationName: "A", UpstreamApplicationName: "School",
				State: "running", Process: process, Ahead: capability.KeepAhead})
			if err != nil {
				t.Fatal(err)
			}
		}
		alive := func() bool {
			t.Helper()
			statuses, err := capability.Of(store).Statuses.FollowerStatuses(t.Context())
			if err != nil || len(statuses) != 1 || statuses[0].Process != "second" {
				t.Fatal(statuses, err)
			}
			return statuses[0].Alive(time.Now())
		}
		for _, process := range []string{"first", "second"} {
			if !alive() {
				t.Error("a runner that has a row does not count")
			}
			if err := db.Where("process = ?", process).Delete(&gormstore.FollowerRunner{}).Error; err != nil {
				t.Fatal(err)
			}
		}
		if alive() {
			t.Error("a runner that has no row counts")
		}
	})
}

func TestParking(t *testing.T) {
	t.Parallel()
	eachMigrated(t, func(t *testing.T, db *gorm.DB) {
		ctx, store := t.Context(), gormstore.New(db)
		parking := func(application string) capability.ParkingRecorder {
			recorder, err := store.ProcessRecorder(application)
			if err != nil {
				t.Fatal(err)
			}
			return recorder.(capability.ParkingRecorder)
		}
		counters, others := parking("Counters"), parking("Others")
		now := time.Now().UTC().Truncate(time.Millisecond)
		event := func(upstream string, id int64) persistence.ParkedEvent {
			return persistence.ParkedEvent{ApplicationName: "Counters", UpstreamApplicationName: upstream, NotificationID: id,
				OriginatorID: uuid.New(), OriginatorVersion: id + 10, Topic: "Dog.TrickAdded", Error: "no such trick", ParkedAt: now}
		}
		first, second, elsewhere := event("School", 1), event("School", 2), event("Shop", 1)
		again := first
		again.Error = "another error"
		for _, e := range []persistence.ParkedEvent{second, first, again, elsewhere} {
			if err := counters.ParkEvent(ctx, e); err != nil {
				t.Fatal(err)
			}
		}
		check := func(r capability.ParkingRecorder, upstream string, want ...persistence.ParkedEvent) {
			t.Helper()
			got, err := r.ParkedEvents(ctx, upstream)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, want)
			}
		}
		check(counters, "School", first, second)
		check(counters, "", first, elsewhere, second)
		check(others, "")

		fail := errors.New("rolled back")
		err := store.Transaction(ctx, func(ctx context.Context) error {
			return errors.Join(counters.UnparkEvent(ctx, "School", 1), counters.ParkEvent(ctx, event("School", 3)), fail)
		})
		if !errors.Is(err, fail) {
			t.Fatalf("got %v, want an error that is %v", err, fail)
		}
		check(counters, "School", first, second)

		if err := counters.UnparkEvent(ctx, "School", 1); err != nil {
			t.Error(err)
		}
		if err := counters.UnparkEvent(ctx, "School", 1); !errors.Is(err, persistence.ErrProgramming) {
			t.Errorf("got %v, want ErrProgramming", err)
		}
		check(counters, "School", second)
	})
}

func TestFollowerTablesAreMissing(t *testing.T) {
	t.Parallel()
	eachMigrated(t, func(t *testing.T, db *gorm.DB) {
		if err := db.Migrator().DropTable(&gormstore.FollowerStatus{}, &gormstore.ParkedEvent{},
			&gormstore.FollowerRunner{}, &gormstore.FollowerSetting{}, &gormstore.FollowerPartition{}); err != nil {
			t.Fatal(err)
		}
		if err := gormstore.Validate(t.Context(), db); err != nil {
			t.Errorf("Validate: %v; a database that Django has made has no such tables", err)
		}
		_, err := capability.Of(gormstore.New(db)).Statuses.FollowerStatuses(t.Context())
		expect.ErrorIs(t, err, persistence.ErrNotMigrated)
		if err := gormstore.AutoMigrate(db); err != nil || !db.Migrator().HasTable(&gormstore.ParkedEvent{}) {
			t.Errorf("AutoMigrate: %v", err)
		}
	})
}

// Settings are kept for each pair of applications, come with the position, and
// take part in transactions.
func TestFollowerSettings(t *testing.T) {
	t.Parallel()
	eachMigrated(t, func(t *testing.T, db *gorm.DB) {
		ctx, store := t.Context(), gormstore.New(db)
		made, err := store.ProcessRecorder("Counters")
		if err != nil {
			t.Fatal(err)
		}
		recorder := made.(capability.SettingsRecorder)
		want := func(upstream string, position int64, settings capability.FollowerSettings) {
			t.Helper()
			at, got, err := recorder.Settings(ctx, upstream)
			if err != nil || got == nil || at != position || !reflect.DeepEqual(*got, settings) {
				t.Errorf("%s: got %d, %+v, %v; want %d, %+v", upstream, at, got, err, position, settings)
			}
		}
		want("School", 0, capability.FollowerSettings{})
		began := int64(7)
		full := capability.FollowerSettings{Began: &began, Topics: `{"Dog.TrickAdded":7}`, TopicChanges: 2,
			PausedAt: time.Now().UTC().Truncate(time.Millisecond), PausedBy: "a test"}
		if _, _, err := recorder.LockSettings(ctx, "School"); !errors.Is(err, persistence.ErrNoTransaction) {
			t.Errorf("locked outside of a transaction: %v, want an error that is %v", err, persistence.ErrNoTransaction)
		}
		undone := errors.New("undone")
		for _, result := range []error{undone, nil} {
			err := store.Transaction(ctx, func(ctx context.Context) error {
				if _, settings, err := recorder.LockSettings(ctx, "School"); err != nil || settings.Paused() {
					t.Errorf("locked %+v, %v", settings, err)
				}
				return errors.Join(made.InsertTracking(ctx, persistence.Tracking{ApplicationName: "School", NotificationID: 9}),
					recorder.WriteSettings(ctx, "School", full), result)
			})
			if !errors.Is(err, result) {
				t.Fatalf("got %v, want an error that is %v", err, result)
			}
			if result == undone {
				want("School", 0, capability.FollowerSettings{})
			}
		}
		want("School", 9, full)
		want("Shop", 0, capability.FollowerSettings{})

		err = store.Transaction(ctx, func(ctx context.Context) error {
			_, err := capability.Of(store).Positions.DeleteTracking(ctx, "Counters", "School")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		want("School", 0, capability.FollowerSettings{Began: new(int64), PausedAt: full.PausedAt, PausedBy: full.PausedBy})
		if err := recorder.WriteSettings(ctx, "School", capability.FollowerSettings{}); err != nil {
			t.Fatal(err)
		}
		want("School", 0, capability.FollowerSettings{})
	})
}

// A database without the table has no settings, which is no error until they
// are written.
func TestFollowerSettingsAreMissing(t *testing.T) {
	t.Parallel()
	eachMigrated(t, func(t *testing.T, db *gorm.DB) {
		if err := db.Migrator().DropTable(&gormstore.FollowerSetting{}); err != nil {
			t.Fatal(err)
		}
		store := gormstore.New(db)
		made, err := store.ProcessRecorder("Counters")
		if err != nil {
			t.Fatal(err)
		}
		recorder := made.(capability.SettingsRecorder)
		err = store.Transaction(t.Context(), func(ctx context.Context) error {
			_, settings, err := recorder.LockSettings(ctx, "School")
			if settings != nil {
				t.Errorf("got %+v", settings)
			}
			_, deleting := capability.Of(store).Positions.DeleteTracking(ctx, "Counters", "School")
			return errors.Join(err, deleting)
		})
		if err != nil {
			t.Error(err)
		}
		expect.ErrorIs(t, recorder.WriteSettings(t.Context(), "School", capability.FollowerSettings{}), persistence.ErrNotMigrated)
		if err := gormstore.AutoMigrate(db); err != nil {
			t.Fatal(err)
		}
		if _, settings, err := recorder.Settings(t.Context(), "School"); err != nil || settings == nil {
			t.Errorf("after the migration: %v, %v", settings, err)
		}
	})
}
