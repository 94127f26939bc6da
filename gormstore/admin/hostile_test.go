package admin_test

import (
	"context"
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
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/admin"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
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
func newNotes(t *testing.T, db *gorm.DB, config admin.Config, followers ...string) (http.Handler, *application.Repository[Note], *system.Runner, <-chan string) {
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
	var pipes [][]system.Member
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
				t.Errorf("%s: got %d, %s, want 200", path, answer.Code, answer.Body)
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
		t.Errorf("%s: got no changes of single values, want it to contain %q and to contain %q", path, "Text.key 1", "Only the beginning is shown.")
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
				t.Errorf("%s: got %d, %s, want Code 200 and it to contain %q", path, answer.Code, answer.Body, id.String())
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
		if _, err := runner.CatchUp(context.Background(), called(name), nil); err != nil {
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
	if _, err := runner.CatchUp(context.Background(), called("Readers"), nil); err != nil {
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
			t.Errorf("%s: got %d, want 200", page, answer.StatusCode)
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
					t.Errorf("%s: the link %q leaves the prefix, want it to begin with %q", page, link, prefix+"/")
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
		store := gormstore.New(db)
		recorder, failed := store.ProcessRecorder(names[7])
		parking, statuses, ctx := recorder.(capability.ParkingRecorder), capability.Of(store).Statuses, t.Context()
		for i := range 300 {
			event := persistence.ParkedEvent{ApplicationName: names[7], UpstreamApplicationName: "Notes", NotificationID: int64(i + 1),
				OriginatorID: uuid.New(), OriginatorVersion: 1, Topic: "Note.Noted", Error: fmt.Sprint("error ", i+1), ParkedAt: time.Now().UTC()}
			failed = errors.Join(failed, parking.ParkEvent(ctx, event))
		}
		for _, name := range names {
			failed = errors.Join(failed, statuses.RecordStatus(ctx, capability.FollowerStatus{ApplicationName: name,
				UpstreamApplicationName: "Notes", State: "running", Process: "p"}))
		}
		if failed != nil {
			t.Fatal(failed)
		}
		for _, path := range []string{"/", "/followers", "/followers/Follower007"} {
			begin := time.Now()
			answer := get(pages, path)
			if text := answer.Body.String(); answer.Code != 200 || strings.Count(text, "Follower007") < 1 {
				t.Errorf("%s: got %d, want Code 200 and at least 1 times \"Follower007\"", path, answer.Code)
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
