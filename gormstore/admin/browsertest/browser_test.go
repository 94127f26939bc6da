// Package browsertest opens the pages of gormstore/admin in Chromium. It is a
// separate module, so that no service depends on what drives the browser.
package browsertest

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/admin"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
)

var update = flag.Bool("update", false, "write the screenshots of docs/admin anew")

// service is a service with dogs and a follower that has parked two events.
type service struct {
	db      *gorm.DB
	address string
	dogs    *school.TrainingSchool
	canFly  atomic.Bool // the follower's handler does not fail any more
}

func newService(t *testing.T) *service {
	t.Helper()
	s := &service{}
	db, err := gormstore.OpenSQLite(sqlite.Open, filepath.Join(t.TempDir(), "test.sqlite3"))
	if err != nil {
		t.Fatal(err)
	}
	if err := gormstore.AutoMigrate(db); err != nil {
		t.Fatal(err)
	}
	options := []application.Option{application.WithStore(gormstore.New(db)), application.WithLogger(slog.New(slog.DiscardHandler)),
		application.WithSnapshotting(map[string]int{"Dog": 3})}
	dogs, err := school.New(options...)
	if err != nil {
		t.Fatal(err)
	}
	app, err := application.New("TrickCounts", options...)
	if err != nil {
		t.Fatal(err)
	}
	follower, err := system.NewFollower(app, system.On(func(_ context.Context, e domain.Recorded[school.TrickAdded]) error {
		if e.Data.Trick == "fly" && !s.canFly.Load() {
			return errors.New("no dog can fly")
		}
		return nil
	}), system.Park(func(persistence.Notification, error, int) bool { return true }), system.Replayable())
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	for _, name := range []string{"Fido", "Rex", "Laika"} {
		err := dogs.Register(ctx, name)
		for _, trick := range []string{"roll over", "play dead", "sit"} {
			err = errors.Join(err, dogs.AddTrick(ctx, name, trick))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(dogs.AddTrick(ctx, "Laika", "fly"), dogs.AddTrick(ctx, "Rex", "fly")); err != nil {
		t.Fatal(err)
	}
	sys, err := system.New(system.Pipe(dogs, follower))
	if err != nil {
		t.Fatal(err)
	}
	runner, err := system.NewRunner(sys, system.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := runner.CatchUp(ctx, follower, nil); err != nil {
		t.Fatal(err)
	}
	pages, err := admin.New(runner, admin.Config{Actions: true, Timeout: 20 * time.Second,
		Authorize: func(*http.Request) (admin.Rights, error) {
			return admin.Rights{Actor: "alice", List: true, Payload: true, Operate: true, Reset: true}, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.StripPrefix("/admin", pages))
	t.Cleanup(server.Close)
	s.db, s.address, s.dogs = db, server.URL+"/admin/", dogs
	return s
}

// addUnreadableEvent stores an event that cannot be decoded.
func (s *service) addUnreadableEvent(t *testing.T) {
	t.Helper()
	event := gormstore.StoredEvent{ApplicationName: "TrainingSchool", OriginatorID: gormstore.UUID(school.DogID("Belka")),
		OriginatorVersion: 1, Topic: "Dog.Registered", State: []byte("not an event")}
	if err := s.db.Create(&event).Error; err != nil {
		t.Fatal(err)
	}
}

// browser is a tab, and what went wrong in it.
type browser struct {
	context.Context
	mu       sync.Mutex // protects problems
	problems []string
}

func newBrowser(t *testing.T, address string) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU)
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &browser{Context: ctx}
	note := func(problem string) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.problems = append(b.problems, problem)
	}
	chromedp.ListenTarget(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventConsoleAPICalled:
			if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning {
				note("console: " + string(e.Args[0].Value))
			}
		case *runtime.EventExceptionThrown:
			note("exception: " + e.ExceptionDetails.Error())
		case *cdplog.EventEntryAdded: // also what the content security policy forbids
			if e.Entry.Level == cdplog.LevelError || e.Entry.Level == cdplog.LevelWarning {
				note("log: " + e.Entry.Text)
			}
		case *network.EventRequestWillBeSent:
			if url := e.Request.URL; !strings.HasPrefix(url, address) && !strings.HasPrefix(url, "data:") {
				note("outside request: " + url)
			}
		case *network.EventResponseReceived:
			if e.Response.Status >= 400 {
				note("failed request: " + e.Response.URL)
			}
		}
	})
	// The browser lives as long as the context of the first call.
	if err := chromedp.Run(ctx, network.Enable(), runtime.Enable(), cdplog.Enable()); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *browser) run(t *testing.T, actions ...chromedp.Action) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b, time.Minute)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

