package admin_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/admin"
	"github.com/eventsourcing-go/eventsourcing/internal/faultdb"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
	"github.com/eventsourcing-go/eventsourcing/system/health"
)

// Note is an aggregate of anything.
type Note struct {
	domain.Aggregate
	Text   any
	Broken *broken `json:",omitempty"`
}

// Noted says that the note has another text.
type Noted struct{ Text any }

// Apply replaces the text.
func (n Noted) Apply(note *Note) { note.Text = n.Text }

// Breaks is an event whose type panics when it is shown.
type Breaks struct{ Value *broken }

// Apply keeps the value.
func (b Breaks) Apply(note *Note) { note.Broken = b.Value }

// broken panics when it is encoded or decoded, once isShown.
type broken struct{ Text string }

var isShown bool

func (b *broken) MarshalJSON() ([]byte, error) {
	if isShown && b.Text != "decode" {
		panic("secret")
	}
	return json.Marshal(b.Text)
}

func (b *broken) UnmarshalJSON(text []byte) error {
	err := json.Unmarshal(text, &b.Text)
	if isShown && b.Text == "decode" {
		panic("secret")
	}
	return err
}

var notes = domain.Define("Note", domain.On("Noted", Noted{}), domain.On("Breaks", Breaks{}))

// newNotes returns the pages of an application with these followers, the
// repository of its notes, the runner, and the names of the followers whenever
// one handles an event.
func newNotes(t *testing.T, db *gorm.DB, config admin.Config, followers ...string) (*admin.Handler, *application.Repository[Note], *system.Runner, <-chan string) {
	t.Helper()
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
	var pipes []system.Pipeline
	handled := make(chan string, 1000)
	for _, name := range followers {
		following, err := application.New(name, store, quiet)
		if err != nil {
			t.Fatal(err)
		}
		follower, err := system.NewFollower(following, system.OnEvery(func(context.Context, domain.Event) error {
			handled <- name
			return errors.New("broken")
		}), system.Park(func(persistence.Notification, error, int) bool { return true }), system.Replayable())
		if err != nil {
			t.Fatal(err)
		}
		pipes = append(pipes, system.Pipe(app, follower))
	}
	sys, err := system.New(pipes...)
	if err != nil {
		t.Fatal(err)
	}
	runner, err := system.NewRunner(sys, system.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = runner.Close() })
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Timeout == 0 {
		config.Timeout = 20 * time.Second
	}
	config.Authorize = func(*http.Request) (admin.Rights, error) { return all, nil }
	config.Actions = true
	pages, err := admin.New(runner, config)
	if err != nil {
		t.Fatal(err)
	}
	return pages, repository, runner, handled
}

// nested returns lists in lists.
func nested(depth int) any {
	var value any = "x"
	for range depth {
		value = []any{value}
	}
	return value
}

// TestPagesStaySmall shows payloads that would make a page large or slow: lists
// nested deep, whose lines an indentation makes ever longer, an object of many
// keys, and large metadata.
func TestPagesStaySmall(t *testing.T) {
	pages, repository, _, _ := newNotes(t, testdb.SQLiteFile(t), admin.Config{}, "Readers")
	many := map[string]any{}
	for i := range testdb.Figure(4_000, 20_000) {
		many[fmt.Sprint("key ", i)] = strings.Repeat("v", i%50)
	}
	ctx := application.WithMetadata(context.Background(), domain.Metadata{"large": strings.Repeat("m", 1_000_000), "small": "s"})
	id := uuid.New()
	note := notes.Create(id, Noted{"first"})
	for _, text := range []any{nested(90), nested(900), many, strings.Repeat("long", testdb.Figure(100_000, 500_000))} {
		domain.Trigger(note, Noted{text})
	}
	if err := repository.Save(ctx, note); err != nil {
		t.Fatal(err)
	}
	paths := []string{"/log"}
	for version := range 5 {
		paths = append(paths, fmt.Sprintf("/aggregate/Notes/%s?v=%d", id, version+1))
	}
	for _, path := range paths {
		for _, path := range []string{path, inJSON(path)} {
			before := allocated()
			answer := get(pages, path)
			work := allocated() - before
			if answer.Code != 200 {
				t.Errorf("%s: got %d, %s", path, answer.Code, answer.Body)
			}
			if size := answer.Body.Len(); size > 900_000 {
				t.Errorf("%s: got %d bytes, want a page of less than 900 kB", path, size)
			}
			if work > 300<<20 {
				t.Errorf("%s: %d MB were allocated, want less than 300", path, work>>20)
			}
		}
	}
	// The change of a large state is shown by its values.
	path := fmt.Sprintf("/aggregate/Notes/%s?v=4", id)
	if text := get(pages, path).Body.String(); !strings.Contains(text, "Text.key 1") || !strings.Contains(text, "Only the beginning is shown.") {
		t.Errorf("%s: got no changes of single values", path)
	}
}

