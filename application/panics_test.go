package application_test

import (
	"context"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/doctored"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

// panicking reports whether do has panicked.
func panicking(do func()) (panicked bool) {
	defer func() { panicked = recover() != nil }()
	do()
	return false
}

// A state whose function panics cannot be cached. Neither it nor what was saved
// with it is cached as it was before, and followers are woken: it is stored.
func TestCacheAfterAPanicOfAState(t *testing.T) {
	t.Parallel()
	breaks := false
	counters := domain.Define("Counter",
		domain.Evolve("Counted", func(n int, by counted) int { return n + by.By }),
		domain.FoldState(func(n int) int {
			if breaks {
				panic("on purpose")
			}
			return n
		}, func(n int) int { return n }))
	app := newApplication(t, "Counters", staying("10"))
	r := expect.Must(application.NewRepository(app, counters))
	woken := 0
	bridge.Of(app).OnRecorded(func(context.Context, []mapper.Recording) { woken++ })
	first, second := domain.StartFold(counters, uuid.New(), counted{1}), domain.StartFold(counters, uuid.New(), counted{1})
	expect.NoError(t, r.Save(t.Context(), first, second))
	first.Trigger(counted{2})
	second.Trigger(counted{2})
	breaks = true
	if !panicking(func() { _ = r.Save(t.Context(), first, second) }) {
		t.Error("the save did not panic")
	}
	breaks = false
	for _, fold := range []*domain.Fold[int]{first, second} {
		if got := expect.Must(r.Get(t.Context(), fold.ID())); got.State() != 3 || len(fold.PendingEvents()) > 0 {
			t.Errorf("the state is %d, want 3; %d events are pending, want 0", got.State(), len(fold.PendingEvents()))
		}
	}
	if woken != 2 {
		t.Errorf("followers were woken %d times, want twice", woken)
	}
}

type counted struct{ By int }

// After a save that panics the cache does not know what is stored.
func TestCacheAfterAPanicOfASave(t *testing.T) {
	t.Parallel()
	store := newFaulty()
	s := newSchool(t, application.WithStore(store), staying("10"))
	s.save(t, school.RegisterDog("Fido"))
	dog := s.get(t, "Fido")
	dog.AddTrick("sit")
	store.onInsert(func(ctx context.Context, events []persistence.StoredEvent, insert insertFunc) ([]int64, error) {
		store.onInsert(nil)
		_, _ = insert(ctx, events)
		panic("on purpose")
	})
	if !panicking(func() { _, _ = s.Save(t.Context(), dog) }) {
		t.Error("the save did not panic")
	}
	if got := s.get(t, "Fido").Version(); got != 2 {
		t.Errorf("got version %d, want 2, which is stored", got)
	}
	s.save(t, dog) // finds its own events
	if pending := len(dog.PendingEvents()); pending > 0 {
		t.Errorf("%d events are pending, want 0", pending)
	}
}

// breaking is a store whose listener panics.
type breaking struct {
	*memory.Store
	capability.Provider
}

func (*breaking) Listen(context.Context, func(string)) error { panic("on purpose") }

// A listener that panics ends neither the process nor the subscription.
func TestListenerThatPanics(t *testing.T) {
	t.Parallel()
	store := &breaking{Store: memory.New()}
	store.Provider = doctored.Capabilities(store.Store, func(c *capability.Store) { c.Listener = store })
	s := newSchool(t, application.WithStore(store))
	s.save(t, school.RegisterDog("Fido"))
	for event, err := range s.Log().Subscribe(t.Context(), 0) {
		if err != nil || event.NotificationID != 1 {
			t.Errorf("got event %d, %v; want event 1", event.NotificationID, err)
		}
		break
	}
	s.logs.want(t, "on purpose")
}

// A state of which an Apply has panicked is that of no version. It is neither
// cached nor stored in a snapshot.
func TestStateAfterAPanicOfApply(t *testing.T) {
	t.Parallel()
	tallies := domain.Define[tally]("Tally", domain.On("Added", added{}))
	for name, settings := range map[string]application.Option{
		"cache":    staying("10"),
		"snapshot": application.WithSnapshotting(map[string]int{"Tally": 1}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := expect.Must(application.NewRepository(newApplication(t, "Tallies", settings), tallies))
			mine := tallies.Create(uuid.New(), added{By: 1})
			if !panicking(func() { domain.Trigger(mine, added{By: 10, Breaks: true}) }) {
				t.Error("Trigger did not panic")
			}
			domain.Trigger(mine, added{By: 2})
			expect.NoError(t, r.Save(t.Context(), mine))
			if got := expect.Must(r.Get(t.Context(), mine.ID())); got.Sum != 3 || got.Version() != 2 {
				t.Errorf("the sum is %d at version %d, want 3 at version 2", got.Sum, got.Version())
			}
		})
	}
}

type tally struct {
	domain.Aggregate
	Sum int
}

type added struct {
	By     int
	Breaks bool
}

func (e added) Apply(t *tally) {
	t.Sum += e.By
	if e.Breaks {
		panic("on purpose")
	}
}
