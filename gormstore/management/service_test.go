package management_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/operations"
	"github.com/eventsourcing-go/eventsourcing/gormstore/management"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// asProgram has this test program be the service "manage" that the tests run.
const asProgram = "MANAGEMENT_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(management.Main(config()))
	}
	os.Exit(testdb.Main(m))
}

// The service is the one that the Python library's output was captured from:
// TrainingSchool and CatSchool are leaders, Diary makes an event of each event,
// Counter follows both and keeps nothing, and Flaky fails as FLAKY says. What
// is there is up to the same variables as there.

// Dog is an aggregate of both schools.
type Dog struct {
	domain.Aggregate
	Number int
}

type registered struct{ Number int }

func (e registered) Apply(d *Dog) { d.Number = e.Number }

var dogs = domain.Define("Dog", domain.On("Registered", registered{}))

// register saves so many dogs, numbered from 1.
func register(ctx context.Context, app *application.Application, n int) error {
	var changes []domain.Changes
	for number := range n {
		changes = append(changes, dogs.Create(uuid.New(), registered{number + 1}))
	}
	_, err := app.Save(ctx, changes...)
	return err
}

// leader makes an application that is followed.
func leader(name string) func(...application.Option) (*application.Application, error) {
	return func(options ...application.Option) (*application.Application, error) {
		return application.New(name, append(options, application.WithDefinitions(dogs))...)
	}
}

// members makes the members of a system, with the same options and then those
// of each, until one cannot be made.
type members struct {
	options []application.Option
	err     error
}

func member[M system.Member](m *members, construct func(...application.Option) (M, error), options ...application.Option) system.Member {
	if m.err != nil {
		return nil
	}
	made, err := construct(append(slices.Clone(m.options), options...)...)
	m.err = err
	return made
}

// system is the system of the members in some pipes.
func (m *members) system(pipes ...[]system.Member) (*system.System, error) {
	if m.err != nil {
		return nil, m.err
	}
	return system.New(pipes...)
}

// called is a member that is known by its name.
type called string

func (c called) Name() string { return string(c) }

// counter follows without keeping anything.
type counter struct{ *system.Follower }

// pause is how long followers take for an event.
var pause, _ = time.ParseDuration(os.Getenv("PAUSE"))

func newCounter(name string) func(...application.Option) (counter, error) {
	return func(options ...application.Option) (counter, error) {
		app, err := application.New(name, options...)
		if err != nil {
			return counter{}, err
		}
		count := func(context.Context, domain.Event) error { time.Sleep(pause); return nil }
		f, err := system.NewFollower(app, divided(), system.OnEvery(count), system.Replayable())
		return counter{f}, err
	}
}

// divided divides a follower into as many partitions as PARTITIONS says.
func divided() system.FollowerOption {
	count, err := strconv.Atoi(os.Getenv("PARTITIONS"))
	if err != nil {
		count = 1
	}
	return system.Partitions(count)
}

// diary makes an event of each event.
type diary struct{ *system.Follower }

// Note is an aggregate of the diary.
type Note struct {
	domain.Aggregate
	Of string
}

type written struct{ Of string }

func (e written) Apply(n *Note) { n.Of = e.Of }

var notes = domain.Define("Note", domain.On("Written", written{}))

func (d *diary) write(ctx context.Context, event domain.Event) error {
	of := event.OriginatorID.String()
	_, err := d.Save(ctx, notes.Create(domain.NewIDv5("/notes/"+of), written{of}))
	return err
}

func (d *diary) clear(ctx context.Context, _ []string) error {
	if os.Getenv("RESET") == "fails" {
		return errors.New("no eraser")
	}
	_, err := bridge.Of(d).Factory().(interface {
		DeleteEvents(context.Context, string) (int64, error)
	}).DeleteEvents(ctx, d.Name())
	return err
}

