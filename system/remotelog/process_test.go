package remotelog_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/polling"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
	"github.com/eventsourcing-go/eventsourcing/system/remotelog"
)

// A test that needs another process runs its own program again, as a follower.
// The variables have the address of the log, the database of the follower, and
// after how many effects it stops to be killed.
const (
	childAddress = "REMOTELOG_TEST_ADDRESS"
	childDialect = "REMOTELOG_TEST_DIALECT"
	childDSN     = "REMOTELOG_TEST_DSN"
	// The database of effects outside of the follower's transaction.
	childElsewhere = "REMOTELOG_TEST_ELSEWHERE"
	childStandsAt  = "REMOTELOG_TEST_STANDS_AT" // after so many effects
)

// patience is how long a test waits for what must happen, before it calls it
// missing.
const patience = 2 * time.Minute

// standing is what a child says when it has stopped.
const standing = "standing"

const effectsName = "Effects"

// Effect is a row for each event that was processed, with nothing that would
// keep a second one out.
type Effect struct {
	ID             int64
	NotificationID int64
}

// effects is a follower that writes them.
type effects struct {
	*system.Follower
	elsewhere *gorm.DB // nil for the follower's transaction
	standsAt  int
	done      int
}

func (e *effects) write(ctx context.Context, event domain.Event) error {
	tx, err := gormstore.Tx(ctx)
	if e.elsewhere != nil {
		tx, err = e.elsewhere.WithContext(ctx), nil
	}
	if err != nil {
		return err
	}
	if err := tx.Create(&Effect{NotificationID: event.NotificationID}).Error; err != nil {
		return err
	}
	if e.done++; e.done == e.standsAt {
		fmt.Println(standing)
		<-ctx.Done()
	}
	return ctx.Err()
}

