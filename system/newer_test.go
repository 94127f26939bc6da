package system_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// unreadable are events that a program cannot read, each with what it says of
// it. Only a damaged one may be parked.
var unreadable = map[string]struct {
	topic, state, want string
	damaged            bool
}{
	"unknown topic":      {"Dog.Vaccinated", "{}", `topic "Dog.Vaccinated" is not defined`, false},
	"higher version":     {"Dog.Registered", `{"timestamp":{"_type_":"datetime_iso","_data_":"2024-01-02T03:04:05"},"class_version":7}`, "schema version 7", false},
	"key not available":  {"Dog.Registered", "\x93ESC\x01\x01\x04key1" + strings.Repeat("x", 40), "encrypted", false},
	"unknown compressor": {"Dog.Registered", "\x28\xb5\x2f\xfd and more", "compressor", false},
	"damaged":            {"Dog.Registered", `{"timestamp"`, "decode", true},
}

// insertRaw stores an event of a new dog, or the next one of a dog, as another
// program would.
func insertRaw(t *testing.T, app *application.Application, id uuid.UUID, version int64, topic, state string) int64 {
	t.Helper()
	ids, err := bridge.Of(app).Recorder().InsertEvents(t.Context(), []persistence.StoredEvent{{
		OriginatorID: id, OriginatorVersion: version, Topic: topic, State: []byte(state)}})
	expect.NoError(t, err)
	return ids[0]
}

// An event that only a newer program can read is neither parked nor passed
// over. What is before it is processed, and the status says what is needed.
func TestNewerEventsAreNotParked(t *testing.T) {
	t.Parallel()
	for name, event := range unreadable {
		t.Run(name, func(t *testing.T) {
			eachDatabase(t, func(t *testing.T, db *gorm.DB) {
				p := newParker(t, db, count)
				register(t, p.dogs, 1, "Fido")
				id := insertRaw(t, p.dogs.Application, uuid.New(), 1, event.topic, event.state)
				register(t, p.dogs, 1, "Rex")
				if event.damaged {
					_, err := p.CatchUp(t.Context(), called("F"), nil)
					expect.NoError(t, err)
					p.wantParked(t, 1)
					return
				}
				err := p.Start(t.Context())
				if !errors.Is(err, persistence.ErrNewerProgram) || !strings.Contains(err.Error(), "a newer program is needed") || !strings.Contains(err.Error(), event.want) {
					t.Errorf("got %v, want an error that is %v, that contains %q and that contains %q", err, persistence.ErrNewerProgram, "a newer program is needed", event.want)
				}
				p.wantParked(t, 0)
				status := statuses(t, p)[0]
				if status.State != system.Outdated || status.NotificationID != id || status.Position != id-1 || tricksCounted(t, db, "sit") != 1 {
					t.Errorf("got %+v, %d tricks, want State %v, NotificationID %v, Position %v and 1", status, tricksCounted(t, db, "sit"), system.Outdated, id, id-1)
				}
			})
		})
	}
}

// Nor is such an event parked because an earlier one of its originator is, or
// because a handler meets it while it loads another aggregate.
func TestNewerEventsOfOthersAreNotParked(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		p := newParker(t, db, countOrFail)
		dog := school.RegisterDog("Fido")
		dog.AddTrick("bite")
		recordings := save(t, p.dogs.Application, dog)
		id := insertRaw(t, p.dogs.Application, recordings[0].OriginatorID, 3, "Dog.Vaccinated", "{}")
		_, err := p.CatchUp(t.Context(), called("F"), nil)
		if !errors.Is(err, persistence.ErrNewerProgram) || position(t, p.f.Application, schoolName) != id-1 {
			t.Errorf("%v at %d, want an ErrNewerProgram at %d", err, position(t, p.f.Application, schoolName), id-1)
		}
		p.wantParked(t, 1)
	})
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		p := newParker(t, db, ignore)
		stranger := uuid.New()
		insertRaw(t, p.f.Application, stranger, 1, "Unknown", "{}")
		p.f.become(func(ctx context.Context, _ domain.Event, _ *collector) error {
			for _, err := range bridge.Of(p.f).Events().Get(ctx, stranger, persistence.EventRange{}) {
				return err
			}
			return nil
		})
		register(t, p.dogs, 1, "Rex")
		if _, err := p.CatchUp(t.Context(), called("F"), nil); !errors.Is(err, persistence.ErrNewerProgram) {
			t.Errorf("got %v, want an error that is %v", err, persistence.ErrNewerProgram)
		}
		p.wantParked(t, 0)
	})
}

