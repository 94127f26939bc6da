package system_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
	"github.com/eventsourcing-go/eventsourcing/system/health"
)

// logLines is a slog.Handler that keeps what was logged, as docs/operations.md
// has it: level, message and keys.
type logLines struct {
	mu    sync.Mutex // protects lines
	lines map[string]bool
}

func logLine(level, message string, keys []string) string {
	return strings.ToLower(level) + ", " + message + ": " + strings.Join(keys, " ")
}

func (l *logLines) Enabled(context.Context, slog.Level) bool { return true }

func (l *logLines) Handle(_ context.Context, r slog.Record) error {
	var keys []string
	for a := range r.Attrs {
		keys = append(keys, a.Key)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lines == nil {
		l.lines = map[string]bool{}
	}
	message, _, _ := strings.Cut(r.Message, ";") // advice follows
	l.lines[logLine(r.Level.String(), message, keys)] = true
	return nil
}

func (l *logLines) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *logLines) WithGroup(string) slog.Handler      { return l }

// TestDocumentedLogLines wants each line of a follower that docs/operations.md
// documents, with its level and its keys.
func TestDocumentedLogLines(t *testing.T) {
	var logged logLines
	logger := application.WithLogger(slog.New(&logged))
	synctest.Test(t, func(t *testing.T) {
		failures := 1
		fails := func(context.Context, domain.Event, *collector) error {
			if failures--; failures >= 0 {
				return errors.New("broken")
			}
			time.Sleep(2 * time.Minute)
			return nil
		}
		r := newRunner(t, memory.New(), pipe(app(schoolName, school.New), followerLoop("F", fails, logger), followerLoop("Ahead", ignore, logger)))
		ahead := persistence.Tracking{ApplicationName: "F", NotificationID: 7}
		expect.NoError(t, bridge.Of(get[*follower](t, r, "Ahead")).Recorder().InsertTracking(t.Context(), ahead))
		start(t, r)
		register(t, get[*school.TrainingSchool](t, r, schoolName), 0, "Fido")
		time.Sleep(time.Hour)
		expect.NoError(t, r.Pause(t.Context(), called("F"), "a test"))
		time.Sleep(time.Hour)
		expect.NoError(t, r.Close())
		synctest.Wait()
	})
	db := testdb.SQLiteMemory(t)
	expect.NoError(t, gormstore.AutoMigrate(db))
	r := newRunner(t, gormstore.New(db), pipe(app(schoolName, school.New), followingWith("F", func(context.Context, domain.Event, *collector) error {
		return errPoison
	}, []system.FollowerOption{system.Park(func(persistence.Notification, error, int) bool { return true })}, logger)))
	register(t, get[*school.TrainingSchool](t, r, schoolName), 0, "Fido")
	_, err := r.CatchUp(t.Context(), called("F"), nil)
	expect.NoError(t, err)

	text, err := os.ReadFile(filepath.Join("..", "docs", "operations.md"))
	expect.NoError(t, err)
	_, section, _ := strings.Cut(string(text), "### Log lines")
	section, _, _ = strings.Cut(section, "\n### ")
	documented := 0
	for row := range strings.Lines(section) {
		cells := strings.Split(row, "|")
		if len(cells) < 4 || !strings.Contains(cells[3], "`follower`") || strings.Contains(cells[2], "admin") || strings.Contains(cells[2], "discarded") {
			continue
		}
		var keys []string
		for key := range strings.SplitSeq(cells[3], ",") {
			keys = append(keys, strings.Trim(key, " `"))
		}
		messages := []string{strings.TrimSpace(cells[2])}
		if states, ok := strings.CutPrefix(messages[0], "follower is running, "); ok {
			messages = []string{"follower is running"}
			for state := range strings.SplitSeq(states, ", ") {
				messages = append(messages, "follower is "+state)
			}
		}
		for _, message := range messages {
			documented++
			// It needs another process, and is logged as the others are.
			if message == "follower is standing by" {
				continue
			}
			if line := logLine(strings.TrimSpace(cells[1]), message, keys); !logged.lines[line] {
				all := slices.Sorted(maps.Keys(logged.lines))
				t.Errorf("documented and not logged: %s\nlogged:\n%s", line, strings.Join(all, "\n"))
			}
		}
	}
	if documented < 8 {
		t.Errorf("docs/operations.md documents %d lines of followers, want 8", documented)
	}
}

