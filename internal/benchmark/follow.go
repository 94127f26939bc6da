package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// followerName is the application that follows the benchmark's.
const followerName = "BenchmarkFollower"

// A policy is what a follower does with each event.
type policy func(ctx context.Context, event domain.Event) error

// follower stores nothing: what is measured is the way to its handler, and its
// position.
type follower struct {
	*system.Follower
	policy policy
	events int64 // that were handled
}

// handle counts.
func (f *follower) handle(ctx context.Context, event domain.Event) error {
	f.events++
	if f.policy == nil {
		return nil
	}
	return f.policy(ctx, event)
}

// A pair is a leader and its follower, on one database.
type pair struct {
	leader   *application.Application
	follower *follower
	system   *system.System
}

// newPair makes the applications: the leader with the options.
func newPair(db *gorm.DB, leader string, do policy, store []gormstore.Option, options ...application.Option) (*pair, error) {
	p := &pair{follower: &follower{policy: do}}
	common := application.WithStore(gormstore.New(db, store...))
	var err error
	if p.leader, err = application.New(leader, append(options, common)...); err != nil {
		return nil, err
	}
	if _, err = application.NewRepository(p.leader, accounts); err != nil {
		return nil, err
	}
	app, err := application.New(followerName, common)
	if err != nil {
		return nil, err
	}
	if p.follower.Follower, err = system.NewFollower(app, system.OnEvery(p.follower.handle)); err != nil {
		return nil, err
	}
	p.system, err = system.New(system.Pipe(p.leader, p.follower))
	return p, err
}

// catchUp has the follower process the leader's whole log, which has so many
// events.
func (p *pair) catchUp(ctx context.Context, events int, report func(system.Processed)) (_ int64, err error) {
	runner, err := system.NewSingleThreadedRunner(p.system)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, runner.Close()) }()
	_, err = runner.CatchUp(ctx, p.follower, report)
	if err == nil && p.follower.events != int64(events) {
		err = fmt.Errorf("void: %d of %d events were processed", p.follower.events, events)
	}
	return p.follower.events, err
}

// A history is the log of an application, which is the same in every turn.
type history struct {
	application string
	events      int
	seal        application.Option // nil where states are plain
	json        bool               // states have no header: for ways without the framework
}

// record writes the log. Sealed states are made one by one, because a cipher
// binds each to its row.
func (h *history) record(ctx context.Context, d *database, db *gorm.DB) error {
	app, repository, err := newLedger(db, h.application, h.options()...)
	if err != nil {
		return err
	}
	if h.seal == nil {
		return h.copy(ctx, d, app)
	}
	for left := h.events; left > 0; left -= eventsPerAggregate {
		if err := repository.Save(ctx, newAccount(uuid.New(), min(left, eventsPerAggregate))); err != nil {
			return err
		}
	}
	return nil
}

// copy fills the log with one state.
func (h *history) copy(ctx context.Context, d *database, app *application.Application) error {
	event := newAccount(uuid.New(), 2).PendingEvents()[1]
	stored, err := bridge.Of(app).Mapper().ToStored(event)
	if err != nil {
		return err
	}
	if h.json {
		if stored.State, err = json.Marshal(event.Data); err != nil {
			return err
		}
	}
	return d.fill(ctx, h.application, h.events, stored.Topic, stored.State)
}

func (h *history) options() []application.Option {
	if h.seal == nil {
		return nil
	}
	return []application.Option{h.seal}
}

// forget puts followers back to the beginning.
func (d *database) forget(ctx context.Context) error {
	return d.execute(ctx, "DELETE FROM notification_tracking", "DELETE FROM follower_status")
}

// record has the database contain these logs and no others.
func (d *database) record(ctx context.Context, histories ...*history) (err error) {
	db, pool, err := d.open(1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	if err := d.reset(ctx, 0); err != nil {
		return err
	}
	for _, h := range histories {
		if err := h.record(ctx, d, db); err != nil {
			return err
		}
	}
	if d.kind == postgresKind {
		// The server would have done so with a log that is some minutes old.
		return d.execute(ctx, "VACUUM ANALYZE")
	}
	return d.execute(ctx, "ANALYZE")
}
