package system_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// slowHandler is how long an event takes in a slow child.
const slowHandler = 5 * time.Millisecond

// holdsEvent is what a child says when it has its first event and waits for
// SIGUSR1 before it goes on.
const holdsEvent = "holds its first event"

// runDivided is the program of a child that follows with partitions.
func runDivided(ctx context.Context, store *gormstore.Store, work string) error {
	// That partitions come and go is no news here.
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})))
	process := strconv.Itoa(os.Getpid())
	write := writeEffect(process)
	released := make(chan os.Signal, 1)
	signal.Notify(released, syscall.SIGUSR1)
	var once sync.Once
	handle := func(ctx context.Context, event domain.Event) error {
		switch work {
		case followSlowly:
			time.Sleep(slowHandler)
		case followHeld:
			once.Do(func() {
				fmt.Println(holdsEvent)
				<-released
			})
		}
		return write(ctx, event)
	}
	dogs, err := school.New(application.WithStore(store))
	if err != nil {
		return err
	}
	app, err := application.New(dividedName, application.WithStore(store))
	if err != nil {
		return err
	}
	follower, err := system.NewFollower(app, system.OnEvery(handle), system.Partitions(16))
	if err != nil {
		return err
	}
	sys, err := system.New(system.Pipe(dogs, follower))
	if err != nil {
		return err
	}
	runner, err := system.NewRunner(sys, dividedConfig)
	if err != nil {
		return err
	}
	if err := runner.Start(ctx); err != nil {
		return err
	}
	fmt.Println("ready")
	<-runner.Done()
	return runner.Close()
}

// followDividedBy starts a child that follows with partitions, and waits until
// it does.
func (c *crashes) followDividedBy(t testing.TB, work string) *process {
	t.Helper()
	p := startChild(t, work, c.database, c.dsn)
	if !p.lines.Scan() {
		t.Fatalf("the child has not begun: %v", errors.Join(p.lines.Err(), p.Wait()))
	}
	return p
}

// dividedObserver is the divided follower in the process of the test, which
// does not run it.
func (c *crashes) dividedObserver(t testing.TB) divided {
	t.Helper()
	expect.NoError(t, c.db.AutoMigrate(&DividedEffect{}))
	return newDivided(t, gormstore.New(c.db), writeEffect("test"), system.Partitions(16))
}

// saveEvents saves about so many events in this time, in saves of 50 events of
// five dogs each.
func (d divided) saveEvents(t testing.TB, events int, in time.Duration) {
	t.Helper()
	saves := events / 50
	begin := time.Now()
	for i := range saves {
		dogs := make([]domain.Changes, 5)
		for j := range dogs {
			dog := school.RegisterDog(uuid.NewString())
			for range 9 {
				dog.AddTrick("sit")
			}
			dogs[j] = dog
		}
		if _, err := d.dogs.Save(t.Context(), dogs...); err != nil {
			t.Error(err)
			return
		}
		// The load is spread.
		time.Sleep(time.Until(begin.Add(in * time.Duration(i+1) / time.Duration(saves))))
	}
}

// Four processes share 16 partitions, and are killed or suspended for longer
// than a lease, at random, while events are saved. Every event has its effect
// once, and those of each originator are in order.
func TestPartitionsAndCrashes(t *testing.T) {
	t.Parallel()
	eachCrashing(t, func(t *testing.T, c *crashes) {
		t.Parallel()
		events, during := testdb.Figure(testdb.Sample(1_000, 3_000), 100_000), time.Duration(testdb.Figure(testdb.Sample(4, 8), 120))*time.Second
		if c.database == "sqlite" { // on which one process at a time writes
			events, during = testdb.Sample(300, 1_000), time.Duration(testdb.Sample(3, 6))*time.Second
		}
		observer := c.dividedObserver(t)
		processes := c.followEqually(t, observer, nil, followDivided, 4)
		const first = 200 // of which each process has some
		observer.save(t, first, 0)
		reachedIn(t, observer.follower.Application, schoolName, head(t, observer.dogs.Application))
		var saving sync.WaitGroup
		saving.Go(func() { observer.saveEvents(t, events, during) })
		kills, suspended := 0, 0
		for begin := time.Now(); time.Since(begin) < during; {
			time.Sleep(rand.N(800 * time.Millisecond)) // chance is the point
			i := rand.N(len(processes))
			// A suspended process that has SQLite's lock would stop all.
			if rand.N(4) == 0 && c.database != "sqlite" {
				suspended++
				expect.NoError(t, processes[i].Process.Signal(syscall.SIGSTOP))
				time.Sleep(dividedConfig.PartitionLease * 3 / 2) // its leases end
				expect.NoError(t, processes[i].Process.Signal(syscall.SIGCONT))
				continue
			}
			kills++
			processes[i].kill(t)
			processes[i] = c.followDividedBy(t, followDivided)
		}
		saving.Wait()
		reachedIn(t, observer.follower.Application, schoolName, head(t, observer.dogs.Application))
		for _, p := range processes {
			p.kill(t)
		}
		by := checkEffects(t, c.db, first+events)
		t.Logf("%d events, %d kills, %d times suspended; %d processes have had a part", first+events, kills, suspended, len(by))
		if len(by) < 4 {
			t.Errorf("only %d processes have processed events, want at least 4", len(by))
		}
	})
}

