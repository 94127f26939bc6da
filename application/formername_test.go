package application_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

// queries counts the recorders that are made, by name.
type queries struct {
	*memory.Store
	made map[string]int
}

func (q *queries) ProcessRecorder(name string) (persistence.ProcessRecorder, error) {
	q.made[name]++
	return q.Store.ProcessRecorder(name)
}

// A renamed program that is started before the rows are renamed neither reads
// an empty log nor saves into it. Once they are renamed it asks no more.
func TestFormerNameInTheStore(t *testing.T) {
	ctx, store := t.Context(), &queries{memory.New(), map[string]int{}}
	made := func(name string, options ...application.Option) (*application.Application, *application.Repository[school.Dog]) {
		t.Helper()
		app, err := application.New(name, append(options, application.WithStore(store))...)
		if err != nil {
			t.Fatal(err)
		}
		return app, expect.Must(application.NewRepository(app, school.Dogs))
	}
	_, old := made("School")
	dog := school.Dogs.Create(uuid.New(), school.Registered{Name: "Fido"})
	if err := old.Save(ctx, dog); err != nil {
		t.Fatal(err)
	}
	app, renamed := made("Academy", application.WithFormerNames("Kennels", "School"))
	logs := expect.Must(application.NewEventSourcedLog(app, school.Dogs, domain.NewIDv5("/log")))
	for name, use := range map[string]func() error{
		"Save":      func() error { return renamed.Save(ctx, school.Dogs.Create(uuid.New(), school.Registered{Name: "Rex"})) },
		"Get":       func() error { _, err := renamed.Get(ctx, dog.ID()); return err },
		"Contains":  func() error { _, err := renamed.Contains(ctx, dog.ID()); return err },
		"log":       func() error { _, err := app.Log().Head(ctx); return err },
		"event log": func() error { _, _, err := logs.Last(ctx); return err },
		"Subscribe": func() error {
			for _, err := range app.Log().Subscribe(ctx, 0) {
				return err
			}
			return nil
		},
		"delete": func() error { _, err := app.Log().DeleteOriginator(ctx, dog.ID()); return err },
	} {
		err := use()
		if !errors.Is(err, persistence.ErrOperational) || !strings.Contains(err.Error(), "events of School, which is a former name") ||
			!strings.Contains(err.Error(), "Renaming an application") {
			t.Errorf("%s: %v, want an error that is %v, that contains %q and that contains %q", name, err, persistence.ErrOperational, "events of School, which is a former name", "Renaming an application")
		}
	}
	// Former names without events cost one query each.
	_, clear := made("Academy", application.WithFormerNames("Kennels"))
	before := store.made["Kennels"]
	for range 3 {
		if err := clear.Save(ctx, school.Dogs.Create(uuid.New(), school.Registered{Name: "Rex"})); err != nil {
			t.Fatal(err)
		}
	}
	if n := store.made["Kennels"] - before; n != 1 {
		t.Errorf("a former name was looked up %d times, want once", n)
	}
}
