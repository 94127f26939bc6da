package system_test

import (
	"context"
	"errors"
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
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
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
	set, err := recorderOf(d.follower).(capability.PartitionRecorder).Partitions(t.Context(), schoolName)
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
		t.Errorf("%d of %d events have effects; %d effects are there twice, and %d out of order, want 0 and 0", len(count), events, twice, disordered)
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
		expect.Until(t, "both have eight partitions", func() bool {
			owners := a.owners(t)
			for _, n := range owners {
				if n != 8 {
					return false
				}
			}
			return len(owners) == 2
		})
		// On a busy machine the leases of one may end before it has processed any.
		events := 0
		expect.Until(t, "both have processed events", func() bool {
			a.save(t, 100, 2)
			events += 300
			a.waitFor(t)
			b.waitFor(t)
			by := checkEffects(t, db, events)
			return by["a"] > 0 && by["b"] > 0
		})
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
	capability.PartitionRecorder
	capability.ParkingRecorder
	capability.LogLocker
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
	expect.Until(t, "one partition is left", func() bool {
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
		t.Errorf("they have processed %v, and the handler that hung was called %d times, want other than 0 and 1", by, calls.Load())
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
		expect.Until(t, "all partitions but one are at the end", func() bool {
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
			t.Errorf("the status is %+v, want State %v, NotificationID %v and an error that is %v", s, system.Retrying, id, errBadEvent)
		}
		if err := d.runner.WaitFor(t.Context(), d.follower); !errors.Is(err, errBadEvent) {
			t.Errorf("WaitFor: %v, want an error that is %v", err, errBadEvent)
		}
		d.save(t, 10, 1) // for other partitions as well
		mended.Store(true)
		expect.Until(t, "it has recovered", func() bool {
			statuses, err := d.runner.Statuses(t.Context())
			return err == nil && statuses[0].State == system.Running && statuses[0].Lag() == 0
		})
		checkEffects(t, db, 101)
		for _, p := range d.partitions(t).Partitions {
			if p.Error != "" || p.NotificationID != 0 || !p.Since.IsZero() {
				t.Errorf("the failure is still kept: %+v, want NotificationID 0", p)
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
			t.Fatalf("parked are %+v, want 2 of them, OriginatorVersion 1 and OriginatorVersion 2", parked)
		}
		mended.Store(true)
		if n, err := b.runner.RetryParked(t.Context(), b.follower); n != 2 || err != nil {
			t.Errorf("RetryParked = %d, %v, want 2 and no error", n, err)
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
		expect.Until(t, "both are paused", func() bool {
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
	expect.Until(t, "two processes have partitions", have(2))
	first.stalled.Store(true)
	expect.Until(t, "the leases of the first have ended", have(1))
	first.stalled.Store(false)
	expect.Until(t, "two processes have partitions again", have(2))
	expect.NoError(t, b.runner.Close())
	expect.Until(t, "the first has all", have(1))
	a.save(t, 10, 1)
	a.waitFor(t)
	checkEffects(t, db, 20)
}
