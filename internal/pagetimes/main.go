// Command pagetimes measures how long the pages of gormstore/admin take on a
// large log. It fills a database, asks for every page and its JSON twin, and
// prints a table of the slowest of several answers. It fails if a page takes
// longer than -limit.
//
//	go run ./internal/pagetimes                      SQLite, in a temporary folder
//	go run ./internal/pagetimes -postgres "host=…"   an empty database of PostgreSQL
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/admin"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// Account is what the log is about.
type Account struct {
	domain.Aggregate
	Balance int
}

// Paid adds an amount.
type Paid struct{ Amount int }

// Apply adds the amount.
func (p Paid) Apply(a *Account) { a.Balance += p.Amount }

// Counted is a rare event: its topic is that of one in ten thousand.
type Counted struct{}

// Apply changes nothing.
func (Counted) Apply(*Account) {}

var accounts = domain.Define("Account", domain.On("Paid", Paid{}), domain.On("Counted", Counted{}))

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "pagetimes:", err)
		os.Exit(1)
	}
}

func run() error {
	events := flag.Int("events", 1_000_000, "how many events the log has")
	aggregates := flag.Int("aggregates", 100_000, "of how many aggregates")
	dsn := flag.String("postgres", "", "an empty database of PostgreSQL; SQLite by default")
	limit := flag.Duration("limit", 200*time.Millisecond, "how long a page may take")
	flag.Parse()
	folder, err := os.MkdirTemp("", "pagetimes")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	db, err := open(*dsn, folder)
	if err != nil {
		return err
	}
	if err := gormstore.AutoMigrate(db); err != nil {
		return err
	}
	store := application.WithStore(gormstore.New(db))
	quiet := application.WithLogger(slog.New(slog.DiscardHandler))
	bank, err := application.New("Bank", store, quiet)
	if err != nil {
		return err
	}
	repository, err := application.NewRepository(bank, accounts)
	if err != nil {
		return err
	}
	ctx := context.Background()
	begin := time.Now()
	id, err := fill(ctx, repository, *events, *aggregates)
	if err != nil {
		return err
	}
	fmt.Printf("%d events of %d aggregates were saved in %v\n\n", *events, *aggregates, time.Since(begin).Round(time.Second))
	runner, err := newRunner(bank, store, quiet)
	if err != nil {
		return err
	}
	pages, err := admin.New(runner, admin.Config{
		Authorize: func(*http.Request) (admin.Rights, error) {
			return admin.Rights{List: true, Payload: true, Operate: true, Reset: true}, nil
		},
		Actions: true, Timeout: 10 * time.Second,
	})
	if err != nil {
		return err
	}
	return measure(pages, id, *events, *limit)
}

func open(dsn, folder string) (*gorm.DB, error) {
	if dsn != "" {
		return gorm.Open(postgres.Open(dsn), &gorm.Config{Logger: logger.Discard})
	}
	return gormstore.OpenSQLite(sqlite.Open, filepath.Join(folder, "pages.sqlite3"))
}

// fill saves the events, a hundred aggregates at once, and returns the id of one
// of them.
func fill(ctx context.Context, repository *application.Repository[Account], events, aggregates int) (id uuid.UUID, err error) {
	each := max(events/aggregates, 1)
	for made := 0; made < aggregates; {
		var batch []*Account
		for ; len(batch) < 100 && made < aggregates; made++ {
			id = uuid.New()
			account := accounts.Create(id, Paid{1})
			for i := 1; i < each; i++ {
				if i == each-1 && made%1000 == 0 {
					domain.Trigger(account, Counted{})
					continue
				}
				domain.Trigger(account, Paid{i})
			}
			batch = append(batch, account)
		}
		if err := repository.Save(ctx, batch...); err != nil {
			return id, err
		}
	}
	return id, nil
}

func newRunner(bank *application.Application, options ...application.Option) (*system.Runner, error) {
	app, err := application.New("Ledger", options...)
	if err != nil {
		return nil, err
	}
	follower, err := system.NewFollower(app, system.On(func(context.Context, domain.Recorded[Paid]) error { return nil }), system.Replayable())
	if err != nil {
		return nil, err
	}
	s, err := system.New(system.Pipe(bank, follower))
	if err != nil {
		return nil, err
	}
	runner, err := system.NewRunner(s, system.Config{})
	if err != nil {
		return nil, err
	}
	catchUp, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if _, err := runner.CatchUp(catchUp, follower, nil); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return nil, err
	}
	return runner, nil
}

// looks is how often each page is asked for.
const looks = 5

func measure(pages http.Handler, id uuid.UUID, events int, limit time.Duration) error {
	var slow error
	fmt.Printf("| page | slowest of %d | size | JSON twin | size |\n|---|---|---|---|---|\n", looks)
	for _, path := range []string{
		"/", "/log", "/log?tail=on", fmt.Sprint("/log?before=", events/2), "/log?before=100", "/log?topic=Account.Counted",
		"/log?topic=Account.Nothing", "/aggregate", fmt.Sprintf("/aggregate/Bank/%s", id), fmt.Sprintf("/aggregate/Bank/%s?v=5", id),
		"/followers", "/followers/Ledger", "/followers/Ledger/reset", "/followers/Ledger/sync", "/problems", fmt.Sprint("/problems?after=", events/2),
		"/settings",
	} {
		fmt.Printf("| %s |", path)
		for _, path := range []string{path, twin(path)} {
			slowest, size, err := ask(pages, path)
			if err != nil {
				return err
			}
			fmt.Printf(" %.1f ms | %.1f kB |", float64(slowest.Microseconds())/1000, float64(size)/1000)
			if slowest > limit {
				slow = errors.Join(slow, fmt.Errorf("%s took %v, more than %v", path, slowest, limit))
			}
		}
		fmt.Println()
	}
	return slow
}

// twin returns the path of the JSON twin of a page.
func twin(path string) string {
	if path == "/" {
		return "/api/overview"
	}
	return "/api" + path
}

// ask asks for a page, and returns the slowest of its answers and its size.
func ask(pages http.Handler, path string) (slowest time.Duration, size int, err error) {
	for range looks {
		begin := time.Now()
		w := httptest.NewRecorder()
		pages.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		slowest, size = max(slowest, time.Since(begin)), w.Body.Len()
		if w.Code != http.StatusOK {
			return slowest, size, fmt.Errorf("%s: got %d", path, w.Code)
		}
	}
	return slowest, size, nil
}
