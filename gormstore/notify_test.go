package gormstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/faultdb"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// ear hears every notification on the channel of a database, on a separate
// connection.
type ear struct {
	conn    *pgx.Conn
	channel string
}

func listenTo(t testing.TB, db *gorm.DB) *ear {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn(t, db))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	e := &ear{conn, gormstore.ChannelOf(gormstore.New(db))}
	if _, err := conn.Exec(t.Context(), "LISTEN "+e.channel); err != nil {
		t.Fatal(err)
	}
	return e
}

// end is notified after what is expected, so that the test need not wait for
// what does not come.
const end = "the end"

// want fails the test unless these texts, in order, were notified since it was
// asked last.
func (e *ear) want(t testing.TB, when string, want ...string) {
	t.Helper()
	if _, err := e.conn.Exec(t.Context(), "SELECT pg_notify($1, $2)", e.channel, end); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var heard []string
	for {
		n, err := e.conn.WaitForNotification(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if n.Payload == end {
			break
		}
		heard = append(heard, n.Payload)
	}
	if !slices.Equal(heard, want) {
		t.Errorf("%s: heard %q, want %q", when, heard, want)
	}
}

// notifying makes the recorder of a Store that tells of its saves.
func notifying(t testing.TB, db *gorm.DB, application string) persistence.ProcessRecorder {
	t.Helper()
	return recorder(t, db, application, gormstore.WithNotify())
}

// Every save tells of itself once, however its statement is sent to the server.
func TestNotifyOfSaves(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			plain := created(t, testdb.OpenPostgres(t))
			heard := listenTo(t, plain)
			db := testdb.Open(t, postgres.Open(withParameter(t, dsn(t, plain), "default_query_exec_mode", mode)))
			r, dog := notifying(t, db, schoolName), uuid.New()
			insert(t, r, history(dog, 1, 1)...)
			heard.want(t, "one event", schoolName)
			insert(t, r, history(dog, 2, 3)...)
			heard.want(t, "several events", schoolName)
			insert(t, r, history(dog, 5, 3000)...)
			heard.want(t, "more events than fit into a batch", schoolName)
			if _, err := r.InsertProcessed(t.Context(), history(uuid.New(), 1, 2), position(1)); err != nil {
				t.Fatal(err)
			}
			heard.want(t, "events with a position", schoolName)
			if _, err := r.InsertEvents(t.Context(), history(dog, 1, 1)); !persistence.IsConflict(err) {
				t.Errorf("a save again: error %v, want a conflict", err)
			}
			heard.want(t, "a conflict")
		})
	}
}

func position(id int64) persistence.Tracking {
	return persistence.Tracking{ApplicationName: kennels, NotificationID: id}
}

// What has no follower is not signaled, and nothing is if signals were not
// asked for.
func TestNotifyNothingElse(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.OpenPostgres(t))
	heard := listenTo(t, db)
	store := gormstore.New(db, gormstore.WithNotify())
	r, s := notifying(t, db, schoolName), expect.Must(store.SnapshotRecorder(schoolName))
	insert(t, s, history(uuid.New(), 1, 1)...)
	heard.want(t, "a snapshot")
	if err := r.InsertTracking(t.Context(), position(1)); err != nil {
		t.Fatal(err)
	}
	heard.want(t, "a position")
	insert(t, r)
	heard.want(t, "no events")
	wantWorking(t, db)
	heard.want(t, "saves without the option")
}

// A merged batch tells of itself in the statement that stores it. Stores with
// and without the option, on one handle, do not write for each other.
func TestNotifyOfMergedBatch(t *testing.T) {
	t.Parallel()
	w := watch(t, created(t, testdb.OpenPostgres(t)))
	heard := listenTo(t, w.other)
	loud, silent := notifying(t, w.db, schoolName), recorder(t, w.db, schoolName)
	insert(t, loud, history(uuid.New(), 1, 1)...)
	heard.want(t, "the first save", schoolName)

	b := block(t, w.other, nil)
	w.faults.Arm(never)
	first := ask(saving(t.Context(), loud, history(uuid.New(), 1, 1)))
	asked := []*asked{first, ask(saving(t.Context(), silent, history(uuid.New(), 1, 1)))}
	if !expect.Eventually(func() bool { return waitingForLock(t, w.other) == 2 }) {
		t.Fatal("two saves do not lead")
	}
	for range 5 {
		asked = append(asked, w.queue(t, saving(t.Context(), loud, history(uuid.New(), 1, 2)))...)
		asked = append(asked, w.queue(t, saving(t.Context(), silent, history(uuid.New(), 1, 2)))...)
	}
	b.end(t)
	for _, a := range asked {
		if got := a.get(t); got.err != nil {
			t.Error(got.err)
		}
	}
	heard.want(t, "a save and a batch", schoolName, schoolName)
	var told, untold int
	for _, call := range w.faults.Disarm() {
		switch {
		case !isInsert(call):
			if call.Op != faultdb.Connect && call.Op != faultdb.Fetch {
				t.Errorf("beside the merged statements there was a %s: %s", call.Op, call.Statement)
			}
		case call.Op != faultdb.Query:
		case strings.Contains(call.Statement, "pg_notify"):
			told++
		default:
			untold++
		}
	}
	if told != 2 || untold != 2 {
		t.Errorf("%d statements that notify and %d others, want 2 of each", told, untold)
	}
}

// Transactions tell of each application once, when they are committed, and of
// what is then stored.
func TestNotifyOfTransactions(t *testing.T) {
	t.Parallel()
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			db := created(t, testdb.OpenPostgres(t))
			if d.plugin {
				withPluginOnly(t, db)
			}
			testNotifyOfTransactions(t, db, d)
		})
	}
}

