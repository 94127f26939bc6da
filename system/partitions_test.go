package system_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// dividedName is the follower of these tests.
const dividedName = "Divided"

// DividedEffect is a row that a handler writes for an event. Nothing keeps it
// from being there twice.
type DividedEffect struct {
	ID             int64
	NotificationID int64
	Originator     string
	Version        int64
	Process        string
}

// dividedConfig has short leases.
var dividedConfig = system.Config{PartitionLease: time.Second, PollInterval: 50 * time.Millisecond,
	ShortestRetry: 20 * time.Millisecond, LongestRetry: 100 * time.Millisecond}

// write writes a row for an event.
func writeEffect(process string) func(context.Context, domain.Event) error {
	return func(ctx context.Context, event domain.Event) error {
		tx, err := gormstore.Tx(ctx)
		if err != nil {
			return err
		}
		return tx.Create(&DividedEffect{NotificationID: event.NotificationID, Originator: event.OriginatorID.String(),
			Version: event.OriginatorVersion, Process: process}).Error
	}
}

// divided is one process of a divided follower.
type divided struct {
	dogs     *school.TrainingSchool
	follower *system.Follower
	runner   *system.Runner
	system   *system.System
}

// newDivided makes a process of a divided follower. Its runner is not started.
func newDivided(
	t testing.TB, store persistence.Factory, handle func(context.Context, domain.Event) error, options ...system.FollowerOption,
) divided {
	t.Helper()
	return newDividedWith(t, dividedConfig, store, handle, options...)
}

func newDividedWith(
	t testing.TB, config system.Config, store persistence.Factory, handle func(context.Context, domain.Event) error,
	options ...system.FollowerOption,
) divided {
	t.Helper()
	dogs, err := school.New(application.WithStore(store))
	expect.NoError(t, err)
	app, err := application.New(dividedName, application.WithStore(store))
	expect.NoError(t, err)
	if handle != nil {
		options = append(options, system.OnEvery(handle))
	}
	follower, err := system.NewFollower(app, options...)
	expect.NoError(t, err)
	sys, err := system.New(system.Pipe(dogs, follower))
	expect.NoError(t, err)
	runner, err := system.NewRunner(sys, config)
	expect.NoError(t, err)
	return divided{dogs, follower, closing(t, runner, nil), sys}
}

// start starts the runner.
func (d divided) start(t testing.TB) divided {
	t.Helper()
	expect.NoError(t, d.runner.Start(t.Context()))
	return d
}

// save saves dogs, each with some tricks.
func (d divided) save(t testing.TB, dogs, tricks int) {
	t.Helper()
	for range dogs {
		dog := school.RegisterDog(uuid.NewString())
		for range tricks {
			dog.AddTrick("sit")
		}
		if _, err := d.dogs.Save(t.Context(), dog); err != nil {
			t.Fatal(err)
		}
	}
}

// waitFor waits for all partitions.
func (d divided) waitFor(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	expect.NoError(t, d.runner.WaitFor(ctx, d.follower))
}

// partitions returns the partitions as they are stored.
func (d divided) partitions(t testing.TB) persistence.PartitionSet {
	t.Helper()
	set, err := recorderOf(d.follower).(persistence.PartitionRecorder).Partitions(t.Context(), schoolName)
	expect.NoError(t, err)
	return set
}

// owners returns how many partitions each process has.
func (d divided) owners(t testing.TB) map[string]int {
	t.Helper()
	owners := map[string]int{}
	for _, p := range d.partitions(t).Partitions {
		if p.Leased {
			owners[p.Owner]++
		}
	}
	return owners
}

// comesTo requires a condition to hold soon.
func comesTo(t testing.TB, what string, condition func() bool) {
	t.Helper()
	if !eventually(condition) {
		t.Fatalf("it has not come to this: %s", what)
	}
}

