package telemetry_test

import (
	"context"
	"errors"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"gorm.io/driver/sqlite"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
	"github.com/eventsourcing-go/eventsourcing/telemetry"
)

// newStore returns a store on SQLite that ends with the test.
func newStore(t *testing.T) *gormstore.Store {
	t.Helper()
	db, err := gormstore.OpenSQLite(sqlite.Open, filepath.Join(t.TempDir(), "test.sqlite3"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if pool, err := db.DB(); err == nil {
			_ = pool.Close()
		}
	})
	if err := gormstore.AutoMigrate(db); err != nil {
		t.Fatal(err)
	}
	return gormstore.New(db)
}

// TestApplicationReports reports saves, loads from each source, and snapshots.
func TestApplicationReports(t *testing.T) {
	var saves []telemetry.Save
	var loads []telemetry.Load
	var snapshots []telemetry.Snapshot
	observer := &telemetry.Observer{
		SaveStart: func(ctx context.Context, s telemetry.Save) context.Context {
			return context.WithValue(ctx, traceKey{}, "the save's")
		},
		Metadata: func(ctx context.Context) domain.Metadata {
			return domain.Metadata{"trace": ctx.Value(traceKey{}).(string)}
		},
		SaveDone:     func(_ context.Context, s telemetry.Save) { saves = append(saves, s) },
		LoadDone:     func(_ context.Context, l telemetry.Load) { loads = append(loads, l) },
		SnapshotDone: func(_ context.Context, s telemetry.Snapshot) { snapshots = append(snapshots, s) },
	}
	store := newStore(t)
	dogs, err := school.New(application.WithStore(store), application.WithObserver(observer),
		application.WithSnapshotting(map[string]int{"Dog": 3}))
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	register := func(want error) {
		t.Helper()
		if err := dogs.Register(ctx, "Fido"); (err != nil) != (want != nil) {
			t.Fatalf("register: got %v, want %v", err, want)
		}
	}
	register(nil)
	for _, trick := range []string{"roll over", "play dead", "sit"} {
		if err := dogs.AddTrick(ctx, "Fido", trick); err != nil {
			t.Fatal(err)
		}
	}
	register(persistence.ErrIntegrity)

	last := saves[len(saves)-1]
	if len(saves) != 5 || last.Outcome() != "conflict" {
		t.Fatalf("saves: got %d, the last with the outcome %s; want 5 and a conflict", len(saves), last.Outcome())
	}
	first := saves[0]
	if first.Application != "TrainingSchool" || first.Events != 1 || len(first.Originators) != 1 || first.Position != 1 ||
		first.Duration <= 0 || first.Write <= 0 || first.Together != 1 || first.InTransaction {
		t.Errorf("the first save: got %+v, want Application %q, Events 1, 1 Originators, Position 1, Duration more than 0, Write more than 0 and Together 1", first, "TrainingSchool")
	}
	var sources []string
	var replayed []int64
	for _, l := range loads {
		sources, replayed = append(sources, l.Source), append(replayed, l.Replayed)
	}
	if want := []string{"events", "events", "snapshot"}; !slices.Equal(sources, want) {
		t.Errorf("sources: got %v, want %v", sources, want)
	}
	if want := []int64{1, 2, 0}; !slices.Equal(replayed, want) {
		t.Errorf("replayed: got %v, want %v", replayed, want)
	}
	if len(snapshots) != 1 || snapshots[0].Version != 3 || snapshots[0].Outcome != "stored" {
		t.Errorf("snapshots: got %+v, want one of version 3", snapshots)
	}
	for event, err := range dogs.Log().Subscribe(ctx, 0) {
		if err != nil || event.Metadata["trace"] != "the save's" {
			t.Errorf("event %d: got metadata %v, error %v; want those of the observer", event.NotificationID, event.Metadata, err)
		}
		if event.OriginatorVersion == 4 {
			break
		}
	}
}

