package system_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// Account is an aggregate of a bank.
type Account struct {
	domain.Aggregate
	Balance int
}

// Opened, Debited and Credited are its events.
type (
	Opened   struct{}
	Debited  struct{ Amount int }
	Credited struct{ Amount int }
)

func (Opened) Apply(*Account)       {}
func (e Debited) Apply(a *Account)  { a.Balance -= e.Amount }
func (e Credited) Apply(a *Account) { a.Balance += e.Amount }

// Order is an aggregate: money that is to go from one account to another.
type Order struct{ domain.Aggregate }

// Requested and Refused are its events.
type (
	Requested struct {
		From, To domain.ID
		Amount   int
	}
	Refused struct{ Reason string }
)

func (Requested) Apply(*Order) {}
func (Refused) Apply(*Order)   {}

var (
	accountsOf = domain.Define("Account", domain.On("Opened", Opened{}), domain.On("Debited", Debited{}), domain.On("Credited", Credited{}))
	ordersOf   = domain.Define("Order", domain.On("Requested", Requested{}), domain.On("Refused", Refused{}))
)

// Bank is the application that has accounts and orders.
type Bank struct {
	*application.Application
	accounts *application.Repository[Account]
	orders   *application.Repository[Order]
}

func newBank(options ...application.Option) (*Bank, error) {
	app, err := application.New("Bank", options...)
	if err != nil {
		return nil, err
	}
	accounts, err := application.NewRepository(app, accountsOf)
	if err != nil {
		return nil, err
	}
	orders, err := application.NewRepository(app, ordersOf)
	return &Bank{app, accounts, orders}, err
}

// Transfers is a process manager: it carries out the orders of the bank.
type Transfers struct {
	*system.Follower
	bank *Bank
}

func newTransfers(bank *Bank, options ...application.Option) (*Transfers, error) {
	app, err := application.New("Transfers", options...)
	if err != nil {
		return nil, err
	}
	t := &Transfers{bank: bank}
	t.Follower, err = system.NewFollower(app, system.On(t.requested))
	return t, err
}

var errTooLittle = errors.New("there is too little money on the account")

// requested moves the money. Both accounts, or the refusal, commit together
// with the position, so that each order is carried out once.
func (t *Transfers) requested(ctx context.Context, e domain.Recorded[Requested]) error {
	err := t.bank.accounts.Update(ctx, e.Data.From, func(a *Account) error {
		if a.Balance < e.Data.Amount {
			return errTooLittle
		}
		domain.Trigger(a, Debited{e.Data.Amount})
		return nil
	})
	if errors.Is(err, errTooLittle) {
		return t.bank.orders.Update(ctx, e.OriginatorID, func(o *Order) error {
			domain.Trigger(o, Refused{err.Error()})
			return nil
		})
	}
	if err != nil {
		return err
	}
	return t.bank.accounts.Update(ctx, e.Data.To, func(a *Account) error {
		domain.Trigger(a, Credited{e.Data.Amount})
		return nil
	})
}

// A process manager saves aggregates of the application that it follows.
func Example_processManager() {
	ctx := context.Background()
	store := application.WithStore(memory.New())
	bank, err := newBank(store)
	if err != nil {
		log.Fatal(err)
	}
	transfers, err := newTransfers(bank, store)
	if err != nil {
		log.Fatal(err)
	}
	sys, err := system.New(system.Pipe(bank, transfers))
	if err != nil {
		log.Fatal(err)
	}
	runner, err := system.NewSingleThreadedRunner(sys)
	if err != nil {
		log.Fatal(err)
	}
	if err := runner.Start(ctx); err != nil {
		log.Fatal(err)
	}

	alice, bob := domain.NewIDv5("/accounts/alice"), domain.NewIDv5("/accounts/bob")
	rich := accountsOf.Create(alice, Opened{})
	domain.Trigger(rich, Credited{Amount: 100})
	if _, err := bank.Save(ctx, rich, accountsOf.Create(bob, Opened{})); err != nil {
		log.Fatal(err)
	}
	for _, amount := range []int{70, 70} {
		order := ordersOf.Create(domain.NewID(), Requested{From: alice, To: bob, Amount: amount})
		if err := errors.Join(bank.orders.Save(ctx, order), runner.Err()); err != nil {
			log.Fatal(err)
		}
		done, err := bank.orders.Get(ctx, order.ID())
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("refused:", done.Version() == 2)
	}
	for _, id := range []domain.ID{alice, bob} {
		account, err := bank.accounts.Get(ctx, id)
		fmt.Println(account.Balance, err)
	}
	// Output:
	// refused: false
	// refused: true
	// 30 <nil>
	// 70 <nil>
}