// checkEffects requires that every event of the log has its effect once, and
// those of each originator in their order. It returns who has made how many.
func checkEffects(t testing.TB, db *gorm.DB, events int) map[string]int {
	t.Helper()
	var rows []DividedEffect
	expect.NoError(t, db.Order("id").Find(&rows).Error)
	count, last, by := map[int64]int{}, map[string]int64{}, map[string]int{}
	twice, disordered := 0, 0
	for _, row := range rows {
		if count[row.NotificationID]++; count[row.NotificationID] > 1 {
			twice++
		}
		if row.Version != last[row.Originator]+1 {
			disordered++
		}
		last[row.Originator] = row.Version
		by[row.Process]++
	}
	if twice > 0 || disordered > 0 || len(count) != events {
		t.Errorf("%d of %d events have effects; %d effects are there twice, and %d out of order", len(count), events, twice, disordered)
	}
	return by
}

// Two processes of a divided follower share its partitions, and every event has
// its effect once.
func TestPartitionsAreShared(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
		store := gormstore.New(db)
		a := newDivided(t, store, writeEffect("a"), system.Partitions(16)).start(t)
		b := newDivided(t, store, writeEffect("b"), system.Partitions(16)).start(t)
		comesTo(t, "both have eight partitions", func() bool {
			owners := a.owners(t)
			for _, n := range owners {
				if n != 8 {
					return false
				}
			}
			return len(owners) == 2
		})
		a.save(t, 100, 2)
		a.waitFor(t)
		b.waitFor(t)
		if by := checkEffects(t, db, 300); by["a"] == 0 || by["b"] == 0 {
			t.Errorf("they have processed %v", by)
		}
	})
}

// recorderOf returns the recorder of an application.
func recorderOf(member system.Member) persistence.ProcessRecorder {
	return bridge.Of(member).Recorder()
}

// partitionedRecorder is what followers need of a recorder of gormstore. Stores
// that change one of its methods embed it.
type partitionedRecorder interface {
	persistence.ProcessRecorder
	persistence.PositionLocker
	persistence.PositionMover
	persistence.PartitionRecorder
	persistence.ParkingRecorder
	persistence.LogLocker
}

// stallingStore is the store of a process whose leases are not renewed from
// some time on, as if it was suspended.
type stallingStore struct {
	*gormstore.Store
	stalled atomic.Bool
	// unfenced leaves out the comparison of the fence.
	unfenced bool
}

var errStalled = errors.New("the process is suspended")

func (s *stallingStore) ProcessRecorder(application string) (persistence.ProcessRecorder, error) {
	recorder, err := s.Store.ProcessRecorder(application)
	if err != nil {
		return nil, err
	}
	return stallingRecorder{recorder.(partitionedRecorder), s}, nil
}

type stallingRecorder struct {
	partitionedRecorder
	store *stallingStore
}

func (r stallingRecorder) RenewLeases(
	ctx context.Context, upstream, process string, numbers []int, duration time.Duration,
) (persistence.PartitionSet, error) {
	if r.store.stalled.Load() {
		return persistence.PartitionSet{}, errStalled
	}
	return r.partitionedRecorder.RenewLeases(ctx, upstream, process, numbers, duration)
}

func (r stallingRecorder) MovePartitions(
	ctx context.Context, upstream, process string, leases []persistence.PartitionLease, to int64,
) error {
	if !r.store.unfenced {
		return r.partitionedRecorder.MovePartitions(ctx, upstream, process, leases, to)
	}
	tx, err := gormstore.Tx(ctx)
	if err != nil {
		return err
	}
	for _, lease := range leases {
		err = errors.Join(err, tx.Model(&gormstore.FollowerPartition{}).Where("number = ?", lease.Number).Update("position", to).Error)
	}
	return err
}