// child is the program of a child, which follows until its input ends. It
// returns the exit code.
func child() int {
	if err := follow(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func follow() error {
	db, err := openAgain(os.Getenv(childDSN))
	if err != nil {
		return err
	}
	e := &effects{}
	e.standsAt, _ = strconv.Atoi(os.Getenv(childStandsAt))
	if dsn := os.Getenv(childElsewhere); dsn != "" {
		if e.elsewhere, err = openAgain(dsn); err != nil {
			return err
		}
	}
	client, err := remotelog.NewClient(schoolName, os.Getenv(childAddress), remotelog.ClientConfig{Application: known, Retries: 3})
	if err != nil {
		return err
	}
	app, err := application.New(effectsName, application.WithStore(gormstore.New(db)))
	if err != nil {
		return err
	}
	if e.Follower, err = system.NewFollower(app, system.OnEvery(e.write)); err != nil {
		return err
	}
	sys, err := system.New(system.Pipe(client, e))
	if err != nil {
		return err
	}
	// A short wait between the attempts; a bad line makes many of them.
	runner, err := system.NewRunner(sys, system.Config{ShortestRetry: 10 * time.Millisecond, LongestRetry: 250 * time.Millisecond})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return runner.Run(ctx)
}

// openAgain opens a database that a test has made, in another process.
func openAgain(dsn string) (*gorm.DB, error) {
	dialector := sqlite.Open(dsn)
	if os.Getenv(childDialect) == "postgres" {
		dialector = postgres.Open(dsn)
	}
	return gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
}

// process is a running child.
type process struct {
	cmd    *exec.Cmd
	input  io.Closer
	output *bufio.Scanner
	errors bytes.Buffer
}

func startProcess(t testing.TB, environment map[string]string) *process {
	t.Helper()
	program, err := os.Executable()
	expect.NoError(t, err)
	p := &process{cmd: exec.CommandContext(t.Context(), program)}
	// The race detector waits at the end of a process.
	p.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	for name, value := range environment {
		p.cmd.Env = append(p.cmd.Env, name+"="+value)
	}
	p.cmd.Stderr = &p.errors
	p.input, err = p.cmd.StdinPipe()
	expect.NoError(t, err)
	output, err := p.cmd.StdoutPipe()
	expect.NoError(t, err)
	p.output = bufio.NewScanner(output)
	expect.NoError(t, p.cmd.Start())
	return p
}

// killStanding waits until the child has stopped in a handler, and kills it
// there.
func (p *process) killStanding(t testing.TB) {
	t.Helper()
	limit := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer limit.Stop()
	if !p.output.Scan() || p.output.Text() != standing {
		t.Fatalf("the child says %q: %s, want %q", p.output.Text(), &p.errors, standing)
	}
	expect.NoError(t, p.cmd.Process.Kill())
	_ = p.cmd.Wait()
}

// end has the child end in an orderly way.
func (p *process) end(t testing.TB) {
	t.Helper()
	expect.NoError(t, p.input.Close())
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("the child ended with %v: %s", err, &p.errors)
	}
}

// place is a kind of database, of which the leader and the follower have one
// each.
type place struct {
	dialect string
	dsn     func(testing.TB) string
	open    func(dsn string) gorm.Dialector
}

var places = []place{
	{"sqlite", testdb.SQLiteFileDSN, sqlite.Open},
	{"postgres", testdb.Postgres, postgres.Open},
}

// migrated makes a database with all tables.
func (p place) migrated(t testing.TB) (db *gorm.DB, dsn string) {
	t.Helper()
	dsn = p.dsn(t)
	db = testdb.Open(t, p.open(dsn))
	expect.NoError(t, gormstore.AutoMigrate(db), db.AutoMigrate(&Effect{}))
	return db, dsn
}

// upstream is the leader of a test, with a service and a bad line to it.
type upstream struct {
	dogs    *school.TrainingSchool
	line    *cutter
	address string
}

// startUpstream serves a log in pages of a few dozen events, and has many of
// them cut.
func (p place) startUpstream(t testing.TB) *upstream {
	t.Helper()
	db, _ := p.migrated(t)
	dogs := newSchool(t, application.WithStore(gormstore.New(db)))
	server := httptest.NewServer(http.StripPrefix("/log", remotelog.NewHandler(dogs.Application, remotelog.HandlerConfig{MaxPageBytes: 4 << 10})))
	t.Cleanup(server.Close)
	line := startCutter(t, server.Listener.Addr().String(), 80<<10)
	return &upstream{dogs: dogs, line: line, address: "http://" + line.address() + "/log"}
}

// save has four writers save so many events together, in the background. It
// returns how to wait for them.
func (u *upstream) save(t testing.TB, events int) (wait func()) {
	const writers = 4
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			dog := school.RegisterDog(fmt.Sprint("Fido", w))
			for left := events/writers - 1; left > 0; {
				tricks := min(1+rand.IntN(3), left)
				for range tricks {
					dog.AddTrick("roll over")
				}
				left -= tricks
				if _, err := u.dogs.Save(t.Context(), dog); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	return group.Wait
}

// ids are those of the log.
func (u *upstream) ids(t testing.TB) (all []int64) {
	t.Helper()
	for after := int64(0); ; after = all[len(all)-1] {
		page, err := bridge.Of(u.dogs).Recorder().SelectNotifications(t.Context(), persistence.NotificationRange{After: after, Limit: 1000})
		expect.NoError(t, err)
		if len(page) == 0 {
			return all
		}
		for _, n := range page {
			all = append(all, n.ID)
		}
	}
}

// downstream is the follower's side of a test, seen from outside.
type downstream struct {
	db          *gorm.DB
	elsewhere   *gorm.DB // has the effects
	recorder    persistence.ProcessRecorder
	environment map[string]string
}

func (p place) downstream(t testing.TB, address string) *downstream {
	t.Helper()
	db, dsn := p.migrated(t)
	recorder, err := gormstore.New(db).ProcessRecorder(effectsName)
	expect.NoError(t, err)
	return &downstream{db: db, elsewhere: db, recorder: recorder, environment: map[string]string{
		childAddress: address, childDialect: p.dialect, childDSN: dsn,
	}}
}

func (d *downstream) start(t testing.TB, standsAt int) *process {
	t.Helper()
	d.environment[childStandsAt] = strconv.Itoa(standsAt)
	return startProcess(t, d.environment)
}

// processed waits until the follower is at the end of the log, and returns what
// was made of it.
func (d *downstream) processed(t testing.TB, u *upstream, followers ...*process) (ids []int64) {
	t.Helper()
	head, err := bridge.Of(u.dogs).Recorder().MaxNotificationID(t.Context())
	expect.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := polling.WaitFor(ctx, d.recorder, schoolName, head); err != nil {
		for _, f := range followers {
			_ = f.cmd.Process.Kill()
			_ = f.cmd.Wait()
			err = errors.Join(err, errors.New(strings.TrimSpace(f.errors.String())))
		}
		t.Fatal(err)
	}
	expect.NoError(t, d.elsewhere.Model(&Effect{}).Order("id").Pluck("notification_id", &ids).Error)
	return ids
}

// A follower in another process, with its own database, has every event's
// effect exactly once and in order, while connections are cut, while the
// leader's writers go on, while it is killed in the middle of batches, and
// while another process of it is at work.
func TestFollowerOverABadLine(t *testing.T) {
	t.Parallel()
	for _, p := range places {
		t.Run(p.dialect, func(t *testing.T) {
			t.Parallel()
			up := p.startUpstream(t)
			down := p.downstream(t, up.address)
			events := testdb.Figure(testdb.Sample(500, 2_000), 20_000)
			wait := up.save(t, events)
			for range testdb.Figure(3, 10) {
				down.start(t, 1+rand.IntN(events/20)).killStanding(t)
			}
			first, second := down.start(t, 0), down.start(t, 0)
			wait()
			got, want := down.processed(t, up, first, second), up.ids(t)
			first.end(t)
			second.end(t)
			if len(want) != events || !slices.Equal(got, want) {
				t.Errorf("%d events of %d had %d effects, want one each, in order", len(want), events, len(got))
			}
			if cuts := up.line.cuts.Load(); cuts < certainCuts {
				t.Errorf("the line was cut %d times, want it to be bad", cuts)
			}
			t.Logf("%d events, %d connections cut", len(want), up.line.cuts.Load())
		})
	}
}

// The control: effects outside of the follower's transaction happen again when
// the process is killed between them and the position. So what the test above
// has is due to the one transaction, and it would see what is missing.
func TestEffectsElsewhereHappenAgain(t *testing.T) {
	t.Parallel()
	for _, p := range places {
		t.Run(p.dialect, func(t *testing.T) {
			t.Parallel()
			up := p.startUpstream(t)
			down := p.downstream(t, up.address)
			down.elsewhere, down.environment[childElsewhere] = p.migrated(t)
			up.save(t, 40)()
			down.start(t, 1).killStanding(t)
			follower := down.start(t, 0)
			got, want := down.processed(t, up, follower), up.ids(t)
			follower.end(t)
			if again := append([]int64{want[0]}, want...); !slices.Equal(got, again) {
				t.Errorf("got %d effects of %d events, want the first one twice", len(got), len(want))
			}
		})
	}
}
