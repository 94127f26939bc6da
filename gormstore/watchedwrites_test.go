package gormstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/faultdb"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// watched is a handle on a database whose driver calls are counted, and may
// fail; beside it is another handle, as if of another process, whose calls are
// not.
type watched struct {
	db     *gorm.DB
	other  *gorm.DB
	faults *faultdb.Injector
}

// eachWatched runs a test on every database that several processes can use.
func eachWatched(t *testing.T, test func(t *testing.T, w *watched)) {
	t.Helper()
	t.Parallel()
	for _, backend := range sharedBackends {
		t.Run(backend.Name, func(t *testing.T) {
			t.Parallel()
			test(t, watch(t, created(t, backend.Open(t))))
		})
	}
}

func watch(t testing.TB, other *gorm.DB) *watched {
	t.Helper()
	w := &watched{other: other, faults: faultdb.New()}
	if other.Name() == "postgres" {
		config, err := pgx.ParseConfig(dsn(t, other))
		if err != nil {
			t.Fatal(err)
		}
		pool := sql.OpenDB(w.faults.Connector(stdlib.GetConnector(*config)))
		w.db = testdb.Open(t, postgres.New(postgres.Config{Conn: pool}))
		return w
	}
	pool, err := other.DB()
	if err != nil {
		t.Fatal(err)
	}
	connector := &dsnConnector{driver: pool.Driver(), dsn: dsn(t, other)}
	w.db = testdb.Open(t, sqlite.New(sqlite.Config{Conn: sql.OpenDB(w.faults.Connector(connector))}))
	return w
}

// dsnConnector opens connections of a driver that has no connectors.
type dsnConnector struct {
	driver driver.Driver
	dsn    string
}

func (c *dsnConnector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }

func (c *dsnConnector) Driver() driver.Driver { return c.driver }

// never is a plan in which nothing fails and everything is counted.
func never(faultdb.Call) faultdb.Fault { return faultdb.Fault{} }

// writes counts how often events were written: statements on PostgreSQL,
// commits on SQLite.
func (w *watched) writes(calls []faultdb.Call) (n int) {
	for _, call := range calls {
		if w.db.Name() == "postgres" && call.Op == faultdb.Query && isInsert(call) ||
			w.db.Name() == "sqlite" && call.Op == faultdb.Commit {
			n++
		}
	}
	return n
}

func isInsert(call faultdb.Call) bool { return strings.Contains(call.Statement, "INSERT INTO") }

// isMerged recognises the statement of a batch on PostgreSQL.
func isMerged(call faultdb.Call) bool {
	return isInsert(call) && strings.Contains(call.Statement, "unnest((SELECT $6")
}

// blocker is a transaction of another process that holds the order lock of an
// application.
type blocker struct {
	release context.CancelFunc
	done    chan error
}

// block begins a transaction in which before runs while it has the order lock,
// and returns when it has.
func block(t testing.TB, other *gorm.DB, more func(ctx context.Context, tx *gorm.DB) error) *blocker {
	t.Helper()
	released, release := context.WithCancel(context.Background())
	b := &blocker{release: release, done: make(chan error, 1)}
	r := recorder(t, other, schoolName, gormstore.WithStrictOrder())
	holds := make(chan struct{})
	go func() {
		b.done <- gormstore.Transaction(context.Background(), other, func(ctx context.Context, tx *gorm.DB) error {
			defer func() {
				select {
				case <-holds:
				default:
					close(holds)
				}
			}()
			if _, err := r.InsertEvents(ctx, history(uuid.New(), 1, 1)); err != nil {
				return err
			}
			if more != nil {
				if err := more(ctx, tx); err != nil {
					return err
				}
			}
			close(holds)
			<-released.Done()
			return nil
		})
	}()
	<-holds
	t.Cleanup(release)
	return b
}

// end commits the transaction.
func (b *blocker) end(t testing.TB) {
	t.Helper()
	b.release()
	if err := <-b.done; err != nil {
		t.Fatalf("the transaction that blocked: %v", err)
	}
}

// answer is the outcome of a save.
type answer struct {
	ids []int64
	err error
}

// asked is a save that is going on.
type asked struct {
	answer chan answer
}

// ask begins a save.
func ask(save func() ([]int64, error)) *asked {
	a := &asked{answer: make(chan answer, 1)}
	go func() {
		ids, err := save()
		a.answer <- answer{ids, err}
	}()
	return a
}

func (a *asked) get(t testing.TB) answer {
	t.Helper()
	select {
	case got := <-a.answer:
		return got
	case <-time.After(patience):
		t.Fatal("a save has not returned")
		return answer{}
	}
}