// suspend has a process stop in the middle of a batch for longer than its
// leases, while another one processes everything. It returns when both are
// done.
func suspend(t *testing.T, db *gorm.DB, unfenced bool) {
	t.Helper()
	expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
	first := &stallingStore{Store: gormstore.New(db), unfenced: unfenced}
	begun, goOn := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	defer release()
	var once sync.Once
	write := writeEffect("first")
	a := newDivided(t, first, func(ctx context.Context, event domain.Event) error {
		err := write(ctx, event)
		once.Do(func() {
			first.stalled.Store(true)
			close(begun)
			<-goOn
			first.stalled.Store(false)
		})
		return err
	}, system.Partitions(4))
	b := newDivided(t, gormstore.New(db), writeEffect("second"), system.Partitions(4))
	a.save(t, 20, 1)
	a.start(t)
	<-begun
	b.start(t)
	b.waitFor(t)
	release()
	if !unfenced {
		a.waitFor(t)
	}
}

// A process that goes on after others have taken its partitions has no effects.
func TestSuspendedProcessIsFenced(t *testing.T) {
	t.Parallel()
	db := migrated(t, testdb.OpenPostgres(t))
	suspend(t, db, false)
	if by := checkEffects(t, db, 40); by["first"] > 0 && by["second"] == 0 {
		t.Errorf("the second process has processed nothing: %v", by)
	}
}

// The control does not compare the fence, and has effects twice.
func TestSuspendedProcessControl(t *testing.T) {
	t.Parallel()
	db := migrated(t, testdb.OpenPostgres(t))
	suspend(t, db, true)
	comesTo(t, "events have effects twice without the fence", func() bool {
		var effects int64
		expect.NoError(t, db.Model(&DividedEffect{}).Count(&effects).Error)
		return effects > 40
	})
}

// A handler that hangs keeps its partition. Other processes go on with the
// other partitions of its process, and what it has done counts when it returns.
func TestHandlerThatHangsKeepsItsPartition(t *testing.T) {
	t.Parallel()
	db := migrated(t, testdb.OpenPostgres(t))
	expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
	begun, goOn := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	defer release()
	var calls atomic.Int64
	hanging := uuid.New()
	handler := func(process string) func(context.Context, domain.Event) error {
		write := writeEffect(process)
		return func(ctx context.Context, event domain.Event) error {
			if event.OriginatorID == hanging {
				if calls.Add(1) == 1 {
					close(begun)
				}
				<-goOn
			}
			return write(ctx, event)
		}
	}
	a := newDivided(t, gormstore.New(db), handler("a"), system.Partitions(8))
	b := newDivided(t, gormstore.New(db), handler("b"), system.Partitions(8))
	_, err := a.dogs.Save(t.Context(), school.Dogs.Create(hanging, school.Registered{Name: "Rex"}))
	expect.NoError(t, err)
	a.save(t, 40, 0)
	a.start(t)
	<-begun
	b.start(t)
	comesTo(t, "one partition is left", func() bool {
		behind := 0
		for _, p := range a.partitions(t).Partitions {
			if p.Position < head(t, a.dogs.Application) {
				behind++
			}
		}
		return behind == 1
	})
	release()
	a.waitFor(t)
	if by := checkEffects(t, db, 41); by["a"] == 0 || calls.Load() != 1 {
		t.Errorf("they have processed %v, and the handler that hung was called %d times", by, calls.Load())
	}
}