// allocated returns the bytes that the process has allocated.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// TestTypesThatPanic shows events whose types panic when they are decoded or
// encoded, beside others.
func TestTypesThatPanic(t *testing.T) {
	isShown = false
	pages, repository, _, _ := newNotes(t, testdb.SQLiteFile(t), admin.Config{}, "Readers")
	id := uuid.New()
	note := notes.Create(id, Noted{"visible"})
	domain.Trigger(note, Breaks{&broken{"encode"}})
	domain.Trigger(note, Breaks{&broken{"decode"}})
	if err := repository.Save(context.Background(), note); err != nil {
		t.Fatal(err)
	}
	isShown = true
	defer func() { isShown = false }()
	aggregate := "/aggregate/Notes/" + id.String()
	for _, path := range []string{"/log", "/problems", aggregate, aggregate + "?v=1", aggregate + "?v=2", aggregate + "?v=3"} {
		for _, path := range []string{path, inJSON(path)} {
			if answer := get(pages, path); answer.Code != 200 || !strings.Contains(answer.Body.String(), id.String()) {
				t.Errorf("%s: got %d, %s", path, answer.Code, answer.Body)
			}
		}
	}
	if text := get(pages, "/log").Body.String(); !strings.Contains(text, "visible") {
		t.Errorf("log: got %s, want the other event", text)
	}
}

// TestTextThatIsNone asks for topics that PostgreSQL refuses.
func TestTextThatIsNone(t *testing.T) {
	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		pages, _, _, _ := newNotes(t, open(t), admin.Config{}, "Readers")
		for path, want := range map[string]int{
			"/log?topic=%ff": 400, "/log?topic=%00": 400, "/log?application=%ff": 400, "/followers/%ff": 404,
			"/aggregate/%ff/" + uuid.NewString(): 404, "/followers/Readers?leader=%ff": 400, "/followers/Readers?leader=Nothing&after=1": 200,
			"/followers/Readers?after=x": 400, "/followers/Readers/discard?leader=Nothing&position=1": 404,
			"/followers/Readers/discard?leader=Notes&position=1": 409, "/static/%2e%2e%2fadmin.go": 400, "/static/%2e": 404,
			"/aggregate/Notes/" + uuid.NewString() + "?from=9223372036854775807": 200, "/log?before=9223372036854775807": 200,
			"/problems?after=9223372036854775807": 200,
		} {
			if answer := get(pages, path); answer.Code != want {
				t.Errorf("%s: got %d, %s; want %d", path, answer.Code, answer.Body, want)
			}
		}
	})
}

