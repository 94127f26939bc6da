package application_test

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dogWith is a new dog that knows so many tricks.
func dogWith(name string, tricks int) *school.Dog {
	dog := school.RegisterDog(name)
	for i := range tricks {
		dog.AddTrick(fmt.Sprint("trick ", i+1))
	}
	return dog
}

// Account is the aggregate of the example application.
type Account struct {
	domain.Aggregate
	Owner   string `json:"owner"`
	Balance int    `json:"balance"`
}

type Opened struct {
	Owner string `json:"owner"`
}

func (e Opened) Apply(a *Account) { a.Owner = e.Owner }

type Credited struct {
	Amount int `json:"amount"`
}

func (e Credited) Apply(a *Account) { a.Balance += e.Amount }

var Accounts = domain.Define("Account", domain.FormerName[Account]("zoo.domain:Account"), domain.On("Opened", Opened{}), domain.On("Credited", Credited{}))

// testSchool is an application with a repository of dogs, over the log that it
// reports to.
type testSchool struct {
	*application.Application
	dogs *application.Repository[school.Dog]
	logs *logs
}

// newSchool makes an application that knows nothing of the process's
// environment, and is closed when the test ends.
func newSchool(tb testing.TB, options ...application.Option) *testSchool {
	tb.Helper()
	s := &testSchool{logs: &logs{}}
	s.Application = newApplication(tb, "TrainingSchool", append([]application.Option{application.WithLogger(s.logs.logger())}, options...)...)
	s.dogs = expect.Must(application.NewRepository(s.Application, school.Dogs))
	return s
}

func newApplication(tb testing.TB, name string, options ...application.Option) *application.Application {
	tb.Helper()
	app, err := application.New(name, append([]application.Option{application.WithLookup(nothing)}, options...)...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := app.Close(); err != nil {
			tb.Error(err)
		}
	})
	return app
}

// nothing is a process without an environment.
func nothing(string) (string, bool) { return "", false }

func env(pairs ...string) application.Option {
	settings := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		settings[pairs[i]] = pairs[i+1]
	}
	return application.WithEnv(settings)
}

// cached are the settings of a cache.
func cached(size string, more ...string) application.Option {
	return env(append([]string{"AGGREGATE_CACHE_MAXSIZE", size}, more...)...)
}

// save saves, and ends the test if that is not possible.
func (s *testSchool) save(tb testing.TB, changes ...domain.Changes) []domain.Event {
	tb.Helper()
	saved, err := s.Save(tb.Context(), changes...)
	if err != nil {
		tb.Fatal(err)
	}
	return saved.Events
}

func (s *testSchool) get(tb testing.TB, name string) *school.Dog {
	tb.Helper()
	dog, err := s.dogs.Get(tb.Context(), school.DogID(name))
	if err != nil {
		tb.Fatal(err)
	}
	return dog
}

// addTricks has another process add tricks: it goes past the caches of s.
func addTricks(tb testing.TB, store persistence.Factory, name string, tricks ...string) {
	tb.Helper()
	other := newSchool(tb, application.WithStore(store))
	dog := other.get(tb, name)
	for _, trick := range tricks {
		dog.AddTrick(trick)
	}
	other.save(tb, dog)
}

// logs are what an application reports.
type logs struct {
	mu   sync.Mutex // protects text
	text bytes.Buffer
}

func (l *logs) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// want requires that the report contains all the words, and reports nothing if
// there are none.
func (l *logs) want(t *testing.T, words ...string) {
	t.Helper()
	got := l.String()
	if len(words) == 0 && got != "" {
		t.Errorf("got log %q, want none", got)
	}
	for _, word := range words {
		if !strings.Contains(got, word) {
			t.Errorf("got log %q, want it to contain %q", got, word)
		}
	}
}

// faulty is a store whose recorders can be made to misbehave.
type faulty struct {
	*memory.Store

	mu     sync.Mutex // protects what follows
	insert func(ctx context.Context, events []persistence.StoredEvent, store insertFunc) ([]int64, error)

	selecting func() error
	snapshots func() error
}

type insertFunc = func(context.Context, []persistence.StoredEvent) ([]int64, error)

func newFaulty() *faulty { return &faulty{Store: memory.New()} }

