package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// The ways of the row scale.
const (
	oneServer          = "one server"
	synchronousStandby = "synchronous standby"
	oneDatabase        = "one database"
	twoServers         = "two servers"
	notDivided         = "not divided"
)

const (
	partitions    = 16
	partitionTime = 5 * time.Millisecond // of a handler
)

// measureScale is the row scale: the steps beyond one server.
func (b *bench) measureScale(ctx context.Context, p *place) (results []result, err error) {
	if p.kind != postgresKind {
		return nil, nil
	}
	replicated, err := openReplicated(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, replicated.end()) }()
	return b.within(p, func(single *database) ([]result, error) {
		return b.within(replicated, func(double *database) ([]result, error) {
			for _, measure := range []func(context.Context, *database, *database) ([]result, error){
				b.scaleSaves, b.scaleServers, b.scaleFollowers,
			} {
				r, err := measure(ctx, single, double)
				if err != nil {
					return nil, err
				}
				results = append(results, r...)
			}
			return results, nil
		})
	})
}

// openReplicated starts a server with a synchronous standby on this machine.
func openReplicated(ctx context.Context) (_ *place, err error) {
	l := &lifetime{}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.end())
		}
	}()
	var cluster *testdb.Cluster
	err = l.start(func() {
		cluster = testdb.NewCluster(l, serverSettings...)
		cluster.NewStandby(l)
	})
	if err != nil {
		return nil, err
	}
	create := func() (dsn string, err error) {
		err = l.start(func() { dsn = cluster.Database(l) })
		return dsn, err
	}
	admin := &database{kind: postgresKind, dsn: cluster.DSN("postgres")}
	pool, err := admin.pool(1)
	if err != nil {
		return nil, err
	}
	admin.admin = pool
	defer func() { err = errors.Join(err, pool.Close()) }()
	err = admin.execute(ctx, "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
	for state := ""; err == nil && state != "sync"; {
		err = pool.QueryRowContext(ctx, "SELECT COALESCE(MAX(sync_state), '') FROM pg_stat_replication").Scan(&state)
	}
	return &place{kind: postgresKind, create: create, end: l.end}, err
}