// An event that cannot be processed stops its partition, and no other one. Its
// error is kept with the partition, until it is processed.
func TestFailureStopsItsPartitionOnly(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
		bad, mended := uuid.New(), atomic.Bool{}
		write := writeEffect("a")
		d := newDivided(t, gormstore.New(db), func(ctx context.Context, event domain.Event) error {
			if event.OriginatorID == bad && !mended.Load() {
				return errBadEvent
			}
			return write(ctx, event)
		}, system.Partitions(8))
		d.save(t, 10, 1)
		saved, err := d.dogs.Save(t.Context(), school.Dogs.Create(bad, school.Registered{Name: "Rex"}))
		expect.NoError(t, err)
		d.save(t, 30, 1)
		d.start(t)
		end := head(t, d.dogs.Application)
		var failed persistence.Partition
		comesTo(t, "all partitions but one are at the end", func() bool {
			behind := 0
			for _, p := range d.partitions(t).Partitions {
				if p.Position < end {
					behind, failed = behind+1, p
				}
			}
			return behind == 1 && failed.Error != ""
		})
		id := saved.Events[0].NotificationID
		if failed.NotificationID != id || !strings.Contains(failed.Error, errBadEvent.Error()) || failed.Since.IsZero() {
			t.Errorf("the partition is %+v, want the failure of event %d", failed, id)
		}
		statuses, err := d.runner.Statuses(t.Context())
		expect.NoError(t, err)
		if s := statuses[0]; s.State != system.Retrying || s.NotificationID != id || !errors.Is(s.Err, errBadEvent) {
			t.Errorf("the status is %+v", s)
		}
		if err := d.runner.WaitFor(t.Context(), d.follower); !errors.Is(err, errBadEvent) {
			t.Errorf("WaitFor: %v", err)
		}
		d.save(t, 10, 1) // for other partitions as well
		mended.Store(true)
		comesTo(t, "it has recovered", func() bool {
			statuses, err := d.runner.Statuses(t.Context())
			return err == nil && statuses[0].State == system.Running && statuses[0].Lag() == 0
		})
		checkEffects(t, db, 101)
		for _, p := range d.partitions(t).Partitions {
			if p.Error != "" || p.NotificationID != 0 || !p.Since.IsZero() {
				t.Errorf("the failure is still kept: %+v", p)
			}
		}
	})
}

var errBadEvent = errors.New("it cannot be processed")

// An event that is parked keeps later ones of its originator from being
// processed, and RetryParked processes them in order.
func TestPartitionsPark(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
		bad, mended := uuid.New(), atomic.Bool{}
		make := func(process string) divided {
			write := writeEffect(process)
			return newDivided(t, gormstore.New(db), func(ctx context.Context, event domain.Event) error {
				if event.OriginatorID == bad && !mended.Load() {
					return errBadEvent
				}
				return write(ctx, event)
			}, system.Partitions(8), system.Park(func(persistence.Notification, error, int) bool { return true })).start(t)
		}
		a, b := make("a"), make("b")
		dog := school.Dogs.Create(bad, school.Registered{Name: "Rex"})
		_, err := a.dogs.Save(t.Context(), dog)
		expect.NoError(t, err)
		a.save(t, 20, 1)
		a.waitFor(t)
		dog.AddTrick("sit")
		_, err = a.dogs.Save(t.Context(), dog)
		expect.NoError(t, err)
		a.waitFor(t)
		b.waitFor(t)
		parked, err := a.runner.Parked(t.Context(), a.follower)
		expect.NoError(t, err)
		if len(parked) != 2 || parked[0].OriginatorVersion != 1 || parked[1].OriginatorVersion != 2 {
			t.Fatalf("parked are %+v", parked)
		}
		mended.Store(true)
		if n, err := b.runner.RetryParked(t.Context(), b.follower); n != 2 || err != nil {
			t.Errorf("RetryParked = %d, %v", n, err)
		}
		checkEffects(t, db, 42)
	})
}

// A pause ends the work of every process of a divided follower, and a resume
// begins it again.
func TestPartitionsPause(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
		store := gormstore.New(db)
		a := newDivided(t, store, writeEffect("a"), system.Partitions(8)).start(t)
		b := newDivided(t, store, writeEffect("b"), system.Partitions(8)).start(t)
		a.save(t, 10, 1)
		a.waitFor(t)
		expect.NoError(t, a.runner.Pause(t.Context(), a.follower, "a test"))
		a.save(t, 10, 1)
		comesTo(t, "both are paused", func() bool {
			return errors.Is(a.runner.WaitFor(t.Context(), a.follower), system.ErrPaused) &&
				errors.Is(b.runner.WaitFor(t.Context(), b.follower), system.ErrPaused)
		})
		checkEffects(t, db, 20)
		expect.NoError(t, b.runner.Resume(t.Context(), b.follower))
		reached(t, a.follower.Application, head(t, a.dogs.Application))
		checkEffects(t, db, 40)
	})
}

