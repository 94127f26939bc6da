package system_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

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
			t.Fatalf("a follower that is not divided has %d partitions, want 0", n)
		}
		last, isWhole := whole, true
		for _, count := range []int{16, 5, 1, 4} {
			next := with(count)
			save(next)
			next.start(t)
			if isWhole { // it is divided at once
				expect.Until(t, "the old program stops", func() bool { return last.runner.Err() != nil })
			} else {
				expect.Until(t, "the new program says what it waits for", func() bool {
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
			expect.Until(t, "the follower is divided anew", func() bool { return len(next.partitions(t).Partitions) == want })
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
			t.Errorf("CatchUp = %+v, %v, want no error, Events 20 and Position %v", processed, err, processed[0].Head)
		}
		if owners := command.owners(t); len(owners) > 0 {
			t.Errorf("after CatchUp there are leases: %v, want 0 owners", owners)
		}
		command.save(t, 10, 1)
		rolledBack := errors.New("rolled back")
		err = store.Transaction(t.Context(), func(ctx context.Context) error {
			processed, err := command.runner.CatchUp(ctx, command.follower, nil)
			if err != nil || processed[0].Events != 20 {
				t.Errorf("CatchUp in a transaction = %+v, %v, want no error and Events 20", processed, err)
			}
			return rolledBack
		})
		expect.ErrorIs(t, err, rolledBack)
		checkEffects(t, db, 20)
		d := newDivided(t, store, writeEffect("a"), system.Partitions(8)).start(t)
		d.waitFor(t)
		checkEffects(t, db, 40)
		if _, err := command.runner.CatchUp(t.Context(), command.follower, nil); !errors.Is(err, persistence.ErrPositionLocked) {
			t.Errorf("CatchUp beside a runner: %v, want an error that is %v", err, persistence.ErrPositionLocked)
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
		expect.Until(t, "it has the other key", func() bool { return c.partitions(t).Key == "other" })
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
		expect.NoError(t, err, db.Table("follower_partitions").Where("number = 0").Update("position", 1).Error)
		b := newDivided(t, store, writeEffect("b"), system.Partitions(4))
		if _, err := b.runner.CatchUp(t.Context(), b.follower, nil); err == nil || !strings.Contains(err.Error(), `system.PartitionBy("one")`) {
			t.Errorf("CatchUp without the key: %v, want an error that contains %q", err, `system.PartitionBy("one")`)
		}
		checkEffects(t, db, 3)
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
		moved := db.Table("notification_tracking").Where("application_name = ? AND notification_id <= ?",
			dividedName, head(t, d.dogs.Application)).Update("notification_id", 1)
		if beyond != 0 || moved.Error != nil || moved.RowsAffected != 0 {
			t.Errorf("a reader by id finds %d events, and moves %d positions (%v), want 0, no error and RowsAffected 0", beyond, moved.RowsAffected, moved.Error)
		}
		// One that writes the position nevertheless is noticed.
		expect.NoError(t, db.Table("notification_tracking").Where("application_name = ?", dividedName).Update("notification_id", 3).Error)
		d.save(t, 5, 1)
		expect.Until(t, "the follower refuses to go on", func() bool {
			err := d.runner.Err()
			return err != nil && strings.Contains(err.Error(), "a program that does not know of partitions has written it")
		})
		checkEffects(t, db, 10)
		expect.NoError(t, db.Table("notification_tracking").Where("application_name = ?", dividedName).
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
		if !errors.Is(err, persistence.ErrProgramming) || !strings.Contains(err.Error(), want) {
			t.Errorf("got the error %v, want %q in it", err, want)
		}
	}
	sys := newDivided(t, memory.New(), func(context.Context, domain.Event) error { return nil }).system
	for _, lease := range []time.Duration{-time.Second, 4, 99 * time.Millisecond, capability.LongestLease + 1} {
		if _, err := system.NewRunner(sys, system.Config{PartitionLease: lease}); err == nil || !strings.Contains(err.Error(), "PartitionLease") {
			t.Errorf("a lease of %v: %v, want an error that contains %q", lease, err, "PartitionLease")
		}
	}
}
