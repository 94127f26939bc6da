package system_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/polling"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

func TestMain(m *testing.M) {
	if work := os.Getenv(childWork); work != "" {
		os.Exit(child(work))
	}
	// Followers fail on purpose, and runners report it.
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(testdb.Main(m))
}

// patience is how long a test waits for what must happen, before it calls it
// missing.
const patience = 3 * time.Minute

// TrickCount is a row of a table of the service's.
type TrickCount struct {
	Trick string `gorm:"primaryKey"`
	N     int
}

// The names that most tests use.
const (
	schoolName   = "TrainingSchool"
	countersName = "Counters"
)

// place is what a test runs on: a kind of runner over a kind of store.
type place struct {
	store      persistence.Factory
	db         *gorm.DB // nil for the memory store
	concurrent bool
}

// memoryRecorder is what followers need of a recorder of the memory store.
// Stores that change one of its methods embed it.
type memoryRecorder interface {
	persistence.ProcessRecorder
}

// runner is what both runners can do.
type runner interface {
	System() *system.System
	Start(context.Context) error
	Statuses(context.Context) ([]system.Status, error)
	Err() error
	Close() error
}

// each runs a test with both runners on all stores, the single-threaded one on
// PostgreSQL only if every combination is tried. On the memory store time is not
// real, so that no test waits.
func each(t *testing.T, test func(t *testing.T, p place), more ...testdb.Backend) {
	t.Helper()
	t.Parallel()
	for name, concurrent := range map[string]bool{"single-threaded": false, "concurrent": true} {
		t.Run(name+"/memory", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { test(t, place{store: memory.New(), concurrent: concurrent}) })
		})
		t.Run(name, func(t *testing.T) {
			for _, backend := range append(testdb.Backends(), more...) {
				if !concurrent && backend.Name == "postgres" && !testdb.Exhaustive() {
					continue
				}
				t.Run(backend.Name, func(t *testing.T) {
					t.Parallel()
					db := migrated(t, backend.Open(t))
					test(t, place{store: gormstore.New(db), db: db, concurrent: concurrent})
				})
			}
		})
	}
}

// eachDatabase runs a test in parallel on all databases, with the tables
// created.
func eachDatabase(t *testing.T, test func(t *testing.T, db *gorm.DB), more ...testdb.Backend) {
	t.Helper()
	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		t.Parallel()
		test(t, migrated(t, open(t)))
	}, more...)
}

// migrated returns an empty database with the tables of events and of tricks.
// Of PostgreSQL it makes them by the statements that AutoMigrate sends, which
// takes a third of its time.
func migrated(t testing.TB, db *gorm.DB) *gorm.DB {
	t.Helper()
	var err error
	if db.Name() == "postgres" {
		var statements string
		if statements, err = gormstore.Schema("postgres"); err == nil {
			err = db.Exec(statements).Error
		}
	} else {
		err = gormstore.AutoMigrate(db)
	}
	if err = errors.Join(err, db.AutoMigrate(&TrickCount{})); err != nil {
		t.Fatal(err)
	}
	return db
}

// runner makes a runner of the pipes, which is closed when the test ends.
func (p place) runner(t testing.TB, pipes ...chain) runner {
	t.Helper()
	var r runner
	var err error
	if p.concurrent {
		r, err = newConcurrent(newSystem(t, pipes...), application.WithStore(p.store))
	} else {
		r, err = newSingle(newSystem(t, pipes...), application.WithStore(p.store))
	}
	return closing(t, r, err)
}

// started is runner with the runner started.
func (p place) started(t testing.TB, pipes ...chain) runner {
	t.Helper()
	r := p.runner(t, pipes...)
	start(t, r)
	return r
}

