package gormstore_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// What children do that run a follower beside the library.
const (
	followPython        = "follow beside the library"
	followPythonControl = "follow beside the library, with a position in one row"
)

// followBesideTheLibrary runs the follower of followOnBothSides until standard
// input ends. Settings are those of the process.
func followBesideTheLibrary(db *gorm.DB, command string) error {
	store := application.WithStore(gormstore.New(db))
	if command == followPythonControl {
		store = application.WithStore(onePosition{gormstore.New(db)})
	}
	quiet := application.WithLogger(slog.New(slog.DiscardHandler))
	school, err := application.New(schoolName, store, quiet, application.WithPythonLayout(), application.WithDefinitions(pyDogs.Schema, pyVisits.Schema))
	if err != nil {
		return err
	}
	app, err := application.New(countersName, store, quiet, application.WithPythonLayout())
	if err != nil {
		return err
	}
	counters, err := application.NewRepository(app, pyCounters)
	if err != nil {
		return err
	}
	follower, err := system.NewFollower(app, system.OnEvery(countEach(counters)))
	if err != nil {
		return err
	}
	sys, err := system.New(system.Pipe(school, follower))
	if err != nil {
		return err
	}
	runner, err := system.NewRunner(sys, system.Config{PollInterval: time.Millisecond, BatchEvents: 20})
	if err == nil {
		err = runner.Start(context.Background())
	}
	if err != nil {
		return err
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// countEach makes an aggregate for each event, which no version keeps from being
// made twice.
func countEach(counters *application.Repository[pyCounter]) func(context.Context, domain.Event) error {
	return func(ctx context.Context, e domain.Event) error {
		return counters.Save(ctx, pyCounters.Create(uuid.New(), pyCreated{strconv.FormatInt(e.NotificationID, 10)}))
	}
}

// A process that runs a follower is killed again and again while the library
// runs the same follower. Each event has its effect once.
func TestPythonFollowerBesideKilledProcesses(t *testing.T) {
	t.Parallel()
	for _, f := range sharedPythonFixtures {
		t.Run(f.file, func(t *testing.T) {
			t.Parallel()
			if wrong := followAndKill(t, f, followPython, testdb.Figure(10, 100)); len(wrong) > 0 {
				t.Errorf("%d events were not processed once: %v, want 0", len(wrong), wrong)
			}
		})
	}
}

// The control: with a position in one row the library processes events again.
func TestPythonFollowerBesideKilledProcessesControl(t *testing.T) {
	t.Parallel()
	for range 30 {
		if wrong := followAndKill(t, sharedPythonFixtures[1], followPythonControl, 10); len(wrong) > 0 {
			t.Logf("%d events were not processed once", len(wrong))
			return
		}
	}
	t.Error("each event was processed once: the test proves nothing")
}

func followAndKill(t *testing.T, f pythonFixture, command string, kills int) map[string]int {
	t.Helper()
	const perKill = 100 // events
	db := f.open(t)
	library, s := f.library(t, db), newPyService(t, f, db)
	begin := expect.Must(bridge.Of(s.school).Recorder().MaxNotificationID(t.Context()))
	stop := filepath.Join(t.TempDir(), "stop")
	ended := make(chan error, 1)
	var output []byte
	go func() {
		var err error
		output, err = library.Run(t.Context(), "follow", stop, "each")
		ended <- err
	}()
	for range kills {
		kill := f.startFollower(t, db, command)
		var dogs []domain.Changes
		for range perKill {
			dogs = append(dogs, pyDogs.Create(uuid.New(), pyRegistered{"Rex"}))
		}
		if _, err := s.school.Save(t.Context(), dogs...); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(250 * time.Millisecond)) // chance is the point
		kill()
	}
	if err := os.WriteFile(stop, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	t.Logf("%d kills, %d events; the library: %s", kills, perKill*kills, output)
	return s.notOnce(t, begin)
}

// startFollower starts a child that follows, and returns what kills it.
func (f pythonFixture) startFollower(t *testing.T, db *gorm.DB, command string) (kill func()) {
	t.Helper()
	address := ""
	switch d := db.Dialector.(type) {
	case *postgres.Dialector:
		address = d.DSN
	case *sqlite.Dialector:
		address = d.DSN
	}
	cmd, stderr := childOf(t, command, db.Name(), address), &bytes.Buffer{}
	for key, value := range f.settings() {
		cmd.Env = append(cmd.Env, key+"="+value)
	}
	cmd.Stderr = stderr
	_ = expect.Must(cmd.StdinPipe()) // ends with this process
	lines := bufio.NewScanner(expect.Must(cmd.StdoutPipe()))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if !lines.Scan() {
		t.Fatalf("the child has not begun: %v: %s", cmd.Wait(), stderr)
	}
	return func() {
		_ = cmd.Process.Kill()
		if err := cmd.Wait(); err == nil {
			t.Errorf("the child has ended by itself: %s", stderr)
		}
	}
}
