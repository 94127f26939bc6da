package application_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

// An aggregate is saved only by the application that it was loaded from,
// whether it was read from events, from a snapshot or from the cache.
func TestForeignAggregate(t *testing.T) {
	t.Parallel()
	ways := map[string]map[string]string{
		"events":   nil,
		"snapshot": {"SNAPSHOTTING_INTERVALS": "1"},
		"cache":    {"AGGREGATE_CACHE_MAXSIZE": "10"},
	}
	for name, environment := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, store := t.Context(), memory.New()
			open := func(name string) (*application.Application, *application.Repository[school.Dog]) {
				app, err := application.New(name, application.WithStore(store), application.WithEnv(environment))
				if err != nil {
					t.Fatal(err)
				}
				return app, expect.Must(application.NewRepository(app, school.Dogs))
			}
			_, own := open("School")
			other, others := open("Kennels")
			id := uuid.New()
			if err := own.Save(ctx, school.Dogs.Create(id, school.Registered{Name: "Fido"})); err != nil {
				t.Fatal(err)
			}
			dog, err := own.Get(ctx, id)
			if err != nil {
				t.Fatal(err)
			}
			domain.Trigger(dog, school.TrickAdded{Trick: "roll over"})
			_, saving := other.Save(ctx, dog)
			want := fmt.Sprintf("Kennels: aggregate %s cannot be saved, because it was loaded from School;", id)
			if saving == nil || !strings.HasPrefix(saving.Error(), want) {
				t.Errorf("got the error %v, want %s", saving, want)
			}
			if !errors.Is(saving, persistence.ErrProgramming) || persistence.IsConflict(saving) {
				t.Errorf("the error %v has the wrong class, want an error that is %v", saving, persistence.ErrProgramming)
			}
			if err := others.Save(ctx, dog); err == nil {
				t.Error("the repository of another application has saved the aggregate")
			}
			if head, err := bridge.Of(other).Recorder().MaxNotificationID(ctx); head != 0 || err != nil {
				t.Errorf("the other application has %d events, %v; want none", head, err)
			}
			if err := own.Save(ctx, dog); err != nil {
				t.Errorf("its own application does not save it: %v", err)
			}
			again, err := own.Get(ctx, id)
			if err != nil || len(again.Tricks) != 1 {
				t.Errorf("got %v, %v; want one trick", again, err)
			}
		})
	}
}

// Events that an application has encrypted are read under its new name if it
// says what it was called.
func TestFormerNames(t *testing.T) {
	t.Parallel()
	ctx, store := t.Context(), memory.New()
	key := application.WithEnv(map[string]string{"CIPHER_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="})
	old, err := application.New("School", application.WithStore(store), key)
	if err != nil {
		t.Fatal(err)
	}
	id := uuid.New()
	if err := expect.Must(application.NewRepository(old, school.Dogs)).Save(ctx, school.Dogs.Create(id, school.Registered{Name: "Fido"})); err != nil {
		t.Fatal(err)
	}
	var rows []persistence.StoredEvent
	for row, err := range bridge.Of(old).Recorder().SelectEvents(ctx, id, persistence.EventRange{}) {
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	renamed := func(options ...application.Option) *application.Repository[school.Dog] {
		app, err := application.New("Academy", append(options, application.WithStore(memory.New()), key)...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bridge.Of(app).Recorder().InsertEvents(ctx, rows); err != nil {
			t.Fatal(err)
		}
		return expect.Must(application.NewRepository(app, school.Dogs))
	}
	if dog, err := renamed(application.WithFormerNames("Kennels", "School")).Get(ctx, id); err != nil || dog.Name != "Fido" {
		t.Errorf("got %v, %v; want Fido", dog, err)
	}
	if _, err := renamed(application.WithFormerNames("Kennels")).Get(ctx, id); err == nil {
		t.Error("a state that is bound to a name that was not given is read")
	}
	if _, err := renamed().Get(ctx, id); err == nil {
		t.Error("a state that is bound to another name is read")
	}
	if _, err := application.New("Academy", application.WithFormerNames("")); err == nil {
		t.Error("an empty former name is accepted")
	}
}

// Settings that have no effect are reported.
func TestSettingsWithoutEffect(t *testing.T) {
	tests := map[string]struct{ key, value, want string }{
		"interval of no definition":   {"SNAPSHOTTING_INTERVALS", "Dgo=2", "Dgo"},
		"misspelt prefix":             {"SHCOOL_CIPHER_KEY", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", "SHCOOL_CIPHER_KEY"},
		"misspelt prefix and setting": {"SCHOOLS_COMPRESSOR_TOPIC", "zlib", "SCHOOLS_COMPRESSOR_TOPIC"},
	}
	for name, test := range tests {
		for _, source := range []string{"given", "process"} {
			t.Run(name+", "+source, func(t *testing.T) {
				var log logs
				options := []application.Option{application.WithLogger(log.logger())}
				if source == "given" {
					options = append(options, application.WithEnv(map[string]string{test.key: test.value}))
				} else {
					t.Setenv(test.key, test.value)
				}
				app, err := application.New("School", options...)
				if err != nil {
					t.Fatal(err)
				}
				dogs := expect.Must(application.NewRepository(app, school.Dogs))
				for range 2 {
					if err := dogs.Save(t.Context(), school.Dogs.Create(uuid.New(), school.Registered{Name: "Fido"})); err != nil {
						t.Fatal(err)
					}
				}
				if got := log.String(); strings.Count(got, test.want) != 1 || strings.Contains(got, "MDEy") {
					t.Errorf("the log is %q, want one line about %s without its value", got, test.want)
				}
			})
		}
	}
}
