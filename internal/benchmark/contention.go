package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/system"
)

const (
	contendedAccounts = 20
	contendedOrders   = 5_000
	directWriters     = 16
	directPause       = 50 * time.Millisecond // between the saves of a direct writer
)

// The ways of the row contention, beside ours, which is with direct writers and
// the idle connections that database/sql keeps by default.
const (
	alone     = "no writers"
	pooled    = "20 idle connections"
	lonesome  = "20 idle, no writers"
	fewIdle   = 2
	manyIdle  = 20
	unlimited = 0
)

// Order is an aggregate for which the process manager changes an account.
type Order struct {
	domain.Aggregate
	Account uuid.UUID
}

// Placed is its event.
type Placed struct{ Account uuid.UUID }

// Apply keeps the account.
func (e Placed) Apply(o *Order) { o.Account = e.Account }

var orders = domain.Define("Order", domain.On("Placed", Placed{}))

// A bank is a process manager: it follows its own orders, and books each in an
// account that others change as well.
type bank struct {
	*system.Follower
	accounts  *application.Repository[Account]
	orders    *application.Repository[Order]
	contended []uuid.UUID
}

func newBank(db *gorm.DB) (*bank, error) {
	app, err := application.New(applicationName, application.WithStore(gormstore.New(db)),
		application.WithSnapshotting(map[string]int{"Account": 50}))
	if err != nil {
		return nil, err
	}
	b := &bank{}
	if b.accounts, err = application.NewRepository(app, accounts); err != nil {
		return nil, err
	}
	if b.orders, err = application.NewRepository(app, orders); err != nil {
		return nil, err
	}
	b.Follower, err = system.NewFollower(app, system.On(func(ctx context.Context, e domain.Recorded[Placed]) error {
		return b.book(ctx, e.Data.Account)
	}))
	return b, err
}

func (b *bank) book(ctx context.Context, account uuid.UUID) error {
	return b.accounts.Update(ctx, account, func(a *Account) error {
		domain.Trigger(a, sampleBooked)
		return nil
	})
}

// open makes the accounts and the orders.
func (b *bank) open(ctx context.Context) error {
	for range contendedAccounts {
		account := newAccount(uuid.New(), 1)
		b.contended = append(b.contended, account.ID())
		if err := b.accounts.Save(ctx, account); err != nil {
			return err
		}
	}
	placed := make([]*Order, contendedOrders)
	for i := range placed {
		placed[i] = orders.Create(uuid.New(), Placed{b.contended[i%contendedAccounts]})
	}
	return b.orders.Save(ctx, placed...)
}

// process runs the process manager until it has processed all orders, beside so
// many direct writers.
func (b *bank) process(ctx context.Context, writers int) (t tally, err error) {
	s, err := system.New(system.Pipe(b, b))
	if err != nil {
		return t, err
	}
	runner, err := system.NewRunner(s, system.Config{})
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, runner.Close()) }()
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	failed := make(chan error, writers)
	defer func() {
		cancel()
		wg.Wait()
		close(failed)
		for one := range failed {
			err = errors.Join(err, one)
		}
	}()
	start := time.Now()
	done := make(chan error, 1)
	if err := runner.Start(context.WithoutCancel(ctx)); err != nil {
		return t, err
	}
	go func() { done <- runner.WaitFor(ctx, b) }() // for the log as it is now
	for range writers {
		wg.Go(func() {
			if err := b.write(ctx); err != nil {
				failed <- err
			}
		})
	}
	if err := <-done; err != nil {
		return t, err
	}
	t = tally{Acknowledged: contendedOrders, Operations: contendedOrders, Elapsed: time.Since(start), Latencies: newHistogram()}
	return t, nil
}

// write changes accounts until the context ends.
func (b *bank) write(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(directPause):
		}
		// A save that has begun is awaited.
		if err := b.book(context.WithoutCancel(ctx), b.contended[rand.IntN(contendedAccounts)]); err != nil {
			return fmt.Errorf("a direct writer: %w", err)
		}
	}
}

// measureContention is the row contention.
func (b *bench) measureContention(ctx context.Context, p *place) ([]result, error) {
	if p.kind == sqliteKind { // where one transaction writes at a time
		return nil, nil
	}
	return b.within(p, func(d *database) ([]result, error) {
		c := &cell{row: rowContention, database: d.kind, workers: directWriters, events: 1, note: "orders of a process manager",
			ways: []way{
				d.contending(ours, fewIdle, directWriters), d.contending(alone, fewIdle, 0),
				d.contending(pooled, manyIdle, directWriters), d.contending(lonesome, manyIdle, 0),
			}}
		r, err := c.measure(ctx, b.rounds)
		return []result{r}, err
	})
}

// contending is a way of the row, with an unlimited pool that keeps so many
// idle connections.
func (d *database) contending(name string, idle, writers int) way {
	return way{name: name, turn: func(ctx context.Context) (_ tally, err error) {
		if err := errors.Join(d.reset(ctx, 0), d.forget(ctx)); err != nil {
			return tally{}, err
		}
		db, pool, err := d.open(manyIdle)
		if err != nil {
			return tally{}, err
		}
		defer func() { err = errors.Join(err, pool.Close()) }()
		pool.SetMaxOpenConns(unlimited)
		pool.SetMaxIdleConns(idle)
		b, err := newBank(db)
		if err != nil {
			return tally{}, err
		}
		if err := b.open(ctx); err != nil {
			return tally{}, err
		}
		return b.process(ctx, writers)
	}}
}