// TestOddNames follows every link of the pages of followers whose names have
// characters with a meaning in addresses, in markup and in SQL.
func TestOddNames(t *testing.T) {
	names := []string{"A/B", "ä ö", "a?b#c%2F&d", `"><script>alert(1)</script>`, "it's; DROP TABLE x", "+"}
	pages, repository, runner, _ := newNotes(t, testdb.SQLiteFile(t), admin.Config{}, names...)
	if err := repository.Save(context.Background(), notes.Create(uuid.New(), Noted{"x"})); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		member, _ := runner.System().Member(name)
		if _, err := runner.CatchUp(context.Background(), member, nil); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewServer(http.StripPrefix("/admin", pages))
	defer server.Close()
	begin := server.URL + "/admin"
	seen := visit(t, begin, begin+"/followers")
	for _, name := range names {
		page := begin + "/followers/" + url.PathEscape(name)
		for _, path := range []string{page, page + "/pause", page + "/reset", page + "/discard?leader=Notes&position=1"} {
			if !seen[path] {
				t.Errorf("%s: no link leads to %s", name, path)
			}
		}
		answer, err := http.PostForm(page+"/discard", url.Values{"leader": {"Notes"}, "position": {"1"}, "confirm": {name}})
		if err != nil {
			t.Fatal(err)
		}
		if text := readAll(t, answer); answer.StatusCode != 200 || !strings.Contains(text, "was discarded") || strings.Contains(text, "<script>alert") {
			t.Errorf("%s: got %d, %s; want the page after a discard", name, answer.StatusCode, text)
		}
	}
}

// TestOddPrefix follows every link under a prefix that is escaped in addresses.
func TestOddPrefix(t *testing.T) {
	pages, repository, runner, _ := newNotes(t, testdb.SQLiteFile(t), admin.Config{}, "Readers")
	if err := repository.Save(context.Background(), notes.Create(pageID, Noted{"x"})); err != nil {
		t.Fatal(err)
	}
	member, _ := runner.System().Member("Readers")
	if _, err := runner.CatchUp(context.Background(), member, nil); err != nil {
		t.Fatal(err)
	}
	const prefix = "/ö ps/it's (a) test"
	server := httptest.NewServer(http.StripPrefix(prefix, pages))
	defer server.Close()
	begin := server.URL + (&url.URL{Path: prefix}).EscapedPath()
	if seen := visit(t, begin, begin); len(seen) < 12 {
		t.Errorf("got %d pages, want at least 12", len(seen))
	}
}

// visit follows every link from an address, and returns those that it has
// visited. All must answer 200 and remain under the prefix.
func visit(t *testing.T, prefix, begin string) map[string]bool {
	t.Helper()
	seen, queue := map[string]bool{}, []string{begin}
	for len(queue) > 0 && len(seen) < 400 {
		page := queue[0]
		queue = queue[1:]
		if seen[page] {
			continue
		}
		seen[page] = true
		answer, err := http.Get(page)
		if err != nil {
			t.Fatal(err)
		}
		text := readAll(t, answer)
		if answer.StatusCode != 200 {
			t.Errorf("%s: got %d", page, answer.StatusCode)
		}
		for _, part := range strings.Split(text, `href="`)[1:] {
			link, _, _ := strings.Cut(part, `"`)
			target, err := answer.Request.URL.Parse(html.UnescapeString(link))
			if err != nil {
				t.Errorf("%s: link %q: %v", page, link, err)
				continue
			}
			if target.Fragment = ""; target.Scheme == "http" {
				if !strings.HasPrefix(target.String(), prefix+"/") {
					t.Errorf("%s: the link %q leaves the prefix", page, link)
				}
				queue = append(queue, target.String())
			}
		}
	}
	return seen
}