// Four processes are in their handlers at the same time: each has an event, and
// none goes on before all have one.
func TestPartitionsAreProcessedAtTheSameTime(t *testing.T) {
	t.Parallel()
	c := crashing(t, "postgres", testdb.Postgres(t))
	observer := c.dividedObserver(t)
	processes := c.followEqually(t, observer, nil, followHeld, 4)
	const events = 400
	observer.save(t, events, 1)
	for i, p := range processes {
		said := make(chan string, 1)
		go func() {
			p.lines.Scan()
			said <- p.lines.Text()
		}()
		select {
		case line := <-said:
			if line != holdsEvent {
				t.Fatalf("process %d said %q, want %q", i, line, holdsEvent)
			}
		case <-time.After(time.Minute):
			t.Fatalf("process %d has no event while others have one", i)
		}
	}
	for _, p := range processes {
		expect.NoError(t, p.Process.Signal(syscall.SIGUSR1))
	}
	reachedIn(t, observer.follower.Application, schoolName, head(t, observer.dogs.Application))
	for _, p := range processes {
		p.kill(t)
	}
	if by := checkEffects(t, c.db, events*2); len(by) != 4 {
		t.Errorf("%d processes have processed events, want 4", len(by))
	}
}

// A handler of 5 ms is called at least three times as often by four processes
// as by one. Only the full figures say something about time; the test has no
// others beside it, because it measures.
func TestPartitionsDivideTheTime(t *testing.T) {
	c := crashing(t, "postgres", testdb.Postgres(t))
	observer := c.dividedObserver(t)
	events, saved := testdb.Figure(80, 4_000), 0
	var processes []*process
	// measured returns how long so many processes take for the events.
	measured := func(n int) time.Duration {
		processes = c.followEqually(t, observer, processes, followSlowly, n)
		expect.NoError(t, observer.runner.Pause(t.Context(), observer.follower, "test"))
		observer.save(t, events/2, 1)
		saved += events
		expect.NoError(t, observer.runner.Resume(t.Context(), observer.follower))
		begin, end := time.Now(), head(t, observer.dogs.Application)
		expect.Until(t, "all is processed", func() bool { return position(t, observer.follower.Application, schoolName) == end })
		return time.Since(begin)
	}
	best := 0.0
	// The machine may be busy with something else.
	for attempt := 0; attempt < testdb.Figure(1, 3) && best < 3; attempt++ {
		one, four := measured(1), measured(4)
		best = max(best, one.Seconds()/four.Seconds())
		t.Logf("%d events of %v: one process %v, four processes %v: %.2f times as fast", events, slowHandler, one, four,
			one.Seconds()/four.Seconds())
	}
	for _, p := range processes {
		p.kill(t)
	}
	checkEffects(t, c.db, saved)
	if testdb.Full() && best < 3 {
		t.Errorf("four processes were at best %.2f times as fast as one, want 3", best)
	}
}

// followEqually starts or kills children until there are n, and waits until each
// has the same share of 16 partitions.
func (c *crashes) followEqually(t testing.TB, observer divided, processes []*process, work string, n int) []*process {
	t.Helper()
	for len(processes) < n {
		processes = append(processes, c.followDividedBy(t, work))
	}
	for len(processes) > n {
		processes[n].kill(t)
		processes = slices.Delete(processes, n, n+1)
	}
	expect.Until(t, fmt.Sprintf("%d processes have the same share", n), func() bool {
		owners := observer.owners(t)
		for _, has := range owners {
			if has != 16/n {
				return false
			}
		}
		return len(owners) == n
	})
	return processes
}