func testNotifyOfTransactions(t *testing.T, db *gorm.DB, d door) {
	heard, c := listenTo(t, db), &clinic{db: db, door: d}
	dogs, counters := notifying(t, db, schoolName), notifying(t, db, countersName)
	save := func(ctx context.Context, r persistence.ProcessRecorder) error {
		return last(r.InsertEvents(ctx, history(uuid.New(), 1, 2)))
	}
	for _, test := range []struct {
		when string
		do   work
		want []string
	}{
		{"several saves", func(ctx context.Context, _ *gorm.DB) error {
			return errors.Join(save(ctx, dogs), save(ctx, dogs), save(ctx, dogs))
		}, []string{schoolName}},
		{"saves of two applications", func(ctx context.Context, _ *gorm.DB) error {
			return errors.Join(save(ctx, dogs), save(ctx, counters), save(ctx, dogs))
		}, []string{schoolName, countersName}},
		{"a save that is undone", func(ctx context.Context, _ *gorm.DB) error {
			return errors.Join(save(ctx, dogs), errUndone)
		}, nil},
		{"a nested save that is undone, and another", func(ctx context.Context, tx *gorm.DB) error {
			err := c.nest(ctx, tx, func(ctx context.Context, _ *gorm.DB) error {
				return errors.Join(save(ctx, dogs), errUndone)
			})
			if !errors.Is(err, errUndone) {
				t.Errorf("nested: error %v, want the one of the function", err)
			}
			return save(ctx, counters)
		}, []string{countersName}},
		{"a nested save that is undone, and a later one of the same application", func(ctx context.Context, tx *gorm.DB) error {
			_ = c.nest(ctx, tx, func(ctx context.Context, _ *gorm.DB) error {
				return errors.Join(save(ctx, dogs), errUndone)
			})
			return save(ctx, dogs)
		}, []string{schoolName}},
		{"a position", func(ctx context.Context, _ *gorm.DB) error {
			return dogs.InsertTracking(ctx, position(1))
		}, nil},
		{"no save", func(context.Context, *gorm.DB) error { return nil }, nil},
	} {
		err := d.run(t.Context(), db, func(ctx context.Context, tx *gorm.DB) error {
			err := test.do(ctx, tx)
			heard.want(t, test.when+", before the commit")
			return err
		})
		if err != nil && !errors.Is(err, errUndone) {
			t.Errorf("%s: %v, want no error or errUndone", test.when, err)
		}
		heard.want(t, test.when, test.want...)
	}
}

// A save tells of itself although another Store, which tells of none, has saved
// in the transaction before.
func TestNotifyAfterASaveThatTellsNobody(t *testing.T) {
	t.Parallel()
	db := created(t, testdb.OpenPostgres(t))
	heard, silent, dogs := listenTo(t, db), recorder(t, db, schoolName), notifying(t, db, schoolName)
	transaction(t, db, func(ctx context.Context, _ *gorm.DB) error {
		for _, r := range []persistence.ProcessRecorder{silent, dogs, silent, dogs} {
			if _, err := r.InsertEvents(ctx, history(uuid.New(), 1, 1)); err != nil {
				return err
			}
		}
		return nil
	})
	heard.want(t, "a save after one without a signal", schoolName)
}

// If nothing can be heard, Listen says so at once.
func TestNotifyListenIsNotSupported(t *testing.T) {
	t.Parallel()
	sqlite, pg := testdb.SQLiteFile(t), testdb.OpenPostgres(t)
	closed := gormstore.New(pg, gormstore.WithListener(deaf{}))
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		store *gormstore.Store
		want  error
	}{
		"no option":           {gormstore.New(pg), persistence.ErrNotSupported},
		"only WithNotify":     {gormstore.New(pg, gormstore.WithNotify()), persistence.ErrNotSupported},
		"WithListener of nil": {gormstore.New(pg, gormstore.WithListener(nil)), persistence.ErrNotSupported},
		"SQLite":              {gormstore.New(sqlite, gormstore.WithListener(deaf{})), persistence.ErrNotSupported},
		"closed":              {closed, persistence.ErrClosed},
		"no database":         {gormstore.New(nil, gormstore.WithListener(deaf{})), persistence.ErrInterface},
		"a listener":          {gormstore.New(migrated(t, pg), gormstore.WithListener(deaf{})), errDeaf},
	} {
		l := capability.Of(test.store).Listener
		if err := l.Listen(t.Context(), func(string) {}); !errors.Is(err, test.want) {
			t.Errorf("%s: error %v, want %v", name, err, test.want)
		}
	}
}

// deaf is a listener that only asks what it should listen to.
type deaf struct{}

var errDeaf = errors.New("deaf")

func (deaf) Listen(ctx context.Context, channel func(context.Context) (string, error), _ func(string)) error {
	name, err := channel(ctx)
	if !strings.HasPrefix(name, "eventsourcing_") {
		return fmt.Errorf("channel is %q: %w", name, err)
	}
	return errors.Join(errDeaf, err)
}

// On SQLite the options do not change what is stored.
func TestNotifyOnSQLite(t *testing.T) {
	t.Parallel()
	db := migrated(t, testdb.SQLiteFile(t))
	insert(t, notifying(t, db, schoolName), history(uuid.New(), 1, 2)...)
	if got := len(wholeLog(t, recorder(t, db, schoolName))); got != 2 {
		t.Errorf("%d events are stored, want 2", got)
	}
}
