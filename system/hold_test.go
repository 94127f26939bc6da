package system_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

// heldStore is a store whose logs a transaction of another program holds back.
type heldStore struct {
	*memory.Store
	hold  atomic.Pointer[persistence.LogHold]
	down  atomic.Bool  // the heads of logs cannot be read
	asked atomic.Int64 // how often holds were read
}

func (s *heldStore) ProcessRecorder(name string) (persistence.ProcessRecorder, error) {
	r, err := s.Store.ProcessRecorder(name)
	return &heldRecorder{r.(memoryRecorder), s}, err
}

type heldRecorder struct {
	memoryRecorder
	store *heldStore
}

func (r *heldRecorder) LogHold(context.Context, time.Duration) (*persistence.LogHold, error) {
	r.store.asked.Add(1)
	return r.store.hold.Load(), nil
}

func (r *heldRecorder) MaxNotificationID(ctx context.Context) (int64, error) {
	if r.store.down.Load() {
		return 0, &persistence.Error{Class: persistence.ErrUnavailable, Op: "read the head of the log"}
	}
	return r.memoryRecorder.MaxNotificationID(ctx)
}

func (r *heldRecorder) NewestNotificationID(ctx context.Context) (int64, error) {
	return r.MaxNotificationID(ctx)
}

// A status whose leader does not answer for its head does not ask it for the
// transaction that holds back the log: over a network each takes a timeout.
func TestStatusAsksOnceIfLeaderIsDown(t *testing.T) {
	t.Parallel()
	store := &heldStore{Store: memory.New()}
	r := newRunner(t, store, pipe(app(schoolName, school.New), followerLoop("F", ignore)))
	statuses(t, r)
	before := store.asked.Load()
	if before == 0 {
		t.Error("a status does not ask for the transaction")
	}
	store.down.Store(true)
	if _, err := r.Statuses(t.Context()); !errors.Is(err, persistence.ErrUnavailable) {
		t.Errorf("got %v; want the error of the leader", err)
	}
	if after := store.asked.Load(); after != before {
		t.Errorf("a leader that is down was asked %d more times; want none", after-before)
	}
}

// A transaction that keeps followers from newer events for long is named in the
// status, and in one warning for all followers of the log, which is repeated
// rarely. A transaction that has just begun is not.
func TestHoldIsReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &heldStore{Store: memory.New()}
		var logged syncBuffer
		logger := application.WithLogger(slog.New(slog.NewTextHandler(&logged, nil)))
		leader := app(schoolName, school.New)
		r := newRunner(t, store, pipe(leader, followerLoop("F", ignore, logger)), pipe(leader, followerLoop("G", ignore, logger)))
		start(t, r)
		warnings := func(after time.Duration) int {
			time.Sleep(after)
			synctest.Wait()
			return strings.Count(logged.String(), "keeps followers from newer events")
		}
		began := time.Now()
		hold := func(pid int64) {
			store.hold.Store(&persistence.LogHold{Bound: 3, Newest: 7, PID: pid, Program: "billing", Since: time.Now()})
		}
		for range 10 { // short transactions follow each other
			hold(42)
			if n := warnings(3 * time.Second); n != 0 {
				t.Fatalf("a transaction of 3 seconds was warned of: %s, want 0", logged.String())
			}
			if status := statuses(t, r)[0]; status.Held != nil {
				t.Fatalf("a transaction of 3 seconds is in the status: %v", status.Held)
			}
		}
		hold(43)
		if n := warnings(21 * time.Second); n != 1 || !strings.Contains(logged.String(), `application_name \"billing\"`) ||
			!strings.Contains(logged.String(), "server process 43 ") {
			t.Errorf("%d warnings, want one: %s", n, logged.String())
		}
		for _, status := range statuses(t, r) {
			if status.Held == nil || status.Held.PID != 43 || !status.Held.Since.After(began) {
				t.Errorf("the status of %s has %v, want Held other than nil and PID 43", status.Follower, status.Held)
			}
		}
		if n := warnings(9 * time.Minute); n != 1 {
			t.Errorf("%d warnings after 9 minutes, want 1", n)
		}
		if n := warnings(2 * time.Minute); n != 2 {
			t.Errorf("%d warnings after 11 minutes, want 2", n)
		}
		hold(44)
		if n := warnings(21 * time.Second); n != 3 {
			t.Errorf("%d warnings, want one more of another transaction", n)
		}
		store.hold.Store(nil)
		if n := warnings(time.Hour); n != 3 || statuses(t, r)[0].Held != nil {
			t.Errorf("%d warnings, want none after its end", n)
		}
	})
}
