package health_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"gorm.io/driver/postgres"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/system"
	"github.com/eventsourcing-go/eventsourcing/system/health"
)

// TestOutage stops the server of the database and starts it again. The process
// is not ready meanwhile, and is not to be restarted.
func TestOutage(t *testing.T) {
	cluster := testdb.NewCluster(t, "fsync=off")
	db := testdb.Open(t, postgres.Open(cluster.Database(t)))
	if err := gormstore.AutoMigrate(db); err != nil {
		t.Fatal(err)
	}
	options := []application.Option{application.WithStore(gormstore.New(db)), application.WithLogger(slog.New(slog.DiscardHandler))}
	dogs, err := school.New(options...)
	if err != nil {
		t.Fatal(err)
	}
	app, err := application.New("Tricks", options...)
	if err != nil {
		t.Fatal(err)
	}
	follower, err := system.NewFollower(app, system.OnEvery(func(context.Context, domain.Event) error { return nil }))
	if err != nil {
		t.Fatal(err)
	}
	sys, err := system.New(system.Pipe(dogs, follower))
	if err != nil {
		t.Fatal(err)
	}
	runner, err := system.NewRunner(sys, system.Config{ShortestRetry: time.Millisecond, LongestRetry: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(dogs.Register(t.Context(), "Fido"), runner.Start(t.Context()), runner.WaitFor(t.Context(), follower)); err != nil {
		t.Fatal(err)
	}
	defer runner.Close()
	live, ready, err := health.New(runner, health.Config{})
	if err != nil {
		t.Fatal(err)
	}
	want := func(when string, want int) {
		t.Helper()
		if code, report := check(t, ready); code != want {
			t.Errorf("ready %s: got %d, %+v; want %d", when, code, report, want)
		}
		if code, report := check(t, live); code != 200 {
			t.Errorf("live %s: got %d, %+v; want 200", when, code, report)
		}
	}
	want("before", 200)
	if err := cluster.Stop(testdb.Immediate); err != nil {
		t.Fatal(err)
	}
	want("during the outage", 503)
	if err := cluster.Start(); err != nil {
		t.Fatal(err)
	}
	for runner.WaitFor(t.Context(), follower) != nil { // it has failed, and tries again
		if t.Context().Err() != nil {
			t.Fatal("the follower does not recover")
		}
	}
	want("after the outage", 200)
}
