package admin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/admin"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// TestReadingChangesNothing gets every page and its JSON twin, with all rights
// and actions allowed, and compares every row of every table.
func TestReadingChangesNothing(t *testing.T) {
	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		w := newWiki(t, open(t))
		h := w.handler(t, all, true)
		paths := reading()
		for _, action := range []string{"sync", "dry-run", "pause", "resume", "retry", "reset"} {
			paths = append(paths, "/followers/Readers/"+action)
		}
		paths = append(paths, "/followers/Readers/discard?leader=Wiki&position=5")
		before := tables(t, w.db)
		for _, path := range paths {
			for _, path := range []string{path, inJSON(path)} {
				answer := get(h, path)
				if answer.Code != 200 && answer.Code != 303 {
					t.Errorf("%s: got %d, %s, want 200 or 303", path, answer.Code, answer.Body)
				}
				if csp := answer.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") {
					t.Errorf("%s: got the policy %q, want it to contain %q", path, csp, "default-src 'none'")
				}
				isJSON := strings.HasPrefix(path, "/api/")
				if isJSON && !json.Valid(answer.Body.Bytes()) {
					t.Errorf("%s: got %s, want JSON", path, answer.Body)
				}
				if !isJSON && strings.Contains(answer.Body.String(), "<script>alert") {
					t.Errorf("%s: markup of a payload is not escaped", path)
				}
			}
		}
		if tables(t, w.db) != before {
			t.Error("a GET has changed the database")
		}
	})
}

// TestEveryRouteWithEveryRights asks for each route with each of the 16 sets of
// rights, read-only and with actions.
func TestEveryRouteWithEveryRights(t *testing.T) {
	w := newWiki(t, testdb.SQLiteFile(t))
	acting := map[string]bool{"sync": false, "dry-run": false, "pause": false, "resume": false, "retry": false, "discard": true, "reset": true}
	for set := range 32 {
		rights := admin.Rights{Actor: "bob", List: set&1 > 0, Payload: set&2 > 0, Operate: set&4 > 0, Reset: set&8 > 0}
		actions := set&16 > 0
		h := w.handler(t, rights, actions)
		for _, path := range append(reading(), "/nothing", "/followers/Nobody", "/log?application=Nothing") {
			answer := get(h, path)
			unknown := strings.Contains(path, "No") || path == "/nothing"
			switch want := rights.List; {
			case unknown && path != "/nothing" && want && answer.Code != 404:
				t.Errorf("%+v %s: got %d, want 404", rights, path, answer.Code)
			case !unknown && want != (answer.Code == 200 || answer.Code == 303):
				t.Errorf("%+v %s: got %d", rights, path, answer.Code)
			case !want && path != "/nothing" && answer.Code != 403:
				t.Errorf("%+v %s: got %d, want 403", rights, path, answer.Code)
			}
			twin := get(h, inJSON(path))
			if rights.List != (twin.Code != 403) && path != "/nothing" {
				t.Errorf("%+v %s: got %d for the JSON twin, want 403 unless it may be listed", rights, path, twin.Code)
			}
			if !rights.Payload && strings.Contains(answer.Body.String()+twin.Body.String(), "unmistakable") {
				t.Errorf("%+v %s: shows a payload", rights, path)
			}
		}
		for action, destroys := range acting {
			allowed := actions && rights.List && (destroys && rights.Reset || !destroys && rights.Operate)
			path := "/followers/Readers/" + action
			question := get(h, path+"?leader=Wiki&position=5")
			if allowed != (question.Code == 200) {
				t.Errorf("%+v, actions %t: GET %s: got %d, want 200: %t", rights, actions, path, question.Code, allowed)
			}
			// Without the name typed, nothing is destroyed.
			answer := post(h, path, url.Values{"leader": {"Wiki"}, "position": {"5"}})
			switch {
			case !allowed && answer.Code != 403:
				t.Errorf("%+v, actions %t: POST %s: got %d, want 403", rights, actions, path, answer.Code)
			case allowed && destroys && answer.Code != 400:
				t.Errorf("%+v: POST %s without confirmation: got %d, want 400", rights, path, answer.Code)
			case allowed && !destroys && answer.Code == 403:
				t.Errorf("%+v: POST %s: got 403", rights, path)
			}
		}
	}
}

