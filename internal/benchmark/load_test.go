package benchmark

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/cipher"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// newLedger makes an application of accounts.
func newLedger(t testing.TB, db *gorm.DB, name string, options ...application.Option) (*application.Application, *application.Repository[Account]) {
	t.Helper()
	app := expect.Must(application.New(name, append(options, application.WithStore(gormstore.New(db)))...))
	repository := expect.Must(application.NewRepository(app, accounts))
	return app, repository
}

// sealed has an application compress states with zlib and encrypt them with
// AES.
func sealed(t testing.TB) application.Option {
	t.Helper()
	value := expect.Must(cipher.CreateKey(32))
	return application.WithEnv(map[string]string{
		"COMPRESSOR_TOPIC": "zlib", "CIPHER_TOPIC": "aes", "CIPHER_KEY": value,
	})
}

// BenchmarkApplication is the row Application: Application.Save against raw rows
// that are as large.
func BenchmarkApplication(b *testing.B) {
	each(b, func(b *testing.B, d *database) {
		seal := sealed(b)
		app, _ := newLedger(b, d.gorm(b, 1), applicationName, seal)
		stored := expect.Must(bridge.Of(app).Mapper().ToStored(newAccount(uuid.New(), 2).PendingEvents()[1]))
		for _, writers := range []int{1, 64} {
			b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
				app, _ := newLedger(b, d.gorm(b, writers), applicationName, seal)
				_, insert := openRaw(b, d, writers, 1)
				compare(b,
					unprepared(raw, func(b *testing.B) float64 {
						return saving(b, d, newWriters(writers, 1, stored.Topic, stored.State, insert), b.N)
					}),
					unprepared(ours, func(b *testing.B) float64 { return saving(b, d, newBookkeepers(writers, app), b.N) }))
			})
		}
	})
}

// newBookkeepers makes operations that make events and save the account.
func newBookkeepers(n int, app *application.Application) (operations []operation) {
	for range n {
		var account *Account
		operations = append(operations, func(ctx context.Context) error {
			if account == nil || account.Version() == eventsPerAggregate {
				account = newAccount(uuid.New(), 1)
			} else {
				domain.Trigger(account, sampleBooked)
			}
			_, err := app.Save(ctx, account)
			return err
		})
	}
	return operations
}

// The applications of the row Load: the same histories, as the framework stores
// them, compressed and encrypted, and as JSON alone.
const (
	sealedName = "BenchmarkSealed"
	rawName    = "BenchmarkRaw"
)

const (
	loadedAggregates = 4  // that are loaded in turn
	behindSnapshot   = 10 // events that follow the snapshot
)

// BenchmarkLoad is the row Load. The cache asks the database for what is new,
// unless it is told not to.
func BenchmarkLoad(b *testing.B) {
	cache := map[string]string{"AGGREGATE_CACHE_MAXSIZE": "1000"}
	alone := map[string]string{"AGGREGATE_CACHE_MAXSIZE": "1000", "AGGREGATE_CACHE_FASTFORWARD": "n"}
	each(b, func(b *testing.B, d *database) {
		for _, events := range []int{100, 1000} {
			b.Run(fmt.Sprintf("events=%d", events), func(b *testing.B) {
				l := newLibrary(b, d, events)
				compare(b,
					l.loading(raw, l.openRows),
					l.loading(ours, l.repository(applicationName)),
					l.loading("ours+zlib+aes", l.repository(sealedName, l.seal)),
					l.loading("ours+snapshot", l.repository(applicationName, application.WithSnapshotting(nil))),
					l.loading("ours+cache", l.repository(applicationName, application.WithEnv(cache))),
					l.loading("ours+cache-alone", l.repository(applicationName, application.WithEnv(alone))))
			})
		}
	})
}

// A library is the histories that the row Load reads.
type library struct {
	d      *database
	db     *gorm.DB
	seal   application.Option
	ids    []uuid.UUID
	events int
}

// newLibrary writes histories of a number of events each.
func newLibrary(b *testing.B, d *database, events int) *library {
	b.Helper()
	l := &library{d: d, db: d.gorm(b, 1), seal: sealed(b), events: events}
	d.reset(b, *preload)
	app, plain := newLedger(b, l.db, applicationName, application.WithSnapshotting(nil))
	_, secret := newLedger(b, l.db, sealedName, l.seal)
	bare, _ := newLedger(b, l.db, rawName)
	for range loadedAggregates {
		id := uuid.New()
		l.ids = append(l.ids, id)
		var rows []persistence.StoredEvent
		for _, event := range newAccount(id, events).PendingEvents() {
			state := expect.Must(json.Marshal(event.Data))
			rows = append(rows, persistence.StoredEvent{OriginatorID: id, OriginatorVersion: event.OriginatorVersion, Topic: event.Topic, State: state})
		}
		expect.Must(bridge.Of(bare).Recorder().InsertEvents(b.Context(), rows))
		expect.Must(app.Save(b.Context(), newAccount(id, events)))
		expect.NoError(b, secret.Save(b.Context(), newAccount(id, events)))
		expect.NoError(b, plain.TakeSnapshotAt(b.Context(), id, int64(max(events-behindSnapshot, 1))))
	}
	d.execute(b, "ANALYZE")
	return l
}

// A getter loads a history and counts its events.
type getter func(ctx context.Context, id uuid.UUID) (events int, err error)

// repository loads with Repository.Get, by an application with these options.
func (l *library) repository(app string, options ...application.Option) func(testing.TB) getter {
	return func(t testing.TB) getter {
		t.Helper()
		_, repository := newLedger(t, l.db, app, options...)
		return func(ctx context.Context, id uuid.UUID) (int, error) {
			account, err := repository.Get(ctx, id)
			if err != nil {
				return 0, err
			}
			return int(account.Version()), nil
		}
	}
}

// openRows opens the limit of loading: the rows, and their payloads out of JSON.
func (l *library) openRows(t testing.TB) getter {
	t.Helper()
	query := prepare(t, l.d.pool(t, 1), "SELECT originator_version, topic, state FROM stored_events"+
		" WHERE application_name = $1 AND originator_id = $2 ORDER BY originator_version")
	return func(ctx context.Context, id uuid.UUID) (int, error) {
		rows, err := query.QueryContext(ctx, rawName, l.d.uuid(id))
		if err != nil {
			return 0, err
		}
		return eachRow(rows, func() error {
			var version int64
			var topic string
			var state []byte
			if err := rows.Scan(&version, &topic, &state); err != nil {
				return err
			}
			if version == 1 {
				return json.Unmarshal(state, new(Opened))
			}
			return json.Unmarshal(state, new(Booked))
		})
	}
}

// eachRow calls read at each row and counts them.
func eachRow(rows *sql.Rows, read func() error) (n int, err error) {
	defer rows.Close()
	for ; rows.Next(); n++ {
		if err := read(); err != nil {
			return n, err
		}
	}
	return n, rows.Err()
}

// loading is the way of a getter.
func (l *library) loading(name string, open func(testing.TB) getter) way {
	return way{name, func(b *testing.B) turn {
		get, next := open(b), 0
		read := func(ctx context.Context) error {
			next = (next + 1) % len(l.ids)
			events, err := get(ctx, l.ids[next])
			if err == nil && events != l.events {
				err = fmt.Errorf("void: %d of %d events were loaded", events, l.events)
			}
			return err
		}
		return func(b *testing.B) float64 { return operate(b, l.d, []operation{read}) }
	}}
}
