package benchmark

import (
	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/domain"
)

// Account is the aggregate of the rows that measure the whole framework. Its
// state stays small, however many events it has.
type Account struct {
	domain.Aggregate
	Owner    string
	Balance  int64
	Bookings int
}

// Opened is the first event of every account.
type Opened struct{ Owner string }

// Apply gives the account its owner.
func (e Opened) Apply(a *Account) { a.Owner = e.Owner }

// Booked is all the other events: about 200 bytes of JSON.
type Booked struct {
	Amount    int64    `json:"amount"`
	Currency  string   `json:"currency"`
	Partner   string   `json:"partner"`
	Purpose   string   `json:"purpose"`
	Reference string   `json:"reference"`
	Rate      float64  `json:"rate"`
	Instant   bool     `json:"instant"`
	Tags      []string `json:"tags"`
}

// Apply changes the balance.
func (e Booked) Apply(a *Account) {
	a.Balance += e.Amount
	a.Bookings++
}

var accounts = domain.Define("Account", domain.On("Opened", Opened{}), domain.On("Booked", Booked{}))

var (
	sampleOpened = Opened{Owner: "Ada Lovelace"}
	sampleBooked = Booked{
		Amount: 181512, Currency: "GBP", Partner: "Analytical Engines Ltd", Purpose: "Gear wheels, second delivery",
		Reference: "2024/0815-4711", Rate: 1.2345, Instant: true, Tags: []string{"invoice", "workshop"},
	}
)

// newAccount makes an account with a number of events, which are pending.
func newAccount(id uuid.UUID, events int) *Account {
	account := accounts.Create(id, sampleOpened)
	for range events - 1 {
		domain.Trigger(account, sampleBooked)
	}
	return account
}