// batch makes sure that the saves form one batch: it lets one save lead and
// wait for the order lock that another process holds, and begins the others
// meanwhile. It returns their outcomes in order, and the one of the leader.
func (w *watched) batch(t testing.TB, saves ...func() ([]int64, error)) []answer {
	t.Helper()
	return w.batchBehind(t, block(t, w.other, nil), saves...)
}

func (w *watched) batchBehind(t testing.TB, b *blocker, saves ...func() ([]int64, error)) []answer {
	t.Helper()
	leader := w.plug(t)
	waiting := w.queue(t, saves...)
	b.end(t)
	answers := []answer{leader.get(t)}
	for _, a := range waiting {
		answers = append(answers, a.get(t))
	}
	return answers
}

// plug begins a save that leads and does not get the order lock.
func (w *watched) plug(t testing.TB) *asked {
	t.Helper()
	r := recorder(t, w.db, schoolName, unhurried)
	leader := ask(func() ([]int64, error) { return r.InsertEvents(t.Context(), history(uuid.New(), 1, 1)) })
	if !expect.Eventually(func() bool { waiting, led := gormstore.WaitingSaves(w.db); return led && waiting == 0 }) {
		t.Fatal("no save leads")
	}
	return leader
}

// queue begins saves that wait for the leader, one after the other.
func (w *watched) queue(t testing.TB, saves ...func() ([]int64, error)) []*asked {
	t.Helper()
	before, _ := gormstore.WaitingSaves(w.db)
	var all []*asked
	for i, save := range saves {
		all = append(all, ask(save))
		if !expect.Eventually(func() bool { waiting, _ := gormstore.WaitingSaves(w.db); return waiting == before+i+1 }) {
			t.Fatal("a save does not wait")
		}
	}
	return all
}

// saving makes the save of events by a recorder.
func saving(ctx context.Context, r persistence.AggregateRecorder, events []persistence.StoredEvent) func() ([]int64, error) {
	return func() ([]int64, error) { return r.InsertEvents(ctx, events) }
}

// wantAnswer fails the test unless a save is acknowledged with ids and its rows
// are there under them.
func wantAnswer(t testing.TB, r persistence.ApplicationRecorder, a answer, events []persistence.StoredEvent) {
	t.Helper()
	if a.err != nil || len(a.ids) != len(events) {
		t.Errorf("save of %d events: ids %v, error %v; want that many ids", len(events), a.ids, a.err)
		return
	}
	for i, id := range a.ids {
		found, err := r.SelectNotifications(t.Context(), persistence.NotificationRange{After: id - 1, Stop: id, Limit: 1})
		if err != nil || len(found) != 1 || found[0].OriginatorID != events[i].OriginatorID ||
			found[0].OriginatorVersion != events[i].OriginatorVersion || !slices.Equal(found[0].State, events[i].State) {
			t.Errorf("event %d with id %d is not what is stored: got %v, %v, want %v", i, id, found, err, events[i])
		}
	}
}

// wantConflictOn fails the test unless a save failed alone, with an error that
// says why.
func wantConflictOn(t testing.TB, a answer, id uuid.UUID, version, current int64) {
	t.Helper()
	conflict, ok := errors.AsType[*persistence.ConflictError](a.err)
	if !ok || a.ids != nil {
		t.Errorf("save of %s: ids %v, error %v; want a conflict", id, a.ids, a.err)
		return
	}
	if conflict.OriginatorID != id || conflict.Version != version || conflict.Current != current ||
		conflict.Application != schoolName || len(conflict.Stored) == 0 {
		t.Errorf("conflict is %+v, want one of %s at version %d with current %d", conflict, id, version, current)
	}
}

// waitingForLock counts the sessions on a database, which the test has to
// itself, that wait for an advisory lock.
func waitingForLock(t testing.TB, db *gorm.DB) (n int) {
	t.Helper()
	err := db.Raw("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = " +
		"(SELECT oid FROM pg_database WHERE datname = current_database())").Scan(&n).Error
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// The tests use the statements that programs use: the store knows the driver's
// connection on every database of PostgreSQL that package testdb opens.
func TestStoreKnowsTheConnectionsOfTests(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(testing.TB) *gorm.DB{
		"of a schema": testdb.OpenPostgresSchema, "of a database": testdb.OpenPostgres,
	} {
		takes, err := gormstore.TakesRequests(expect.Must(open(t).DB()))
		if err != nil || !takes {
			t.Errorf("%s: statements can be canceled by request: %t, %v, want true and no error", name, takes, err)
		}
	}
}