// TestPrefixWithoutItsSlash redirects to the first page, also after a proxy that
// has removed a part of the path.
func TestPrefixWithoutItsSlash(t *testing.T) {
	pages, _, _, _ := newNotes(t, testdb.SQLiteFile(t), admin.Config{}, "Readers")
	for _, test := range []struct{ shown, want string }{
		{"/ops/admin", "/ops/admin/"}, {"/ops/admin?x=1", "/ops/admin/"}, {"/a:b", "/a:b/"}, {"/%C3%B6ps", "/%C3%B6ps/"},
	} {
		shown, err := url.Parse("https://example.com" + test.shown)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodGet, shown.String(), nil)
		r.RequestURI = test.shown
		w := httptest.NewRecorder()
		http.StripPrefix(shown.Path, pages).ServeHTTP(w, r)
		target, err := shown.Parse(w.Header().Get("Location"))
		if err != nil || w.Code != 303 || target.String() != "https://example.com"+test.want {
			t.Errorf("%s: got %d to %v, error %v; want %s", test.shown, w.Code, target, err, test.want)
		}
	}
}

// TestManyFollowers has many of them, and one that has parked 300 events.
func TestManyFollowers(t *testing.T) {
	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		names := make([]string, testdb.Figure(60, 500))
		for i := range names {
			names[i] = fmt.Sprintf("Follower%03d", i)
		}
		db := open(t)
		pages, repository, _, _ := newNotes(t, db, admin.Config{Timeout: time.Minute}, names...)
		if err := repository.Save(context.Background(), notes.Create(uuid.New(), Noted{"x"})); err != nil {
			t.Fatal(err)
		}
		var parked []gormstore.ParkedEvent
		var statuses []gormstore.FollowerStatus
		for i := range 300 {
			parked = append(parked, gormstore.ParkedEvent{ApplicationName: names[7], UpstreamApplicationName: "Notes", NotificationID: int64(i + 1),
				OriginatorID: gormstore.UUID(uuid.New()), OriginatorVersion: 1, Topic: "Note.Noted", Error: fmt.Sprint("error ", i+1), ParkedAt: time.Now().UTC()})
		}
		for _, name := range names {
			statuses = append(statuses, gormstore.FollowerStatus{ApplicationName: name, UpstreamApplicationName: "Notes", State: "running",
				Process: "p", Heartbeat: time.Now().UTC()})
		}
		if err := errors.Join(db.Create(&parked).Error, db.CreateInBatches(&statuses, 100).Error); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/", "/followers", "/followers/Follower007"} {
			begin := time.Now()
			answer := get(pages, path)
			if text := answer.Body.String(); answer.Code != 200 || strings.Count(text, "Follower007") < 1 {
				t.Errorf("%s: got %d", path, answer.Code)
			}
			t.Logf("%s: %v", path, time.Since(begin))
		}
		// Every parked event is on one page.
		seen, path := map[string]bool{}, "/followers/Follower007"
		for pagesSeen := 0; path != "" && pagesSeen < 20; pagesSeen++ {
			text := get(pages, path).Body.String()
			for _, part := range strings.Split(text, "<pre>error ")[1:] {
				number, _, _ := strings.Cut(part, "<")
				if seen[number] {
					t.Errorf("the parked event %s is on two pages", number)
				}
				seen[number] = true
			}
			before, _, found := strings.Cut(text, `">More parked events`)
			path = ""
			if found {
				path = "/followers/Follower007" + html.UnescapeString(before[strings.LastIndex(before, `"`)+1:])
			}
		}
		if len(seen) != 300 {
			t.Errorf("got %d parked events on all pages, want 300", len(seen))
		}
	})
}

