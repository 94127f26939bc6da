package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/pglisten"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// The ways of the row delivery, beside ours, which is the same process.
const (
	listening = "other process"
	polling   = "other process, polling"
)

const (
	letterPause   = 10 * time.Millisecond // between saves
	letterTimeout = 10 * time.Second      // for the last one to be delivered
)

// letters are the saves whose delivery is measured.
type letters struct{ Number int }

// sent is when a save had returned. Processes of one machine have one clock.
type sent struct {
	Position int64
	At       int64 // in nanoseconds since 1970
}

// prepare opens the application of another process, which tells listeners of
// what it saves.
func (l *letters) prepare(d *database) (do func(context.Context) (any, error), end func() error, err error) {
	db, pool, err := d.open(1)
	if err != nil {
		return nil, nil, err
	}
	app, err := application.New(applicationName, application.WithStore(gormstore.New(db, gormstore.WithNotify())))
	if err != nil {
		return nil, nil, errors.Join(err, pool.Close())
	}
	if _, err := application.NewRepository(app, accounts); err != nil {
		return nil, nil, errors.Join(err, pool.Close())
	}
	return func(ctx context.Context) (any, error) { return l.send(ctx, app) }, pool.Close, nil
}

// send saves an event at a time.
func (l *letters) send(ctx context.Context, app *application.Application) (all []sent, err error) {
	for range l.Number {
		saved, err := app.Save(ctx, newAccount(uuid.New(), 1))
		if err != nil {
			return nil, err
		}
		all = append(all, sent{Position: saved.Position, At: time.Now().UnixNano()})
		time.Sleep(letterPause)
	}
	return all, nil
}

// postbox is a policy that takes down when events have come.
type postbox struct {
	mu       sync.Mutex // protects what follows
	received map[int64]time.Time
	all      chan struct{} // closed when all have come
	expected int
}

func newPostbox(expected int) *postbox {
	return &postbox{received: map[int64]time.Time{}, all: make(chan struct{}), expected: expected}
}

func (p *postbox) receive(_ context.Context, event domain.Event) error {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, again := p.received[event.NotificationID]; again {
		return nil
	}
	p.received[event.NotificationID] = now
	if len(p.received) == p.expected {
		close(p.all)
	}
	return nil
}

// taken compares what was sent with what has come. A policy may be called
// before the save returns.
func (p *postbox) taken(all []sent) (histogram, error) {
	select {
	case <-p.all:
	case <-time.After(letterTimeout):
		return nil, errors.New("void: not every event that was saved has come to the policy")
	}
	taken := newHistogram()
	for _, s := range all {
		received, ok := p.received[s.Position]
		if !ok {
			return nil, errors.New("void: another event has come than was saved")
		}
		taken.add(time.Duration(received.UnixNano() - s.At))
	}
	return taken, nil
}

// A sender does the saves of a turn. The application is the leader in the
// follower's process.
type sender func(ctx context.Context, leader *application.Application) ([]sent, error)

// delivering is a way to tell followers: with the options of the follower's
// store.
func (b *bench) delivering(d *database, name string, options []gormstore.Option, send sender) way {
	return way{name: name, turn: func(ctx context.Context) (_ tally, err error) {
		if err := errors.Join(d.reset(ctx, 0), d.forget(ctx)); err != nil {
			return tally{}, err
		}
		db, pool, err := d.open(4)
		if err != nil {
			return tally{}, err
		}
		defer func() { err = errors.Join(err, pool.Close()) }()
		box := newPostbox(b.followers.deliveries)
		p, err := newPair(db, applicationName, box.receive, options)
		if err != nil {
			return tally{}, err
		}
		return p.deliver(ctx, box, send)
	}}
}

// deliver runs the follower while events are sent.
func (p *pair) deliver(ctx context.Context, box *postbox, send sender) (t tally, err error) {
	runner, err := system.NewRunner(p.system, system.Config{})
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, runner.Close()) }()
	if err := runner.Start(context.WithoutCancel(ctx)); err != nil {
		return t, err
	}
	start := time.Now()
	all, err := send(ctx, p.leader)
	if err != nil {
		return t, err
	}
	t.Latencies, err = box.taken(all)
	t.Operations, t.Elapsed = int64(len(all)), time.Since(start)
	return t, err
}

// deliveries are the ways: from this process, and on PostgreSQL, which can tell
// of it, from another one.
func (b *bench) deliveries(d *database) ([]way, error) {
	l := letters{Number: b.followers.deliveries}
	ways := []way{b.delivering(d, ours, nil, l.send)}
	if d.kind == sqliteKind {
		return ways, nil
	}
	listener, err := pglisten.New(d.dsn)
	if err != nil {
		return nil, err
	}
	elsewhere := func(ctx context.Context, _ *application.Application) ([]sent, error) {
		results, err := inProcesses[[]sent](ctx, 1, job{Kind: d.kind, DSN: d.dsn, Letters: &l})
		if err != nil {
			return nil, err
		}
		return results[0], nil
	}
	return append(ways,
		b.delivering(d, listening, []gormstore.Option{gormstore.WithListener(listener)}, elsewhere),
		b.delivering(d, polling, nil, elsewhere)), nil
}

// measureDelivery is the row delivery.
func (b *bench) measureDelivery(ctx context.Context, p *place) ([]result, error) {
	return b.within(p, func(d *database) ([]result, error) {
		ways, err := b.deliveries(d)
		if err != nil {
			return nil, err
		}
		c := &cell{row: rowDelivery, database: d.kind, workers: 1, events: 1, ways: ways,
			note: "from the end of a save to the policy; a save every 10 ms"}
		r, err := c.measure(ctx, b.rounds)
		return []result{r}, err
	})
}
