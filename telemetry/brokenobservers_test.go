package telemetry_test

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
	"github.com/eventsourcing-go/eventsourcing/telemetry"
)

// logged are the lines of a log.
type logged struct {
	mu   sync.Mutex // protects text
	text strings.Builder
}

func (l *logged) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestAnObserverThatPanicsChangesNothing saves, loads, takes snapshots, handles
// events, makes calls and parks with an observer each of whose functions panics,
// and with one that returns no contexts. A third one is told everything.
func TestAnObserverThatPanicsChangesNothing(t *testing.T) {
	var mu sync.Mutex // protects told
	told := map[string]bool{}
	parked := make(chan struct{})
	listening := observerOf(func(name string) {
		mu.Lock()
		defer mu.Unlock()
		if !told[name] && name == "EventParked" {
			close(parked)
		}
		told[name] = true
	})
	log := &logged{}
	observers := func(c *[]application.Option) {
		for _, o := range []*telemetry.Observer{observerOf(func(name string) { panic("broken " + name) }), observerOf(func(string) {}), listening} {
			*c = append(*c, application.WithObserver(o))
		}
	}
	options := []application.Option{application.WithStore(newStore(t)), application.WithLogger(slog.New(slog.NewTextHandler(log, nil))),
		application.WithSnapshotting(map[string]int{"Dog": 2})}
	observers(&options)
	dogs, err := school.New(options...)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if err := errors.Join(dogs.Register(ctx, "Fido"), dogs.AddTrick(ctx, "Fido", "sit"), dogs.AddTrick(ctx, "Fido", "fail")); err != nil {
		t.Fatal(err)
	}
	app, err := application.New("Tricks", options...)
	if err != nil {
		t.Fatal(err)
	}
	calls := make(chan string, 100)
	refused := errors.New("no dog can fail")
	follower, err := system.NewFollower(app, system.On(func(_ context.Context, e domain.Recorded[school.TrickAdded]) error {
		if e.Data.Trick == "fail" {
			return refused
		}
		return nil
	}), system.Effect(func(_ context.Context, e domain.Recorded[school.Registered]) (string, error) {
		calls <- e.Data.Name
		return "", nil
	}, nil), system.Park(func(_ persistence.Notification, cause error, attempts int) bool { return attempts > 1 }))
	if err != nil {
		t.Fatal(err)
	}
	runner := runnerOf(t, dogs, follower, system.Config{ShortestRetry: 1, LongestRetry: 1})
	if err := runner.Start(ctx); err != nil {
		t.Fatal(err)
	}
	<-parked
	err = runner.WaitFor(ctx, follower)
	for errors.Is(err, refused) { // until the follower has taken down that it goes on
		err = runner.WaitFor(ctx, follower)
	}
	if err := errors.Join(err, runner.Close()); err != nil {
		t.Fatal(err)
	}
	events, err := runner.Parked(ctx, follower)
	if err != nil || len(events) != 1 || !strings.Contains(events[0].Error, "no dog can fail") {
		t.Errorf("parked: got %+v, error %v; want the event that its handler has refused", events, err)
	}
	if len(calls) != 1 {
		t.Errorf("got %d calls of the effect, want 1", len(calls))
	}
	fields := reflect.TypeFor[telemetry.Observer]()
	for i := range fields.NumField() {
		name := fields.Field(i).Name
		if !told[name] {
			t.Errorf("%s: the other observer was not told", name)
		}
		if !strings.Contains(log.String(), "function="+name+` panic="broken `+name+`"`) {
			t.Errorf("%s: the log does not say that it panicked", name)
		}
	}
}

// TestAnObserverThatBlocksDoesNotHideIt blocks in each function that the
// follower's goroutine calls, and asks for the status meanwhile.
func TestAnObserverThatBlocksDoesNotHideIt(t *testing.T) {
	for _, blocking := range []string{"BatchStart", "HandleStart", "HandleDone", "BatchDone", "FollowerChanged"} {
		t.Run(blocking, func(t *testing.T) {
			blocked, release := make(chan struct{}), make(chan struct{})
			var once sync.Once
			observer := observerOf(func(name string) {
				if name == blocking {
					once.Do(func() { close(blocked) })
					<-release
				}
			})
			store := application.WithStore(newStore(t))
			dogs, err := school.New(store)
			if err != nil {
				t.Fatal(err)
			}
			if err := dogs.Register(t.Context(), "Fido"); err != nil {
				t.Fatal(err)
			}
			app, err := application.New("Tricks", store, application.WithObserver(observer))
			if err != nil {
				t.Fatal(err)
			}
			follower, err := system.NewFollower(app, system.OnEvery(func(context.Context, domain.Event) error { return nil }))
			if err != nil {
				t.Fatal(err)
			}
			runner := runnerOf(t, dogs, follower, system.Config{})
			if err := runner.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			<-blocked
			statuses, err := runner.Statuses(t.Context())
			if err != nil || len(statuses) != 1 || statuses[0].Head != 1 {
				t.Errorf("statuses: got %+v, error %v; want that of the follower", statuses, err)
			}
			close(release)
			if err := errors.Join(runner.WaitFor(t.Context(), follower), runner.Close()); err != nil {
				t.Fatal(err)
			}
		})
	}
}