type (
	cat     struct{ domain.Aggregate }
	catBorn struct{}
)

func (catBorn) Apply(*cat) {}

var cats = domain.Define("Cat", domain.On("Born", catBorn{}))

// A process of the newer program goes on at once, beside the older one, which
// recovers as soon as it looks again.
func TestNewerProgramTakesOver(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		start := func(policy policyFunc, options ...application.Option) (*system.Runner, *school.TrainingSchool) {
			r := newRunner(t, gormstore.New(db), pipe(app(schoolName, school.New, options...), followerLoop("F", policy)))
			expect.NoError(t, r.Start(t.Context()))
			return r, get[*school.TrainingSchool](t, r, schoolName)
		}
		var older, newer journal
		first, dogs := start(older.policy)
		id := insertRaw(t, dogs.Application, uuid.New(), 1, "Cat.Born", `{"timestamp":{"_type_":"datetime_iso","_data_":"2024-01-02T03:04:05"}}`)
		waitForState(t, first, system.Outdated)
		second, _ := start(newer.policy, application.WithDefinitions(cats))
		reached(t, get[*follower](t, second, "F").Application, id)
		if a, b := len(older.events(t)), len(newer.events(t)); a != 0 || b != 1 {
			t.Errorf("the older program has processed %d, and the newer one %d events, want 0 and 1", a, b)
		}
		waitForState(t, first, system.Running)
	})
}

// rolling are definitions of a program and of a newer one.
var (
	rollingOne = domain.Define("Cat", domain.On("Born", catBorn{}), domain.On("Slept", catSlept{}))
	rollingTwo = domain.Define("Cat", domain.On("Born", catBorn{}), domain.On("Slept", catSlept{}), domain.On("Fed", catFed{}))
	// renamed has a former name of an event that both have.
	renamed = domain.Define("Cat", domain.On("Arrived", catBorn{}, domain.Alias("Cat.Born")), domain.On("Slept", catSlept{}))
)

type (
	catSlept struct{}
	catFed   struct{}
)

func (catSlept) Apply(*cat) {}
func (catFed) Apply(*cat)   {}

// A follower that wants some topics passes over those that its program knows,
// and not over those of a newer program: that may want them. What is before
// them is processed once.
func TestFilterStopsAtUnknownTopics(t *testing.T) {
	for name, newer := range map[string]struct {
		definition *domain.Definition[cat]
		payload    domain.EventOf[cat]
		wanted     handlerOf
	}{
		"new topic": {rollingTwo, catFed{}, on[catFed]},
		"new name":  {renamed, catBorn{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, p place) {
				var seen journal
				program := func(definition *domain.Definition[cat], more handlerOf) (runner, *application.Application) {
					wanted := []handlerOf{on[catBorn]}
					if more != nil {
						wanted = append(wanted, more)
					}
					r := p.runner(t, pipe(app("Cats", func(options ...application.Option) (*application.Application, error) {
						return application.New("Cats", append(options, application.WithDefinitions(definition))...)
					}), handling("F", seen.policy, wanted)))
					return r, get[*application.Application](t, r, "Cats")
				}
				older, oldCats := program(rollingOne, nil)
				second, cats := program(newer.definition, newer.wanted)
				pet := rollingOne.Create(uuid.New(), catBorn{})
				domain.Trigger(pet, catSlept{})
				save(t, oldCats, pet)
				kitten := newer.definition.Create(uuid.New(), newer.payload)
				recordings := save(t, cats, kitten)

				_ = older.Start(t.Context())
				status := waitForState(t, older, system.Outdated)
				if status.Position >= recordings[0].NotificationID || len(seen.events(t)) != 1 {
					t.Errorf("the older program is at %d and has processed %d events, want Position less than %v and 1 events", status.Position, len(seen.events(t)), recordings[0].NotificationID)
				}
				expect.NoError(t, second.Start(t.Context()))
				reachedIn(t, get[*follower](t, second, "F").Application, "Cats", recordings[0].NotificationID)
				if got := len(seen.events(t)); got != 2 {
					t.Errorf("processed %d events, want 2", got)
				}
			})
		})
	}
}