// scaleSaves compares saves on one server with those that wait for a standby.
func (b *bench) scaleSaves(ctx context.Context, single, double *database) (results []result, err error) {
	for _, writers := range b.writers {
		c := &cell{row: rowScale, database: single.kind, workers: writers, events: 1, note: "saves"}
		alone, doubled := b.saveWay(single, ours, writers, 1), b.saveWay(double, ours, writers, 1)
		alone.name, doubled.name = oneServer, synchronousStandby
		c.ways = []way{alone, doubled}
		r, err := c.measure(ctx, b.rounds)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	return results, nil
}

// scaleServers compares a follower in the database of its leader with one on
// another server.
func (b *bench) scaleServers(ctx context.Context, single, double *database) ([]result, error) {
	h := &history{application: applicationName, events: b.followers.backlog}
	if err := single.record(ctx, h); err != nil {
		return nil, err
	}
	c := &cell{row: rowScale, database: single.kind, workers: 1, events: 1, note: "a follower catches up, with its own database or that of its leader"}
	for _, own := range []struct {
		name string
		*database
	}{{oneDatabase, single}, {twoServers, double}} {
		c.ways = append(c.ways, way{name: own.name, turn: func(ctx context.Context) (_ tally, err error) {
			if err := own.forget(ctx); err != nil {
				return tally{}, err
			}
			leader, end, err := single.open(2)
			if err != nil {
				return tally{}, err
			}
			defer func() { err = errors.Join(err, end.Close()) }()
			follower, endFollower, err := own.open(2)
			if err != nil {
				return tally{}, err
			}
			defer func() { err = errors.Join(err, endFollower.Close()) }()
			p, err := newPairOn(leader, follower, h.application, nil)
			if err != nil {
				return tally{}, err
			}
			meter, err := own.meter(ctx)
			if err != nil {
				return tally{}, err
			}
			return once(ctx, meter, func(ctx context.Context) (int64, error) { return p.catchUp(ctx, h.events, nil) })
		}})
	}
	r, err := c.measure(ctx, b.rounds)
	return []result{r}, err
}

// newPairOn makes a leader and its follower, each on a database of its own.
func newPairOn(leader, own *gorm.DB, name string, do policy, options ...system.FollowerOption) (*pair, error) {
	p := &pair{follower: &follower{policy: do}}
	var err error
	if p.leader, _, err = newLedger(leader, name); err != nil {
		return nil, err
	}
	app, err := application.New(followerName, application.WithStore(gormstore.New(own)))
	if err != nil {
		return nil, err
	}
	if p.follower.Follower, err = system.NewFollower(app, append(options, system.OnEvery(p.follower.handle))...); err != nil {
		return nil, err
	}
	p.system, err = system.New(system.Pipe(p.leader, p.follower))
	return p, err
}

// share is the job of one of the processes of a divided follower.
type share struct {
	Partitions int
	Position   int64 // at which the processes end
}

// prepare makes the follower. The log is that of the database.
func (s *share) prepare(d *database) (do func(context.Context) (any, error), end func() error, err error) {
	db, pool, err := d.open(4)
	if err != nil {
		return nil, nil, err
	}
	var handled atomic.Int64
	work := func(context.Context, domain.Event) error {
		time.Sleep(partitionTime)
		handled.Add(1)
		return nil
	}
	p, err := newPairOn(db, db, applicationName, work, system.Partitions(s.Partitions))
	if err != nil {
		return nil, nil, errors.Join(err, pool.Close())
	}
	runner, err := system.NewRunner(p.system, system.Config{PartitionLease: time.Second})
	if err != nil {
		return nil, nil, errors.Join(err, pool.Close())
	}
	return func(ctx context.Context) (any, error) {
		begin := time.Now()
		err := runner.Start(context.WithoutCancel(ctx))
		if err == nil {
			err = p.follower.WaitForPosition(ctx, p.leader, s.Position)
		}
		t := tally{Elapsed: time.Since(begin), Latencies: newHistogram()}
		err = errors.Join(err, runner.Close())
		t.Operations = handled.Load()
		return t, err
	}, pool.Close, nil
}

// scaleFollowers compares followers whose handler takes 5 ms by the number of
// processes that run them.
func (b *bench) scaleFollowers(ctx context.Context, single, _ *database) ([]result, error) {
	h := &history{application: applicationName, events: b.followers.slow}
	if err := single.record(ctx, h); err != nil {
		return nil, err
	}
	// Each event has its own originator.
	if err := single.execute(ctx, "UPDATE stored_events SET originator_id = gen_random_uuid(), originator_version = 1"); err != nil {
		return nil, err
	}
	var position int64
	if err := single.admin.QueryRowContext(ctx, "SELECT MAX(id) FROM stored_events").Scan(&position); err != nil {
		return nil, err
	}
	c := &cell{row: rowScale, database: single.kind, workers: 1, events: 1,
		note: fmt.Sprintf("a follower of %v for each event, in processes", partitionTime)}
	for _, of := range []struct {
		name                  string
		processes, partitions int
	}{{notDivided, 1, 1}, {"1 process", 1, partitions}, {"2 processes", 2, partitions}, {"4 processes", 4, partitions}} {
		c.ways = append(c.ways, way{name: of.name, turn: func(ctx context.Context) (tally, error) {
			if err := errors.Join(single.forget(ctx), single.execute(ctx, "DELETE FROM follower_partitions", "DELETE FROM follower_settings")); err != nil {
				return tally{}, err
			}
			t, err := workers(ctx, of.processes, job{Kind: single.kind, DSN: single.dsn, Share: &share{Partitions: of.partitions, Position: position}})
			if err == nil && t.Operations < int64(h.events) {
				err = fmt.Errorf("void: %d of %d events were processed", t.Operations, h.events)
			}
			t.Operations = int64(h.events) // a batch that lost its lease is none
			return t, err
		}})
	}
	r, err := c.measure(ctx, b.rounds)
	return []result{r}, err
}
