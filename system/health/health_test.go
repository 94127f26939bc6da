package health_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
	"github.com/eventsourcing-go/eventsourcing/system/health"
)

// runner has the statuses that a test gives it.
type runner struct{ statuses []system.Status }

func (r *runner) Statuses(context.Context) ([]system.Status, error) { return r.statuses, nil }

func check(t *testing.T, h http.Handler) (code int, report health.Report) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if err := json.Unmarshal(w.Body.Bytes(), &report); err != nil {
		t.Fatal(err)
	}
	return w.Code, report
}

func TestVerdicts(t *testing.T) {
	now := time.Now()
	short, long := now.Add(-10*time.Second), now.Add(-2*time.Minute)
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		status system.Status
		ready  int
	}{
		"up to date":             {system.Status{State: system.Running}, 200},
		"far behind and moving":  {system.Status{State: system.Running, Position: 1, Head: 1e9}, 200},
		"at an event for short":  {system.Status{State: system.Running, Head: 9, NotificationID: 1, Since: short}, 200},
		"at an event for long":   {system.Status{State: system.Running, Head: 9, NotificationID: 1, Since: long}, 503},
		"standing by and behind": {system.Status{State: system.StandingBy, Head: 9, NotificationID: 1, Since: long}, 200},
		"paused and behind":      {system.Status{State: system.Paused, Head: 9, PausedAt: long}, 200},
		"failing for short":      {system.Status{State: system.Retrying, Head: 9, Err: broken, Since: short}, 200},
		"failing for long":       {system.Status{State: system.Retrying, Head: 9, Err: broken, Since: long}, 503},
		"outdated for long":      {system.Status{State: system.Outdated, Head: 9, Err: broken, Since: long}, 503},
		"ahead of the log":       {system.Status{State: system.Stopped, Err: system.ErrAhead, Since: short}, 503},
		"run elsewhere":          {system.Status{State: system.Stopped, Head: 9}, 200},
		"database down":          {system.Status{State: system.Running, ReadErr: broken}, 503},

		"a partition free for short":            {divided(system.Running, persistence.Partition{Until: short}), 200},
		"a partition free for long":             {divided(system.Running, persistence.Partition{Until: long}), 503},
		"a partition free while it stands by":   {divided(system.StandingBy, persistence.Partition{Until: long}), 503},
		"a partition free while it is paused":   {divided(system.Paused, persistence.Partition{Until: long}), 200},
		"a partition free with nothing to do":   {divided(system.Running, persistence.Partition{Until: long, Position: 9}), 200},
		"a partition that was never taken":      {divided(system.Running, persistence.Partition{}), 503},
		"a partition leased":                    {divided(system.Running, persistence.Partition{Leased: true, Owner: "another", Until: now}), 200},
		"an own partition failing for short":    {divided(system.Running, failing("this one", short)), 200},
		"an own partition failing for long":     {divided(system.Running, failing("this one", long)), 503},
		"another's partition failing for long":  {divided(system.StandingBy, failing("another", long)), 200},
		"a free partition that has failed long": {divided(system.StandingBy, failing("", long)), 503},
	} {
		t.Run(name, func(t *testing.T) {
			live, ready, err := health.New(&runner{[]system.Status{c.status}}, health.Config{})
			if err != nil {
				t.Fatal(err)
			}
			code, report := check(t, ready)
			if code != c.ready || report.Healthy != (c.ready == 200) || report.Followers[0].Reason == "" {
				t.Errorf("ready: got %d, %+v; want %d", code, report, c.ready)
			}
			if code, _ := check(t, live); code != 200 {
				t.Errorf("live: got %d, want 200: a restart does not help", code)
			}
		})
	}
}

// Every process says that a partition fails, also one that is healthy because
// another one has it.
func TestReasonNamesPartitionsOfOtherProcesses(t *testing.T) {
	now := time.Now()
	short, long := now.Add(-10*time.Second), now.Add(-2*time.Minute)
	const says = "partition 1 has failed at event 3 since "
	for name, c := range map[string]struct {
		status system.Status
		says   bool
	}{
		"its own":             {divided(system.Running, failing("this one", long)), true},
		"another's":           {divided(system.Running, failing("another", long)), true},
		"while it stands by":  {divided(system.StandingBy, failing("another", long)), true},
		"another's for short": {divided(system.Running, failing("another", short)), false},
		"while it is paused":  {divided(system.Paused, failing("another", long)), false},
	} {
		if _, got := c.status.Health(now, 0); strings.Contains(got, says) != c.says {
			t.Errorf("%s: got %q, want %v", name, got, c.says)
		}
	}
}