func newDiary(options ...application.Option) (*diary, error) {
	app, err := application.New("Diary", append(options, application.WithDefinitions(notes))...)
	if err != nil {
		return nil, err
	}
	d := &diary{}
	d.Follower, err = system.NewFollower(app, divided(), system.OnEvery(d.write), system.Resettable(d.clear))
	return d, err
}

// flaky fails.
type flaky struct{ *system.Follower }

func newFlaky(options ...application.Option) (*flaky, error) { return newFlakyWith(nil, options...) }

func newFlakyWith(with []system.FollowerOption, options ...application.Option) (*flaky, error) {
	app, err := application.New("Flaky", options...)
	if err != nil {
		return nil, err
	}
	f := &flaky{}
	f.Follower, err = system.NewFollower(app, append(with, divided(), system.OnEvery(f.fail))...)
	return f, err
}

func (f *flaky) fail(ctx context.Context, event domain.Event) error {
	number := event.Data.(registered).Number
	switch how := os.Getenv("FLAKY"); {
	case how == "es", how == "mid" && number == 2:
		return notFound(ctx)
	case how == "nomsg":
		return speechless{}
	case how == "dne":
		return fmt.Errorf("dog: %w", gorm.ErrRecordNotFound)
	case how == "value":
		return &ValueError{"boom"}
	case how == "nil":
		var nobody *ValueError
		return nobody
	case how == "odd":
		return errors.New("bad\r\x1b[31m\x00 dog\tcannot parse `postgres://me:hunter2@`: (hunter2)")
	case how == "panic":
		panic("boom")
	case how == "write" && number == 2: // fails half-way, after it has written
		_, err := f.Save(ctx, notes.Create(uuid.New(), written{"half"}))
		return errors.Join(err, errors.New("half-way"))
	case how == "write":
		_, err := f.Save(ctx, notes.Create(uuid.New(), written{"whole"}))
		return err
	}
	return nil
}

// newParker is a flaky follower that parks what it fails with.
func newParker(options ...application.Option) (*flaky, error) {
	park := system.Park(func(persistence.Notification, error, int) bool { return true })
	return newFlakyWith([]system.FollowerOption{park}, options...)
}

// ValueError is an error of the service's own.
type ValueError struct{ text string }

func (e *ValueError) Error() string { return e.text }

// notFound is the error of a dog that does not exist.
func notFound(ctx context.Context) error {
	school, err := leader("TrainingSchool")(application.WithStore(memory.New()))
	if err != nil {
		return err
	}
	repository, err := application.NewRepository(school, dogs)
	if err != nil {
		return err
	}
	_, err = repository.Get(ctx, uuid.Nil)
	return err
}

// speechless is an error without words.
type speechless struct{}

func (speechless) Error() string { return "" }
func (speechless) Unwrap() error { return gorm.ErrRecordNotFound }

// newSystem makes the system that the environment asks for.
func newSystem(options ...application.Option) (*system.System, error) {
	m := &members{options: options}
	if os.Getenv("SYSTEM") == "reset" {
		first, another := member(m, leader("upstream_app_1")), member(m, leader("upstream_app_2"))
		app := member(m, newCounter("Application"))
		return m.system(system.Pipe(first, app), system.Pipe(another, app),
			system.Pipe(first, member(m, newCounter("AnotherApplication"))))
	}
	if os.Getenv("SYSTEM") == "document" { // the names of the document's examples
		school := member(m, newCounter("TrainingSchool"))
		return m.system(system.Pipe(member(m, leader("BoardingSchool")), school), system.Pipe(member(m, leader("PuppySchool")), school))
	}
	school, cats := member(m, leader("TrainingSchool")), member(m, leader("CatSchool"))
	followsBoth := member(m, newCounter("Counter"))
	pipes := [][]system.Member{system.Pipe(school, member(m, newDiary))}
	if os.Getenv("PARKER") != "" {
		pipes = append(pipes, system.Pipe(school, member(m, newParker)))
	}
	if os.Getenv("DJ_FLAKY") != "" {
		pipes = append(pipes, system.Pipe(school, member(m, newFlaky)))
	}
	pipes = append(pipes, system.Pipe(school, followsBoth), system.Pipe(cats, followsBoth))
	if os.Getenv("DJ_MANY") != "" {
		for n := range 7 {
			pipes = append(pipes, system.Pipe(school, member(m, newCounter(fmt.Sprintf("M%d", n+1)))))
		}
		pipes = append(pipes, system.Pipe(school, member(m, newFlaky)))
	}
	if other, err := gormstore.DB("other"); err == nil { // a follower in another database than its leader
		elsewhere := member(m, newCounter("Elsewhere"), application.WithStore(gormstore.New(other)))
		pipes = append(pipes, system.Pipe(school, elsewhere))
	}
	return m.system(pipes...)
}

