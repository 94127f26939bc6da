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
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
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

// A child that is told so stays in the transaction in which it has processed the
// event of the held dog.
const (
	childHeld = "GORMSTORE_TEST_HELD"
	heldDog   = "Held"
)

// What these children print when they follow, and when they hold the event.
const (
	readyLine = "ready"
	heldLine  = "held"
)

// followedBatch is how many events these children process in a transaction at
// most.
const followedBatch = 20

// followBesideTheLibrary runs the follower of followOnBothSides until standard
// input ends. Settings are those of the process.
func followBesideTheLibrary(db *gorm.DB, command string) error {
	store := application.WithStore(gormstore.New(db))
	if command == followPythonControl {
		store = application.WithStore(newOnePosition(db))
	}
	quiet := application.WithLogger(slog.New(slog.DiscardHandler))
	school, err := application.New(schoolName, store, quiet, application.WithPythonLayout(), application.WithDefinitions(pyDogs, pyVisits))
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
	count := countEach(counters)
	follower, err := system.NewFollower(app, system.OnEvery(func(ctx context.Context, e domain.Event) error {
		if err := count(ctx, e); err != nil {
			return err
		}
		if e.Data == (pyRegistered{heldDog}) && os.Getenv(childHeld) != "" {
			fmt.Println(heldLine)
			select {} // until it is killed
		}
		return nil
	}))
	if err != nil {
		return err
	}
	sys, err := system.New(system.Pipe(school, follower))
	if err != nil {
		return err
	}
	runner, err := system.NewRunner(sys, system.Config{PollInterval: time.Millisecond, BatchEvents: followedBatch})
	if err == nil {
		err = runner.Start(context.Background())
	}
	if err != nil {
		return err
	}
	fmt.Println(readyLine)
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
			if wrong := followAndKill(t, f, followPython, testdb.Figure(testdb.Sample(3, 10), 100)); len(wrong) > 0 {
				t.Errorf("%d events were not processed once: %v, want 0", len(wrong), wrong)
			}
		})
	}
}

// The control: with a position in one row the library processes events again.
func TestPythonFollowerBesideKilledProcessesControl(t *testing.T) {
	t.Parallel()
	for _, f := range sharedPythonFixtures {
		t.Run(f.file, func(t *testing.T) {
			t.Parallel()
			if wrong := followAndKill(t, f, followPythonControl, 1); len(wrong) == 0 {
				t.Error("each event was processed once, want some twice")
			}
		})
	}
}

// followAndKill kills the first process between the effects and the position of
// a batch, while the library, which has read events that the process has
// processed in batches before, waits. It kills the others at any time. It
// returns the events that have not had their effect once, with how often they
// had it.
func followAndKill(t *testing.T, f pythonFixture, command string, kills int) map[string]int {
	t.Helper()
	const perKill = 100 // events
	db := f.open(t)
	s := newPyService(t, f, db)
	begin := expect.Must(bridge.Of(s.school).Recorder().MaxNotificationID(t.Context()))
	save := func(held int) {
		dogs := make([]domain.Changes, perKill)
		for i := range dogs {
			dogs[i] = pyDogs.Create(uuid.New(), pyRegistered{"Rex"})
		}
		if held > 0 {
			dogs[held] = pyDogs.Create(uuid.New(), pyRegistered{heldDog})
		}
		expect.Must(s.school.Save(t.Context(), dogs...))
	}
	save(2 * followedBatch) // it is in the second batch or a later one
	library := lag(t, f.library(t, db), "follow")
	first := f.startFollower(t, db, command, true)
	first.waitFor(t, heldLine)
	first.kill(t)
	library.goOn(t)
	for range kills - 1 {
		child := f.startFollower(t, db, command, false)
		save(0)
		time.Sleep(rand.N(250 * time.Millisecond)) // chance is the point
		child.kill(t)
	}
	t.Logf("%d kills, %d events", kills, perKill*kills)
	return library.end(t, s, begin)
}

// followingProcess is a child that follows.
type followingProcess struct {
	*exec.Cmd
	lines  *bufio.Scanner
	stderr *bytes.Buffer
}

// startFollower starts a child that follows.
func (f pythonFixture) startFollower(t *testing.T, db *gorm.DB, command string, held bool) *followingProcess {
	t.Helper()
	p := &followingProcess{Cmd: childOf(t, command, db.Name(), dsn(t, db)), stderr: &bytes.Buffer{}}
	for key, value := range f.settings() {
		p.Env = append(p.Env, key+"="+value)
	}
	if held {
		p.Env = append(p.Env, childHeld+"=y")
	}
	p.Stderr = p.stderr
	_ = expect.Must(p.StdinPipe()) // ends with this process
	p.lines = bufio.NewScanner(expect.Must(p.StdoutPipe()))
	expect.NoError(t, p.Start())
	p.waitFor(t, readyLine)
	return p
}

// waitFor waits until the child has printed a line.
func (p *followingProcess) waitFor(t *testing.T, line string) {
	t.Helper()
	if !p.lines.Scan() || p.lines.Text() != line {
		t.Fatalf("the child has printed %q, want %q: %v: %s", p.lines.Text(), line, p.Wait(), p.stderr)
	}
}

// kill kills the child with a signal that it cannot catch.
func (p *followingProcess) kill(t *testing.T) {
	t.Helper()
	_ = p.Process.Kill()
	if err := p.Wait(); err == nil {
		t.Errorf("the child has ended by itself: %s", p.stderr)
	}
}
