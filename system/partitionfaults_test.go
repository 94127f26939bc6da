package system_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/doctored"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/faultdb/pgproxy"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// atHead reports whether all partitions are at the end of the log.
func (d divided) atHead(t testing.TB) bool {
	t.Helper()
	return position(t, d.follower.Application, schoolName) == head(t, d.dogs.Application)
}

// editPartitions changes rows of partitions while processes own them. A row that
// does not meet the condition any more stays as it is.
func editPartitions(t testing.TB, db *gorm.DB, where string, changes map[string]any) {
	t.Helper()
	var numbers []int
	expect.NoError(t, db.Table("follower_partitions").Where(where).Pluck("number", &numbers).Error)
	if len(numbers) == 0 {
		t.Fatalf("there are no partitions where %s, want some", where)
	}
	edited := int64(0)
	for _, number := range numbers { // a statement that locks one row has no part in a deadlock
		result := db.Table("follower_partitions").Where("number = ?", number).Where(where).Updates(changes)
		expect.NoError(t, result.Error)
		edited += result.RowsAffected
	}
	if edited == 0 {
		t.Fatalf("no partition where %s was edited, want one or more", where)
	}
}

// Positions that are moved back while there is nothing to do are noticed without
// a new event, as by a restore of the follower's database.
func TestPartitionsOfARestoredDatabase(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
		store := gormstore.New(db)
		a := newDivided(t, store, writeEffect("a"), system.Partitions(4)).start(t)
		b := newDivided(t, store, writeEffect("b"), system.Partitions(4)).start(t)
		a.save(t, 10, 1)
		a.waitFor(t)
		b.waitFor(t)
		var backup []map[string]any
		expect.NoError(t, db.Table("follower_partitions").Order("number").Find(&backup).Error)
		at := head(t, a.dogs.Application)
		a.save(t, 10, 1)
		a.waitFor(t)
		b.waitFor(t)
		expect.NoError(t, db.Transaction(func(tx *gorm.DB) error {
			if tx.Name() == "postgres" { // a restore is done while nothing else is at work
				expect.NoError(t, tx.Exec("LOCK TABLE follower_partitions").Error)
			}
			expect.NoError(t, tx.Where("notification_id > ?", at).Delete(&DividedEffect{}).Error)
			for _, row := range backup {
				expect.NoError(t, tx.Table("follower_partitions").Where("number = ?", row["number"]).Updates(row).Error)
			}
			return nil
		}))
		expect.Until(t, "all is processed again", func() bool {
			var effects int64
			expect.NoError(t, db.Model(&DividedEffect{}).Count(&effects).Error)
			return effects == 40 && a.atHead(t)
		})
		checkEffects(t, db, 40)
	})
}

// A partition that is ahead of the log stops the processes that own others as
// well: when they take it over, the log may have grown beyond it.
func TestPartitionAheadStopsAllProcesses(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
		store := gormstore.New(db)
		a := newDivided(t, store, writeEffect("a"), system.Partitions(4)).start(t)
		b := newDivided(t, store, writeEffect("b"), system.Partitions(4)).start(t)
		expect.Until(t, "both have two partitions", func() bool { return a.owners(t)[statuses(t, b.runner)[0].Process] == 2 })
		a.save(t, 5, 1)
		a.waitFor(t)
		b.waitFor(t)
		ahead := head(t, a.dogs.Application) + 3
		owned := statuses(t, b.runner)[0].Process
		editPartitions(t, db, "owner = '"+owned+"'", map[string]any{"position": ahead})
		isAhead := func(d divided) func() bool {
			return func() bool {
				err := d.runner.Err()
				return errors.Is(err, system.ErrAhead) && strings.Contains(err.Error(), fmt.Sprintf(": position %d ", ahead))
			}
		}
		expect.Until(t, "the process that owns none of them has stopped", isAhead(a))
		expect.Until(t, "the one that owns them has stopped", isAhead(b))
		a.save(t, 5, 1) // the log grows beyond them
		expect.NoError(t, b.runner.Close())
		c := newDivided(t, store, writeEffect("c"), system.Partitions(4)).start(t)
		expect.Until(t, "a new process has stopped as well", isAhead(c))
		if !isAhead(a)() {
			t.Errorf("the first process goes on: %v", a.runner.Err())
		}
		checkEffects(t, db, 10)
		editPartitions(t, db, "position = "+strconv.FormatInt(ahead, 10), map[string]any{"position": ahead - 3})
		expect.Until(t, "it goes on", func() bool { return a.atHead(t) })
		checkEffects(t, db, 20)
	})
}