// divided is the status of a divided follower in the process "this one", with a
// partition beside one that is up to date. Its oldest event has waited for long.
func divided(state system.State, p persistence.Partition) system.Status {
	first := persistence.Partition{Position: 9, Owner: "this one", Leased: true}
	p.Number = 1
	return system.Status{State: state, Process: "this one", Head: 9, Position: p.Position, Oldest: time.Now().Add(-time.Hour),
		Partitions: &persistence.PartitionSet{Partitions: []persistence.Partition{first, p}}}
}

func failing(owner string, since time.Time) persistence.Partition {
	return persistence.Partition{Owner: owner, Leased: owner != "", Until: time.Now(), Error: "broken", NotificationID: 3, Since: since}
}

// TestReadyRemembersPartitions finds a partition of the process that is behind
// and does not move while others do. A partition of another process does not
// count.
func TestReadyRemembersPartitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		behind := divided(system.Running, persistence.Partition{Leased: true, Owner: "this one"})
		first, second := &behind.Partitions.Partitions[0], &behind.Partitions.Partitions[1]
		behind.Head = 100
		_, ready, err := health.New(&runner{[]system.Status{behind}}, health.Config{})
		if err != nil {
			t.Fatal(err)
		}
		want := func(code int) {
			t.Helper()
			if got, report := check(t, ready); got != code {
				t.Errorf("got %d, %+v; want %d", got, report, code)
			}
		}
		for range 3 {
			want(200)
			time.Sleep(25 * time.Second)
			first.Position++
		}
		want(503)
		second.Owner = "another"
		want(200)
		second.Owner = "this one" // again, and it has time to move
		want(200)
		time.Sleep(50 * time.Second)
		first.Position++
		want(200)
		second.Position++
		time.Sleep(11 * time.Second)
		want(200)
	})
}

// TestReadyRemembersPositions finds a follower that is behind, reports no
// event, and does not move.
func TestReadyRemembersPositions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runner{[]system.Status{{State: system.Running, Position: 1, Head: 9}}}
		_, ready, err := health.New(r, health.Config{})
		if err != nil {
			t.Fatal(err)
		}
		want := func(code int) {
			t.Helper()
			if got, report := check(t, ready); got != code {
				t.Errorf("got %d, %+v; want %d", got, report, code)
			}
		}
		want(200)
		time.Sleep(50 * time.Second)
		r.statuses[0].Position = 2
		want(200)
		time.Sleep(50 * time.Second)
		want(200)
		time.Sleep(11 * time.Second)
		want(503)
		r.statuses[0].Position = 3
		want(200)
	})
}

func TestLiveFindsAHandlerThatHangs(t *testing.T) {
	live, _, err := health.New(&runner{[]system.Status{
		{State: system.Running, Head: 9, NotificationID: 1, Since: time.Now().Add(-11 * time.Minute)},
	}}, health.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if code, report := check(t, live); code != 503 {
		t.Errorf("live: got %d, %+v; want 503", code, report)
	}
}

// hanging has statuses that it reads from a database that does not answer.
type hanging struct{ runner }

func (h *hanging) Statuses(ctx context.Context) ([]system.Status, error) {
	<-ctx.Done()
	statuses := slices.Clone(h.statuses)
	for i := range statuses {
		statuses[i].ReadErr = context.Cause(ctx)
	}
	return statuses, context.Cause(ctx)
}

// TestLiveDoesNotAskTheDatabase answers at once although the database hangs,
// and still finds a handler that hangs. Ready answers after its timeout.
func TestLiveDoesNotAskTheDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &hanging{runner{[]system.Status{{State: system.Running}}}}
		live, ready, err := health.New(r, health.Config{})
		if err != nil {
			t.Fatal(err)
		}
		want := func(h http.Handler, code int, after time.Duration) {
			t.Helper()
			begin := time.Now()
			got, report := check(t, h)
			if got != code || time.Since(begin) != after {
				t.Errorf("got %d after %v, %+v; want %d after %v", got, time.Since(begin), report, code, after)
			}
			if f := report.Followers[0]; f.Position != nil || f.Lag != nil {
				t.Errorf("got position %v and lag %v of what was not read, want none", f.Position, f.Lag)
			}
		}
		want(live, 200, 0)
		want(ready, 503, 2*time.Second)
		r.statuses[0].NotificationID, r.statuses[0].Since = 1, time.Now().Add(-11*time.Minute)
		want(live, 503, 0)
	})
}

