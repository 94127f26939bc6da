package system_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/internal/txscope"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// mailer is a follower that calls a service for each trick, and records what
// the service has answered.
type mailer struct {
	*system.Follower
	send   func(ctx context.Context, e domain.Recorded[school.TrickAdded]) (string, error)
	commit func(ctx context.Context) error

	mu      sync.Mutex // protects what follows
	called  []string
	atOnce  int
	most    int
	answers []string
}

func (m *mailer) call(ctx context.Context, e domain.Recorded[school.TrickAdded]) (string, error) {
	m.mu.Lock()
	m.called = append(m.called, e.Data.Trick)
	m.atOnce++
	m.most = max(m.most, m.atOnce)
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.atOnce--
	}()
	if txscope.From(ctx) != nil {
		return "", errors.New("the call is made in a transaction")
	}
	if m.send == nil {
		return "sent " + e.Data.Trick, nil
	}
	return m.send(ctx, e)
}

func (m *mailer) record(ctx context.Context, _ domain.Recorded[school.TrickAdded], answer string) error {
	if txscope.From(ctx) == nil {
		return errors.New("the answer is recorded outside of a transaction")
	}
	if m.commit != nil {
		if err := m.commit(ctx); err != nil {
			return err
		}
	}
	persistence.OnCommit(ctx, func(context.Context) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.answers = append(m.answers, answer)
	})
	return nil
}

// want requires what was called and what was recorded.
func (m *mailer) want(t testing.TB, called, answers []string) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Equal(m.called, called) {
		t.Errorf("got calls %q, want %q", m.called, called)
	}
	if !slices.Equal(m.answers, answers) {
		t.Errorf("got answers %q, want %q", m.answers, answers)
	}
}

func mailing(m *mailer, with ...system.FollowerOption) *node {
	return app("Mailer", func(options ...application.Option) (*mailer, error) {
		app, err := application.New("Mailer", options...)
		if err != nil {
			return nil, err
		}
		m.Follower, err = system.NewFollower(app, append(with, system.Effect(m.call, m.record))...)
		return m, err
	})
}

// learn has a dog registered that knows tricks named after it.
func learn(t testing.TB, dogs *school.TrainingSchool, name string, tricks int) {
	t.Helper()
	dog := school.RegisterDog(name)
	for i := range tricks {
		dog.AddTrick(fmt.Sprintf("%s %d", name, i+1))
	}
	save(t, dogs.Application, dog)
}

func TestEffect(t *testing.T) {
	each(t, func(t *testing.T, p place) {
		m := &mailer{}
		r := p.started(t, pipe(app(schoolName, school.New), mailing(m)))
		dogs := get[*school.TrainingSchool](t, r, schoolName)
		for i := range 3 {
			learn(t, dogs, fmt.Sprintf("Fido%d", i), 2)
			p.sync(t, r)
		}
		want := []string{"Fido0 1", "Fido0 2", "Fido1 1", "Fido1 2", "Fido2 1", "Fido2 2"}
		var answers []string
		for _, trick := range want {
			answers = append(answers, "sent "+trick)
		}
		expect.NoError(t, r.Err())
		expect.Eventually(func() bool { // the answers are noted after the commit
			m.mu.Lock()
			defer m.mu.Unlock()
			return len(m.answers) == len(answers)
		})
		m.want(t, want, answers)
	})
}

// Calls for several originators are made at the same time, those of one in
// order, and answers are recorded in the order of the log.
func TestEffectsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const dogsAtOnce, tricks = 20, 3
		var mu sync.Mutex
		last := map[string]int{}
		m := &mailer{send: func(_ context.Context, e domain.Recorded[school.TrickAdded]) (string, error) {
			time.Sleep(100 * time.Millisecond)
			name, number, _ := strings.Cut(e.Data.Trick, " ")
			mu.Lock()
			defer mu.Unlock()
			last[name]++
			if fmt.Sprint(last[name]) != number {
				return "", fmt.Errorf("%s comes after %d others", e.Data.Trick, last[name]-1)
			}
			return e.Data.Trick, nil
		}}
		r := newRunner(t, memory.New(), pipe(app(schoolName, school.New), mailing(m)))
		dogs := get[*school.TrainingSchool](t, r, schoolName)
		var want []string
		for i := range dogsAtOnce {
			learn(t, dogs, fmt.Sprintf("Dog%d", i), tricks)
			for trick := range tricks {
				want = append(want, fmt.Sprintf("Dog%d %d", i, trick+1))
			}
		}
		begin := time.Now()
		start(t, r)
		expect.NoError(t, r.WaitFor(t.Context(), m), r.Err())
		// 60 calls of 100 ms, 8 at once.
		if took := time.Since(begin); took > 1500*time.Millisecond {
			t.Errorf("it took %v, want at most %v", took, 1500*time.Millisecond)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.most != 8 || len(m.called) != dogsAtOnce*tricks || !slices.Equal(m.answers, want) {
			t.Errorf("got %d calls, %d at once, and answers %q, want %q", len(m.called), m.most, m.answers, want)
		}
	})
}

