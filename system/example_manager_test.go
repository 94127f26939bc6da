package system_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// Account is an aggregate of a bank.
type Account struct {
	domain.Aggregate
	Balance int
	Closed  bool
}

// Opened, Debited, Credited and Closed are its events.
type (
	Opened   struct{}
	Debited  struct{ Amount int }
	Credited struct{ Amount int }
	Closed   struct{}
)

func (Opened) Apply(*Account)       {}
func (e Debited) Apply(a *Account)  { a.Balance -= e.Amount }
func (e Credited) Apply(a *Account) { a.Balance += e.Amount }
func (Closed) Apply(a *Account)     { a.Closed = true }

// Debit takes money off the account, or refuses to.
func (a *Account) Debit(amount int) error {
	if a.Balance < amount {
		return errors.New("there is too little money on the account")
	}
	domain.Trigger(a, Debited{amount})
	return nil
}

// Credit puts money on the account, or refuses to.
func (a *Account) Credit(amount int) error {
	if a.Closed {
		return errors.New("the account is closed")
	}
	domain.Trigger(a, Credited{amount})
	return nil
}

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
	accountsOf = domain.Define("Account", domain.On("Opened", Opened{}), domain.On("Debited", Debited{}), domain.On("Credited", Credited{}),
		domain.On("Closed", Closed{}))
	ordersOf = domain.Define("Order", domain.On("Requested", Requested{}), domain.On("Refused", Refused{}))
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

// requested moves the money. Nothing is saved before all is decided: what a
// handler has saved is kept when it returns nil. Both accounts, or the refusal,
// commit together with the position, so that each order is carried out once.
func (t *Transfers) requested(ctx context.Context, e domain.Recorded[Requested]) error {
	from, err := t.bank.accounts.Get(ctx, e.Data.From)
	if err != nil {
		return err
	}
	to, err := t.bank.accounts.Get(ctx, e.Data.To)
	if err != nil {
		return err
	}
	if refusal := errors.Join(from.Debit(e.Data.Amount), to.Credit(e.Data.Amount)); refusal != nil {
		return t.bank.orders.Update(ctx, e.OriginatorID, func(o *Order) error {
			domain.Trigger(o, Refused{refusal.Error()})
			return nil
		})
	}
	return t.bank.accounts.Save(ctx, from, to)
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
	carol := domain.NewIDv5("/accounts/carol")
	closed := accountsOf.Create(carol, Opened{})
	domain.Trigger(closed, Closed{})
	if err := bank.accounts.Save(ctx, closed); err != nil {
		log.Fatal(err)
	}
	for _, order := range []Requested{{alice, bob, 70}, {alice, bob, 70}, {bob, carol, 70}} {
		order := ordersOf.Create(uuid.New(), order)
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
	// refused: true
	// 30 <nil>
	// 70 <nil>
}
