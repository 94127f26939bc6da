package system_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/doctored"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// keeping is a store that takes down the statuses that it is given.
type keeping struct {
	*memory.Store
	capability.Provider
	mu   sync.Mutex // protects what follows
	all  []capability.FollowerStatus
	fail error
}

func newKeeping() *keeping {
	k := &keeping{Store: memory.New()}
	k.Provider = doctored.Capabilities(k.Store, func(c *capability.Store) { c.Statuses = k })
	return k
}

func (k *keeping) RecordStatus(_ context.Context, s capability.FollowerStatus) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail == nil {
		k.all = append(k.all, s)
	}
	return k.fail
}

func (k *keeping) FollowerStatuses(context.Context) ([]capability.FollowerStatus, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.all, k.fail
}

func (k *keeping) taken() []capability.FollowerStatus {
	k.mu.Lock()
	defer k.mu.Unlock()
	taken := k.all
	k.all = nil
	return taken
}

func TestStatusIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newKeeping()
		failing := func(context.Context, domain.Event, *collector) error { return errPoison }
		r := newRunner(t, store, pipe(app(schoolName, school.New), followerLoop("F", failing)))
		dogs, f := get[*school.TrainingSchool](t, r, schoolName), get[*follower](t, r, "F")
		start(t, r)
		synctest.Wait()
		if all := store.taken(); len(all) != 1 || all[0].State != "running" || all[0].ApplicationName != "F" ||
			all[0].UpstreamApplicationName != schoolName || all[0].Process == "" || !all[0].Alive(time.Now()) {
			t.Errorf("at the start: %+v, want 1 of them, State %q, ApplicationName %q and UpstreamApplicationName %v", all, "running", "F", schoolName)
		}
		time.Sleep(10*time.Minute + 3*time.Second) // and not at the moment of a heartbeat
		synctest.Wait()
		if n := len(store.taken()); n < 55 || n > 60 {
			t.Errorf("%d heartbeats in ten minutes, want at least 55 and at most 60", n)
		}

		register(t, dogs, 0, "Fido")
		synctest.Wait()
		if all := store.taken(); len(all) != 1 || all[0].State != "retrying" || all[0].NotificationID != 1 || all[0].Error == "" ||
			all[0].Since.IsZero() || !all[0].NextRetry.After(all[0].Heartbeat) {
			t.Errorf("after a failure: %+v, want 1 of them, State %q and NotificationID 1", all, "retrying")
		}
		f.become(ignore)
		time.Sleep(2 * time.Second)
		if all := store.taken(); len(all) != 1 || all[0].State != "running" || all[0].Error != "" || !all[0].Since.IsZero() {
			t.Errorf("after the recovery: %+v, want 1 of them and State %q", all, "running")
		}
		expect.NoError(t, r.Stop(t.Context()))
		if all := store.taken(); len(all) != 1 || all[0].State != "stopped" || all[0].Alive(time.Now()) {
			t.Errorf("after the end: %+v, want 1 of them and State %q", all, "stopped")
		}
	})
}

// A follower works although its status cannot be kept.
func TestStatusCannotBeKept(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]error{
		"no table":    persistence.ErrNotMigrated,
		"no database": errors.New("no database"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newKeeping()
				var j journal
				r := newRunner(t, store, pipe(app(schoolName, school.New), followerLoop("F", j.policy)))
				dogs := get[*school.TrainingSchool](t, r, schoolName)
				start(t, r)
				synctest.Wait()
				store.mu.Lock()
				store.fail = fail
				store.mu.Unlock()
				register(t, dogs, 0, "Fido")
				time.Sleep(time.Minute)
				j.want(t, dogs.Application)
			})
		})
	}
}

// The end of a follower is kept although the attempt before it has failed, as
// one does that the end has cancelled.
func TestEndIsKeptAfterAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newKeeping()
		r := newRunner(t, store, pipe(app(schoolName, school.New), followerLoop("F", ignore)))
		start(t, r)
		synctest.Wait()
		setFail := func(err error) {
			store.mu.Lock()
			defer store.mu.Unlock()
			store.fail = err
		}
		setFail(errors.New("no database"))
		time.Sleep(capability.HeartbeatInterval + time.Second)
		synctest.Wait()
		setFail(nil)
		expect.NoError(t, r.Stop(t.Context()))
		if all := store.taken(); len(all) == 0 || all[len(all)-1].State != "stopped" {
			t.Errorf("after the end: %+v, want some and State %q", all, "stopped")
		}
	})
}

