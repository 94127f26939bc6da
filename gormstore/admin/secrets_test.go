package admin_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/admin"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// strictNote is what the program of another version has: the same stored names,
// other types.
type strictNote struct {
	domain.Aggregate
	N int
}

type strictNoted struct {
	Text   int
	Secret map[string]int
}

func (strictNoted) Apply(*strictNote) {}

// newReader returns a runner whose application reads the notes with another
// definition.
func newReader[T any](t *testing.T, db *gorm.DB, definition *domain.Definition[T]) *system.Runner {
	t.Helper()
	app, err := application.New("Notes", application.WithStore(gormstore.New(db)), quiet)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := application.NewRepository(app, definition); err != nil {
		t.Fatal(err)
	}
	sys, err := system.New(system.Pipe(app))
	if err != nil {
		t.Fatal(err)
	}
	runner, err := system.NewRunner(sys, system.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return runner
}

// TestErrorsOfDecodingDoNotShowPayloads reads events whose payloads do not fit
// the types of the program, with the right to list alone.
func TestErrorsOfDecodingDoNotShowPayloads(t *testing.T) {
	db := testdb.SQLiteFile(t)
	_, repository, _, _ := newNotes(t, db, admin.Config{}, "Readers")
	id := uuid.New()
	note := notes.Create(id, Noted{"zqsecret"})
	for _, value := range []any{true, 98765.4321, []any{"zqsecret"}, map[string]any{"zqsecret": "zqsecret"}, strings.Repeat("zqsecret", 1000)} {
		domain.Trigger(note, Noted{value})
	}
	if err := repository.Save(t.Context(), note); err != nil {
		t.Fatal(err)
	}
	rows := []map[string]any{}
	for i, state := range []string{`{"zqsecret":`, `zqsecret`, `"zqsecret"`, `{"Text":zqsecret}`, "{\"Text\":\"zqsecret\x01\"}"} {
		rows = append(rows, map[string]any{"application_name": "Notes", "originator_id": uuid.NewString(), "originator_version": 1, "topic": "Note.Noted", "state": []byte(state), "id": 100 + i})
	}
	if err := db.Table("stored_events").Create(rows).Error; err != nil {
		t.Fatal(err)
	}
	definition := domain.Define("Note", domain.On("Noted", strictNoted{}))
	w := &wiki{db: db, log: &strings.Builder{}}
	w.runner = newReader(t, db, definition)
	h := w.handler(t, admin.Rights{Actor: "eve", List: true}, false)
	path := "/aggregate/Notes/" + id.String()
	errs := 0
	for _, path := range []string{"/log", "/problems", path, path + "?v=1", path + "?v=2", path + "?v=3", path + "?v=4", path + "?v=5", path + "?v=6"} {
		for _, path := range []string{path, inJSON(path)} {
			answer := get(h, path)
			text := answer.Body.String()
			if answer.Code != 200 || strings.Contains(text, "zqsecret") || strings.Contains(text, "98765.4321") {
				t.Errorf("%s: got %d, %s; want no payload", path, answer.Code, text)
			}
			errs += strings.Count(text, "cannot")
		}
	}
	if errs < 10 {
		t.Errorf("got %d errors, want those of all events", errs)
	}
	if strings.Contains(w.log.String(), "zqsecret") {
		t.Errorf("the log shows a payload: %s", w.log)
	}
}

// card is what notes are in a later program: their name is another one, and
// texts are two events.
type card struct {
	domain.Aggregate
	Front, Back string
}

type fronted struct{ Front any }

func (f fronted) Apply(*card) {}

type backed struct{ Back any }

func (b backed) Apply(*card) {}

// TestRedactGetsTheTopicsOfToday redacts events that were stored under a former
// name and mean several events today, each by the topic that it has today. A
// Redact that panics shows nothing, and logs nothing of the payload.
func TestRedactGetsTheTopicsOfToday(t *testing.T) {
	db := testdb.SQLiteFile(t)
	_, repository, _, _ := newNotes(t, db, admin.Config{}, "Readers")
	id := uuid.New()
	if err := repository.Save(t.Context(), notes.Create(id, Noted{"zqsecret"})); err != nil {
		t.Fatal(err)
	}
	runner := newReader(t, db, domain.Define("Card", domain.FormerName[card]("Note"), domain.On("Fronted", fronted{}), domain.On("Backed", backed{}),
		domain.UpcastToMany[card]("Noted", []any{fronted{}, backed{}},
			func(n Noted) []any { return []any{fronted{n.Text}, backed{n.Text}} })))
	log := &strings.Builder{}
	paths := []string{"/log", "/aggregate/Notes/" + id.String() + "?v=1"}
	for name, c := range map[string]struct {
		redact func(about string, data json.RawMessage) json.RawMessage
		want   []string
	}{
		"by topic": {func(about string, data json.RawMessage) json.RawMessage {
			if about == "Card.Fronted" || about == "Card.Backed" {
				return json.RawMessage(`{"hidden":"` + about + `"}`)
			}
			return data
		}, []string{"Card.Fronted", "Card.Backed"}},
		"panics":        {func(_ string, data json.RawMessage) json.RawMessage { panic(string(data)) }, []string{"Config.Redact panicked"}},
		"returns none":  {func(string, json.RawMessage) json.RawMessage { return nil }, nil},
		"is no JSON":    {func(string, json.RawMessage) json.RawMessage { return json.RawMessage("<b>hidden") }, []string{"hidden"}},
		"changes texts": {func(_ string, data json.RawMessage) json.RawMessage { clear(data); return data }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			pages, err := admin.New(runner, admin.Config{Redact: c.redact, Logger: slog.New(slog.NewTextHandler(log, nil)),
				Authorize: func(*http.Request) (admin.Rights, error) { return all, nil }})
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range paths {
				for _, path := range []string{path, inJSON(path)} {
					text := get(pages, path).Body.String()
					if !strings.Contains(text, id.String()) || strings.Contains(text, "zqsecret") || strings.Contains(text, "<b>") {
						t.Errorf("%s: got %s, want the event without its payload", path, text)
					}
					for _, want := range c.want {
						if !strings.Contains(text, want) {
							t.Errorf("%s: got %s, want %s", path, text, want)
						}
					}
				}
			}
		})
	}
	if !strings.Contains(log.String(), "Redact panicked") || strings.Contains(log.String(), "zqsecret") {
		t.Errorf("got the log %s, want the panic and no payload", log)
	}
}