// Programs with two numbers of partitions that begin at once agree: one of them
// processes everything, and the other one goes on when it has ended.
func TestTwoNumbersOfPartitionsAtOnce(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
		store := gormstore.New(db)
		events := 0
		save := func(d divided) {
			d.save(t, 10, 1)
			events += 20
		}
		for range testdb.Sample(2, 4) {
			var all []divided
			for _, count := range []int{16, 5, 16, 5, 1} {
				all = append(all, newDivided(t, store, writeEffect("a"), system.Partitions(count)))
			}
			save(all[0])
			begin := make(chan struct{})
			for _, d := range all {
				go func() {
					<-begin
					_ = d.runner.Start(t.Context())
				}()
			}
			close(begin)
			for len(all) > 0 { // each ends after something was processed
				save(all[0])
				expect.Until(t, "all is processed", func() bool { return all[0].atHead(t) })
				i := rand.N(len(all))
				expect.NoError(t, all[i].runner.Close())
				all = append(all[:i], all[i+1:]...)
			}
		}
		checkEffects(t, db, events)
	})
}

// A function of PartitionBy that panics for an event leaves it without a
// partition. No process processes it, although each comes to it.
func TestEventWithoutAPartition(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
		store := gormstore.New(db)
		bad, mended := uuid.New(), atomic.Bool{}
		key := func(event domain.Event) string {
			if event.OriginatorID == bad && !mended.Load() {
				panic("no key")
			}
			return event.OriginatorID.String()
		}
		by := func(process string) divided {
			return newDivided(t, store, writeEffect(process), system.Partitions(8), system.PartitionBy("dog", key)).start(t)
		}
		a, b := by("a"), by("b")
		a.save(t, 10, 0)
		a.waitFor(t)
		_, err := a.dogs.Save(t.Context(), school.Dogs.Create(bad, school.Registered{Name: "Rex"}))
		expect.NoError(t, err)
		a.save(t, 10, 0)
		for _, d := range []divided{a, b} {
			expect.Until(t, "each process says so", func() bool {
				err := d.runner.Err()
				return hasPanicked(err) && strings.Contains(err.Error(), "the function of system.PartitionBy panicked")
			})
		}
		checkEffects(t, db, 10)
		mended.Store(true)
		expect.Until(t, "all is processed", func() bool { return a.atHead(t) })
		checkEffects(t, db, 21)
	})
}

// An event without a partition that is parked is parked once, and processed
// once when it is retried.
func TestEventWithoutAPartitionIsParkedOnce(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
		store := gormstore.New(db)
		bad := uuid.New()
		key := func(event domain.Event) string {
			if event.OriginatorID == bad {
				panic("no key")
			}
			return event.OriginatorID.String()
		}
		by := func(process string) divided {
			return newDivided(t, store, writeEffect(process), system.Partitions(8), system.PartitionBy("dog", key),
				system.Park(func(persistence.Notification, error, int) bool { return true })).start(t)
		}
		a, b := by("a"), by("b")
		_, err := a.dogs.Save(t.Context(), school.Dogs.Create(bad, school.Registered{Name: "Rex"}))
		expect.NoError(t, err)
		a.save(t, 10, 0)
		a.waitFor(t)
		b.waitFor(t)
		checkEffects(t, db, 10)
		if n, err := b.runner.RetryParked(t.Context(), b.follower); n != 1 || err != nil {
			t.Errorf("RetryParked = %d, %v, want 1 and no error", n, err)
		}
		checkEffects(t, db, 11)
	})
}

// Leases that seem to end too early or too late, because the clock of the
// database jumps, cost no effect and none is there twice. A lease that was taken
// before the clock was set back, by a process that is gone, does not last.
func TestPartitionsAndAClockThatJumps(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
		store := gormstore.New(db)
		a := newDivided(t, store, writeEffect("a"), system.Partitions(8)).start(t)
		b := newDivided(t, store, writeEffect("b"), system.Partitions(8)).start(t)
		a.waitFor(t)
		for range 20 {
			a.save(t, 2, 1)
			jump := time.Duration(rand.N(4*time.Hour)) - 2*time.Hour // chance is the point
			editPartitions(t, db, "1 = 1", map[string]any{"leased_until": gorm.Expr("leased_until + ?", jump.Microseconds())})
		}
		editPartitions(t, db, "number < 3", map[string]any{"owner": "dead", "leased_until": time.Now().Add(24 * time.Hour).UnixMicro()})
		a.save(t, 10, 1)
		expect.Until(t, "all is processed", func() bool { return a.atHead(t) })
		a.waitFor(t)
		b.waitFor(t)
		checkEffects(t, db, 100)
	})
}