// A rebuild of a divided follower has every process begin again.
func TestPartitionsRebuild(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
		clear := system.Resettable(func(ctx context.Context, _ []string) error {
			tx, err := gormstore.Tx(ctx)
			if err != nil {
				return err
			}
			return tx.Where("1 = 1").Delete(&DividedEffect{}).Error
		})
		store := gormstore.New(db)
		a := newDivided(t, store, writeEffect("a"), system.Partitions(8), clear).start(t)
		b := newDivided(t, store, writeEffect("b"), system.Partitions(8), clear).start(t)
		a.save(t, 30, 1)
		for range 3 {
			expect.NoError(t, a.runner.Rebuild(t.Context(), a.follower))
		}
		reached(t, a.follower.Application, head(t, a.dogs.Application))
		b.waitFor(t)
		checkEffects(t, db, 60)
	})
}

// A process that ends gives its partitions to the others at once, and one whose
// leases end by themselves after a while.
func TestPartitionsOfProcessesThatEnd(t *testing.T) {
	t.Parallel()
	db := migrated(t, testdb.OpenPostgres(t))
	expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
	first := &stallingStore{Store: gormstore.New(db)}
	a := newDivided(t, first, writeEffect("a"), system.Partitions(8)).start(t)
	b := newDivided(t, gormstore.New(db), writeEffect("b"), system.Partitions(8)).start(t)
	have := func(processes int) func() bool {
		return func() bool {
			owners, total := a.owners(t), 0
			for _, n := range owners {
				total += n
			}
			return len(owners) == processes && total == 8
		}
	}
	comesTo(t, "two processes have partitions", have(2))
	first.stalled.Store(true)
	comesTo(t, "the leases of the first have ended", have(1))
	first.stalled.Store(false)
	comesTo(t, "two processes have partitions again", have(2))
	expect.NoError(t, b.runner.Close())
	comesTo(t, "the first has all", have(1))
	a.save(t, 10, 1)
	a.waitFor(t)
	checkEffects(t, db, 20)
}

// A program with another number of partitions, or with none, waits for the
// processes with the former number to end, and then nothing is lost and nothing
// repeated.
func TestNumberOfPartitionsChanges(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
		store := gormstore.New(db)
		with := func(count int) divided { return newDivided(t, store, writeEffect("a"), system.Partitions(count)) }
		events := 0
		save := func(d divided) {
			d.save(t, 20, 1)
			events += 40
		}
		whole := with(1).start(t)
		save(whole)
		whole.waitFor(t)
		if n := len(whole.partitions(t).Partitions); n > 0 {
			t.Fatalf("a follower that is not divided has %d partitions", n)
		}
		last, isWhole := whole, true
		for _, count := range []int{16, 5, 1, 4} {
			next := with(count)
			save(next)
			next.start(t)
			if isWhole { // it is divided at once
				comesTo(t, "the old program stands aside", func() bool { return last.runner.Err() != nil })
			} else {
				comesTo(t, "the new program says what it waits for", func() bool {
					return next.runner.Err() != nil && strings.Contains(next.runner.Err().Error(), "divided anew as soon as")
				})
			}
			expect.NoError(t, last.runner.Close())
			save(next)
			reached(t, next.follower.Application, head(t, next.dogs.Application))
			want := count
			if isWhole = count == 1; isWhole {
				want = 0
			}
			comesTo(t, "the follower is divided anew", func() bool { return len(next.partitions(t).Partitions) == want })
			last = next
		}
		save(last)
		last.waitFor(t)
		checkEffects(t, db, events)
	})
}

