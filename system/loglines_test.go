package system_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
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
		do(t, bridge.Of(get[*follower](t, r, "Ahead")).Recorder().InsertTracking(t.Context(), ahead))
		start(t, r)
		register(t, get[*school.TrainingSchool](t, r, schoolName), 0, "Fido")
		time.Sleep(time.Hour)
		member, _ := r.System().Member("F")
		do(t, r.Pause(t.Context(), member, "a test"))
		time.Sleep(time.Hour)
		do(t, r.Close())
		synctest.Wait()
	})
	db := testdb.SQLiteMemory(t)
	do(t, gormstore.AutoMigrate(db))
	r := newRunner(t, gormstore.New(db), pipe(app(schoolName, school.New), followingWith("F", func(context.Context, domain.Event, *collector) error {
		return errPoison
	}, []system.FollowerOption{system.Park(func(persistence.Notification, error, int) bool { return true })}, logger)))
	register(t, get[*school.TrainingSchool](t, r, schoolName), 0, "Fido")
	member, _ := r.System().Member("F")
	_, err := r.CatchUp(t.Context(), member, nil)
	do(t, err)

	text, err := os.ReadFile(filepath.Join("..", "docs", "operations.md"))
	do(t, err)
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
			if message == "follower is standing by" { // which needs another process, and is logged as the others are
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
