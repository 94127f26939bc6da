package benchmark

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/system"
)

const (
	contendedAccounts = 20
	directWriters     = 16
	directPause       = 50 * time.Millisecond // between the saves of a direct writer
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
	contended []uuid.UUID
}

// newBank makes the accounts and the orders.
func newBank(b *testing.B, db *gorm.DB) *bank {
	b.Helper()
	app, err := application.New(applicationName, application.WithStore(gormstore.New(db)),
		application.WithSnapshotting(map[string]int{"Account": 50}))
	expect.NoError(b, err)
	k := &bank{}
	k.accounts = expect.Must(application.NewRepository(app, accounts))
	repository := expect.Must(application.NewRepository(app, orders))
	k.Follower, err = system.NewFollower(app, system.On(func(ctx context.Context, e domain.Recorded[Placed]) error {
		return k.book(ctx, e.Data.Account)
	}))
	expect.NoError(b, err)
	for range contendedAccounts {
		account := newAccount(uuid.New(), 1)
		k.contended = append(k.contended, account.ID())
		expect.NoError(b, k.accounts.Save(b.Context(), account))
	}
	all := make([]*Order, *placed)
	for i := range all {
		all[i] = orders.Create(uuid.New(), Placed{k.contended[i%contendedAccounts]})
	}
	expect.NoError(b, repository.Save(b.Context(), all...))
	return k
}

func (k *bank) book(ctx context.Context, account uuid.UUID) error {
	return k.accounts.Update(ctx, account, func(a *Account) error {
		domain.Trigger(a, sampleBooked)
		return nil
	})
}

// process runs the process manager until it has processed all orders, beside so
// many direct writers.
func (k *bank) process(b *testing.B, d *database, writers int) float64 {
	b.Helper()
	s := expect.Must(system.New(system.Pipe(k, k)))
	runner := expect.Must(system.NewRunner(s, system.Config{}))
	defer func() { expect.NoError(b, runner.Close()) }()
	ctx, cancel := context.WithCancel(b.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	return measure(b, d, *placed, func() error {
		if err := runner.Start(context.WithoutCancel(ctx)); err != nil {
			return err
		}
		done := make(chan error, 1)
		go func() { done <- runner.WaitFor(ctx, k) }() // for the log as it is now
		for range writers {
			group.Go(func() {
				if err := k.write(ctx); err != nil {
					b.Errorf("a direct writer: %v", err)
				}
			})
		}
		return <-done
	})
}

// write changes accounts until the context ends.
func (k *bank) write(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(directPause):
		}
		// A save that has begun is awaited.
		if err := k.book(context.WithoutCancel(ctx), k.contended[rand.IntN(contendedAccounts)]); err != nil {
			return err
		}
	}
}

// BenchmarkContention is the row Contention, with an unlimited pool that keeps
// so many idle connections.
func BenchmarkContention(b *testing.B) {
	onPostgres(b, func(b *testing.B, d *database) {
		for _, idle := range []int{2, 20} {
			b.Run("idle="+strconv.Itoa(idle), func(b *testing.B) {
				var ways []way
				for _, writers := range []int{0, directWriters} {
					name := ours
					if writers == 0 {
						name = "no-writers"
					}
					ways = append(ways, unprepared(name, func(b *testing.B) (taken float64) {
						for range b.N {
							d.reset(b, 0)
							d.forget(b)
							db := d.gorm(b, idle)
							pool := expect.Must(db.DB())
							pool.SetMaxOpenConns(0)
							taken = newBank(b, db).process(b, d, writers)
						}
						return taken
					}))
				}
				compare(b, ways...)
			})
		}
	})
}