// onInsert has every insert go through f, until it is given nil.
func (s *faulty) onInsert(f func(ctx context.Context, events []persistence.StoredEvent, store insertFunc) ([]int64, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.insert = f
}

// failNext has the next insert fail without storing anything.
func (s *faulty) failNext(err error) {
	s.onInsert(func(context.Context, []persistence.StoredEvent, insertFunc) ([]int64, error) {
		s.onInsert(nil)
		return nil, err
	})
}

// beforeRead has f called before every read of an originator.
func (s *faulty) beforeRead(f func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.selecting = f
}

// beforeSnapshot has f called before every snapshot is stored.
func (s *faulty) beforeSnapshot(f func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snapshots = f
}

func (s *faulty) hook(which *func() error) error {
	s.mu.Lock()
	f := *which
	s.mu.Unlock()
	if f == nil {
		return nil
	}
	return f()
}

func (s *faulty) ProcessRecorder(name string) (persistence.ProcessRecorder, error) {
	r, err := s.Store.ProcessRecorder(name)
	return &faultyRecorder{ProcessRecorder: r, store: s}, err
}

func (s *faulty) SnapshotRecorder(name string) (persistence.AggregateRecorder, error) {
	r, err := s.Store.SnapshotRecorder(name)
	return &faultySnapshots{AggregateRecorder: r, store: s}, err
}

type faultyRecorder struct {
	persistence.ProcessRecorder
	store *faulty
}

func (r *faultyRecorder) InsertEvents(ctx context.Context, events []persistence.StoredEvent) ([]int64, error) {
	r.store.mu.Lock()
	insert := r.store.insert
	r.store.mu.Unlock()
	if insert == nil {
		return r.ProcessRecorder.InsertEvents(ctx, events)
	}
	return insert(ctx, events, r.ProcessRecorder.InsertEvents)
}

func (r *faultyRecorder) SelectEvents(ctx context.Context, id uuid.UUID, want persistence.EventRange) iter.Seq2[persistence.StoredEvent, error] {
	if err := r.store.hook(&r.store.selecting); err != nil {
		return func(yield func(persistence.StoredEvent, error) bool) { yield(persistence.StoredEvent{}, err) }
	}
	return r.ProcessRecorder.SelectEvents(ctx, id, want)
}

type faultySnapshots struct {
	persistence.AggregateRecorder
	store *faulty
}

func (r *faultySnapshots) InsertEvents(ctx context.Context, events []persistence.StoredEvent) ([]int64, error) {
	if err := r.store.hook(&r.store.snapshots); err != nil {
		return nil, err
	}
	return r.AggregateRecorder.InsertEvents(ctx, events)
}

// day is a time in a year that no other test uses.
func day(year int) time.Time { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC) }

// countingRecorder counts the events that are read.
type countingRecorder struct {
	persistence.ProcessRecorder
	store *counting
}

func (r *countingRecorder) SelectEvents(ctx context.Context, id uuid.UUID, want persistence.EventRange) iter.Seq2[persistence.StoredEvent, error] {
	return func(yield func(persistence.StoredEvent, error) bool) {
		for event, err := range r.ProcessRecorder.SelectEvents(ctx, id, want) {
			r.store.read++
			if !yield(event, err) {
				return
			}
		}
	}
}

// afterRead is a store that does something once an originator was read.
type afterRead struct {
	*faulty
	do func()
}

func (s *afterRead) ProcessRecorder(name string) (persistence.ProcessRecorder, error) {
	r, err := s.faulty.ProcessRecorder(name)
	return &afterReadRecorder{r, s}, err
}

type afterReadRecorder struct {
	persistence.ProcessRecorder
	store *afterRead
}

func (r *afterReadRecorder) SelectEvents(ctx context.Context, id uuid.UUID, want persistence.EventRange) iter.Seq2[persistence.StoredEvent, error] {
	return func(yield func(persistence.StoredEvent, error) bool) {
		for event, err := range r.ProcessRecorder.SelectEvents(ctx, id, want) {
			if !yield(event, err) {
				return
			}
		}
		if do := r.store.do; do != nil {
			do()
		}
	}
}

// brokenSnapshots is a store whose snapshots cannot be read.
type brokenSnapshots struct{ *memory.Store }

func (s *brokenSnapshots) SnapshotRecorder(string) (persistence.AggregateRecorder, error) {
	return brokenRecorder{}, nil
}

type brokenRecorder struct{}

func (brokenRecorder) InsertEvents(context.Context, []persistence.StoredEvent) ([]int64, error) {
	return nil, &persistence.Error{Class: persistence.ErrOperational, Op: "insert"}
}

func (brokenRecorder) SelectEvents(context.Context, uuid.UUID, persistence.EventRange) iter.Seq2[persistence.StoredEvent, error] {
	return func(yield func(persistence.StoredEvent, error) bool) {
		yield(persistence.StoredEvent{}, &persistence.Error{Class: persistence.ErrOperational, Op: "select"})
	}
}
