package admin_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/admin"
	"github.com/eventsourcing-go/eventsourcing/internal/faultdb"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// opener opens connections of a driver that has no connector.
type opener struct {
	driver driver.Driver
	dsn    string
}

func (o opener) Connect(context.Context) (driver.Conn, error) { return o.driver.Open(o.dsn) }
func (o opener) Driver() driver.Driver                        { return o.driver }

// TestStatementsOfPages looks at what every page asks the database: nothing is
// counted in the log, skipped by OFFSET, or read without a limit.
func TestStatementsOfPages(t *testing.T) {
	dsn := testdb.SQLiteFileDSN(t)
	truth := testdb.Open(t, sqlite.Open(dsn))
	pool, err := truth.DB()
	if err != nil {
		t.Fatal(err)
	}
	watched := faultdb.New()
	db := testdb.Open(t, sqlite.New(sqlite.Config{Conn: sql.OpenDB(watched.Connector(opener{pool.Driver(), dsn}))}))
	w := newWiki(t, db)
	h := w.handler(t, all, true)
	statements := 0
	for _, path := range append(reading(), "/followers/Readers/reset", "/followers/Readers/discard?leader=Wiki&position=5", "/followers?x=1") {
		watched.Arm(func(faultdb.Call) faultdb.Fault { return faultdb.Fault{} })
		answer := get(h, path)
		for _, call := range watched.Disarm() {
			text := strings.ToUpper(call.Statement)
			if text == "" {
				continue
			}
			statements++
			ofLog := strings.Contains(text, "STORED_EVENTS")
			switch {
			case strings.Contains(text, "OFFSET"), ofLog && strings.Contains(text, "COUNT("):
				t.Errorf("%s: %s", path, call.Statement)
			case ofLog && !strings.Contains(text, "LIMIT") && !strings.Contains(text, "MAX(") && !strings.Contains(text, "SQLITE_"):
				t.Errorf("%s: without a limit: %s", path, call.Statement)
			}
		}
		if answer.Code != 200 && answer.Code != 303 {
			t.Errorf("%s: got %d, want 200 or 303", path, answer.Code)
		}
	}
	if statements < 40 {
		t.Errorf("got %d statements, want those of all pages", statements)
	}
}