// unknown has no statuses, because they cannot be read.
type unknown struct{}

func (unknown) Statuses(context.Context) ([]system.Status, error) { return nil, errors.New("broken") }

func TestNoStatusesAreNotReady(t *testing.T) {
	_, ready, err := health.New(unknown{}, health.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if code, report := check(t, ready); code != 503 {
		t.Errorf("got %d, %+v; want 503", code, report)
	}
}

// TestVerdictsOfARunner follows a follower with events to process: before it is
// started, while its handler hangs, when that has ended, and after the runner
// was stopped.
func TestVerdictsOfARunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := application.WithStore(memory.New())
		quiet := application.WithLogger(slog.New(slog.DiscardHandler))
		dogs, err := school.New(store, quiet)
		if err != nil {
			t.Fatal(err)
		}
		if err := dogs.Register(t.Context(), "Fido"); err != nil {
			t.Fatal(err)
		}
		app, err := application.New("Tricks", store, quiet)
		if err != nil {
			t.Fatal(err)
		}
		hanging := make(chan struct{})
		follower, err := system.NewFollower(app, system.OnEvery(func(context.Context, domain.Event) error {
			<-hanging
			return nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		sys, err := system.New(system.Pipe(dogs, follower))
		if err != nil {
			t.Fatal(err)
		}
		runner, err := system.NewRunner(sys, system.Config{})
		if err != nil {
			t.Fatal(err)
		}
		live, ready, err := health.New(runner, health.Config{})
		if err != nil {
			t.Fatal(err)
		}
		want := func(when string, wantReady, wantLive int) {
			t.Helper()
			synctest.Wait()
			for _, c := range []struct {
				handler http.Handler
				want    int
			}{{ready, wantReady}, {live, wantLive}} {
				if code, report := check(t, c.handler); code != c.want {
					t.Errorf("%s: got %d, %+v; want %d", when, code, report, c.want)
				}
			}
		}
		want("before the start", 200, 200)
		time.Sleep(time.Hour) // another process may run it
		want("never started", 200, 200)
		if err := runner.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		want("at the start", 200, 200)
		time.Sleep(50 * time.Second)
		want("its handler takes long", 200, 200)
		time.Sleep(11 * time.Second)
		want("its handler hangs", 503, 200)
		time.Sleep(10 * time.Minute)
		want("its handler hangs for long", 503, 503)
		close(hanging)
		want("its handler has returned", 200, 200)
		if err := runner.Close(); err != nil {
			t.Fatal(err)
		}
		want("stopped", 200, 200)
	})
}

// TestReportHasThePositionThatWasRead also has one of 0, which is a position
// like any other.
func TestReportHasThePositionThatWasRead(t *testing.T) {
	r := &runner{[]system.Status{{State: system.Running, Position: 0, Head: 3}, {State: system.Running, Position: 3, Head: 3}}}
	_, ready, err := health.New(r, health.Config{})
	if err != nil {
		t.Fatal(err)
	}
	_, report := check(t, ready)
	for i, want := range []struct{ position, lag int64 }{{0, 3}, {3, 0}} {
		f := report.Followers[i]
		if f.Position == nil || f.Lag == nil || *f.Position != want.position || *f.Lag != want.lag {
			t.Errorf("got %+v, want %+v", f, want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, none := range []health.Runner{nil, (*system.Runner)(nil)} {
		if _, _, err := health.New(none, health.Config{}); err == nil {
			t.Errorf("runner %T(nil): got no error", none)
		}
	}
	if _, _, err := health.New(&runner{}, health.Config{Stall: -1}); err == nil {
		t.Error("a negative time: got no error")
	}
}

// The probes of a service with one follower.
func Example() {
	store := application.WithStore(memory.New())
	dogs, err := school.New(store)
	if err != nil {
		log.Fatal(err)
	}
	app, err := application.New("Tricks", store)
	if err != nil {
		log.Fatal(err)
	}
	follower, err := system.NewFollower(app, system.OnEvery(func(context.Context, domain.Event) error { return nil }))
	if err != nil {
		log.Fatal(err)
	}
	sys, err := system.New(system.Pipe(dogs, follower))
	if err != nil {
		log.Fatal(err)
	}
	runner, err := system.NewRunner(sys, system.Config{})
	if err != nil {
		log.Fatal(err)
	}
	_, ready, err := health.New(runner, health.Config{})
	if err != nil {
		log.Fatal(err)
	}
	w := httptest.NewRecorder()
	ready.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	fmt.Println(w.Code)
	// Output: 200
}