func (b *browser) wantNoProblems(t *testing.T, where string) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, problem := range b.problems {
		t.Errorf("%s: %s", where, problem)
	}
	b.problems = nil
}

// pages are the paths of every page, with the names of their screenshots.
func pages() map[string]string {
	id := school.DogID("Laika").String()
	return map[string]string{
		"overview": "", "log": "log?tail=on", "find": "aggregate", "aggregate": "aggregate/TrainingSchool/" + id + "?v=4",
		"followers": "followers", "follower": "followers/TrickCounts", "confirm": "followers/TrickCounts/reset",
		"problems": "problems", "settings": "settings",
	}
}

// lowContrast returns the texts whose contrast is less than WCAG AA wants.
const lowContrast = `(() => {
	const channels = c => (c.match(/[\d.]+/g) || []).map(Number);
	const light = c => { const [r, g, b] = channels(c).slice(0, 3).map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
	const ground = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor, a = channels(c); if (a.length < 4 || a[3] > 0) return c; } return 'rgb(255,255,255)'; };
	const found = [];
	for (const e of document.querySelectorAll('body *')) {
		if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) || !e.getClientRects().length) continue;
		const style = getComputedStyle(e), a = light(style.color), b = light(ground(e));
		const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05), size = parseFloat(style.fontSize);
		const large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
		if (ratio < (large ? 3 : 4.5)) found.push(e.tagName + ' ' + e.textContent.trim().slice(0, 30) + ' ' + ratio.toFixed(2));
	}
	return found;
})()`

// unlabelled returns the controls that have no name for a screen reader.
const unlabelled = `[...document.querySelectorAll('input:not([type=hidden]), select, button, a, meter')].filter(e =>
	!(e.labels && e.labels.length) && !e.textContent.trim() && !e.getAttribute('aria-label')).map(e => e.outerHTML)`