// What one process has found out about a position another one knows.
func TestAheadIsRemembered(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		store := gormstore.New(db)
		var j journal
		pipe := pipe(app(schoolName, school.New), followerLoop("F", j.policy))
		first := newRunner(t, store, pipe)
		dogs, f := get[*school.TrainingSchool](t, first, schoolName), get[*follower](t, first, "F")
		register(t, dogs, 0, "Fido")
		ahead := head(t, dogs.Application) + 2
		expect.NoError(t, bridge.Of(f).Recorder().InsertTracking(t.Context(), persistence.Tracking{ApplicationName: schoolName, NotificationID: ahead}))
		start(t, first)
		waitForState(t, first, system.Stopped)
		expect.NoError(t, first.Close())

		second, err := newSingle(newSystem(t, pipe), application.WithStore(store))
		closing(t, second, err)
		for range 5 {
			register(t, get[*school.TrainingSchool](t, second, schoolName), 0, "Rex "+time.Now().String())
		}
		_, err = second.CatchUp(t.Context(), called("F"), nil)
		expect.ErrorIs(t, err, system.ErrAhead)
		if want := fmt.Sprintf("position %d was ahead", ahead); !strings.Contains(err.Error(), want) || len(j.events(t)) != 0 {
			t.Errorf("got %v, and %d events, want %q and 0 events", err, len(j.events(t)), want)
		}
	})
}

// A command finds out, too, and remembers it, until the position is another
// one.
func TestAheadIsRememberedByCommands(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		store := gormstore.New(db)
		catchUp := func() ([]system.Processed, error) { // as a new process does
			r, err := newSingle(newSystem(t, pipe(app(schoolName, school.New), followerLoop("F", count))),
				application.WithStore(store))
			closing(t, r, err)
			return r.CatchUp(t.Context(), called("F"), nil)
		}
		dogs, err := school.New(application.WithStore(store))
		expect.NoError(t, err)
		register(t, dogs, 3, "Fido")
		last := head(t, dogs.Application)
		_, err = catchUp()
		expect.NoError(t, err, db.Where("id > ?", last-2).Delete(&gormstore.StoredEvent{}).Error)
		_, err = catchUp()
		expect.ErrorIs(t, err, system.ErrAhead)
		register(t, dogs, 4, "Rex")
		_, err = catchUp()
		expect.ErrorIs(t, err, system.ErrAhead)

		// The follower is reset, and comes to the same position again, which is
		// no reason to stop.
		expect.NoError(t, db.Exec("DELETE FROM notification_tracking").Error)
		f, err := application.New("F", application.WithStore(store))
		expect.NoError(t, err, bridge.Of(f).Recorder().InsertTracking(t.Context(), persistence.Tracking{ApplicationName: schoolName, NotificationID: last - 3}))
		for range 2 {
			_, err = catchUp()
			expect.NoError(t, err)
		}
		expect.NoError(t, db.Table("notification_tracking").Where("true").Update("notification_id", last).Error)
		_, err = catchUp()
		expect.NoError(t, err)
	})
}

// hearing is a store whose listener a test rings.
type hearing struct {
	*memory.Store
	capability.Provider
	wake chan func(string)
}

func newHearing() *hearing {
	h := &hearing{Store: memory.New(), wake: make(chan func(string), 1)}
	h.Provider = doctored.Capabilities(h.Store, func(c *capability.Store) { c.Listener = h })
	return h
}

func (h *hearing) Listen(ctx context.Context, wake func(string)) error {
	h.wake <- wake
	<-ctx.Done()
	return nil
}

