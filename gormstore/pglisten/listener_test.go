package pglisten_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/pglisten"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/faultdb/pgproxy"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// The applications of these tests.
const (
	schoolName   = "TrainingSchool"
	countersName = "Counters"
)

// patience is how long a test waits for what must happen, before it calls it
// missing.
const patience = 3 * time.Minute

// await receives from a channel.
func await[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(patience):
		t.Fatalf("missing: %s", what)
		panic("unreachable")
	}
}

// database makes a database with tables.
func database(t testing.TB) (dsn string) {
	t.Helper()
	dsn = testdb.Postgres(t)
	migrated(t, open(t, dsn))
	return dsn
}

func open(t testing.TB, dsn string) *gorm.DB {
	t.Helper()
	return testdb.Open(t, postgres.Open(dsn))
}

func migrated(t testing.TB, db *gorm.DB) *gorm.DB {
	t.Helper()
	if err := gormstore.AutoMigrate(db); err != nil {
		t.Fatal(err)
	}
	return db
}

// process is a process that listens.
type process struct {
	woken chan string
	stop  context.CancelFunc
	done  chan error
}

// listen has a store over db listen by a listener of dsn, until the test ends.
func listen(t testing.TB, db *gorm.DB, dsn string, log slog.Handler, changes ...func(gormstore.Listener)) *process {
	t.Helper()
	l, err := pglisten.New(dsn, slog.New(log))
	if err != nil {
		t.Fatal(err)
	}
	pglisten.Hurry(l)
	for _, change := range changes {
		change(l)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{woken: make(chan string, 10_000), stop: cancel, done: make(chan error, 1)}
	store := gormstore.New(db, gormstore.WithListener(l))
	go func() {
		p.done <- capability.Of(store).Listener.Listen(ctx, func(application string) { p.woken <- application })
	}()
	t.Cleanup(func() { p.end(t) })
	return p
}

// end ends the process, which must do so by itself.
func (p *process) end(t testing.TB) {
	t.Helper()
	p.stop()
	err := await(t, "the end of Listen", p.done)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Listen: error %v, want that of the context", err)
	}
	p.done <- err // for later callers
}

// want fails the test unless the process is woken like this next.
func (p *process) want(t testing.TB, when, application string) {
	t.Helper()
	if got := await(t, fmt.Sprintf("%s: wake(%q)", when, application), p.woken); got != application {
		t.Fatalf("%s: woken by %q, want %q", when, got, application)
	}
}

// works fails the test unless the process hears of a save by another one. A
// connection that is lost meanwhile, as those of an impatient listener are on a
// busy machine, costs that save its signal.
func (p *process) works(t testing.TB, writer *gorm.DB) {
	t.Helper()
	r := notifying(t, writer, schoolName)
	for heard := ""; heard == ""; heard = await(t, "the signal of a save", p.woken) {
		save(t, t.Context(), r, 1)
	}
}