// TestEveryPageAtEverySize opens every page at the widths of a phone and a
// desktop, light and dark.
func TestEveryPageAtEverySize(t *testing.T) {
	s := newService(t)
	s.addUnreadableEvent(t)
	address := s.address
	b := newBrowser(t, address)
	for _, screen := range []struct {
		name  string
		width int64
	}{{"phone", 390}, {"desktop", 1280}} {
		for _, scheme := range []string{"light", "dark"} {
			b.run(t, chromedp.EmulateViewport(screen.width, 850),
				emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}))
			for name, path := range pages() {
				where := name + ", " + screen.name + ", " + scheme
				var contrast, controls []string
				var width int64
				var picture []byte
				b.run(t, chromedp.Navigate(address+path), chromedp.WaitVisible("h1"), chromedp.Evaluate(lowContrast, &contrast),
					chromedp.Evaluate(unlabelled, &controls), chromedp.Evaluate("document.documentElement.scrollWidth", &width),
					chromedp.CaptureScreenshot(&picture))
				if len(contrast) > 0 {
					t.Errorf("%s: the contrast is too low: %q, want 0 of them", where, contrast)
				}
				if len(controls) > 0 {
					t.Errorf("%s: controls without a name: %q, want 0 controls", where, controls)
				}
				if width > screen.width {
					t.Errorf("%s: the page is %d wide, want %d", where, width, screen.width)
				}
				b.wantNoProblems(t, where)
				if *update {
					file := filepath.Join("..", "..", "..", "docs", "admin", name+"-"+screen.name+"-"+scheme+".png")
					if err := os.WriteFile(file, picture, 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
}

// TestWithoutJavaScript opens every page and pauses a follower, with scripts
// off.
func TestWithoutJavaScript(t *testing.T) {
	s := newService(t)
	address := s.address
	b := newBrowser(t, address)
	b.run(t, emulation.SetScriptExecutionDisabled(true))
	for name, path := range pages() {
		b.run(t, chromedp.Navigate(address+path), chromedp.WaitReady("h1"))
		b.wantNoProblems(t, name)
	}
	b.act(t, address, "pause", "The follower is paused.")
}

// act clicks through an action and wants what the page then says.
func (b *browser) act(t *testing.T, address, action, want string) {
	t.Helper()
	var status string
	steps := []chromedp.Action{
		chromedp.Navigate(address + "followers/TrickCounts"),
		chromedp.Click(`a[href$="/` + action + `"]`), chromedp.WaitReady("form button"),
	}
	if action == "reset" {
		steps = append(steps, chromedp.SendKeys("input[name=confirm]", "TrickCounts"))
	}
	steps = append(steps, chromedp.Click("form button"), chromedp.WaitReady("[role=status]"), chromedp.Text("[role=status]", &status))
	b.run(t, steps...)
	if status != want {
		t.Errorf("%s: got %q, want %q", action, status, want)
	}
}

func TestActionsAreClickedThrough(t *testing.T) {
	s := newService(t)
	address := s.address
	b := newBrowser(t, address)
	b.act(t, address, "pause", "The follower is paused.")
	b.act(t, address, "resume", "The follower goes on.")
	b.act(t, address, "sync", "The follower has processed what there was.")
	b.act(t, address, "dry-run", "The dry run has succeeded and was rolled back.")
	b.wantNoProblems(t, "actions")
	var status string
	b.run(t, chromedp.Navigate(address+"followers/TrickCounts"), chromedp.Click(`a[href*="/discard?"]`), chromedp.WaitReady("form button"),
		chromedp.SendKeys("input[name=confirm]", "TrickCounts"), chromedp.Click("form button"), chromedp.WaitReady("[role=status]"),
		chromedp.Text("[role=status]", &status))
	if want := "The parked event was discarded."; status != want {
		t.Errorf("discard: got %q, want %q", status, want)
	}
	s.canFly.Store(true)
	b.act(t, address, "retry", "The parked events were processed.")
	b.act(t, address, "reset", "The follower was reset.")
	b.wantNoProblems(t, "actions")
}

// TestKeyboardAlone opens the log from the overview with Tab and Enter, and
// wants every control reachable and its focus visible.
func TestKeyboardAlone(t *testing.T) {
	s := newService(t)
	address := s.address
	b := newBrowser(t, address)
	press := func(key string, code int64) chromedp.Action {
		return chromedp.ActionFunc(func(ctx context.Context) error {
			for _, kind := range []input.KeyType{input.KeyDown, input.KeyUp} {
				event := input.DispatchKeyEvent(kind).WithKey(key).WithCode(key).WithWindowsVirtualKeyCode(code)
				if key == "Enter" && kind == input.KeyDown {
					event = event.WithText("\r")
				}
				if err := event.Do(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for name, path := range pages() {
		var controls, reached int
		b.run(t, chromedp.Navigate(address+path), chromedp.WaitVisible("h1"),
			chromedp.Evaluate(`window.reached = new Set(); document.querySelectorAll('a[href], button, select, input:not([type=hidden]), [tabindex="0"]').length`, &controls))
		for range controls {
			var visible bool
			b.run(t, press("Tab", 9), chromedp.Evaluate(`(() => { const e = document.activeElement; window.reached.add(e); return getComputedStyle(e).outlineStyle !== 'none'; })()`, &visible))
			if !visible {
				t.Errorf("%s: a control does not show that it has the focus", name)
			}
		}
		b.run(t, chromedp.Evaluate("window.reached.size", &reached))
		if reached < controls {
			t.Errorf("%s: Tab reaches %d controls, want %d", name, reached, controls)
		}
	}
	var title string
	b.run(t, chromedp.Navigate(address), chromedp.WaitVisible("h1"), press("Tab", 9), press("Tab", 9), press("Tab", 9), press("Enter", 13),
		chromedp.WaitVisible(`a[aria-current][href$="log"]`), chromedp.Text("h1", &title))
	if !strings.HasPrefix(title, "Log of") {
		t.Errorf("Enter on the second link: got %q, want the log", title)
	}
	b.wantNoProblems(t, "keyboard")
}

// TestLiveTail wants an event that is saved later to appear on the page without
// a reload, and the focus to stay.
func TestLiveTail(t *testing.T) {
	s := newService(t)
	b := newBrowser(t, s.address)
	var isShown, isSame bool
	var focused string
	b.run(t, chromedp.Navigate(s.address+"log?tail=on"), chromedp.WaitVisible("#rows"), chromedp.Focus("#event3"),
		chromedp.Evaluate("window.same = true", nil))
	if err := s.dogs.AddTrick(context.Background(), "Fido", "jump the fence"); err != nil {
		t.Fatal(err)
	}
	b.run(t, chromedp.Poll("document.getElementById('rows').textContent.includes('jump the fence')", &isShown,
		chromedp.WithPollingTimeout(20*time.Second)), chromedp.Evaluate("window.same === true", &isSame),
		chromedp.Evaluate("document.activeElement.id", &focused))
	if !isSame {
		t.Error("the page was loaded again")
	}
	if focused != "event3" {
		t.Errorf("the focus is at %q, want it at the event that had it", focused)
	}
	b.wantNoProblems(t, "live tail")
}