// TestDatabaseGone asks for pages while the database is closed, while tables
// are absent, and while another session locks the events.
func TestDatabaseGone(t *testing.T) {
	ask := func(t *testing.T, pages http.Handler, atMost time.Duration) {
		t.Helper()
		for _, path := range []string{"/", "/log", "/aggregate/Notes/" + pageID.String() + "?v=1", "/followers", "/followers/Readers",
			"/problems", "/settings", "/followers/Readers/reset", "/followers/Readers/discard?leader=Notes&position=1"} {
			for _, path := range []string{path, inJSON(path)} {
				begin := time.Now()
				answer := get(pages, path)
				if took := time.Since(begin); took > atMost {
					t.Errorf("%s: got an answer after %v, want one within %v", path, took, atMost)
				}
				if text := answer.Body.String(); strings.Contains(text, "goroutine") || strings.Contains(text, "password") || answer.Code == 500 && strings.Contains(text, "SQL") {
					t.Errorf("%s: got %d, %s", path, answer.Code, text)
				}
				if strings.HasPrefix(path, "/api/") && !json.Valid(answer.Body.Bytes()) {
					t.Errorf("%s: got no JSON", path)
				}
			}
		}
		for _, action := range []string{"sync", "pause", "retry"} {
			begin := time.Now()
			if answer := post(pages, "/followers/Readers/"+action, nil); answer.Code < 400 || time.Since(begin) > atMost {
				t.Errorf("%s: got %d after %v, want a refusal", action, answer.Code, time.Since(begin))
			}
		}
	}
	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		t.Run("closed", func(t *testing.T) {
			db := open(t)
			pages, _, _, _ := newNotes(t, db, admin.Config{Timeout: time.Second}, "Readers")
			pool, err := db.DB()
			if err != nil {
				t.Fatal(err)
			}
			if err := pool.Close(); err != nil {
				t.Fatal(err)
			}
			ask(t, pages, 30*time.Second)
		})
		t.Run("without tables", func(t *testing.T) {
			db := open(t)
			pages, _, _, _ := newNotes(t, db, admin.Config{Timeout: time.Second}, "Readers")
			for _, table := range []string{"stored_events", "snapshots", "notification_tracking", "parked_events", "follower_status", "follower_settings", "follower_runners"} {
				if err := db.Exec("DROP TABLE " + table).Error; err != nil {
					t.Fatal(err)
				}
			}
			ask(t, pages, 30*time.Second)
			if answer := get(pages, "/log"); answer.Code != 503 || !strings.Contains(answer.Body.String(), "it lacks the tables stored_events") {
				t.Errorf("log: got %d, %s; want 503 and what is missing", answer.Code, answer.Body)
			}
		})
	})
	t.Run("locked", func(t *testing.T) {
		db := testdb.OpenPostgres(t)
		pages, repository, _, _ := newNotes(t, db, admin.Config{Timeout: 200 * time.Millisecond}, "Readers")
		if err := repository.Save(context.Background(), notes.Create(pageID, Noted{"x"})); err != nil {
			t.Fatal(err)
		}
		get(pages, "/") // connections that remain
		before := runtime.NumGoroutine()
		tx := db.Begin()
		if err := tx.Exec("LOCK TABLE stored_events IN ACCESS EXCLUSIVE MODE").Error; err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/", "/log", "/problems", "/followers", "/aggregate/Notes/" + pageID.String()} {
			begin := time.Now()
			if answer := get(pages, path); answer.Code != 504 || time.Since(begin) > 30*time.Second {
				t.Errorf("%s: got %d after %v, want 504 after 0.2 s", path, answer.Code, time.Since(begin))
			}
		}
		if err := tx.Rollback().Error; err != nil {
			t.Fatal(err)
		}
		if answer := get(pages, "/log"); answer.Code != 200 {
			t.Errorf("after the lock: got %d", answer.Code)
		}
		for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before+2; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("got %d goroutines after pages that timed out, want about %d", runtime.NumGoroutine(), before)
			}
		}
	})
}