func TestActions(t *testing.T) {
	testdb.Each(t, func(t *testing.T, open func(testing.TB) *gorm.DB) {
		w := newWiki(t, open(t))
		h := w.handler(t, all, true)
		do := func(action string, want int, form url.Values) {
			t.Helper()
			answer := post(h, "/followers/Readers/"+action, form)
			if answer.Code != want {
				t.Errorf("%s: got %d, %s; want %d", action, answer.Code, answer.Body, want)
			}
		}
		ctx := context.Background()
		status := func() system.Status {
			t.Helper()
			statuses, err := w.runner.Statuses(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return statuses[0]
		}
		offers := func(want, not string) {
			t.Helper()
			text := get(h, "/followers/Readers").Body.String()
			if !strings.Contains(text, "followers/Readers/"+want+`"`) || strings.Contains(text, "followers/Readers/"+not+`"`) {
				t.Errorf("the page does not offer %s, or offers %s, want it to contain %q", want, not, "followers/Readers/"+want+`"`)
			}
		}
		offers("pause", "resume")
		do("pause", 303, nil)
		if s := status(); s.PausedBy != "alice" {
			t.Errorf("paused by: got %q, want alice", s.PausedBy)
		}
		offers("resume", "pause")
		do("resume", 303, nil)
		do("sync", 303, nil)
		do("dry-run", 303, nil)
		do("retry", 409, nil) // the handler fails again
		if s := status(); s.Parked != 1 || !s.PausedAt.IsZero() {
			t.Errorf("got %d parked, paused at %v; want 1 and not paused", s.Parked, s.PausedAt)
		}
		sure := url.Values{"confirm": {"Readers"}, "leader": {"Wiki"}, "position": {"5"}}
		do("discard", 303, sure)
		do("discard", 409, sure)
		if s := status(); s.Parked != 0 {
			t.Errorf("after discard: got %d parked, want 0", s.Parked)
		}
		do("reset", 303, sure)
		if s := status(); s.Position != 0 {
			t.Errorf("after reset: got position %d, want 0", s.Position)
		}
		do("reset", 409, sure) // it has no position any more
		for _, want := range []string{"action=pause actor=alice follower=Readers", "action=reset actor=alice follower=Readers", "outcome=failed"} {
			if !strings.Contains(w.log.String(), want) {
				t.Errorf("the log lacks %q", want)
			}
		}
	})
}

// TestCrossOriginPostIsRefused also shows that GET does no action.
func TestCrossOriginPostIsRefused(t *testing.T) {
	w := newWiki(t, testdb.SQLiteFile(t))
	h := w.handler(t, all, true)
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "same-site"}} {
		if answer := post(h, "/followers/Readers/pause", nil, header...); answer.Code != 403 {
			t.Errorf("%v: got %d, want 403", header, answer.Code)
		}
	}
	if answer := post(h, "/followers/Readers/pause", nil, "Sec-Fetch-Site", "same-origin"); answer.Code != 303 {
		t.Errorf("same origin: got %d, want 303", answer.Code)
	}
	for _, path := range []string{"/", "/log", "/followers", "/api/followers"} {
		if answer := post(h, path, nil); answer.Code != 405 && answer.Code != 404 {
			t.Errorf("POST %s: got %d, want 405", path, answer.Code)
		}
	}
}

// TestWrongKey shows events that cannot be decrypted with their places, and
// nothing of what they contain.
func TestWrongKey(t *testing.T) {
	db := testdb.SQLiteFile(t)
	right := key(t)
	newWiki(t, db, application.WithCipher(right))
	w := &wiki{db: db, log: &strings.Builder{}}
	wrong := key(t)
	w.runner, w.pages = newRunner(t, gormstore.New(db), application.WithCipher(wrong))
	h := w.handler(t, all, true)
	for _, path := range reading() {
		for _, path := range []string{path, inJSON(path)} {
			answer := get(h, path)
			if answer.Code != 200 && answer.Code != 303 {
				t.Errorf("%s: got %d, %s, want 200 or 303", path, answer.Code, answer.Body)
			}
			if text := answer.Body.String(); strings.Contains(text, "unmistakable") || strings.Contains(text, fmt.Sprint(wrong)) {
				t.Errorf("%s: shows a payload or a key", path)
			}
		}
	}
	if text := get(h, "/problems").Body.String(); strings.Count(text, "/aggregate/Wiki/"+pageID.String())+strings.Count(text, "aggregate/Wiki/"+pageID.String()) < 5 {
		t.Errorf("problems: got %s, want all five events", text)
	}
}
