package system_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// replicated is a server with a standby, under one address.
type replicated struct {
	primary, standby *testdb.Cluster
	dsn              string
	admin            *gorm.DB // of the primary
}

// newReplicated starts a server and its standby, which is synchronous.
func newReplicated(t *testing.T) *replicated {
	t.Helper()
	r := &replicated{primary: testdb.NewCluster(t, "fsync=off")}
	dsn := r.primary.Database(t)
	r.admin = connect(t, dsn)
	r.standby = r.primary.NewStandby(t)
	first, err := url.Parse(dsn)
	expect.NoError(t, err)
	second, err := url.Parse(r.standby.DSN("postgres"))
	expect.NoError(t, err)
	first.Host += "," + second.Host
	first.RawQuery = "sslmode=disable&target_session_attrs=read-write&connect_timeout=2"
	r.dsn = first.String()
	expect.NoError(t, r.admin.Exec("ALTER SYSTEM SET synchronous_standby_names = '*'").Error, r.admin.Exec("SELECT pg_reload_conf()").Error)
	expect.Until(t, "the standby is synchronous", func() bool {
		var state string
		expect.NoError(t, r.admin.Raw("SELECT COALESCE(MAX(sync_state), '') FROM pg_stat_replication").Scan(&state).Error)
		return state == "sync"
	})
	return r
}

// failOver kills the primary, and promotes the standby.
func (r *replicated) failOver(t *testing.T) {
	t.Helper()
	expect.NoError(t, r.primary.Stop(testdb.Immediate))
	expect.NoError(t, connect(t, r.standby.DSN("postgres")).Exec("SELECT pg_promote(true, 60)").Error)
}

func connect(t *testing.T, dsn string) *gorm.DB {
	t.Helper()
	db, err := openChild("postgres", dsn)
	expect.NoError(t, err)
	pool, err := db.DB()
	expect.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close() }) // its server may be gone
	return db
}

// failover is a leader and a divided follower of it in two databases.
type failover struct {
	leader, follower *gorm.DB
	processes        []divided
	acknowledged     sync.Map // ids of events
}

func newFailover(t *testing.T, leader, follower string) *failover {
	t.Helper()
	f := &failover{leader: connect(t, leader), follower: connect(t, follower)}
	expect.NoError(t, gormstore.AutoMigrate(f.leader), gormstore.AutoMigrate(f.follower), f.follower.AutoMigrate(&DividedEffect{}))
	for process := range 2 {
		dogs, err := school.New(application.WithStore(gormstore.New(connect(t, leader))))
		expect.NoError(t, err)
		app, err := application.New(dividedName, application.WithStore(gormstore.New(connect(t, follower))))
		expect.NoError(t, err)
		f.processes = append(f.processes, divided{dogs: dogs})
		p := &f.processes[process]
		p.follower, err = system.NewFollower(app, system.Partitions(8), system.OnEvery(writeEffect(fmt.Sprint(process))))
		expect.NoError(t, err)
		p.system, err = system.New(system.Pipe(dogs, p.follower))
		expect.NoError(t, err)
		runner, err := system.NewRunner(p.system, dividedConfig)
		p.runner = closing(t, runner, err)
		p.start(t)
	}
	return f
}

// saveDuring has four writers save while fn runs, and until they have saved as
// much again after it.
func (f *failover) saveDuring(t *testing.T, fn func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var saves atomic.Int64
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			for ctx.Err() == nil {
				dog := school.RegisterDog(uuid.NewString())
				dog.AddTrick("sit")
				saved, err := f.processes[i%2].dogs.Save(ctx, dog)
				if err != nil {
					continue // nothing of it is promised
				}
				for _, event := range saved.Events {
					f.acknowledged.Store(event.NotificationID, dog.ID())
				}
				saves.Add(1)
			}
		})
	}
	expect.Until(t, "there are saves before", func() bool { return saves.Load() > 50 })
	fn()
	before := saves.Load()
	expect.Until(t, "there are saves after", func() bool { return saves.Load() > before+50 })
	cancel()
	writers.Wait()
}

// lost counts the acknowledged events that are not in the log.
func (f *failover) lost(t *testing.T) (lost int) {
	t.Helper()
	stored := map[int64]uuid.UUID{}
	var rows []gormstore.StoredEvent
	expect.NoError(t, f.leader.Where("application_name = ?", schoolName).Find(&rows).Error)
	for _, row := range rows {
		stored[row.ID] = uuid.UUID(row.OriginatorID)
	}
	f.acknowledged.Range(func(id, dog any) bool {
		if stored[id.(int64)] != dog {
			lost++
		}
		return true
	})
	return lost
}

// A follower in another database than its leader goes on when the server of
// either is killed and its synchronous standby takes over: nothing acknowledged
// is lost, and every event has its effect once.
func TestFailOverToASynchronousStandby(t *testing.T) {
	t.Parallel()
	for _, killed := range []string{"leader", "follower"} {
		t.Run(killed, func(t *testing.T) {
			t.Parallel()
			server, other := newReplicated(t), testdb.NewCluster(t, "fsync=off").Database(t)
			leader, follower := server.dsn, other
			if killed == "follower" {
				leader, follower = other, server.dsn
			}
			pair := newFailover(t, leader, follower)
			pair.saveDuring(t, func() { server.failOver(t) })
			// The old connections are cut.
			pair.leader, pair.follower = connect(t, leader), connect(t, follower)
			end := head(t, pair.processes[0].dogs.Application)
			for _, p := range pair.processes {
				reached(t, p.follower.Application, end)
			}
			if lost := pair.lost(t); lost > 0 {
				t.Errorf("%d events were acknowledged and are lost, want 0", lost)
			}
			var events int64
			expect.NoError(t, pair.leader.Model(&gormstore.StoredEvent{}).Count(&events).Error)
			checkEffects(t, pair.follower, int(events))
		})
	}
}

// The control has a standby that is behind. Acknowledged events are lost, and
// the follower, which has processed them, says that it is ahead of the log.
func TestFailOverToAStandbyThatIsBehind(t *testing.T) {
	t.Parallel()
	leader := newReplicated(t)
	follower := testdb.NewCluster(t, "fsync=off").Database(t)
	pair := newFailover(t, leader.dsn, follower)
	standby := connect(t, leader.standby.DSN("postgres"))
	expect.NoError(t, leader.admin.Exec("ALTER SYSTEM SET synchronous_standby_names = ''").Error, leader.admin.Exec("SELECT pg_reload_conf()").Error)
	expect.NoError(t, standby.Exec("ALTER SYSTEM SET primary_conninfo = ''").Error, standby.Exec("SELECT pg_reload_conf()").Error)
	expect.Until(t, "the standby gets nothing", func() bool {
		var senders int64
		expect.NoError(t, leader.admin.Raw("SELECT COUNT(*) FROM pg_stat_replication").Scan(&senders).Error)
		return senders == 0
	})
	p := pair.processes[0]
	saved, err := p.dogs.Save(t.Context(), school.RegisterDog("Rex"))
	expect.NoError(t, err)
	reached(t, p.follower.Application, saved.Position)
	pair.acknowledged.Store(saved.Position, school.DogID("Rex"))
	leader.failOver(t)
	pair.leader = connect(t, leader.dsn)
	expect.Until(t, "the follower says that it is ahead of the log", func() bool {
		return errors.Is(p.runner.Err(), system.ErrAhead)
	})
	if pair.lost(t) == 0 {
		t.Error("nothing is lost on a standby that is behind")
	}
}