// Results are recorded at least once a second, so that a process which ends
// repeats few calls.
func TestEffectsAreRecordedSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &mailer{send: func(context.Context, domain.Recorded[school.TrickAdded]) (string, error) {
			time.Sleep(400 * time.Millisecond)
			return "", nil
		}}
		r := newRunner(t, memory.New(), pipe(app(schoolName, school.New), mailing(m)))
		learn(t, get[*school.TrainingSchool](t, r, schoolName), "Fido", 30)
		start(t, r)
		for range 12 {
			time.Sleep(time.Second)
			m.mu.Lock()
			if ahead := len(m.called) - len(m.answers); ahead > 4 {
				t.Errorf("%d calls are not recorded, want at most 4", ahead)
			}
			m.mu.Unlock()
		}
		expect.NoError(t, r.WaitFor(t.Context(), m))
		m.mu.Lock()
		defer m.mu.Unlock()
		if len(m.called) != 30 || len(m.answers) != 30 {
			t.Errorf("got %d calls and %d answers, want 30 called and 30 answers", len(m.called), len(m.answers))
		}
	})
}

// A call cannot be rolled back, so there is no dry run.
func TestEffectHasNoDryRun(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB) {
		m := &mailer{}
		r := place{store: gormstore.New(db)}.runner(t, pipe(app(schoolName, school.New), mailing(m))).(*system.SingleThreadedRunner)
		learn(t, get[*school.TrainingSchool](t, r, schoolName), "Fido", 1)
		err := gormstore.Transaction(t.Context(), db, func(ctx context.Context, _ *gorm.DB) error {
			_, err := r.CatchUp(ctx, m, nil)
			return err
		})
		if !errors.Is(err, persistence.ErrNotSupported) || !strings.Contains(err.Error(), "has no dry run") {
			t.Errorf("got %v, want an ErrNotSupported that contains %q", err, "has no dry run")
		}
		m.want(t, nil, nil)
		_, err = r.CatchUp(t.Context(), m, nil)
		expect.NoError(t, err)
		m.want(t, []string{"Fido 1"}, []string{"sent Fido 1"})
	})
}

// Of two processes one makes the calls, and the other stands by until it ends.
func TestEffectsOfTwoProcesses(t *testing.T) {
	t.Parallel()
	for _, backend := range []testdb.Backend{
		{Name: "sqlite", Open: testdb.SQLiteFile}, {Name: "postgres", Open: testdb.OpenPostgres},
	} {
		t.Run(backend.Name, func(t *testing.T) {
			t.Parallel()
			db := migrated(t, backend.Open(t))
			started, release := make(chan struct{}), make(chan struct{})
			first, second := &mailer{}, &mailer{}
			first.send = func(_ context.Context, e domain.Recorded[school.TrickAdded]) (string, error) {
				if e.Data.Trick == "Rex 1" {
					close(started)
					<-release
				}
				return "sent " + e.Data.Trick, nil
			}
			one := newRunner(t, gormstore.New(db), pipe(app(schoolName, school.New), mailing(first)))
			two := newRunner(t, gormstore.New(db), pipe(app(schoolName, school.New), mailing(second)))
			start(t, one)
			dogs := get[*school.TrainingSchool](t, one, schoolName)
			learn(t, dogs, "Fido", 1)
			expect.NoError(t, one.WaitFor(t.Context(), first))
			learn(t, dogs, "Rex", 1)
			<-started
			start(t, two)
			standsBy := expect.Eventually(func() bool { return statuses(t, two)[0].State == system.StandingBy })
			close(release)
			if !standsBy {
				t.Error("the second process does not stand by")
			}
			expect.NoError(t, one.WaitFor(t.Context(), first), one.Stop(t.Context()))
			first.want(t, []string{"Fido 1", "Rex 1"}, []string{"sent Fido 1", "sent Rex 1"})
			second.want(t, nil, nil)
			learn(t, get[*school.TrainingSchool](t, two, schoolName), "Max", 1)
			expect.NoError(t, two.WaitFor(t.Context(), second))
			second.want(t, []string{"Max 1"}, []string{"sent Max 1"})
		})
	}
}

func TestEffectOptions(t *testing.T) {
	t.Parallel()
	app, err := application.New("Mailer", application.WithStore(memory.New()))
	expect.NoError(t, err)
	call := func(context.Context, domain.Recorded[school.TrickAdded]) (string, error) { return "", nil }
	var noCall func(context.Context, domain.Recorded[school.TrickAdded]) (string, error)
	var noRecord func(context.Context, domain.Recorded[school.TrickAdded], string) error
	handle := func(context.Context, domain.Recorded[school.TrickAdded]) error { return nil }
	for want, options := range map[string][]system.FollowerOption{
		"the call of the effect of school.TrickAdded is nil": {system.Effect(noCall, noRecord)},
		"two handlers are given for school.TrickAdded":       {system.On(handle), system.Effect(call, noRecord)},
		"cannot be given together with system.On or system.Effect": {
			system.OnEvery(func(context.Context, domain.Event) error { return nil }), system.Effect(call, noRecord)},
	} {
		_, err := system.NewFollower(app, options...)
		if !errors.Is(err, persistence.ErrProgramming) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	_, err = system.NewFollower(app, system.Effect(call, noRecord))
	expect.NoError(t, err)
	if _, err := newConcurrentWith(t, system.Config{ConcurrentEffects: -1}); err == nil || !strings.Contains(err.Error(), "ConcurrentEffects is -1") {
		t.Errorf("got %v, want an error that contains %q", err, "ConcurrentEffects is -1")
	}
}

func newConcurrentWith(t testing.TB, config system.Config) (*system.Runner, error) {
	t.Helper()
	dogs, err := school.New(application.WithStore(memory.New()))
	expect.NoError(t, err)
	sys, err := system.New(system.Pipe(dogs))
	expect.NoError(t, err)
	return system.NewRunner(sys, config)
}