// CatchUp processes all partitions, and says if another process has some.
func TestPartitionsCatchUp(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
		store := gormstore.New(db)
		command := newDivided(t, store, writeEffect("command"), system.Partitions(8))
		command.save(t, 10, 1)
		processed, err := command.runner.CatchUp(t.Context(), command.follower, nil)
		if err != nil || processed[0].Events != 20 || processed[0].Position != processed[0].Head {
			t.Errorf("CatchUp = %+v, %v", processed, err)
		}
		if owners := command.owners(t); len(owners) > 0 {
			t.Errorf("after CatchUp there are leases: %v", owners)
		}
		command.save(t, 10, 1)
		rolledBack := errors.New("rolled back")
		err = store.Transaction(t.Context(), func(ctx context.Context) error {
			processed, err := command.runner.CatchUp(ctx, command.follower, nil)
			if err != nil || processed[0].Events != 20 {
				t.Errorf("CatchUp in a transaction = %+v, %v", processed, err)
			}
			return rolledBack
		})
		if !errors.Is(err, rolledBack) {
			t.Error(err)
		}
		checkEffects(t, db, 20)
		d := newDivided(t, store, writeEffect("a"), system.Partitions(8)).start(t)
		d.waitFor(t)
		checkEffects(t, db, 40)
		if _, err := command.runner.CatchUp(t.Context(), command.follower, nil); !errors.Is(err, persistence.ErrPositionLocked) {
			t.Errorf("CatchUp beside a runner: %v", err)
		}
	})
}

// The single-threaded runner processes all partitions when a save returns.
func TestPartitionsSingleThreaded(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
		d := newDivided(t, gormstore.New(db), writeEffect("a"), system.Partitions(8))
		r, err := system.NewSingleThreadedRunner(d.system)
		closing(t, r, err)
		start(t, r)
		d.save(t, 5, 2)
		checkEffects(t, db, 15)
		expect.NoError(t, r.WaitFor(t.Context(), d.follower))
	})
}

// With a key the events of one value are processed in order, whichever
// originators they are of.
func TestPartitionsByAKey(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
		store := gormstore.New(db)
		day := func(event domain.Event) string {
			if event.OriginatorID[0] < 128 {
				return "low"
			}
			return "high"
		}
		by := func(name string, count int) divided {
			return newDivided(t, store, writeEffect(name), system.Partitions(count), system.PartitionBy(name, day))
		}
		a, b := by("half", 16).start(t), by("half", 16).start(t)
		a.save(t, 60, 0)
		a.waitFor(t)
		b.waitFor(t)
		var rows []DividedEffect
		expect.NoError(t, db.Order("id").Find(&rows).Error)
		last := map[bool]int64{}
		for _, row := range rows {
			low := row.Originator < "8"
			if row.NotificationID <= last[low] {
				t.Errorf("event %d was processed after %d", row.NotificationID, last[low])
			}
			last[low] = row.NotificationID
		}
		checkEffects(t, db, 60)
		expect.NoError(t, a.runner.Close(), b.runner.Close())
		c := by("other", 16).start(t)
		c.save(t, 10, 0)
		reached(t, c.follower.Application, head(t, c.dogs.Application))
		comesTo(t, "it has the other key", func() bool { return c.partitions(t).Key == "other" })
		checkEffects(t, db, 70)
	})
}

// A program without the key of a divided follower cannot bring its partitions
// to one position, and says what can.
func TestKeyThatThisProgramDoesNotHave(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
		store := gormstore.New(db)
		constant := func(domain.Event) string { return "all" }
		a := newDivided(t, store, writeEffect("a"), system.Partitions(4), system.PartitionBy("one", constant))
		a.save(t, 3, 0)
		_, err := a.runner.CatchUp(t.Context(), a.follower, nil)
		expect.NoError(t, err, db.Model(&gormstore.FollowerPartition{}).Where("number = 0").Update("position", 1).Error)
		b := newDivided(t, store, writeEffect("b"), system.Partitions(4))
		if _, err := b.runner.CatchUp(t.Context(), b.follower, nil); err == nil || !strings.Contains(err.Error(), `system.PartitionBy("one")`) {
			t.Errorf("CatchUp without the key: %v", err)
		}
		checkEffects(t, db, 3)
	})
}

