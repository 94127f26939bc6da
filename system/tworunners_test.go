package system_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
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

// sharedBackends are the databases that several processes can use at once.
var sharedBackends = []testdb.Backend{
	{Name: "sqlite-file", Open: testdb.SQLiteFile},
	{Name: "postgres", Open: testdb.OpenPostgres},
}

// again opens a second handle on a database, as another process would.
func again(t testing.TB, db *gorm.DB) *gorm.DB {
	t.Helper()
	switch d := db.Dialector.(type) {
	case *postgres.Dialector:
		return testdb.Open(t, postgres.Open(d.DSN))
	case *sqlite.Dialector:
		return testdb.Open(t, sqlite.Open(d.DSN))
	}
	t.Fatalf("database %s has no address", db.Name())
	return nil
}

// Two processes with the same followers: each event has its effect once. When
// one of them ends, with an event half done, the other takes over.
func TestTwoRunners(t *testing.T) {
	t.Parallel()
	for _, backend := range sharedBackends {
		t.Run(backend.Name, func(t *testing.T) {
			t.Parallel()
			db := migrated(t, backend.Open(t))
			hanging := make(chan int, 1)
			var hung atomic.Bool
			var runners []*system.Runner
			for i, handle := range []*gorm.DB{db, again(t, db)} {
				r := newRunner(t, gormstore.New(handle), counting())
				c := get[*counters](t, r, countersName)
				c.become(func(ctx context.Context, event domain.Event, processing *collector) error {
					if added, ok := event.Data.(school.TrickAdded); ok && added.Trick == "hang" && hung.CompareAndSwap(false, true) {
						hanging <- i
						<-ctx.Done()
					}
					return errors.Join(count(ctx, event, processing), c.count(ctx, event, processing))
				})
				runners = append(runners, r)
			}
			first := runners[0]
			dogs := get[*school.TrainingSchool](t, first, schoolName)
			register(t, dogs, 20, "Fido") // both begin on empty tracking tables
			for _, r := range runners {
				start(t, r)
			}
			var group sync.WaitGroup
			for _, r := range runners {
				group.Go(func() {
					for i := range 10 {
						dog := school.RegisterDog(fmt.Sprintf("%p %d", r, i))
						for range 4 {
							dog.AddTrick("sit")
						}
						if _, err := get[*school.TrainingSchool](t, r, schoolName).Save(t.Context(), dog); err != nil {
							t.Error(err)
						}
					}
				})
			}
			group.Wait()
			waitForHeads(t, first)
			want := 20 + 2*10*4
			wantCounted(t, first, db, "sit", want)

			dog := school.RegisterDog("Rex")
			dog.AddTrick("hang")
			save(t, dogs.Application, dog)
			stuck := <-hanging
			cancelled, cancel := context.WithCancel(t.Context())
			cancel()
			if err := runners[stuck].Stop(cancelled); !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v, want an error that is %v", err, context.Canceled)
			}
			other := runners[1-stuck]
			waitForHeads(t, other)
			wantCounted(t, other, db, "sit", want)
			wantCounted(t, other, db, "hang", 1)
		})
	}
}

func wantCounted(t *testing.T, r runner, db *gorm.DB, trick string, want int) {
	t.Helper()
	if got := get[*counters](t, r, countersName).counted(t, trick); got != want {
		t.Errorf("counted %d events of %q in the aggregate, want %d", got, trick, want)
	}
	if got := tricksCounted(t, db, trick); got != want {
		t.Errorf("counted %d events of %q in the table, want %d", got, trick, want)
	}
}

// A process that was overtaken stores nothing of what it would have made, and
// that is no failure.
func TestOvertaken(t *testing.T) {
	t.Parallel()
	store := memory.New()
	dogs, err := school.New(application.WithStore(store))
	expect.NoError(t, err)
	register(t, dogs, 5, "Fido")
	leader := &pausingLeader{app: bridge.Of(dogs)}
	r, err := newSingle(newSystem(t, pipe(built(leader), app(countersName, newCounters))), application.WithStore(store))
	closing(t, r, err)
	c := get[*counters](t, r, countersName)
	leader.pause = func() {
		leader.pause = func() {}
		to := persistence.Tracking{ApplicationName: schoolName, NotificationID: 3}
		expect.NoError(t, bridge.Of(c).Recorder().InsertTracking(t.Context(), to))
	}
	start(t, r)
	if got := c.counted(t, "sit"); got != 3 || r.Err() != nil {
		t.Errorf("counted %d, %v; want the 3 that the rival did not process", got, r.Err())
	}
	if got := statuses(t, r)[0]; got.State != system.Running || got.Lag() != 0 {
		t.Errorf("got %+v, want State %v and Lag 0", got, system.Running)
	}
}

// Two runners over one store in memory.
func TestTwoRunnersInMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		runners := []*system.Runner{newRunner(t, store, counting()), newRunner(t, store, counting())}
		for _, r := range runners {
			start(t, r)
		}
		for i := range 200 {
			register(t, get[*school.TrainingSchool](t, runners[i%2], schoolName), 3, fmt.Sprint(i))
		}
		for _, r := range runners {
			waitForHeads(t, r)
			if got := get[*counters](t, r, countersName).counted(t, "sit"); got != 600 || r.Err() != nil {
				t.Errorf("counted %d, %v, want 600 and no error", got, r.Err())
			}
		}
	})
}

// Many write while a follower counts.
func TestManyWriters(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		const writers, tricks = 8, 9
		saves := testdb.Figure(50, 250)
		var seen commits
		policy := func(ctx context.Context, event domain.Event, processing *collector) error {
			if p.db != nil {
				if err := count(ctx, event, processing); err != nil {
					return err
				}
			}
			return seen.policy(ctx, event, processing)
		}
		r := p.started(t, pipe(app(schoolName, school.New), followerLoop("F", policy)))
		dogs := get[*school.TrainingSchool](t, r, schoolName)
		var group sync.WaitGroup
		for w := range writers {
			group.Go(func() {
				for i := range saves {
					dog := school.RegisterDog(fmt.Sprint(w, " ", i))
					for range tricks {
						dog.AddTrick("sit")
					}
					if _, err := dogs.Save(t.Context(), dog); err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		p.sync(t, r)
		if got, want := slices.Concat(seen.batches...), ids(t, dogs.Application); !slices.Equal(got, want) {
			t.Errorf("committed %d events, want all %d in their order", len(got), len(want))
		}
		if got, want := position(t, get[*follower](t, r, "F").Application, schoolName), head(t, dogs.Application); got != want {
			t.Errorf("the position is %d, want %d", got, want)
		}
		if p.db != nil {
			if got, want := tricksCounted(t, p.db, "sit"), writers*saves*tricks; got != want {
				t.Errorf("counted %d, want %d", got, want)
			}
		}
	})
}
