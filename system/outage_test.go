package system_test

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/pglisten"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/polling"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// outage is a follower of events that another store records, on one PostgreSQL.
type outage struct {
	db     *gorm.DB
	dogs   *application.Application // of a second store, as in another process
	runner *system.Runner
	f      *follower
}

// newOutage has the follower write a row for each event.
func newOutage(t testing.TB, dsn string) *outage {
	t.Helper()
	open := func() *gorm.DB {
		db, err := openChild("postgres", dsn)
		expect.NoError(t, err)
		pool, err := db.DB()
		expect.NoError(t, err)
		t.Cleanup(func() { _ = pool.Close() }) // its server may be gone
		return db
	}
	o := &outage{db: open()}
	expect.NoError(t, gormstore.AutoMigrate(o.db), o.db.AutoMigrate(&Effect{}))
	dogs, err := school.New(application.WithStore(gormstore.New(open(), gormstore.WithNotify())))
	expect.NoError(t, err)
	o.dogs = dogs.Application
	listener, err := pglisten.New(dsn, nil)
	expect.NoError(t, err)
	echoes, err := newEchoes(application.WithStore(gormstore.New(o.db, gormstore.WithListener(listener))))
	expect.NoError(t, err)
	leader, err := school.New(application.WithStore(bridge.Of(echoes).Factory()))
	expect.NoError(t, err)
	o.runner, err = newConcurrent(newSystem(t, pipe(built(leader), built(echoes))))
	closing(t, o.runner, err)
	o.f = echoes
	start(t, o.runner)
	return o
}

// write saves until ctx ends, and counts the events that were acknowledged. It
// does not run away from the follower, which has more to do for each.
func (o *outage) write(ctx context.Context, acknowledged *atomic.Int64) {
	for ctx.Err() == nil {
		saved, err := o.dogs.Save(ctx, school.RegisterDog(uuid.NewString()))
		if err != nil {
			continue
		}
		if acknowledged.Add(1)%1000 == 0 {
			// After an error it goes on.
			_ = polling.WaitFor(ctx, bridge.Of(o.f).Recorder(), schoolName, saved.Position)
		}
	}
}

// caughtUp reports whether everything is processed that is there now. A
// connection may still be one to the server before.
func (o *outage) caughtUp(ctx context.Context) bool {
	head, err := bridge.Of(o.dogs).Recorder().MaxNotificationID(ctx)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return polling.WaitFor(ctx, bridge.Of(o.f).Recorder(), schoolName, head) == nil
}

// check requires an echo of every event, once.
func (o *outage) check(t testing.TB, acknowledged int64) {
	t.Helper()
	want := ids(t, o.dogs)
	reached(t, o.f.Application, want[len(want)-1])
	times := map[int64]int{}
	for after := int64(0); ; {
		page, err := bridge.Of(o.f).Recorder().SelectNotifications(t.Context(), persistence.NotificationRange{After: after, Limit: 1000})
		expect.NoError(t, err)
		if len(page) == 0 {
			break
		}
		for _, n := range page {
			event, err := bridge.Of(o.f).Mapper().NotificationToDomain(n)
			expect.NoError(t, err)
			times[event.Data.(Heard).NotificationID]++
		}
		after = page[len(page)-1].ID
	}
	for _, id := range want {
		if times[id] != 1 {
			t.Errorf("event %d has %d echoes, want 1", id, times[id])
		}
	}
	if int64(len(want)) < acknowledged || acknowledged == 0 {
		t.Errorf("%d events were acknowledged, and %d are stored, want other than 0", acknowledged, len(want))
	}
}

// The connections that listen are cut at random while events are saved in
// another process.
func TestListenerIsCut(t *testing.T) {
	t.Parallel()
	o := newOutage(t, testdb.Postgres(t))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var acknowledged atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.write(ctx, &acknowledged)
	}()
	cuts := int64(0)
	cut := func() bool {
		cut := o.db.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity " +
			"WHERE datname = current_database() AND query ILIKE 'LISTEN%' AND pid <> pg_backend_pid()")
		expect.NoError(t, cut.Error)
		cuts += cut.RowsAffected
		return cuts > 0
	}
	expect.Until(t, "an event is saved, and a connection that listens is cut", func() bool { return cut() && acknowledged.Load() > 0 })
	for begin, during := time.Now(), time.Duration(testdb.Figure(testdb.Sample(1, 2), 60))*time.Second; time.Since(begin) < during; {
		time.Sleep(rand.N(300 * time.Millisecond)) // chance is the point
		cut()
	}
	cancel()
	<-done
	o.check(t, acknowledged.Load())
	t.Logf("%d events saved while the listener was cut %d times", acknowledged.Load(), cuts)
}

// The database is stopped and started again and again. Every time the follower
// catches up by itself.
func TestDatabaseRestarts(t *testing.T) {
	t.Parallel()
	cluster := testdb.NewCluster(t)
	o := newOutage(t, cluster.Database(t))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var acknowledged atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.write(ctx, &acknowledged)
	}()
	var longest time.Duration
	restarts := testdb.Figure(testdb.Sample(2, 3), 20)
	for i := range restarts {
		before := acknowledged.Load()
		if !expect.Eventually(func() bool { return acknowledged.Load() > before }) {
			t.Fatal("nothing can be saved")
		}
		expect.NoError(t, cluster.Stop([]testdb.Mode{testdb.Fast, testdb.Immediate}[i%2]), cluster.Start())
		begin, saved := time.Now(), acknowledged.Load()
		if !expect.Eventually(func() bool { return acknowledged.Load() > saved }) {
			t.Fatal("nothing can be saved after a restart")
		}
		if !expect.Eventually(func() bool { return o.caughtUp(t.Context()) }) {
			t.Fatal("the follower stands still after a restart")
		}
		longest = max(longest, time.Since(begin))
	}
	cancel()
	<-done
	o.check(t, acknowledged.Load())
	t.Logf("%d restarts: the follower caught up within %v; %d events", restarts, longest, acknowledged.Load())
}
