package system_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// A test that needs other processes runs its own program again, as a child that
// works until it is killed or its standard input ends. The variables say what
// it does, and on which database.
const (
	childWork     = "SYSTEM_TEST_WORK"
	childDatabase = "SYSTEM_TEST_DATABASE"
	childDSN      = "SYSTEM_TEST_DSN"
)

// What a child can do.
const (
	writeAndFollow = "write and follow"
	onlyFollow     = "follow"
	torn           = "write, and follow with effect and position in two transactions"
	followDivided  = "follow with partitions"
	followSlowly   = "follow with partitions, 5 ms for each event"
	followHeld     = "follow with partitions, the first event held"
)

// Effect is a row of a table of the tests' own. Nothing keeps it from being
// there twice.
type Effect struct {
	ID             int64
	NotificationID int64
}

// Heard is what a follower makes of an event.
type Heard struct{ NotificationID int64 }

func (Heard) Apply(*Echo) {}

// Echo is an aggregate of a follower's.
type Echo struct{ domain.Aggregate }

var echoes = domain.Define("Echo", domain.On("Heard", Heard{}))

// echoing is a system of a leader, a follower that emits an event for each of
// the leader's, and one that writes a row.
func echoing(effect policyFunc, options ...application.Option) plan {
	return plan{pipe(app(schoolName, school.New), app("Echoes", newEchoes), followerLoop("Effects", effect, options...))}
}

func newEchoes(options ...application.Option) (*follower, error) {
	app, err := application.New("Echoes", append(options, application.WithDefinitions(echoes))...)
	if err != nil {
		return nil, err
	}
	return newFollower(app, func(_ context.Context, event domain.Event, p *collector) error {
		p.Collect(echoes.Create(uuid.New(), Heard{NotificationID: event.NotificationID}))
		return nil
	})
}

// affect writes a row for an event that an echo tells of, in the transaction
// that the position is moved in.
func affect(ctx context.Context, event domain.Event, _ *collector) error {
	tx, err := gormstore.Tx(ctx)
	if err != nil {
		return err
	}
	return tx.Create(&Effect{NotificationID: event.Data.(Heard).NotificationID}).Error
}

// announcing prints a line when a policy is called for the first time.
func announcing(policy policyFunc) policyFunc {
	var once sync.Once
	return func(ctx context.Context, event domain.Event, p *collector) error {
		once.Do(func() { fmt.Println(following) })
		return policy(ctx, event, p)
	}
}

// following is the line of a child whose last follower is at work.
const following = "following"

// betweenTwo is the line of a child that has had effects and has not moved its
// position.
const betweenTwo = "between two transactions"

// twoTransactions is a store that moves positions in a transaction after the
// one of the effects. Between the two it says so, and stays there.
type twoTransactions struct{ *gormstore.Store }

type movesKey struct{}