func start(t testing.TB, r runner) {
	t.Helper()
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func closing[R runner](t testing.TB, r R, err error) R {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// get returns an application of a runner.
func get[M system.Member](t testing.TB, r runner, name string) M {
	t.Helper()
	member := bridge.GraphOf(r.System()).Member(name)
	if member == nil {
		t.Fatalf("there is no %s", name)
	}
	return member.(M)
}

// sync waits until everything is processed, and fails the test if a follower
// has stopped.
func (p place) sync(t testing.TB, r runner) {
	t.Helper()
	if single, ok := r.(*system.SingleThreadedRunner); ok {
		if err := single.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// Two looks that find the same: between them everything was processed.
	for before := []int64(nil); ; {
		heads := waitForHeads(t, r)
		if slices.Equal(before, heads) {
			return
		}
		before = heads
	}
}

// waitForHeads waits until every follower is at the present head of its
// leader's log.
func waitForHeads(t testing.TB, r runner) (heads []int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, status := range statuses(t, r) {
		follower := get[system.Member](t, r, status.Follower)
		if err := polling.WaitFor(ctx, bridge.Of(follower).Recorder(), status.Leader, status.Head); err != nil {
			t.Fatalf("%v: %v", err, r.Err())
		}
		heads = append(heads, status.Head)
	}
	return heads
}

func statuses(t testing.TB, r runner) []system.Status {
	t.Helper()
	all, err := r.Statuses(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// waitForState waits until the first follower has a state, and returns its
// status.
func waitForState(t testing.TB, r runner, want system.State) system.Status {
	t.Helper()
	var status system.Status
	if !expect.Eventually(func() bool { status = statuses(t, r)[0]; return status.State == want }) {
		t.Fatalf("the follower is %+v, want it %s", status, want)
	}
	return status
}

// register has dogs registered that know so many tricks each.
func register(t testing.TB, dogs *school.TrainingSchool, tricks int, names ...string) {
	t.Helper()
	for _, name := range names {
		dog := school.RegisterDog(name)
		for range tricks {
			dog.AddTrick("sit")
		}
		save(t, dogs.Application, dog)
	}
}

func save(t testing.TB, app *application.Application, changes ...domain.Changes) []domain.Event {
	t.Helper()
	saved, err := app.Save(t.Context(), changes...)
	if err != nil {
		t.Fatal(err)
	}
	return saved.Events
}

// head is the end of an application's log.
func head(t testing.TB, app *application.Application) int64 {
	t.Helper()
	id, err := bridge.Of(app).Recorder().MaxNotificationID(t.Context())
	expect.NoError(t, err)
	return id
}

// position is a follower's position in the log of a leader.
func position(t testing.TB, app *application.Application, leader string) int64 {
	t.Helper()
	id, err := bridge.Of(app).Recorder().MaxTrackingID(t.Context(), leader)
	expect.NoError(t, err)
	return id
}

// ignore is a handler that makes nothing of anything.
func ignore(context.Context, domain.Event, *collector) error { return nil }

// journal takes down the events that a handler was called with, and checks that
// it is never called twice at a time.
type journal struct {
	mu     sync.Mutex // protects what follows
	busy   bool
	misuse bool
	calls  []domain.Event
}

func (j *journal) policy(_ context.Context, event domain.Event, _ *collector) error {
	j.mu.Lock()
	j.misuse = j.misuse || j.busy
	j.busy = true
	j.calls = append(j.calls, event)
	j.mu.Unlock()

	j.mu.Lock()
	defer j.mu.Unlock()
	j.busy = false
	return nil
}

func (j *journal) events(t testing.TB) []domain.Event {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.misuse {
		t.Error("the policy was called twice at a time")
	}
	return slices.Clone(j.calls)
}

// want requires that the handler was called with the whole log of the leaders,
// each in order and each event once.
func (j *journal) want(t testing.TB, leaders ...*application.Application) {
	t.Helper()
	got := map[string][]int64{}
	for _, event := range j.events(t) {
		got[event.Application] = append(got[event.Application], event.NotificationID)
	}
	for _, leader := range leaders {
		if want := ids(t, leader); !slices.Equal(got[leader.Name()], want) {
			t.Errorf("processed %v of %s, want %v", got[leader.Name()], leader.Name(), want)
		}
	}
}

// ids are those of an application's log.
func ids(t testing.TB, app *application.Application) (all []int64) {
	t.Helper()
	for after := int64(0); ; after = all[len(all)-1] {
		page, err := bridge.Of(app).Recorder().SelectNotifications(t.Context(), persistence.NotificationRange{After: after, Limit: 1000})
		expect.NoError(t, err)
		if len(page) == 0 {
			return all
		}
		for _, n := range page {
			all = append(all, n.ID)
		}
	}
}

// Counter counts how often a trick was added.
type Counter struct {
	domain.Aggregate
	N int
}

type Counted struct{}

func (Counted) Apply(c *Counter) { c.N++ }

var countersOf = domain.Define("Counter", domain.On("Counted", Counted{}))

func counterID(trick string) domain.ID { return domain.NewIDv5("/tricks/" + trick) }

// counters is a follower that counts tricks in its own aggregates.
type counters struct {
	*follower
	repository *application.Repository[Counter]
}

func newCounters(options ...application.Option) (*counters, error) {
	app, err := application.New(countersName, options...)
	if err != nil {
		return nil, err
	}
	c := &counters{}
	if c.repository, err = application.NewRepository(app, countersOf); err != nil {
		return nil, err
	}
	c.follower, err = newFollower(app, c.count)
	return c, err
}

func (c *counters) count(ctx context.Context, event domain.Event, processing *collector) error {
	added, ok := event.Data.(school.TrickAdded)
	if !ok {
		return nil
	}
	counter, err := c.repository.Get(ctx, counterID(added.Trick))
	if errors.Is(err, application.ErrAggregateNotFound) {
		processing.Collect(countersOf.Create(counterID(added.Trick), Counted{}))
		return nil
	}
	if err != nil {
		return err
	}
	domain.Trigger(counter, Counted{})
	processing.Collect(counter)
	return nil
}

func (c *counters) counted(t testing.TB, trick string) int {
	t.Helper()
	counter, err := c.repository.Get(t.Context(), counterID(trick))
	if errors.Is(err, application.ErrAggregateNotFound) {
		return 0
	}
	expect.NoError(t, err)
	return counter.N
}

// counting is the usual system.
func counting(options ...application.Option) chain {
	return pipe(app(schoolName, school.New), app(countersName, newCounters, options...))
}

// count is a handler that counts tricks in the table.
func count(ctx context.Context, event domain.Event, _ *collector) error {
	added, ok := event.Data.(school.TrickAdded)
	if !ok {
		return nil
	}
	tx, err := gormstore.Tx(ctx)
	if err != nil {
		return err
	}
	return addOne(tx, added.Trick)
}

func addOne(tx *gorm.DB, trick string) error {
	return tx.Exec("INSERT INTO trick_counts (trick, n) VALUES (?, 1) "+
		"ON CONFLICT (trick) DO UPDATE SET n = trick_counts.n + 1", trick).Error
}

func tricksCounted(t testing.TB, db *gorm.DB, trick string) int {
	t.Helper()
	var row TrickCount
	expect.NoError(t, db.Where("trick = ?", trick).Limit(1).Find(&row).Error)
	return row.N
}