// While the database is down for longer than a lease nothing is processed, and
// then everything is, once.
func TestPartitionsWhileTheDatabaseIsDown(t *testing.T) {
	t.Parallel()
	dsn := testdb.Postgres(t)
	c := crashing(t, "postgres", dsn)
	expect.NoError(t, c.db.AutoMigrate(&DividedEffect{}))
	proxy := pgproxy.New(t, dsn)
	process := func(name string) divided {
		db, err := openChild("postgres", proxy.DSN())
		expect.NoError(t, err)
		pool, err := db.DB()
		expect.NoError(t, err)
		t.Cleanup(func() { _ = pool.Close() })
		return newDivided(t, gormstore.New(db), writeEffect(name), system.Partitions(8)).start(t)
	}
	outside := newDivided(t, gormstore.New(c.db), writeEffect("outside"), system.Partitions(8))
	a, b := process("a"), process("b")
	outside.save(t, 20, 1)
	a.waitFor(t)
	b.waitFor(t)
	for range 3 {
		proxy.Refuse(true)
		proxy.Use(func(string) pgproxy.Action { return pgproxy.CutBefore })
		outside.save(t, 20, 1)
		expect.Until(t, "all leases have ended", func() bool { return len(outside.owners(t)) == 0 })
		proxy.Use(nil)
		proxy.Refuse(false)
		expect.Until(t, "all is processed", func() bool { return outside.atHead(t) })
	}
	expect.Until(t, "both have partitions again", func() bool { return len(outside.owners(t)) == 2 })
	checkEffects(t, c.db, 160)
}

// Rows of partitions that are gone stop the follower in all processes, and a
// rebuild mends it.
func TestPartitionsThatAreGone(t *testing.T) {
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
		a := newDivided(t, store, writeEffect("a"), system.Partitions(4), clear).start(t)
		b := newDivided(t, store, writeEffect("b"), system.Partitions(4), clear).start(t)
		a.save(t, 5, 1)
		a.waitFor(t)
		for _, gone := range []string{"number = 3", "1 = 1"} {
			expect.NoError(t, db.Exec("DELETE FROM follower_partitions WHERE "+gone).Error)
			a.save(t, 5, 1)
			for _, d := range []divided{a, b} {
				expect.Until(t, "each process says so", func() bool { return errors.Is(d.runner.Err(), capability.ErrPartitionsDamaged) })
			}
			expect.NoError(t, a.runner.Rebuild(t.Context(), a.follower))
			expect.Until(t, "all is processed", func() bool { return a.atHead(t) && len(a.partitions(t).Partitions) == 4 })
		}
		checkEffects(t, db, 30)
	})
}

// A follower with the most partitions there can be works as another one. Unless
// every combination is tried it has a quarter of them.
func TestMostPartitions(t *testing.T) {
	t.Parallel()
	most := testdb.Sample(64, 256)
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		expect.NoError(t, db.AutoMigrate(&DividedEffect{}))
		store := gormstore.New(db)
		config := dividedConfig
		config.PartitionLease = 20 * time.Second // a busy machine needs a while for so many
		a := newDividedWith(t, config, store, writeEffect("a"), system.Partitions(most)).start(t)
		b := newDividedWith(t, config, store, writeEffect("b"), system.Partitions(most)).start(t)
		a.save(t, 50, 1)
		a.waitFor(t)
		b.waitFor(t)
		expect.Until(t, "both have half of the partitions", func() bool { return a.owners(t)[statuses(t, b.runner)[0].Process] == most/2 })
		a.save(t, 50, 1)
		a.waitFor(t)
		checkEffects(t, db, 200)
	})
}