func notifying(t testing.TB, db *gorm.DB, application string) persistence.ProcessRecorder {
	t.Helper()
	r, err := gormstore.New(db, gormstore.WithNotify()).ProcessRecorder(application)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// save stores n events of a new originator.
func save(t testing.TB, ctx context.Context, r persistence.ProcessRecorder, n int64) {
	t.Helper()
	id := uuid.New()
	var events []persistence.StoredEvent
	for version := int64(1); version <= n; version++ {
		events = append(events, persistence.StoredEvent{OriginatorID: id, OriginatorVersion: version,
			Topic: "Dog.TrickAdded", State: []byte("{}")})
	}
	if _, err := r.InsertEvents(ctx, events); err != nil {
		t.Error(err)
	}
}

// A process hears of what another one has saved, alone, in batches and in
// transactions, once that is committed.
func TestListenerHearsOtherProcesses(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	p, writer := listen(t, open(t, dsn), dsn, slog.DiscardHandler), open(t, dsn)
	if err := writer.Use(gormstore.Plugin()); err != nil {
		t.Fatal(err)
	}
	r, other := notifying(t, writer, schoolName), notifying(t, open(t, dsn), countersName)
	p.want(t, "the beginning", "")
	save(t, t.Context(), r, 1)
	p.want(t, "one event", schoolName)
	save(t, t.Context(), r, 10)
	p.want(t, "several events", schoolName)
	save(t, t.Context(), r, 3000)
	p.want(t, "more events than fit into a batch", schoolName)

	inside := func(ctx context.Context) {
		save(t, ctx, r, 1)
		save(t, ctx, r, 2)
		save(t, t.Context(), other, 1)
		p.want(t, "another application, before the commit", countersName)
	}
	for name, run := range map[string]func(end error) error{
		"Transaction": func(end error) error {
			return gormstore.Transaction(t.Context(), writer, func(ctx context.Context, _ *gorm.DB) error { inside(ctx); return end })
		},
		"WithTx": func(end error) error {
			return writer.Transaction(func(tx *gorm.DB) error { inside(gormstore.WithTx(t.Context(), tx)); return end })
		},
	} {
		if err := run(nil); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		p.want(t, name+", after the commit", schoolName)
		undone := errors.New("undone")
		if err := run(undone); !errors.Is(err, undone) {
			t.Fatalf("%s: %v, want an error that is %v", name, err, undone)
		}
		save(t, t.Context(), other, 1)
		p.want(t, name+", after a rollback", countersName)
	}
}

// However many saves of one application there are at once, another one is still
// heard.
func TestListenerHearsAmongManySaves(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	p, writer := listen(t, open(t, dsn), dsn, slog.DiscardHandler), open(t, dsn)
	p.want(t, "the beginning", "")
	r := notifying(t, writer, schoolName)
	var writers sync.WaitGroup
	for range 20 {
		writers.Go(func() {
			for range 20 {
				save(t, t.Context(), r, 1)
			}
		})
	}
	writers.Wait()
	save(t, t.Context(), notifying(t, writer, countersName), 1)
	for heard := map[string]bool{}; !heard[schoolName] || !heard[countersName]; {
		heard[await(t, "the signals of both applications", p.woken)] = true
	}
}

// Tables in different schemas of a database have a channel each.
func TestListenerOfOneSchema(t *testing.T) {
	t.Parallel()
	dsn := testdb.Postgres(t)
	in := func(name string) *gorm.DB {
		db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{Logger: testdb.Quiet,
			NamingStrategy: schema.NamingStrategy{TablePrefix: name + "."}})
		if err != nil {
			t.Fatal(err)
		}
		pool, err := db.DB()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { pool.Close() })
		if err := db.Exec("CREATE SCHEMA " + name).Error; err != nil {
			t.Fatal(err)
		}
		return migrated(t, db)
	}
	a, b := in("a"), in("b")
	p := listen(t, a, dsn, slog.DiscardHandler)
	p.want(t, "the beginning", "")
	save(t, t.Context(), notifying(t, b, countersName), 1)
	save(t, t.Context(), notifying(t, a, schoolName), 1)
	p.want(t, "a save in either schema", schoolName)
}

// A listener that the server has hung up on connects again, says so, and wakes
// everybody.
func TestListenerConnectsAgain(t *testing.T) {
	t.Parallel()
	dsn, password := withPassword(t, database(t))
	log := &journal{}
	p, writer := listen(t, open(t, dsn), dsn, slog.NewTextHandler(log, nil)), open(t, dsn)
	p.want(t, "the beginning", "")
	for range 3 {
		terminate(t, writer)
		p.want(t, "after a loss", "")
		p.works(t, writer)
	}
	p.end(t)
	text := log.String()
	if lost, again := strings.Count(text, "level=WARN"), strings.Count(text, "level=INFO"); lost != 3 || again != 3 {
		t.Errorf("logged %d losses and %d recoveries, want 3 of each", lost, again)
	}
	if strings.Contains(text, password) || strings.Contains(text, "postgres://") {
		t.Errorf("the log says too much: %s", text)
	}
}

// withPassword adds a password to a DSN that has none; the server does not ask
// for it.
func withPassword(t testing.TB, dsn string) (with, password string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil || u.User == nil {
		t.Skip("the DSN is not a URL with a user")
	}
	if password, has := u.User.Password(); has {
		return dsn, password
	}
	password = "canary-" + rand.Text()
	u.User = url.UserPassword(u.User.Username(), password)
	return u.String(), password
}

// journal is a log that is kept, and tells when something is written to it.
type journal struct {
	mu      sync.Mutex // protects text
	text    strings.Builder
	written chan struct{} // may be nil
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.written != nil {
		close(j.written)
		j.written = nil
	}
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

const listeners = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'"

// terminate has the server hang up on the listeners of a database.
func terminate(t testing.TB, db *gorm.DB) {
	t.Helper()
	var ended []bool
	if err := db.Raw("SELECT pg_terminate_backend(pid) " + listeners).Scan(&ended).Error; err != nil || !slices.Equal(ended, []bool{true}) {
		t.Fatalf("terminated %v, %v; want one listener", ended, err)
	}
}

// A listener notices that its connection is cut, or silent for ever.
func TestListenerAsksForASignOfLife(t *testing.T) {
	t.Parallel()
	for name, action := range map[string]pgproxy.Action{
		"cut": pgproxy.CutBefore, "cut in the answer": pgproxy.CutAfter, "silent": pgproxy.Swallow,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := database(t)
			proxy, asked := pgproxy.New(t, dsn), 0
			proxy.Use(func(statement string) pgproxy.Action {
				if strings.HasPrefix(statement, "-- ping") {
					asked++
					if asked == 3 { // the answers before that are there
						return action
					}
				}
				return pgproxy.Forward
			})
			p, writer := listen(t, open(t, dsn), proxy.DSN(), slog.DiscardHandler, pglisten.AskEarly), open(t, dsn)
			p.want(t, "the beginning", "")
			p.want(t, "after the loss", "")
			p.works(t, writer)
		})
	}
}

