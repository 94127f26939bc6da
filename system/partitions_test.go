package system_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
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
	dogs, err := school.New(application.WithStore(store))
	do(t, err)
	app, err := application.New(dividedName, application.WithStore(store))
	do(t, err)
	follower, err := system.NewFollower(app, append(options, system.OnEvery(handle))...)
	do(t, err)
	sys, err := system.New(system.Pipe(dogs, follower))
	do(t, err)
	runner, err := system.NewRunner(sys, dividedConfig)
	do(t, err)
	return divided{dogs, follower, closing(t, runner, nil), sys}
}

// start starts the runner.
func (d divided) start(t testing.TB) divided {
	t.Helper()
	do(t, d.runner.Start(t.Context()))
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
	do(t, d.runner.WaitFor(ctx, d.follower))
}

// partitions returns the partitions as they are stored.
func (d divided) partitions(t testing.TB) persistence.PartitionSet {
	t.Helper()
	set, err := recorderOf(d.follower).(persistence.PartitionRecorder).Partitions(t.Context(), schoolName)
	do(t, err)
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
	do(t, db.Order("id").Find(&rows).Error)
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
		do(t, db.AutoMigrate(&DividedEffect{}))
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