// The calls of effects are made by the process that has the partition, and each
// result is recorded once.
func TestPartitionsWithEffects(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
		store := gormstore.New(db)
		// A lease that ends while the machine is busy has another process make the
		// calls again.
		config := dividedConfig
		config.PartitionLease = 5 * time.Second
		var mu sync.Mutex // protects calls
		calls := map[int64]int{}
		make := func(process string) divided {
			dogs, err := school.New(application.WithStore(store))
			expect.NoError(t, err)
			app, err := application.New(dividedName, application.WithStore(store))
			expect.NoError(t, err)
			write := writeEffect(process)
			follower, err := system.NewFollower(app, system.Partitions(8), system.Effect(
				func(_ context.Context, event domain.Recorded[school.Registered]) (string, error) {
					mu.Lock()
					defer mu.Unlock()
					calls[event.NotificationID]++
					return event.Data.Name, nil
				},
				func(ctx context.Context, event domain.Recorded[school.Registered], _ string) error {
					return write(ctx, event.Event)
				}))
			expect.NoError(t, err)
			sys, err := system.New(system.Pipe(dogs, follower))
			expect.NoError(t, err)
			runner, err := system.NewRunner(sys, config)
			expect.NoError(t, err)
			return divided{dogs, follower, closing(t, runner, nil), sys}.start(t)
		}
		a, b := make("a"), make("b")
		a.save(t, 60, 0)
		a.waitFor(t)
		b.waitFor(t)
		checkEffects(t, db, 60)
		mu.Lock()
		defer mu.Unlock()
		for id, n := range calls {
			if n != 1 {
				t.Errorf("the call of event %d was made %d times although no process ended", id, n)
			}
		}
	})
}

// losingStore is the store of a process whose first batch does not commit: it
// learns that it may have lost a lease.
type losingStore struct {
	*gormstore.Store
	lost atomic.Bool
}

func (s *losingStore) ProcessRecorder(application string) (persistence.ProcessRecorder, error) {
	recorder, err := s.Store.ProcessRecorder(application)
	if err != nil {
		return nil, err
	}
	return losingRecorder{recorder.(partitionedRecorder), s}, nil
}

type losingRecorder struct {
	partitionedRecorder
	store *losingStore
}

func (r losingRecorder) MovePartitions(
	ctx context.Context, upstream, process string, leases []persistence.PartitionLease, to int64,
) error {
	if !r.store.lost.Swap(true) {
		return persistence.ErrLeaseLost
	}
	return r.partitionedRecorder.MovePartitions(ctx, upstream, process, leases, to)
}

// A process that has made calls and not recorded their results keeps their
// partitions when another process asks for them: that one would make the calls
// again.
func TestPartitionsOfUnrecordedCallsAreKept(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
		var calls atomic.Int64
		asked := make(chan struct{})
		config := dividedConfig
		config.PartitionLease = 10 * time.Second // none ends
		process := func(name string, store persistence.Factory) divided {
			write := writeEffect(name)
			return newDividedWith(t, config, store, nil, system.Partitions(2), system.Effect(
				func(ctx context.Context, event domain.Recorded[school.Registered]) (string, error) {
					calls.Add(1)
					select {
					case <-asked:
					case <-ctx.Done():
					}
					return event.Data.Name, ctx.Err()
				},
				func(ctx context.Context, event domain.Recorded[school.Registered], _ string) error {
					return write(ctx, event.Event)
				}))
		}
		a := process("a", &losingStore{Store: gormstore.New(db)})
		a.save(t, 30, 0)
		a.start(t)
		comesTo(t, "the first process makes calls", func() bool { return calls.Load() > 0 })
		b := process("b", gormstore.New(db)).start(t)
		comesTo(t, "the second process has asked for a partition", func() bool {
			return slices.ContainsFunc(a.partitions(t).Partitions, func(p persistence.Partition) bool { return p.Successor != "" })
		})
		close(asked)
		a.waitFor(t)
		b.waitFor(t)
		checkEffects(t, db, 30)
		if n := calls.Load(); n != 30 {
			t.Errorf("%d calls were made for 30 events", n)
		}
		comesTo(t, "each process has a partition", func() bool { return len(a.owners(t)) == 2 })
	})
}

