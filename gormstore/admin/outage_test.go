package admin_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/admin"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/system"
	"github.com/eventsourcing-go/eventsourcing/system/health"
)

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
					t.Errorf("%s: got %d, %s, want neither a stack nor SQL nor a password", path, answer.Code, text)
				}
				if strings.HasPrefix(path, "/api/") && !json.Valid(answer.Body.Bytes()) {
					t.Errorf("%s: got %s, want JSON", path, answer.Body)
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
			pages, _, _, _ := newNotes(t, db, admin.Config{Timeout: 20 * time.Second}, "Readers")
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
			pages, _, _, _ := newNotes(t, db, admin.Config{Timeout: 20 * time.Second}, "Readers")
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
		// A busy machine may take longer for a page than there is time.
		expect.Until(t, "the log is shown after the lock", func() bool { return get(pages, "/log").Code == 200 })
		expect.Until(t, "pages that timed out leave no goroutines", func() bool { return runtime.NumGoroutine() <= before+2 })
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
	_, ready, err := health.New(runner, health.Config{Timeout: time.Second})
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
			t.Errorf("%s: got healthy %t, want %v", f.Follower, f.Healthy, (f.Follower == "NearToNear"))
		}
	}
	for _, a := range overview.Applications {
		if isNear := strings.HasSuffix(a.Name, "Near"); isNear != (a.Error == "") {
			t.Errorf("%s: got the error %q, want one only of those that are far", a.Name, a.Error)
		}
	}
	if answer := get(pages, "/followers/NearToNear"); answer.Code != 200 || !strings.Contains(answer.Body.String(), "Healthy") {
		t.Errorf("the follower of the other database: got %d, %s, want Code 200 and it to contain %q", answer.Code, answer.Body, "Healthy")
	}
	probe := get(ready, "/")
	var report struct {
		Followers []struct {
			Follower string
			Healthy  bool
			Reason   string
		}
	}
	if err := json.Unmarshal(probe.Body.Bytes(), &report); err != nil || probe.Code != 503 || len(report.Followers) != 4 {
		t.Fatalf("ready: got %d, %s, error %v, want no error, Code 503 and 4 Followers", probe.Code, probe.Body, err)
	}
	for _, f := range report.Followers {
		if f.Healthy != (f.Follower == "NearToNear") {
			t.Errorf("ready: %s: got %+v, want only NearToNear healthy", f.Follower, f)
		}
	}
}