// TestAnActionEndsWithItsRequest cancels the request of an action whose handler
// waits, as a server does that is closed. The handler's context ends, and nothing
// of the batch is kept.
func TestAnActionEndsWithItsRequest(t *testing.T) {
	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		db := open(t)
		if err := gormstore.AutoMigrate(db); err != nil {
			t.Fatal(err)
		}
		store := application.WithStore(gormstore.New(db))
		app, err := application.New("Notes", store, quiet)
		if err != nil {
			t.Fatal(err)
		}
		repository, err := application.NewRepository(app, notes)
		if err != nil {
			t.Fatal(err)
		}
		if err := repository.Save(t.Context(), notes.Create(pageID, Noted{"x"})); err != nil {
			t.Fatal(err)
		}
		readers, err := application.New("Readers", store, quiet)
		if err != nil {
			t.Fatal(err)
		}
		waiting := make(chan struct{}, 1)
		follower, err := system.NewFollower(readers, system.OnEvery(func(ctx context.Context, _ domain.Event) error {
			waiting <- struct{}{}
			<-ctx.Done()
			return nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		sys, err := system.New(system.Pipe(app, follower))
		if err != nil {
			t.Fatal(err)
		}
		runner, err := system.NewRunner(sys, system.Config{})
		if err != nil {
			t.Fatal(err)
		}
		pages, err := admin.New(runner, admin.Config{Authorize: func(*http.Request) (admin.Rights, error) { return all, nil },
			Actions: true, Logger: slog.New(slog.DiscardHandler), Timeout: 500 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		for _, action := range []string{"sync", "dry-run"} {
			ctx, cancel := context.WithCancel(t.Context())
			answered := make(chan int)
			go func() {
				w := httptest.NewRecorder()
				pages.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/followers/Readers/"+action, nil).WithContext(ctx))
				answered <- w.Code
			}()
			<-waiting
			cancel()
			if code := <-answered; code < 400 {
				t.Errorf("%s: got %d, want a failure", action, code)
			}
			statuses, err := runner.Statuses(t.Context())
			if err != nil || statuses[0].Position != 0 {
				t.Errorf("%s: got %+v, error %v; want position 0", action, statuses, err)
			}
		}
	})
}

// TestSearchesBeginSmall searches a log of 300 events, which may be large: they
// are not read at once.
func TestSearchesBeginSmall(t *testing.T) {
	dsn := testdb.SQLiteFileDSN(t)
	truth := testdb.Open(t, sqlite.Open(dsn))
	pool, err := truth.DB()
	if err != nil {
		t.Fatal(err)
	}
	watched := faultdb.New()
	db := testdb.Open(t, sqlite.New(sqlite.Config{Conn: sql.OpenDB(watched.Connector(opener{pool.Driver(), dsn}))}))
	pages, repository, _, _ := newNotes(t, db, admin.Config{}, "Readers")
	note := notes.Create(pageID, Noted{"1"})
	for i := range 299 {
		domain.Trigger(note, Noted{fmt.Sprint(i + 2)})
	}
	if err := repository.Save(t.Context(), note); err != nil {
		t.Fatal(err)
	}
	watched.Arm(func(faultdb.Call) faultdb.Fault { return faultdb.Fault{} })
	answer := get(pages, "/problems")
	reads := 0
	for _, call := range watched.Disarm() {
		if text := strings.ToUpper(call.Statement); strings.Contains(text, "STATE") && strings.Contains(text, "STORED_EVENTS") {
			reads++
		}
	}
	if reads < 2 || !strings.Contains(answer.Body.String(), "from position 0 to 300") {
		t.Errorf("got %d reads of the log and %s; want several, up to the end", reads, answer.Body)
	}
}

// TestResetWhileItRuns resets a follower that a started runner runs: it
// processes its events again.
func TestResetWhileItRuns(t *testing.T) {
	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		pages, repository, runner, handled := newNotes(t, open(t), admin.Config{}, "Readers")
		if err := repository.Save(t.Context(), notes.Create(pageID, Noted{"x"})); err != nil {
			t.Fatal(err)
		}
		if err := runner.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-handled
		// After it the event is parked, and the position written.
		if err := runner.WaitFor(t.Context(), called("Readers")); err != nil {
			t.Fatal(err)
		}
		if text := get(pages, "/followers/Readers/reset").Body.String(); !strings.Contains(text, "at most 1 event again") {
			t.Errorf("got %s, want how many events it will process", text)
		}
		if answer := post(pages, "/followers/Readers/reset", url.Values{"confirm": {"Readers"}}); answer.Code != 303 {
			t.Fatalf("reset: got %d, %s, want 303", answer.Code, answer.Body)
		}
		<-handled // again
	})
}

// TestHeaders wants every answer to forbid frames, scripts of others and
// guessing of types.
func TestHeaders(t *testing.T) {
	pages, _, _, _ := newNotes(t, testdb.SQLiteFile(t), admin.Config{}, "Readers")
	for _, answer := range []*httptest.ResponseRecorder{get(pages, "/"), get(pages, "/api/log"), get(pages, "/nothing"), get(pages, "/static/style.css"),
		get(pages, "/log?before=x"), post(pages, "/followers/Readers/pause", nil, "Sec-Fetch-Site", "cross-site"), post(pages, "/followers/Nobody/pause", nil)} {
		for name, want := range map[string]string{"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff",
			"Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin", "Referrer-Policy": "same-origin"} {
			if got := answer.Header().Get(name); got != want {
				t.Errorf("%d: %s: got %q, want %q", answer.Code, name, got, want)
			}
		}
		policy := answer.Header().Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
			if !strings.Contains(policy, want) || strings.Contains(policy, "unsafe") {
				t.Errorf("%d: got the policy %q, want %q in it", answer.Code, policy, want)
			}
		}
		if cache := answer.Header().Get("Cache-Control"); cache != "no-store" && cache != "max-age=3600" {
			t.Errorf("%d: Cache-Control: got %q, want no-store or max-age=3600", answer.Code, cache)
		}
	}
}

// TestRefusedActionsAreLogged logs who has tried an action without the right.
func TestRefusedActionsAreLogged(t *testing.T) {
	w := newWiki(t, testdb.SQLiteFile(t))
	for _, rights := range []admin.Rights{{Actor: "eve"}, {Actor: "eve", List: true}, {Actor: "eve", List: true, Operate: true}} {
		w.log.Reset()
		if answer := post(w.handler(t, rights, true), "/followers/Readers/reset", url.Values{"confirm": {"Readers"}}); answer.Code != 403 {
			t.Errorf("%+v: got %d, want 403", rights, answer.Code)
		}
		if want := "action=reset actor=eve follower=Readers"; !strings.Contains(w.log.String(), want) || !strings.Contains(w.log.String(), "outcome=refused") {
			t.Errorf("%+v: got the log %s, want %s, refused", rights, w.log, want)
		}
	}
	w.log.Reset()
	post(w.handler(t, all, true), "/followers/Readers/pause", nil, "Origin", "https://evil.example")
	if !strings.Contains(w.log.String(), "https://evil.example") {
		t.Errorf("another origin: got the log %s, want it to contain %q", w.log, "https://evil.example")
	}
}