// A program that does not know of partitions finds nothing to process, and
// cannot move the position.
func TestProgramWithoutPartitions(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
		d := newDivided(t, gormstore.New(db), writeEffect("a"), system.Partitions(4)).start(t)
		d.save(t, 5, 1)
		d.waitFor(t)
		var beyond int64
		expect.NoError(t, db.Model(&gormstore.StoredEvent{}).Where("application_name = ? AND id > (SELECT MAX(notification_id) FROM "+
			"notification_tracking WHERE application_name = ?)", schoolName, dividedName).Count(&beyond).Error)
		moved := db.Model(&gormstore.NotificationTracking{}).Where("application_name = ? AND notification_id <= ?",
			dividedName, head(t, d.dogs.Application)).Update("notification_id", 1)
		if beyond != 0 || moved.Error != nil || moved.RowsAffected != 0 {
			t.Errorf("a reader by id finds %d events, and moves %d positions (%v)", beyond, moved.RowsAffected, moved.Error)
		}
		// One that writes the position nevertheless is noticed.
		expect.NoError(t, db.Model(&gormstore.NotificationTracking{}).Where("application_name = ?", dividedName).Update("notification_id", 3).Error)
		d.save(t, 5, 1)
		comesTo(t, "the follower refuses to go on", func() bool {
			err := d.runner.Err()
			return err != nil && strings.Contains(err.Error(), "a program that does not know of partitions has written it")
		})
		checkEffects(t, db, 10)
		expect.NoError(t, db.Model(&gormstore.NotificationTracking{}).Where("application_name = ?", dividedName).
			Update("notification_id", int64(1)<<62).Error)
		reached(t, d.follower.Application, head(t, d.dogs.Application))
		checkEffects(t, db, 20)
	})
}

// Options that make no sense are refused when the follower is made.
func TestPartitionOptions(t *testing.T) {
	t.Parallel()
	key := func(domain.Event) string { return "" }
	for want, options := range map[string][]system.FollowerOption{
		"it cannot have 0 partitions; give from 1 to 256":   {system.Partitions(0)},
		"it cannot have -1 partitions; give from 1 to 256":  {system.Partitions(-1)},
		"it cannot have 257 partitions; give from 1 to 256": {system.Partitions(257)},
		"given twice, with 2 and 3":                         {system.Partitions(2), system.Partitions(3)},
		"needs a name and a function":                       {system.Partitions(2), system.PartitionBy("", key)},
		"PartitionBy is given twice":                        {system.Partitions(2), system.PartitionBy("a", key), system.PartitionBy("b", key)},
		"it has no partitions; give system.Partitions":      {system.PartitionBy("a", key)},
	} {
		app, err := application.New(dividedName, application.WithStore(memory.New()))
		expect.NoError(t, err)
		handler := system.OnEvery(func(context.Context, domain.Event) error { return nil })
		_, err = system.NewFollower(app, append(options, handler)...)
		if _, ok := errors.AsType[*system.Error](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("got the error %v, want %q in it", err, want)
		}
	}
	sys := newDivided(t, memory.New(), func(context.Context, domain.Event) error { return nil }).system
	for _, lease := range []time.Duration{-time.Second, 4, 99 * time.Millisecond, persistence.LongestLease + 1} {
		if _, err := system.NewRunner(sys, system.Config{PartitionLease: lease}); err == nil || !strings.Contains(err.Error(), "PartitionLease") {
			t.Errorf("a lease of %v: %v", lease, err)
		}
	}
}
