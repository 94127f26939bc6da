package benchmark

import (
	"context"
	"database/sql"
	"encoding/json"
	"regexp"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// followerName is the application that follows the benchmark's.
const followerName = "BenchmarkFollower"

// A policy is what a follower does with each event.
type policy func(ctx context.Context, event domain.Event) error

// A pair is a leader and its follower.
type pair struct {
	leader   *application.Application
	follower *system.Follower
	system   *system.System
	events   atomic.Int64 // that were handled
}

// A setting is of one of the two databases of a pair.
type setting struct {
	db      *gorm.DB
	options []gormstore.Option
}

// newPair makes a leader and a follower that stores nothing unless its policy
// does: what is measured is the way to its handler, and its position.
func newPair(t testing.TB, leader, own setting, name string, do policy, of []application.Option, options ...system.FollowerOption) *pair {
	t.Helper()
	p := &pair{}
	var err error
	p.leader = expect.Must(application.New(name, append(of, application.WithStore(gormstore.New(leader.db, leader.options...)))...))
	expect.Must(application.NewRepository(p.leader, accounts))
	app := expect.Must(application.New(followerName, application.WithStore(gormstore.New(own.db, own.options...))))
	p.follower, err = system.NewFollower(app, append(options, system.OnEvery(func(ctx context.Context, event domain.Event) error {
		p.events.Add(1)
		if do == nil {
			return nil
		}
		return do(ctx, event)
	}))...)
	expect.NoError(t, err)
	p.system = expect.Must(system.New(system.Pipe(p.leader, p.follower)))
	return p
}

// run runs the follower until the end of t.
func (p *pair) run(t testing.TB, config system.Config) *system.Runner {
	t.Helper()
	runner := expect.Must(system.NewRunner(p.system, config))
	t.Cleanup(func() { expect.NoError(t, runner.Close()) })
	expect.NoError(t, runner.Start(context.WithoutCancel(t.Context())))
	return runner
}

// A history is the log of an application, which is the same in every turn.
type history struct {
	application string
	events      int
	options     []application.Option
	json        bool // states have no header: for ways without the framework
}

// record has the database contain these logs and no others. Sealed states are
// made one by one, because a cipher binds each to its row.
func (d *database) record(b *testing.B, histories ...*history) {
	b.Helper()
	d.reset(b, 0)
	db := d.gorm(b, 1)
	for _, h := range histories {
		app, repository := newLedger(b, db, h.application, h.options...)
		if h.options != nil {
			for left := h.events; left > 0; left -= eventsPerAggregate {
				expect.NoError(b, repository.Save(b.Context(), newAccount(uuid.New(), min(left, eventsPerAggregate))))
			}
			continue
		}
		event := newAccount(uuid.New(), 2).PendingEvents()[1]
		stored := expect.Must(bridge.Of(app).Mapper().ToStored(event))
		if h.json {
			stored.State = expect.Must(json.Marshal(event.Data))
		}
		d.fill(b, h.application, h.events, stored.Topic, stored.State)
	}
	if d.kind == postgresKind {
		// The server does so itself with a log that is some minutes old.
		d.execute(b, "VACUUM ANALYZE")
	} else {
		d.execute(b, "ANALYZE")
	}
}

// forget puts followers back to the beginning.
func (d *database) forget(t testing.TB) {
	t.Helper()
	d.execute(t, "DELETE FROM notification_tracking", "DELETE FROM follower_status",
		"DELETE FROM follower_partitions", "DELETE FROM follower_settings")
}

// A reader processes a whole log. It returns how many events it has processed.
type reader func() (int, error)

// following is the way of a reader, whose operation is an event. It begins with
// no position and ends with that of the last event.
func (d *database) following(name string, h *history, open func(t testing.TB) reader) way {
	return d.followingElsewhere(name, h, d, open)
}

// followingElsewhere is following with the position in another database.
func (d *database) followingElsewhere(name string, h *history, own *database, open func(t testing.TB) reader) way {
	return unprepared(name, func(b *testing.B) (taken float64) {
		for range b.N { // once, unless the log is short
			own.forget(b)
			read := open(b)
			var processed int
			taken = measure(b, own, h.events, func() (err error) {
				processed, err = read()
				return err
			})
			d.verifyPosition(b, h, own, processed)
		}
		return taken
	})
}

// verifyPosition checks that a reader has processed so many events of a log, all
// of them, and that its position says so.
func (d *database) verifyPosition(t testing.TB, h *history, own *database, processed int) {
	t.Helper()
	position := own.number(t, "SELECT MAX(notification_id) FROM notification_tracking WHERE upstream_application_name = $1", h.application)
	passed := d.number(t, "SELECT count(*) FROM stored_events WHERE application_name = $1 AND id <= $2", h.application, position)
	if passed != int64(processed) || processed != h.events {
		t.Fatalf("void: %d of %d events were processed, and the position is behind %d", processed, h.events, passed)
	}
}

// catchingUp is the way of a follower.
func (d *database) catchingUp(name string, h *history, do policy, report func(system.Processed)) way {
	return d.following(name, h, func(t testing.TB) reader {
		at := setting{db: d.gorm(t, 2)}
		return newPair(t, at, at, h.application, do, h.options).catchUp(t, report)
	})
}

// catchUp has the follower process the leader's whole log.
func (p *pair) catchUp(t testing.TB, report func(system.Processed)) reader {
	t.Helper()
	runner := expect.Must(system.NewSingleThreadedRunner(p.system))
	t.Cleanup(func() { expect.NoError(t, runner.Close()) })
	return func() (int, error) {
		_, err := runner.CatchUp(context.WithoutCancel(t.Context()), p.follower, report)
		return int(p.events.Load()), err
	}
}

// Ways that take so long for an event that they are given fewer: rates are what
// is compared.
const (
	originalEvents = 2_000
	updatedEvents  = 10_000
	sealedEvents   = 100_000 // which are made one by one
)

// BenchmarkCatchUp is the row CatchUp.
func BenchmarkCatchUp(b *testing.B) {
	each(b, func(b *testing.B, d *database) {
		n := *backlog
		plain := &history{application: applicationName, events: n}
		secret := &history{application: sealedName, events: min(n, sealedEvents), options: []application.Option{sealed(b)}}
		alone := &history{application: rawName, events: n, json: true}
		short := &history{application: "BenchmarkOriginal", events: min(n, originalEvents), json: true}
		updated := &history{application: "BenchmarkUpdated", events: min(n, updatedEvents)}
		d.record(b, plain, secret, alone, short, updated)
		newView(b, d)
		compare(b,
			d.readingRaw(alone),
			d.readingOriginal(short),
			d.catchingUp(ours, plain, nil, nil),
			d.catchingUp("ours+gorm-update", updated, updateView, nil),
			d.catchingUp("ours+zlib+aes", secret, nil, nil))
	})
}

// A view is a table of the service, which a handler keeps up to date.
type view struct {
	ID       int64 `gorm:"primaryKey"`
	Bookings int64
}

// updateView is a policy that changes the view with every event, in the
// transaction of the position.
func updateView(ctx context.Context, _ domain.Event) error {
	tx, err := gormstore.Tx(ctx)
	if err != nil {
		return err
	}
	return tx.Model(&view{ID: 1}).Update("bookings", gorm.Expr("bookings + 1")).Error
}

// newView makes the table, with the row that policies change.
func newView(t testing.TB, d *database) {
	t.Helper()
	db := d.gorm(t, 1)
	expect.NoError(t, db.AutoMigrate(&view{}))
	expect.NoError(t, db.Create(&view{ID: 1}).Error)
}

// readingRaw is the limit of catching up: pages of the log, their payloads out
// of JSON, and one UPDATE for each page.
func (d *database) readingRaw(h *history) way {
	return d.following(raw, h, func(t testing.TB) reader {
		t.Helper()
		pool := d.pool(t, 1)
		_, err := pool.Exec("INSERT INTO notification_tracking (application_name, upstream_application_name, notification_id)"+
			" VALUES ($1, $2, 0)", followerName, h.application)
		expect.NoError(t, err)
		update := prepare(t, pool, "UPDATE notification_tracking SET notification_id = $1"+
			" WHERE application_name = $2 AND upstream_application_name = $3")
		return eachPage(t, pool, h, 500, func(ids []int64) error {
			_, err := update.Exec(ids[len(ids)-1], followerName, h.application)
			return err
		})
	})
}

// readingOriginal catches up as the Python library does with its Django models:
// a short page at a time, and for each event a transaction that locks the table
// of events and has GORM create a row of the tracking table.
func (d *database) readingOriginal(h *history) way {
	return d.following(original, h, func(t testing.TB) reader {
		t.Helper()
		db := d.gorm(t, 1)
		pool := expect.Must(db.DB())
		ctx := context.WithoutCancel(t.Context())
		return eachPage(t, pool, h, 10, func(ids []int64) error {
			for _, id := range ids {
				err := d.locked(ctx, db, func(tx *gorm.DB) error {
					return tx.Table("notification_tracking").Create(map[string]any{
						"application_name": followerName, "upstream_application_name": h.application, "notification_id": id,
					}).Error
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// eachPage decodes a log a page at a time, and calls done with the ids of each
// page.
func eachPage(t testing.TB, pool *sql.DB, h *history, size int, done func(ids []int64) error) reader {
	t.Helper()
	query := prepare(t, pool, "SELECT id, originator_id, originator_version, topic, state FROM stored_events"+
		" WHERE application_name = $1 AND id > $2 ORDER BY id LIMIT $3")
	return func() (events int, err error) {
		for ids := []int64{0}; ; {
			rows, err := query.Query(h.application, ids[len(ids)-1], size)
			if err != nil {
				return events, err
			}
			ids = nil
			n, err := eachRow(rows, func() error {
				var id, version int64
				var originator, topic string
				var state []byte
				if err := rows.Scan(&id, &originator, &version, &topic, &state); err != nil {
					return err
				}
				ids = append(ids, id)
				return json.Unmarshal(state, new(Booked))
			})
			if err == nil && n > 0 {
				err = done(ids)
			}
			if events += n; err != nil || n < size {
				return events, err
			}
		}
	}
}

// heapSamples is how many batches pass between two looks at the heap, each of
// which collects the garbage.
const heapSamples = 100

// BenchmarkFollowing is the row Following.
func BenchmarkFollowing(b *testing.B) {
	each(b, func(b *testing.B, d *database) {
		h := &history{application: applicationName, events: *followed}
		d.record(b, h)
		compare(b, unprepared(ours, func(b *testing.B) float64 {
			before, growth, batches := liveHeap(), int64(0), 0
			taken := d.catchingUp(ours, h, nil, func(system.Processed) {
				// The first batch counts: a small log has no other.
				if batches++; batches%heapSamples == 1 {
					growth = max(growth, liveHeap()-before)
				}
			}).open(b)(b)
			b.ReportMetric(float64(growth), "heap-growth-B")
			return taken
		}))
	})
}

// liveHeap is the size of everything in Go's memory that is in use.
func liveHeap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkIdle is the row Idle: a follower at the end of its log.
func BenchmarkIdle(b *testing.B) {
	each(b, func(b *testing.B, d *database) {
		h := &history{application: applicationName, events: 1_000}
		d.record(b, h)
		d.catchingUp(ours, h, nil, nil).open(b)(b)
		compare(b, unprepared(ours, func(b *testing.B) float64 {
			count := &counter{Interface: logger.Discard}
			at := setting{db: d.gorm(b, 2).Session(&gorm.Session{Logger: count})}
			p := newPair(b, at, at, h.application, nil, nil)
			p.run(b, system.Config{})
			time.Sleep(*idle / 10) // in which it comes to rest
			queries, writes := count.queries.Load(), count.writes.Load()
			b.StartTimer()
			time.Sleep(*idle)
			b.StopTimer()
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(count.queries.Load()-queries)/b.Elapsed().Seconds(), "queries/s")
			b.ReportMetric(10*float64(count.writes.Load()-writes)/b.Elapsed().Seconds(), "writes/10s")
			if p.events.Load() > 0 {
				b.Fatal("void: the follower had something to do")
			}
			return 0
		}))
	})
}

// counter is a logger of GORM that counts statements.
type counter struct {
	logger.Interface
	queries, writes atomic.Int64
}

// writing is what a statement has that is no query; a query may begin with WITH.
var writing = regexp.MustCompile(`(?s)^(INSERT|UPDATE|DELETE)|^WITH.*\b(INSERT|UPDATE|DELETE) `)

// LogMode implements logger.Interface: sessions of GORM must not get rid of the
// counter.
func (c *counter) LogMode(logger.LogLevel) logger.Interface { return c }

// Trace implements logger.Interface.
func (c *counter) Trace(_ context.Context, _ time.Time, statement func() (sql string, rows int64), _ error) {
	if sql, _ := statement(); writing.MatchString(sql) {
		c.writes.Add(1)
	} else {
		c.queries.Add(1)
	}
}