// A listener that finds no server waits for one.
func TestListenerAwaitsTheServer(t *testing.T) {
	t.Parallel()
	cluster := testdb.NewCluster(t, "fsync=off")
	dsn := cluster.Database(t)
	db := migrated(t, open(t, dsn))
	if err := cluster.Stop(testdb.Fast); err != nil {
		t.Fatal(err)
	}
	lost := make(chan struct{})
	log := &journal{written: lost}
	p := listen(t, db, dsn, slog.NewTextHandler(log, nil))
	await(t, "a line in the log", lost)
	if err := cluster.Start(); err != nil {
		t.Fatal(err)
	}
	p.want(t, "the server is there", "")
	p.works(t, db)
	if lines := strings.Count(log.String(), "\n"); lines != 2 {
		t.Errorf("%d lines were logged, want one for the loss and one for its end: %s", lines, log)
	}
}

// A proxy refuses connections at first.
func TestListenerIsRefusedAtFirst(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	proxy, lost := pgproxy.New(t, dsn), make(chan struct{})
	proxy.Refuse(true)
	p := listen(t, open(t, dsn), proxy.DSN(), slog.NewTextHandler(&journal{written: lost}, nil))
	await(t, "a line in the log", lost)
	proxy.Refuse(false)
	p.want(t, "the proxy lets it through", "")
	p.works(t, open(t, dsn))
}

// Listen ends with its context, whatever it is waiting for, and leaves nothing
// at the server.
func TestListenerEndsWithItsContext(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	db := open(t, dsn)
	t.Run("while it listens", func(t *testing.T) {
		p := listen(t, db, dsn, slog.DiscardHandler)
		p.want(t, "the beginning", "")
		p.end(t)
		wantNobody(t, db)
	})
	t.Run("while it awaits an answer", func(t *testing.T) {
		proxy, asked := pgproxy.New(t, dsn), make(chan struct{}, 1000)
		proxy.Use(func(statement string) pgproxy.Action {
			if strings.HasPrefix(statement, "-- ping") {
				asked <- struct{}{}
				return pgproxy.Swallow
			}
			return pgproxy.Forward
		})
		p := listen(t, db, proxy.DSN(), slog.DiscardHandler, pglisten.Dawdle)
		await(t, "a question", asked)
		p.end(t)
		wantNobody(t, db)
	})
	t.Run("before it tries again", func(t *testing.T) {
		proxy, lost := pgproxy.New(t, dsn), make(chan struct{})
		proxy.Refuse(true)
		p := listen(t, db, proxy.DSN(), slog.NewTextHandler(&journal{written: lost}, nil), pglisten.Dawdle)
		await(t, "a line in the log", lost)
		p.end(t)
	})
	t.Run("while it connects", func(t *testing.T) {
		server, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		p := listen(t, db, "postgres://nobody@"+server.Addr().String()+"/none?sslmode=disable", slog.DiscardHandler, pglisten.Dawdle)
		conn, err := server.Accept() // and says nothing
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		p.end(t)
	})
	t.Run("before it begins", func(t *testing.T) {
		l, err := pglisten.New(dsn, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err = capability.Of(gormstore.New(db, gormstore.WithListener(l))).Listener.Listen(ctx, func(string) { t.Error("woken") })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want that of the context", err)
		}
	})
}

// wantNobody fails the test unless the server soon has no listener any more.
func wantNobody(t testing.TB, db *gorm.DB) {
	t.Helper()
	var n int
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if err := db.Raw("SELECT count(*) " + listeners).Scan(&n).Error; err != nil || n == 0 {
			return
		}
	}
	t.Errorf("%d listeners are left", n)
}

// What cannot be repaired by waiting ends Listen; anything else is tried again.
func TestListenerWithoutAChannel(t *testing.T) {
	t.Parallel()
	l, err := pglisten.New(testdb.Postgres(t), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	pglisten.Hurry(l)
	attempts := 0
	err = l.Listen(t.Context(), func(context.Context) (string, error) {
		if attempts++; attempts < 3 {
			return "", persistence.ErrNotMigrated
		}
		return "", &persistence.Error{Class: persistence.ErrClosed, Op: "test"}
	}, func(string) { t.Error("woken") })
	if !errors.Is(err, persistence.ErrClosed) || attempts != 3 {
		t.Errorf("error %v after %d attempts, want ErrClosed after 3", err, attempts)
	}
}

// A DSN that cannot be read is refused without being repeated.
func TestNewOfABadDSN(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{"postgres://me:canary@localhost:port/db", "host=localhost password=canary port=x", "canary"} {
		_, err := pglisten.New(dsn, nil)
		if !errors.Is(err, persistence.ErrProgramming) || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), "canary") {
			t.Errorf("%s: error %v, want ErrProgramming that does not repeat it", dsn, err)
		}
	}
}
