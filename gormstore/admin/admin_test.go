package admin_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/cipher"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/admin"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// Page is an aggregate: a text with its history.
type Page struct {
	domain.Aggregate
	Text string
}

// Written says that the page has another text.
type Written struct{ Text string }

// Apply replaces the text.
func (w Written) Apply(p *Page) { p.Text = w.Text }

var pageDefinition = domain.Define("Page", domain.On("Written", Written{}))

const hostile = `<script>alert(1)</script><img src=x onerror=alert(2)>"'` + "`${3}"

var (
	pageID  = domain.NewIDv5("/pages/1")
	everyID = domain.NewIDv5("/pages/none")
)

// called is a member of a system by its name alone.
type called string

func (c called) Name() string { return string(c) }

// wiki is a service with a follower that has parked an event.
type wiki struct {
	db     *gorm.DB
	runner *system.Runner
	pages  *application.Repository[Page]
	log    *strings.Builder
}

// key returns a key for a cipher.
func key(t *testing.T) persistence.Cipher {
	t.Helper()
	text, err := cipher.CreateKey(32)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := cipher.ParseKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	c, err := cipher.NewAES(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var quiet = application.WithLogger(slog.New(slog.DiscardHandler))

func newRunner(t *testing.T, store *gormstore.Store, options ...application.Option) (*system.Runner, *application.Repository[Page]) {
	t.Helper()
	options = append(options, application.WithStore(store), quiet, application.WithSnapshotting(map[string]int{"Page": 2}))
	app, err := application.New("Wiki", options...)
	if err != nil {
		t.Fatal(err)
	}
	pages, err := application.NewRepository(app, pageDefinition)
	if err != nil {
		t.Fatal(err)
	}
	readers, err := application.New("Readers", application.WithStore(store), quiet)
	if err != nil {
		t.Fatal(err)
	}
	follower, err := system.NewFollower(readers, system.On(func(_ context.Context, e domain.Recorded[Written]) error {
		if e.Data.Text == "fail" {
			return errors.New("the handler failed: " + hostile)
		}
		return nil
	}), system.Park(func(persistence.Notification, error, int) bool { return true }), system.Replayable())
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
	t.Cleanup(func() { _ = runner.Close() })
	return runner, pages
}

// newWiki returns a service with a page of five versions, of which the fourth is
// longer than what a page shows.
func newWiki(t *testing.T, db *gorm.DB, options ...application.Option) *wiki {
	t.Helper()
	return newWikiOf(t, db, strings.Repeat("long ", 10_000), options...)
}

// newWikiOf is newWiki with the text of the fourth version.
func newWikiOf(t *testing.T, db *gorm.DB, fourth string, options ...application.Option) *wiki {
	t.Helper()
	if err := gormstore.AutoMigrate(db); err != nil {
		t.Fatal(err)
	}
	w := &wiki{db: db, log: &strings.Builder{}}
	w.runner, w.pages = newRunner(t, gormstore.New(db), options...)
	ctx := context.Background()
	page := pageDefinition.Create(pageID, Written{"first"})
	for _, text := range []string{"unmistakable", hostile, fourth, "fail"} {
		domain.Trigger(page, Written{text})
	}
	if err := w.pages.Save(ctx, page); err != nil {
		t.Fatal(err)
	}
	if _, err := w.runner.CatchUp(ctx, called("Readers"), nil); err != nil {
		t.Fatal(err)
	}
	return w
}

// handler returns the pages for a sender with these rights.
func (w *wiki) handler(t *testing.T, rights admin.Rights, actions bool) http.Handler {
	t.Helper()
	h, err := admin.New(w.runner, admin.Config{
		Authorize: func(*http.Request) (admin.Rights, error) { return rights, nil },
		Actions:   actions, Logger: slog.New(slog.NewTextHandler(w.log, nil)), Timeout: 20e9,
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func get(h http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

func post(h http.Handler, path string, form url.Values, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// reading are the paths of all pages but those of actions.
func reading() []string {
	aggregate := "/aggregate/Wiki/" + pageID.String()
	return []string{"/", "/log", "/log?application=Wiki&topic=Written&before=4", "/log?tail=on", "/aggregate", "/aggregate?application=Wiki&id=" + pageID.String(),
		aggregate, aggregate + "?v=1", aggregate + "?v=3", aggregate + "?v=4", "/followers", "/followers/Readers", "/problems", "/settings"}
}

// inJSON returns the JSON twin of a path.
func inJSON(path string) string {
	if path == "/" {
		return "/api/overview"
	}
	return "/api" + path
}

// tables returns a hash of every row of every table.
func tables(t *testing.T, db *gorm.DB) string {
	t.Helper()
	names, err := db.Migrator().GetTables()
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.New()
	for _, name := range names {
		lines := map[string]int{}
		rows, err := db.Raw("SELECT * FROM " + name).Rows()
		if err != nil {
			t.Fatal(err)
		}
		columns, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			values, into := make([]any, len(columns)), make([]any, len(columns))
			for i := range values {
				into[i] = &values[i]
			}
			if err := rows.Scan(into...); err != nil {
				t.Fatal(err)
			}
			lines[fmt.Sprint(values...)]++
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(hash, name, lines) // a map is printed in order
	}
	return fmt.Sprintf("%x", hash.Sum(nil))
}

var all = admin.Rights{Actor: "alice", List: true, Payload: true, Operate: true, Reset: true}

// TestHostilePayloads shows markup, three megabytes and invalid UTF-8.
func TestHostilePayloads(t *testing.T) {
	w := newWikiOf(t, testdb.SQLiteFile(t), strings.Repeat("long ", 600_000))
	h := w.handler(t, all, false)
	path := "/aggregate/Wiki/" + pageID.String() + "?v="
	if text := get(h, path+"3").Body.String(); !strings.Contains(text, "\\u003cscript") && !strings.Contains(text, html.EscapeString("<script>alert")) {
		t.Errorf("markup: got %s, want it escaped", text)
	}
	if size := get(h, path+"4").Body.Len(); size > 400_000 {
		t.Errorf("three megabytes: got a page of %d bytes, want at most 400_000", size)
	}
	// A state that is no event at all, and a topic that is no UTF-8.
	row := map[string]any{"application_name": "Wiki", "originator_id": everyID.String(), "originator_version": 1, "topic": "x<script>\xff", "state": []byte("\xff\xfe<script>")}
	if err := w.db.Table("stored_events").Create(row).Error; err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/log", "/problems", "/api/log", "/api/problems"} {
		answer := get(h, path)
		if answer.Code != 200 || strings.Contains(answer.Body.String(), "x<script>") || strings.ToValidUTF8(answer.Body.String(), "") != answer.Body.String() {
			t.Errorf("%s: got %d, %s, want Code 200 and the name escaped and in UTF-8", path, answer.Code, answer.Body)
		}
	}
}

func TestBadQueries(t *testing.T) {
	w := newWiki(t, testdb.SQLiteFile(t))
	h := w.handler(t, all, true)
	for _, path := range []string{"/log?before=-1", "/log?before=x", "/log?before=99999999999999999999", "/aggregate?id=%27+OR+1", "/aggregate/Wiki/x",
		"/log?topic=" + strings.Repeat("x", 2001), "/problems?after=-5", "/aggregate/Wiki/" + pageID.String() + "?v=x", "/log?%zz=1",
		"/followers/Readers/discard", "/followers/Readers/discard?leader=Wiki&position=x"} {
		if answer := get(h, path); answer.Code != 400 {
			t.Errorf("%s: got %d, want 400", path, answer.Code)
		}
	}
	for _, path := range []string{"/aggregate/Wiki/" + everyID.String(), "/aggregate/Wiki/" + pageID.String() + "?v=77", "/aggregate/No/" + pageID.String(),
		"/followers/Nobody", "/followers/Readers/drop", "/static/none"} {
		if answer := get(h, path); answer.Code != 404 {
			t.Errorf("%s: got %d, want 404", path, answer.Code)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	w := newWiki(t, testdb.SQLiteFile(t))
	if _, err := admin.New(w.runner, admin.Config{}); err == nil {
		t.Error("without Authorize: got no error")
	}
	if _, err := admin.New(nil, admin.Config{Authorize: func(*http.Request) (admin.Rights, error) { return all, nil }}); err == nil {
		t.Error("without a runner: got no error")
	}
}

// TestUnderAPrefix follows every link of every page under a prefix.
func TestUnderAPrefix(t *testing.T) {
	w := newWiki(t, testdb.SQLiteFile(t))
	server := httptest.NewServer(http.StripPrefix("/deep/admin", w.handler(t, all, true)))
	defer server.Close()
	prefix := server.URL + "/deep/admin"
	seen := visit(t, prefix, prefix)
	find, err := http.Get(server.URL + "/deep/admin/aggregate?application=Wiki&id=" + pageID.String())
	if err != nil {
		t.Fatal(err)
	}
	paused, err := http.PostForm(server.URL+"/deep/admin/followers/Readers/pause", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, answer := range []*http.Response{find, paused} {
		if text := readAll(t, answer); answer.StatusCode != 200 || !strings.Contains(text, "<h1>") {
			t.Errorf("%s: got %d after a redirect, want a page under the prefix", answer.Request.URL, answer.StatusCode)
		}
	}
	if len(seen) < 15 {
		t.Errorf("got %d pages, want at least 15", len(seen))
	}
}

func readAll(t *testing.T, answer *http.Response) string {
	t.Helper()
	defer answer.Body.Close()
	var text strings.Builder
	buffer := make([]byte, 32<<10)
	for {
		n, err := answer.Body.Read(buffer)
		text.Write(buffer[:n])
		if err != nil {
			return text.String()
		}
	}
}

// TestLinkToOneVersion lists the versions around the one that a link is about,
// and leads to all others.
func TestLinkToOneVersion(t *testing.T) {
	w := newWiki(t, testdb.SQLiteFile(t))
	id := domain.NewIDv5("/pages/long")
	page := pageDefinition.Create(id, Written{"1"})
	for i := 2; i <= 120; i++ {
		domain.Trigger(page, Written{fmt.Sprint(i)})
	}
	if err := w.pages.Save(t.Context(), page); err != nil {
		t.Fatal(err)
	}
	h := w.handler(t, all, false)
	path := "/aggregate/Wiki/" + id.String()
	for _, version := range []string{"1", "50", "51", "100", "120"} {
		if text := get(h, path+"?v="+version).Body.String(); !strings.Contains(text, `aria-current="true">`+version+": ") {
			t.Errorf("version %s: got %s, want it among the versions", version, text)
		}
	}
	listed := map[string]bool{}
	for next := "?v=100"; next != ""; {
		text := get(h, path+next).Body.String()
		for _, part := range strings.Split(text, `<li value="`)[1:] {
			version, _, _ := strings.Cut(part, `"`)
			listed[version] = true
		}
		before, _, found := strings.Cut(text, `">Earlier versions`)
		if next = ""; found {
			next = before[strings.LastIndex(before, `"`)+1:]
		}
	}
	for text := get(h, path+"?v=100").Body.String(); ; {
		before, _, found := strings.Cut(text, `">Later versions`)
		if !found {
			break
		}
		text = get(h, path+before[strings.LastIndex(before, `"`)+1:]).Body.String()
		for _, part := range strings.Split(text, `<li value="`)[1:] {
			version, _, _ := strings.Cut(part, `"`)
			listed[version] = true
		}
	}
	if len(listed) != 120 {
		t.Errorf("got %d versions by links, want 120", len(listed))
	}
}

// TestCellsHaveLabels wants a label in each cell of each table: on a phone, rows
// are cards without the head of the table.
func TestCellsHaveLabels(t *testing.T) {
	templates, err := fs.Glob(os.DirFS("templates"), "*.html")
	if err != nil {
		t.Fatal(err)
	}
	cells := 0
	for _, name := range templates {
		text, err := os.ReadFile("templates/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, cell := range strings.Split(string(text), "<td")[1:] {
			cells++
			if !strings.HasPrefix(cell, ` data-label="`) && !strings.HasPrefix(cell, ` colspan="`) {
				t.Errorf("%s: a cell has no label: <td%.60s", name, cell)
			}
		}
	}
	if cells < 40 {
		t.Errorf("got %d cells, want those of all tables", cells)
	}
}

// TestHtmxIsTheOneThatWasVendored compares the checksum beside the file.
func TestHtmxIsTheOneThatWasVendored(t *testing.T) {
	folder := os.DirFS("static")
	script, err := fs.ReadFile(folder, "htmx.min.js")
	if err != nil {
		t.Fatal(err)
	}
	sum, err := fs.ReadFile(folder, "htmx.sha256")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%x", sha256.Sum256(script)); !strings.HasPrefix(string(sum), got+" ") {
		t.Errorf("checksum: got %s, want %s", got, sum)
	}
}

// The settings page names compressors and ciphers by their settings.
func TestSettingsOfStates(t *testing.T) {
	t.Parallel()
	for want, topics := range map[[2]string][2]string{
		{"", ""}:        {"", ""},
		{"zstd", "aes"}: {"zstd", "aes"},
		{"zlib", "eventsourcing.cipher:AESCipher"}: {"eventsourcing.compressor:ZlibCompressor", "eventsourcing.cipher:AESCipher"},
	} {
		settings := map[string]string{}
		if topics[0] != "" {
			settings = map[string]string{"COMPRESSOR_TOPIC": topics[0], "CIPHER_TOPIC": topics[1], "CIPHER_KEY": expect.Must(cipher.CreateKey(16))}
		}
		w := newWiki(t, testdb.SQLiteMemory(t), application.WithEnv(settings))
		var twin struct {
			Applications []struct{ Compressor, Cipher string }
		}
		answer := get(w.handler(t, admin.Rights{List: true}, false), inJSON("/settings"))
		expect.NoError(t, json.Unmarshal(answer.Body.Bytes(), &twin))
		if a := twin.Applications; len(a) == 0 || a[0].Compressor != want[0] || a[0].Cipher != want[1] {
			t.Errorf("%v: got %+v, want %v", topics, a, want)
		}
	}
}

// The settings page says whether aggregates are cached, and how.
func TestSettingsOfTheCache(t *testing.T) {
	t.Parallel()
	for want, settings := range map[string]map[string]string{
		`data-label="Cache">off<`:                                     nil,
		`data-label="Cache">70 of each kind, fast-forward<`:           {"AGGREGATE_CACHE_MAXSIZE": "70"},
		`data-label="Cache">70 of each kind<`:                         {"AGGREGATE_CACHE_MAXSIZE": "70", "AGGREGATE_CACHE_FASTFORWARD": "n"},
		`data-label="Cache">70 of each kind, fast-forward, skipping<`: {"AGGREGATE_CACHE_MAXSIZE": "70", "AGGREGATE_CACHE_FASTFORWARD_SKIPPING": "y"},
	} {
		w := newWiki(t, testdb.SQLiteMemory(t), application.WithEnv(settings))
		h := w.handler(t, admin.Rights{List: true}, false)
		if page := get(h, "/settings"); !strings.Contains(page.Body.String(), want) {
			t.Errorf("%v: got no %s in %s", settings, want, page.Body)
		}
		size := fmt.Sprintf(`"cache_size":%s`, cmp.Or(settings["AGGREGATE_CACHE_MAXSIZE"], "0"))
		if twin := get(h, inJSON("/settings")); !strings.Contains(strings.ReplaceAll(twin.Body.String(), " ", ""), size) {
			t.Errorf("%v: got no %s in %s", settings, size, twin.Body)
		}
	}
}