func (s twoTransactions) Transaction(ctx context.Context, fn func(context.Context) error) error {
	var moves []func(context.Context) error
	if err := s.Store.Transaction(context.WithValue(ctx, movesKey{}, &moves), fn); err != nil {
		return err
	}
	if len(moves) > 0 {
		fmt.Println(betweenTwo)
		select {} // until it is killed
	}
	return s.Store.Transaction(ctx, func(ctx context.Context) error {
		for _, move := range moves {
			if err := move(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s twoTransactions) ProcessRecorder(application string) (persistence.ProcessRecorder, error) {
	recorder, err := s.Store.ProcessRecorder(application)
	if err != nil {
		return nil, err
	}
	return laterMoves{recorder}, nil
}

type laterMoves struct{ persistence.ProcessRecorder }

func (r laterMoves) MovePosition(ctx context.Context, from int64, to persistence.Tracking) error {
	moves := ctx.Value(movesKey{}).(*[]func(context.Context) error)
	*moves = append(*moves, func(ctx context.Context) error { return r.ProcessRecorder.MovePosition(ctx, from, to) })
	return nil
}

// child is the program of a child. It returns the exit code.
func child(work string) int {
	if err := runChild(work); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func runChild(work string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the parent
		cancel()
	}()
	db, err := openChild(os.Getenv(childDatabase), os.Getenv(childDSN))
	if err != nil {
		return err
	}
	store := gormstore.New(db)
	if work == followDivided || work == followSlowly || work == followHeld {
		return runDivided(ctx, store, work)
	}
	effect := announcing(affect)
	sys := echoing(effect)
	if work == torn {
		sys = echoing(effect, application.WithStore(twoTransactions{store}))
	}
	runner, err := newConcurrent(sys, application.WithStore(store))
	if err != nil {
		return err
	}
	if err := runner.Start(ctx); err != nil {
		return err
	}
	if work != onlyFollow {
		dogs, err := find[*school.TrainingSchool](runner)
		if err != nil {
			return err
		}
		writeUntil(ctx, dogs.Application)
	}
	fmt.Println("ready")
	<-runner.Done()
	return runner.Close()
}

// writeUntil has four writers save until ctx ends. Each save that has succeeded
// is printed.
func writeUntil(ctx context.Context, app *application.Application) {
	var mu sync.Mutex // protects standard output
	for range 4 {
		go func() {
			for ctx.Err() == nil {
				dog := school.RegisterDog(uuid.NewString())
				dog.AddTrick("sit")
				saved, err := app.Save(ctx, dog)
				if err != nil {
					continue // nothing of it is promised
				}
				mu.Lock()
				for _, event := range saved.Events {
					fmt.Println("saved", event.NotificationID)
				}
				mu.Unlock()
			}
		}()
	}
}

func openChild(database, dsn string) (*gorm.DB, error) {
	config := &gorm.Config{Logger: logger.Discard}
	if database == "postgres" {
		return gorm.Open(postgres.Open(dsn), config)
	}
	return gorm.Open(sqlite.Open(dsn), config)
}

// process is a child from outside.
type process struct {
	*exec.Cmd
	lines *bufio.Scanner
	stdin io.Closer
}

func startChild(t testing.TB, work, database, dsn string) *process {
	t.Helper()
	program, err := os.Executable()
	expect.NoError(t, err)
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), childWork+"="+work, childDatabase+"="+database, childDSN+"="+dsn,
		"GORACE=atexit_sleep_ms=0") // the race detector waits at the end of a process
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	expect.NoError(t, err)
	stdin, err := cmd.StdinPipe()
	expect.NoError(t, err, cmd.Start())
	return &process{Cmd: cmd, lines: bufio.NewScanner(stdout), stdin: stdin}
}

// kill kills the child with a signal that it cannot catch, and returns the ids
// that it has printed until then.
func (p *process) kill(t testing.TB) (saved []int64) {
	t.Helper()
	expect.NoError(t, p.Process.Kill())
	for p.lines.Scan() {
		var id int64
		if _, err := fmt.Sscanf(p.lines.Text(), "saved %d", &id); err == nil {
			saved = append(saved, id)
		}
	}
	_ = p.Wait() // it was killed
	return saved
}

// crashes is one database that children work on until they are killed.
type crashes struct {
	database, dsn string
	db            *gorm.DB
	saved         []int64
}

// eachCrashing runs a test on a database that other processes can open.
func eachCrashing(t *testing.T, test func(t *testing.T, c *crashes)) {
	for database, dsn := range map[string]func(testing.TB) string{"sqlite": testdb.SQLiteFileDSN, "postgres": testdb.Postgres} {
		t.Run(database, func(t *testing.T) {
			c := crashing(t, database, dsn(t))
			expect.NoError(t, c.db.AutoMigrate(&Effect{}))
			test(t, c)
		})
	}
}

// crashing opens a database for children, and migrates it.
func crashing(t testing.TB, database, dsn string) *crashes {
	t.Helper()
	db, err := openChild(database, dsn)
	expect.NoError(t, err)
	pool, err := db.DB()
	expect.NoError(t, err)
	t.Cleanup(func() { expect.NoError(t, pool.Close()) })
	expect.NoError(t, gormstore.AutoMigrate(db))
	return &crashes{database: database, dsn: dsn, db: db}
}

// crash starts a child and kills it at a random moment of its work.
func (c *crashes) crash(t testing.TB, work string, after time.Duration) {
	t.Helper()
	p := startChild(t, work, c.database, c.dsn)
	// Most children are killed when all of their parts are at work, a few while they begin.
	atStart := rand.N(4) == 0
	saves, follows := false, false
	c.readUntil(t, p, func(line string) bool {
		saves, follows = saves || strings.HasPrefix(line, "saved "), follows || line == following
		return saves && follows || atStart
	})
	time.Sleep(after) // chance is the point
	c.saved = append(c.saved, p.kill(t)...)
}

// readUntil reads what a child prints until the last line is the one that is
// waited for, and takes note of the events that are acknowledged.
func (c *crashes) readUntil(t testing.TB, p *process, last func(line string) bool) {
	t.Helper()
	for done := false; !done; done = last(p.lines.Text()) {
		if !p.lines.Scan() {
			t.Fatalf("the child has not come so far: %v", errors.Join(p.lines.Err(), p.Wait()))
		}
		var id int64
		if _, err := fmt.Sscanf(p.lines.Text(), "saved %d", &id); err == nil {
			c.saved = append(c.saved, id)
		}
	}
}

// finish has the followers process the rest, and returns how often each event
// of the school has had its effect.
func (c *crashes) finish(t testing.TB) (effects map[int64]int) {
	t.Helper()
	r, err := newSingle(echoing(affect), application.WithStore(gormstore.New(c.db)))
	closing(t, r, err)
	start(t, r)
	effects = map[int64]int{}
	var rows []Effect
	expect.NoError(t, c.db.Find(&rows).Error)
	for _, row := range rows {
		effects[row.NotificationID]++
	}
	dogs := get[*school.TrainingSchool](t, r, schoolName)
	for _, id := range ids(t, dogs.Application) {
		if effects[id] == 0 {
			effects[id] = 0 // which is a hole
		}
	}
	stored := map[int64]bool{}
	for id := range effects {
		stored[id] = true
	}
	for _, id := range c.saved {
		if !stored[id] {
			t.Errorf("event %s was acknowledged and is not stored", strconv.FormatInt(id, 10))
		}
	}
	return effects
}

// wrong counts the events that have had their effect twice, and those that have
// had none.
func wrong(effects map[int64]int) (twice, holes int) {
	for _, n := range effects {
		if n > 1 {
			twice++
		}
		if n == 0 {
			holes++
		}
	}
	return twice, holes
}