// databaseLog is a logger of GORM that keeps the statements it is told of, and
// the errors.
type databaseLog struct {
	logger.Interface
	mu         sync.Mutex // protects what follows
	statements []string
	errors     []string
}

func (l *databaseLog) LogMode(logger.LogLevel) logger.Interface { return l }

func (l *databaseLog) Trace(_ context.Context, _ time.Time, statement func() (string, int64), err error) {
	text, _ := statement()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.statements = append(l.statements, text)
	if err != nil {
		l.errors = append(l.errors, err.Error()+": "+text)
	}
}

// taken returns what was logged since the last call.
func (l *databaseLog) taken() (statements, errors []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	statements, errors = l.statements, l.errors
	l.statements, l.errors = nil, nil
	return statements, errors
}

// A probe of liveness sends no statement, with an ended context or any other,
// and still knows the followers.
func TestLivenessAsksNoDatabase(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		seen := &databaseLog{Interface: logger.Discard}
		r := newRunner(t, gormstore.New(db.Session(&gorm.Session{Logger: seen})), pipe(app(schoolName, school.New), followerLoop("F", ignore)))
		live, ready, err := health.New(r, health.Config{})
		expect.NoError(t, err)
		probe := func(h http.Handler) (code int, body string) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
			return w.Code, w.Body.String()
		}
		if _, _ = probe(ready); len(seen.statements) == 0 {
			t.Error("the probe of readiness has sent no statement")
		}
		seen.taken()
		if code, body := probe(live); code != 200 || !strings.Contains(body, `"follower":"F"`) {
			t.Errorf("got %d, %s, want 200 and it to contain %q", code, body, `"follower":"F"`)
		}
		if statements, errs := seen.taken(); len(statements) > 0 || len(errs) > 0 {
			t.Errorf("sent %q, with the errors %q, want 0 statements and 0 errs", statements, errs)
		}
	})
}

// Neither a follower that stands by nor the end of its runner in the meantime is
// logged as an error of the database.
func TestStandingByLogsNoDatabaseError(t *testing.T) {
	t.Parallel()
	for name, dsn := range map[string]func(testing.TB) string{"sqlite": func(t testing.TB) string {
		return strings.Replace(testdb.SQLiteFileDSN(t), "_busy_timeout=10000", "_busy_timeout=100", 1)
	}, "postgres": testdb.Postgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := dsn(t)
			open := func() (*gormstore.Store, *databaseLog) {
				db, err := openChild(name, address)
				expect.NoError(t, err)
				closePool(t, db)
				expect.NoError(t, gormstore.AutoMigrate(db))
				seen := &databaseLog{Interface: logger.Discard}
				return gormstore.New(db.Session(&gorm.Session{Logger: seen}), gormstore.WithLockTimeout(200*time.Millisecond)), seen
			}
			started := make(chan struct{})
			hanging := func(ctx context.Context, _ domain.Event, _ *collector) error {
				close(started)
				<-ctx.Done()
				return ctx.Err()
			}
			first, firstLog := open()
			second, secondLog := open()
			working := newRunner(t, first, pipe(app(schoolName, school.New), followerLoop("F", hanging)))
			register(t, get[*school.TrainingSchool](t, working, schoolName), 0, "Fido")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			expect.NoError(t, working.Start(ctx))
			<-started
			standBy := newRunner(t, second, pipe(app(schoolName, school.New), followerLoop("F", ignore)))
			expect.NoError(t, standBy.Start(ctx))
			waitForState(t, standBy, system.StandingBy)
			cancel()
			<-standBy.Done()
			<-working.Done()
			for which, seen := range map[string]*databaseLog{"works": firstLog, "stands by": secondLog} {
				if statements, errs := seen.taken(); len(errs) > 0 || len(statements) == 0 {
					t.Errorf("the runner that %s has logged %q, want 0 errs and some statements", which, errs)
				}
			}
		})
	}
}