// TestFollowerReports reports batches, handlers, an event that is parked, and
// the states of a follower.
func TestFollowerReports(t *testing.T) {
	type seen struct {
		batch  telemetry.Batch
		handle telemetry.Handle
		parked telemetry.Parked
		change telemetry.Change
	}
	reports := make(chan seen, 100)
	observer := &telemetry.Observer{
		BatchStart: func(ctx context.Context, _ telemetry.Batch) context.Context {
			return context.WithValue(ctx, traceKey{}, "batch")
		},
		BatchDone: func(_ context.Context, b telemetry.Batch) { reports <- seen{batch: b} },
		HandleStart: func(ctx context.Context, _ telemetry.Handle) context.Context {
			return context.WithValue(ctx, traceKey{}, ctx.Value(traceKey{}).(string)+" handle")
		},
		HandleDone:      func(_ context.Context, h telemetry.Handle) { reports <- seen{handle: h} },
		EventParked:     func(_ context.Context, p telemetry.Parked) { reports <- seen{parked: p} },
		FollowerChanged: func(_ context.Context, c telemetry.Change) { reports <- seen{change: c} },
	}
	store := application.WithStore(newStore(t))
	dogs, err := school.New(store)
	if err != nil {
		t.Fatal(err)
	}
	app, err := application.New("Tricks", store, application.WithObserver(observer))
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	traces := make(chan string, 100)
	follower, err := system.NewFollower(app, system.On(func(ctx context.Context, e domain.Recorded[school.TrickAdded]) error {
		traces <- ctx.Value(traceKey{}).(string)
		if e.Data.Trick == "fail" {
			return broken
		}
		return nil
	}), system.Park(func(_ persistence.Notification, _ error, attempts int) bool { return attempts > 1 }))
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	for _, err := range []error{dogs.Register(ctx, "Fido"), dogs.AddTrick(ctx, "Fido", "sit"), dogs.AddTrick(ctx, "Fido", "fail")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	runner := runnerOf(t, dogs, follower, system.Config{ShortestRetry: 1, LongestRetry: 1})
	if err := runner.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer runner.Close()

	var processed int
	var states []string
	var handled []telemetry.Handle
	for parked := false; !parked || processed < 1 || !slices.Contains(states, "running"); {
		switch r := <-reports; {
		case r.batch.Follower != "":
			processed += r.batch.Processed
			if r.batch.Head != 3 || r.batch.Leader != "TrainingSchool" || r.batch.Duration <= 0 {
				t.Errorf("batch: got %+v, want head 3 of TrainingSchool", r.batch)
			}
		case r.handle.Follower != "":
			handled = append(handled, r.handle)
		case r.parked.Follower != "":
			parked = true
			if r.parked.NotificationID != 3 || !errors.Is(r.parked.Err, broken) {
				t.Errorf("parked: got %+v, want event 3 with the handler's error", r.parked)
			}
		default:
			states = append(states, r.change.To)
			if r.change.To == "retrying" && (r.change.Failures < 1 || !errors.Is(r.change.Err, broken)) {
				t.Errorf("change: got %+v, want the handler's error", r.change)
			}
		}
	}
	if !slices.Contains(states, "retrying") {
		t.Errorf("states: got %v, want one of retrying", states)
	}
	if trace := <-traces; trace != "batch handle" {
		t.Errorf("context of the handler: got %q, want that of batch and handle", trace)
	}
	for _, h := range handled {
		if h.Event.Data != nil || h.Event.NotificationID < 1 {
			t.Errorf("event: got %+v, want one without payload", h.Event)
		}
	}
	if err := runner.Close(); err != nil {
		t.Fatal(err)
	}
	for {
		if r := <-reports; r.change.To == "stopped" {
			return
		}
	}
}

// TestCallReports reports the calls of an effect: one that succeeds, one that
// returns an error and one that panics. The call has the context that CallStart
// returns.
func TestCallReports(t *testing.T) {
	var started, done []telemetry.Handle
	batches := 0 // that have begun and are not done
	observer := &telemetry.Observer{
		CallStart: func(ctx context.Context, h telemetry.Handle) context.Context {
			started = append(started, h)
			return context.WithValue(ctx, traceKey{}, ctx.Value(traceKey{}).(string)+" call")
		},
		BatchStart: func(ctx context.Context, _ telemetry.Batch) context.Context {
			batches++
			return context.WithValue(ctx, traceKey{}, "batch")
		},
		BatchDone: func(context.Context, telemetry.Batch) { batches-- },
		CallDone:  func(_ context.Context, h telemetry.Handle) { done = append(done, h) },
	}
	store := application.WithStore(newStore(t))
	dogs, err := school.New(store)
	if err != nil {
		t.Fatal(err)
	}
	app, err := application.New("Mailer", store, application.WithObserver(observer))
	if err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refused")
	follower, err := system.NewFollower(app, system.Effect(func(ctx context.Context, e domain.Recorded[school.TrickAdded]) (string, error) {
		switch {
		case ctx.Value(traceKey{}) != "batch call":
			t.Error("the call lacks the context of BatchStart and CallStart")
		case e.Data.Trick == "fail":
			return "", refused
		case e.Data.Trick == "panic":
			panic("no")
		}
		return "sent", nil
	}, nil), system.Park(func(persistence.Notification, error, int) bool { return true }))
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	for name, trick := range map[string]string{"Fido": "sit", "Rex": "fail", "Laika": "panic"} {
		if err := errors.Join(dogs.Register(ctx, name), dogs.AddTrick(ctx, name, trick)); err != nil {
			t.Fatal(err)
		}
	}
	runner := runnerOf(t, dogs, follower, system.Config{ConcurrentEffects: 1})
	defer runner.Close()
	if _, err := runner.CatchUp(ctx, follower, nil); err != nil {
		t.Fatal(err)
	}
	if len(started) < 3 || len(done) != len(started) {
		t.Fatalf("calls: got %d begun and %d done, want three of each or more", len(started), len(done))
	}
	if batches != 0 {
		t.Errorf("got %d batches that are not done, want 0", batches)
	}
	outcomes := map[string]bool{}
	for i, h := range done {
		if h.Follower != "Mailer" || h.Leader != "TrainingSchool" || h.Event.Data != nil || h.Event.ID != started[i].Event.ID || h.Duration <= 0 {
			t.Errorf("call: got %+v, want that of an event without payload", h)
		}
		switch {
		case h.Err == nil:
			outcomes["sent"] = true
		case errors.Is(h.Err, refused):
			outcomes["refused"] = true
		default:
			outcomes["did not return"] = true
		}
	}
	if len(outcomes) != 3 {
		t.Errorf("outcomes: got %v, want all three", outcomes)
	}
}

// observerOf returns an observer that has every function. Each calls f with its
// name; those that return a context return nil in its place if f does not panic.
func observerOf(f func(name string)) *telemetry.Observer {
	o := &telemetry.Observer{}
	value := reflect.ValueOf(o).Elem()
	for i := range value.NumField() {
		name, kind := value.Type().Field(i).Name, value.Field(i).Type()
		value.Field(i).Set(reflect.MakeFunc(kind, func([]reflect.Value) []reflect.Value {
			f(name)
			results := make([]reflect.Value, kind.NumOut())
			for i := range results {
				results[i] = reflect.Zero(kind.Out(i))
			}
			return results
		}))
	}
	return o
}

// TestAFollowerThatAnotherProcessHasCaughtUpHasNoLag lets another process take
// over after a batch that has left a lag. What is reported last is a follower
// without a lag, and nothing that is reported is a failure.
func TestAFollowerThatAnotherProcessHasCaughtUpHasNoLag(t *testing.T) {
	store := application.WithStore(newStore(t))
	dogs, err := school.New(store)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Fido", "Rex", "Laika", "Belka"} {
		if err := dogs.Register(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	// process returns one of the processes of the follower.
	process := func(observer *telemetry.Observer) (*system.Runner, system.Member) {
		t.Helper()
		app, err := application.New("Tricks", store, application.WithObserver(observer))
		if err != nil {
			t.Fatal(err)
		}
		follower, err := system.NewFollower(app, system.OnEvery(func(context.Context, domain.Event) error { return nil }))
		if err != nil {
			t.Fatal(err)
		}
		runner := runnerOf(t, dogs, follower, system.Config{BatchEvents: 1, PollInterval: time.Millisecond})
		return runner, follower
	}
	batches, release := make(chan telemetry.Batch, 100), make(chan struct{})
	first, _ := process(&telemetry.Observer{BatchDone: func(_ context.Context, b telemetry.Batch) {
		batches <- b
		<-release
	}})
	if err := first.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b := <-batches; b.Lag() != 3 {
		t.Fatalf("the first batch: got %+v, want one that leaves a lag of 3", b)
	}
	second, follower := process(nil)
	if _, err := second.CatchUp(t.Context(), follower, nil); err != nil {
		t.Fatal(err)
	}
	close(release)
	for caughtUp := false; !caughtUp; {
		select {
		case b := <-batches:
			if b.Err != nil || b.Processed > 0 {
				t.Errorf("got %+v, want a batch that has not failed and has processed nothing", b)
			}
			caughtUp = b.Lag() == 0 && b.Position == 4
		case <-time.After(3 * time.Minute):
			t.Fatal("the follower still has a lag for its observer")
		}
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
}

// runnerOf makes the runner of a follower of the school.
func runnerOf(t testing.TB, dogs *school.TrainingSchool, follower *system.Follower, config system.Config) *system.Runner {
	t.Helper()
	sys, err := system.New(system.Pipe(dogs, follower))
	if err != nil {
		t.Fatal(err)
	}
	runner, err := system.NewRunner(sys, config)
	if err != nil {
		t.Fatal(err)
	}
	return runner
}