func TestListener(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newHearing()
		var j journal
		r := newRunner(t, store, pipe(app(schoolName, school.New), followerLoop("F", j.policy)))
		start(t, r)
		wake := <-store.wake
		other, err := school.New(application.WithStore(store))
		expect.NoError(t, err)
		for i, application := range []string{schoolName, ""} {
			synctest.Wait()
			register(t, other, i, "Fido"+application)
			wake("somebody else")
			begin := time.Now()
			wake(application)
			synctest.Wait()
			j.want(t, other.Application)
			if time.Now() != begin {
				t.Error("it was found by polling")
			}
		}
	})
}

// speechless panics when it is asked what it says, unless it is there.
type speechless struct{ text string }

func (s *speechless) Error() string { return s.text }

// A runner is to be seen before its first event is processed, and an error that
// panics when it is asked ends nothing.
func TestStatusBeforeTheFirstEvent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newKeeping()
		failing := func(context.Context, domain.Event, *collector) error {
			time.Sleep(time.Minute)
			var nobody *speechless
			return nobody
		}
		r := newRunner(t, store, pipe(app(schoolName, school.New), followerLoop("F", failing)))
		register(t, get[*school.TrainingSchool](t, r, schoolName), 0, "Fido")
		start(t, r)
		synctest.Wait()
		if all := store.taken(); len(all) != 1 || all[0].State != "running" {
			t.Errorf("at the start: %+v, want 1 of them and State %q", all, "running")
		}
		time.Sleep(90 * time.Second)
		all := store.taken()
		if last := all[len(all)-1]; last.State != "retrying" || last.Error == "" {
			t.Errorf("after the failure: %+v, want State %q", last, "retrying")
		}
	})
}

// A follower is known to be alive although its handler takes long, and what it
// is at is known as well.
func TestSlowPolicy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newKeeping()
		slow := func(context.Context, domain.Event, *collector) error {
			time.Sleep(5 * time.Minute)
			return nil
		}
		var logged syncBuffer
		r := newRunner(t, store, pipe(app(schoolName, school.New),
			followerLoop("F", slow, application.WithLogger(slog.New(slog.NewTextHandler(&logged, nil))))))
		start(t, r)
		register(t, get[*school.TrainingSchool](t, r, schoolName), 0, "Fido")
		synctest.Wait()
		began := time.Now()
		for range 4 {
			time.Sleep(time.Minute)
			synctest.Wait()
			all := store.taken()
			if len(all) == 0 || !all[len(all)-1].Alive(time.Now()) {
				t.Fatalf("nobody knows that the follower is alive: %+v, want some", all)
			}
			if last := all[len(all)-1]; last.State != "running" || last.NotificationID != 1 || !last.Since.Equal(began) {
				t.Errorf("the status is %+v, want event 1 since %v", last, began)
			}
			if status := statuses(t, r)[0]; status.State != system.Running || status.NotificationID != 1 || !status.Since.Equal(began) || status.Err != nil {
				t.Errorf("the status is %+v, want event 1 since %v", status, began)
			}
		}
		if n := strings.Count(logged.String(), "level=WARN"); n != 1 || !strings.Contains(logged.String(), "notification=1 ") {
			t.Errorf("%d warnings, want one about event 1: %s", n, &logged)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if last := store.taken(); last[len(last)-1].NotificationID != 0 || statuses(t, r)[0].NotificationID != 0 || !statuses(t, r)[0].Since.IsZero() {
			t.Errorf("after the event: %+v, want NotificationID 0 and NotificationID 0", statuses(t, r)[0])
		}
	})
}

// Events that are processed at once do not make more statuses than heartbeats.
func TestQuickPolicyIsNoNews(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newKeeping()
		quick := func(context.Context, domain.Event, *collector) error {
			time.Sleep(300 * time.Millisecond)
			return nil
		}
		r := newRunner(t, store, pipe(app(schoolName, school.New), followerLoop("F", quick)))
		dogs := get[*school.TrainingSchool](t, r, schoolName)
		start(t, r)
		time.Sleep(150 * time.Millisecond) // so that there is an event at every heartbeat
		for i := range 100 {
			register(t, dogs, 0, fmt.Sprint("Fido ", i))
			time.Sleep(400 * time.Millisecond)
		}
		synctest.Wait()
		if n := len(store.taken()); n > 6 {
			t.Errorf("%d statuses were kept in 40 seconds, want at most 6", n)
		}
	})
}