// A process that is to divide a follower anew, and finds that a process of the
// other number runs it, gives back the partitions that it has already.
func TestProcessThatCannotDivideGivesPartitionsBack(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		store := gormstore.New(db)
		bad := uuid.New()
		for system.PartitionOf(bad[:], 4) != 1 {
			bad = uuid.New()
		}
		failing := func(_ context.Context, event domain.Event) error {
			if event.OriginatorID == bad {
				return errBadEvent
			}
			return nil
		}
		former := newDivided(t, store, failing, system.Partitions(4))
		former.save(t, 5, 1)
		_, err := former.runner.CatchUp(t.Context(), former.follower, nil)
		expect.NoError(t, err)
		_, err = former.dogs.Save(t.Context(), school.Dogs.Create(bad, school.Registered{Name: "Rex"}))
		expect.NoError(t, err)
		// All have to come to one position, and one of them cannot.
		editPartitions(t, db, "number <> 1", map[string]any{"position": head(t, former.dogs.Application)})
		next := newDivided(t, store, failing, system.Partitions(8)).start(t)
		expect.Until(t, "the new program has all partitions", func() bool { return next.owners(t)[statuses(t, next.runner)[0].Process] == 4 })
		expect.Until(t, "one of them fails", func() bool { return errors.Is(next.runner.Err(), errBadEvent) })
		editPartitions(t, db, "number = 2", map[string]any{"owner": "former", "fence": gorm.Expr("fence + 1"),
			"leased_until": time.Now().Add(5 * time.Minute).UnixMicro()})
		expect.Until(t, "the new program says what it waits for, and has no partition", func() bool {
			return strings.Contains(next.runner.Err().Error(), "divided anew as soon as") && len(next.owners(t)) == 1
		})
	})
}

// slowStore is a memory store whose log takes long to be read once.
type slowStore struct {
	*memory.Store
	delay *atomic.Int64
}

func (s slowStore) ProcessRecorder(application string) (persistence.ProcessRecorder, error) {
	recorder, err := s.Store.ProcessRecorder(application)
	read := func(ctx context.Context, of persistence.NotificationRange) ([]persistence.Notification, error) {
		time.Sleep(time.Duration(s.delay.Swap(0)))
		return recorder.SelectNotifications(ctx, of)
	}
	return &doctored.Recorder{ProcessRecorder: recorder, Page: read}, err
}

// A process whose leases have ended while it was reading begins no call of an
// effect. That is no failure, and it makes the call when it has leases again.
func TestNoCallIsBegunWithoutALease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, delay := memory.New(), &atomic.Int64{}
		dogs, err := school.New(application.WithStore(slowStore{store, delay}))
		expect.NoError(t, err)
		app, err := application.New(dividedName, application.WithStore(store))
		expect.NoError(t, err)
		calls, d := 0, divided{}
		follower, err := system.NewFollower(app, system.Partitions(4), system.Effect(
			func(_ context.Context, event domain.Recorded[school.Registered]) (string, error) {
				calls++
				leases := d.owners(t)
				if len(leases) != 1 {
					t.Errorf("a call was begun without a lease: %v, want 1 leases", leases)
				}
				return event.Data.Name, nil
			},
			func(context.Context, domain.Recorded[school.Registered], string) error { return nil }))
		expect.NoError(t, err)
		sys, err := system.New(system.Pipe(dogs, follower))
		expect.NoError(t, err)
		runner, err := system.NewRunner(sys, dividedConfig)
		d = divided{dogs, follower, closing(t, runner, err), sys}
		d.start(t)
		d.waitFor(t)
		delay.Store(int64(9 * time.Second))
		d.save(t, 1, 0)
		time.Sleep(9*time.Second + 10*time.Millisecond)
		synctest.Wait()
		if err := d.runner.Err(); err != nil {
			t.Errorf("it has failed: %v", err)
		}
		d.waitFor(t)
		if calls != 1 {
			t.Errorf("%d calls were made, want 1", calls)
		}
	})
}

// A program with another number of partitions takes over soon after the last
// process with the former one has ended, however long it has waited.
func TestNewNumberOfPartitionsTakesOverSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		handle := func(context.Context, domain.Event) error { return nil }
		former := newDividedWith(t, system.Config{}, store, handle, system.Partitions(4)).start(t)
		former.waitFor(t)
		next := newDividedWith(t, system.Config{}, store, handle, system.Partitions(8)).start(t)
		time.Sleep(20 * time.Minute) // as long as a deployment
		expect.NoError(t, former.runner.Close())
		next.save(t, 1, 0)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if n := len(next.partitions(t).Partitions); n != 8 || !next.atHead(t) {
			t.Errorf("after three seconds there are %d partitions, at %d: %v, want 8", n, position(t, next.follower.Application, schoolName), next.runner.Err())
		}
	})
}