func newRunner(context.Context) (management.Runner, error) {
	var options []application.Option
	if os.Getenv("RUNNER") != "memory" {
		options = append(options, application.WithEnv(map[string]string{"PERSISTENCE_MODULE": "gormstore"}))
	}
	sys, err := newSystem(options...)
	if err != nil {
		return nil, err
	}
	if os.Getenv("RUNNER") == "threads" {
		return system.NewRunner(sys, system.Config{})
	}
	return system.NewSingleThreadedRunner(sys)
}

func config() management.Config {
	root := &cobra.Command{Use: "manage", SilenceErrors: true, SilenceUsage: true, CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true}}
	c := management.Config{Root: root, Open: openDatabases, Runners: map[string]management.RunnerFunc{"kennel.runner": newRunner},
		Lookup: func(key string) (string, bool) {
			if key == operations.RunnerSetting { // as the captures call it
				key = "DJ_RUNNER_SETTING"
			}
			return os.LookupEnv(key)
		}}
	if os.Getenv("DJ_TWO") != "" {
		c.Runners["kennel.apps.get_runner"] = newRunner
	}
	if os.Getenv("DJ_RUNNER_SETTING") == "kennel.apps.get_none" {
		c.Runners["kennel.apps.get_none"] = func(context.Context) (management.Runner, error) { return nil, nil }
	}
	if os.Getenv("DJ_NO_RUNNER") != "" {
		c.Runners = nil
	}
	return c
}

// openDatabases opens the database that the environment names, and a second one
// beside it.
func openDatabases(context.Context) (func() error, error) {
	db, err := openDatabase(os.Getenv("DATABASE"))
	if err != nil {
		return nil, fmt.Errorf("database %q: %w", "default", err)
	}
	open := []openedDatabase{{db, gormstore.RegisterDB("default", db)}}
	if other := os.Getenv("OTHER_DATABASE"); other != "" {
		second, err := openDatabase(other)
		if err != nil {
			return nil, err
		}
		open = append(open, openedDatabase{second, gormstore.RegisterDB("other", second)})
	}
	return func() error { return closeDatabases(open) }, nil
}

// openedDatabase is a database with what takes back its name.
type openedDatabase struct {
	*gorm.DB
	unregister func()
}

func openDatabase(address string) (*gorm.DB, error) {
	quiet := &gorm.Config{Logger: logger.Discard}
	// The logger is GORM's default, without warnings of slow statements, of which
	// a busy machine has many.
	if os.Getenv("LOGGING") != "" {
		quiet.Logger = logger.New(log.New(os.Stdout, "\r\n", log.LstdFlags), logger.Config{LogLevel: logger.Warn})
	}
	if path, ok := strings.CutPrefix(address, "sqlite:"); ok {
		return gormstore.OpenSQLite(sqlite.Open, path, quiet)
	}
	return gorm.Open(postgres.Open(address), quiet)
}

func closeDatabases(open []openedDatabase) (err error) {
	for _, db := range open {
		db.unregister()
		pool, poolErr := db.DB.DB()
		if poolErr == nil {
			poolErr = pool.Close()
		}
		err = errors.Join(err, poolErr)
	}
	return err
}
