package system_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// A save in this process wakes followers at once; what others record is found
// by polling, which costs little.
func TestWakingAndPolling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &observed{Store: memory.New()}
		var j journal
		r := newRunner(t, store, pipe(app(schoolName, school.New), followerLoop("F", j.policy)))
		dogs := get[*school.TrainingSchool](t, r, schoolName)
		start(t, r)
		synctest.Wait()
		time.Sleep(100 * time.Millisecond)
		register(t, dogs, 0, "Fido")
		synctest.Wait()
		j.want(t, dogs.Application)

		other, err := school.New(application.WithStore(store))
		expect.NoError(t, err)
		for i := range 20 {
			register(t, other, 0, fmt.Sprint("Rex ", i))
			time.Sleep(625 * time.Millisecond)
			synctest.Wait()
			j.want(t, dogs.Application)
		}

		time.Sleep(time.Second)
		store.queries.Store(0)
		time.Sleep(10 * time.Minute)
		if got, polls := store.queries.Load(), int64(10*60*2); got > polls {
			t.Errorf("an idle follower has sent %d queries in at most %d polls", got, polls)
		}

		store.reset.Store(true) // the follower is made to begin anew
		before := len(j.events(t))
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if got := len(j.events(t)); got == before {
			t.Error("the follower has not noticed that its position was reset")
		}
	})
}

// observed is a store that counts the queries of followers, and whose positions
// can be made to look reset.
type observed struct {
	*memory.Store
	queries atomic.Int64
	reset   atomic.Bool
}

func (s *observed) ProcessRecorder(name string) (persistence.ProcessRecorder, error) {
	r, err := s.Store.ProcessRecorder(name)
	return &observedRecorder{r.(memoryRecorder), s}, err
}

type observedRecorder struct {
	memoryRecorder
	store *observed
}

func (r *observedRecorder) MaxTrackingID(ctx context.Context, upstream string) (int64, error) {
	r.store.queries.Add(1)
	if r.store.reset.Load() {
		return 0, nil
	}
	return r.memoryRecorder.MaxTrackingID(ctx, upstream)
}

func (r *observedRecorder) LockPosition(ctx context.Context, upstream string) (int64, error) {
	if r.store.reset.Load() {
		return 0, nil
	}
	return r.memoryRecorder.LockPosition(ctx, upstream)
}

func (r *observedRecorder) MaxNotificationID(ctx context.Context) (int64, error) {
	r.store.queries.Add(1)
	return r.memoryRecorder.MaxNotificationID(ctx)
}

func (r *observedRecorder) NewestNotificationID(ctx context.Context) (int64, error) {
	return r.MaxNotificationID(ctx)
}

func (r *observedRecorder) SelectNotifications(ctx context.Context, want persistence.NotificationRange) ([]persistence.Notification, error) {
	r.store.queries.Add(1)
	return r.memoryRecorder.SelectNotifications(ctx, want)
}

// A follower that is ahead of its log is looked at slowly, stays stopped, and
// is not said to be about to try again.
func TestAheadIsNotHurried(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &observed{Store: memory.New()}
		var logged strings.Builder
		r := newRunner(t, store, counting(application.WithLogger(slog.New(slog.NewTextHandler(&logged, nil)))))
		ahead := persistence.Tracking{ApplicationName: schoolName, NotificationID: 7}
		expect.NoError(t, bridge.Of(get[*counters](t, r, countersName)).Recorder().InsertTracking(t.Context(), ahead))
		start(t, r)
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := store.queries.Load(); got > 2*60*4/3+2 {
			t.Errorf("sent %d queries in an hour, want at most %v", got, 2*60*4/3+2)
		}
		if got := statuses(t, r)[0]; got.State != system.Stopped {
			t.Errorf("got %+v, want State %v", got, system.Stopped)
		}
		if got := logged.String(); !strings.Contains(got, `level=ERROR msg="follower is stopped until its position is another one"`) ||
			strings.Contains(got, "will try again") {
			t.Errorf("logged %s, want it to contain %q", got, `level=ERROR msg="follower is stopped until its position is another one"`)
		}
	})
}