// TestOneOfTwoDatabasesDoesNotAnswer shows what the other database knows: the
// pages, and whether the process is ready.
func TestOneOfTwoDatabasesDoesNotAnswer(t *testing.T) {
	answering, silent := testdb.OpenPostgres(t), testdb.OpenPostgres(t)
	newApplication := func(name string, db *gorm.DB) *application.Application {
		t.Helper()
		if err := gormstore.AutoMigrate(db); err != nil {
			t.Fatal(err)
		}
		app, err := application.New(name, application.WithStore(gormstore.New(db)), quiet)
		if err != nil {
			t.Fatal(err)
		}
		return app
	}
	newFollower := func(name string, db *gorm.DB) *system.Follower {
		t.Helper()
		follower, err := system.NewFollower(newApplication(name, db), system.OnEvery(func(context.Context, domain.Event) error { return nil }))
		if err != nil {
			t.Fatal(err)
		}
		return follower
	}
	near, far := newApplication("Near", answering), newApplication("Far", silent)
	sys, err := system.New(system.Pipe(far, newFollower("FarToFar", silent)), system.Pipe(far, newFollower("FarToNear", answering)),
		system.Pipe(near, newFollower("NearToFar", silent)), system.Pipe(near, newFollower("NearToNear", answering)))
	if err != nil {
		t.Fatal(err)
	}
	runner, err := system.NewRunner(sys, system.Config{})
	if err != nil {
		t.Fatal(err)
	}
	pages, err := admin.New(runner, admin.Config{Authorize: func(*http.Request) (admin.Rights, error) { return all, nil },
		Timeout: time.Second, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	checks, err := health.New(runner, health.Config{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	tx := silent.Begin()
	for _, table := range []string{"stored_events", "notification_tracking", "follower_status", "follower_settings", "parked_events"} {
		if err := tx.Exec("LOCK TABLE " + table + " IN ACCESS EXCLUSIVE MODE").Error; err != nil {
			t.Fatal(err)
		}
	}
	defer tx.Rollback()
	var overview struct {
		Applications []struct{ Name, Error string }
		Followers    []struct {
			Follower string
			Healthy  bool
		}
	}
	answer := get(pages, "/api/overview")
	if err := json.Unmarshal(answer.Body.Bytes(), &overview); err != nil || answer.Code != 200 || len(overview.Followers) != 4 {
		t.Fatalf("overview: got %d, %s, error %v; want all followers", answer.Code, answer.Body, err)
	}
	for _, f := range overview.Followers {
		if f.Healthy != (f.Follower == "NearToNear") {
			t.Errorf("%s: got healthy %t", f.Follower, f.Healthy)
		}
	}
	for _, a := range overview.Applications {
		if isNear := strings.HasSuffix(a.Name, "Near"); isNear != (a.Error == "") {
			t.Errorf("%s: got the error %q", a.Name, a.Error)
		}
	}
	if answer := get(pages, "/followers/NearToNear"); answer.Code != 200 || !strings.Contains(answer.Body.String(), "Healthy") {
		t.Errorf("the follower of the other database: got %d, %s", answer.Code, answer.Body)
	}
	ready := get(checks.Ready(), "/")
	var report health.Report
	if err := json.Unmarshal(ready.Body.Bytes(), &report); err != nil || ready.Code != 503 || len(report.Followers) != 4 {
		t.Fatalf("ready: got %d, %s, error %v", ready.Code, ready.Body, err)
	}
	for _, f := range report.Followers {
		if f.Healthy != (f.Follower == "NearToNear") {
			t.Errorf("ready: %s: got %+v", f.Follower, f.Health)
		}
	}
}

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
			t.Errorf("%s: got %d", path, answer.Code)
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
		member, _ := runner.System().Member("Readers")
		if err := runner.WaitFor(t.Context(), member); err != nil { // the event is parked, and the position written
			t.Fatal(err)
		}
		if text := get(pages, "/followers/Readers/reset").Body.String(); !strings.Contains(text, "at most 1 event again") {
			t.Errorf("got %s, want how many events it will process", text)
		}
		if answer := post(pages, "/followers/Readers/reset", url.Values{"confirm": {"Readers"}}); answer.Code != 303 {
			t.Fatalf("reset: got %d, %s", answer.Code, answer.Body)
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
			t.Errorf("%d: Cache-Control: got %q", answer.Code, cache)
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
		t.Errorf("another origin: got the log %s", w.log)
	}
}
