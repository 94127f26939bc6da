package domain_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
)

// Dog is the aggregate of most tests.
type Dog struct {
	domain.Aggregate
	Name   string
	Tricks []string
}

type Registered struct{ Name string }

func (e Registered) Apply(d *Dog) { d.Name = e.Name }

type TrickAdded struct{ Trick string }

func (e TrickAdded) Apply(d *Dog) { d.Tricks = append(d.Tricks, e.Trick) }

var Dogs = domain.Define("Dog",
	domain.On("Registered", Registered{}),
	domain.On("TrickAdded", TrickAdded{}),
)

func DogID(name string) uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceURL, []byte("/dogs/"+name)) }

func RegisterDog(name string) *Dog { return Dogs.Create(DogID(name), Registered{Name: name}) }

func (d *Dog) AddTrick(trick string) { domain.Trigger(d, TrickAdded{Trick: trick}) }

// BankAccount is the aggregate with business rules.
type BankAccount struct {
	domain.Aggregate
	Owner          string
	Balance        int
	OverdraftLimit int
	Closed         bool
}

type AccountOpened struct{ Owner string }

func (e AccountOpened) Apply(a *BankAccount) { a.Owner = e.Owner }

type Transacted struct{ Amount int }

func (e Transacted) Apply(a *BankAccount) { a.Balance += e.Amount }

type OverdraftLimitSet struct{ Limit int }

func (e OverdraftLimitSet) Apply(a *BankAccount) { a.OverdraftLimit = e.Limit }

type AccountClosed struct{}

func (AccountClosed) Apply(a *BankAccount) { a.Closed = true }

var BankAccounts = domain.Define("BankAccount",
	domain.On("Opened", AccountOpened{}),
	domain.On("Transacted", Transacted{}),
	domain.On("OverdraftLimitSet", OverdraftLimitSet{}),
	domain.On("Closed", AccountClosed{}),
)

var (
	errClosed            = errors.New("account is closed")
	errInsufficientFunds = errors.New("insufficient funds")
)

func OpenAccount(owner string) *BankAccount {
	return BankAccounts.Create(uuid.New(), AccountOpened{Owner: owner})
}

func (a *BankAccount) Transact(amount int) error {
	switch {
	case a.Closed:
		return errClosed
	case a.Balance+amount < -a.OverdraftLimit:
		return fmt.Errorf("%w: %d", errInsufficientFunds, a.Balance)
	}
	domain.Trigger(a, Transacted{Amount: amount})
	return nil
}

func (a *BankAccount) SetOverdraftLimit(limit int) error {
	if a.Closed {
		return errClosed
	}
	domain.Trigger(a, OverdraftLimitSet{Limit: limit})
	return nil
}

func (a *BankAccount) Close() { domain.Trigger(a, AccountClosed{}) }

// definitionError calls f, which must panic with an error about a definition
// whose text contains want.
func definitionError(t *testing.T, want string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		problem := recover()
		err, ok := problem.(error)
		if !ok || !strings.HasPrefix(err.Error(), "domain: ") {
			t.Fatalf("got panic value %v (%T), want an error about a definition", problem, problem)
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, want it to contain %q", err, want)
		}
		if !errors.Is(err, domain.ErrEventSourcing) {
			t.Errorf("%v is no ErrEventSourcing", err)
		}
	}()
	f()
}

// clock returns the times one after the other.
func clock(times ...time.Time) func() time.Time {
	return func() time.Time {
		now := times[0]
		times = times[1:]
		return now
	}
}

// day is a time in a year of each test, so that no test meets another's.
func day(year int) time.Time { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC) }
