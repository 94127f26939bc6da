package natsstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore/management"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/natsstore"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// Award is an aggregate of the follower.
type (
	Award struct {
		domain.Aggregate
		Tricks []string
	}
	Opened  struct{}
	Praised struct{ Trick string }
)

func (Opened) Apply(*Award)      {}
func (e Praised) Apply(a *Award) { a.Tricks = append(a.Tricks, e.Trick) }

var awards = domain.Define("Award", domain.On("Opened", Opened{}), domain.On("Praised", Praised{}))

func awardOf(dog string) domain.ID { return domain.NewIDv5("/awards/" + dog) }

// kennel is a leader and a process manager, both with their logs on NATS, as one
// process has them.
type kennel struct {
	dogs   *application.Repository[school.Dog]
	awards *application.Repository[Award]
	app    *system.Follower
	sys    *system.System
	runner *system.Runner
	// refuses reports whether a trick cannot be processed.
	refuses func(trick string) bool
	// handled is called with each event that is handled, before the commit.
	handled func(trick string)
}

func newKennel(t testing.TB, conn *nats.Conn, config natsstore.Config) *kennel {
	t.Helper()
	k := &kennel{refuses: func(string) bool { return false }, handled: func(string) {}}
	store, quiet := application.WithStore(newStore(t, conn, config)), application.WithLogger(slog.New(slog.DiscardHandler))
	leader, err := application.New("Dogs", store, quiet)
	expect.NoError(t, err)
	k.dogs, err = application.NewRepository(leader, school.Dogs)
	expect.NoError(t, err)
	follower, err := application.New("Awards", store, quiet)
	expect.NoError(t, err)
	k.awards, err = application.NewRepository(follower, awards)
	expect.NoError(t, err)
	k.app, err = system.NewFollower(follower, system.On(k.praise), system.Replayable(),
		system.Park(func(_ persistence.Notification, _ error, failures int) bool { return failures > 0 }))
	expect.NoError(t, err)
	k.sys, err = system.New(system.Pipe(leader, k.app))
	expect.NoError(t, err)
	k.runner, err = system.NewRunner(k.sys, system.Config{PollInterval: 50 * time.Millisecond, ShortestRetry: time.Millisecond})
	expect.NoError(t, err)
	return k
}

// praise adds a trick to the award of its dog, which it opens first.
func (k *kennel) praise(ctx context.Context, e domain.Recorded[school.TrickAdded]) error {
	dog, trick, _ := strings.Cut(e.Data.Trick, " ")
	if k.refuses(e.Data.Trick) {
		return errors.New("the trick is refused")
	}
	k.handled(e.Data.Trick)
	award, err := k.awards.Get(ctx, awardOf(dog))
	if errors.Is(err, application.ErrAggregateNotFound) {
		if err := k.awards.Save(ctx, awards.Create(awardOf(dog), Opened{})); err != nil {
			return err
		}
		award, err = k.awards.Get(ctx, awardOf(dog)) // which sees what was saved
	}
	if err != nil {
		return err
	}
	domain.Trigger(award, Praised{trick})
	return k.awards.Save(ctx, award)
}

// add adds tricks to dogs, each "dog trick".
func (k *kennel) add(t testing.TB, tricks ...string) {
	t.Helper()
	for _, trick := range tricks {
		name, _, _ := strings.Cut(trick, " ")
		dog, err := k.dogs.Get(t.Context(), school.DogID(name))
		if errors.Is(err, application.ErrAggregateNotFound) {
			dog, err = school.RegisterDog(name), nil
		}
		expect.NoError(t, err)
		dog.AddTrick(trick)
		expect.NoError(t, k.dogs.Save(t.Context(), dog))
	}
}

func (k *kennel) wantTricks(t testing.TB, dog string, want ...string) {
	t.Helper()
	award, err := k.awards.Get(t.Context(), awardOf(dog))
	if err != nil || !slices.Equal(award.Tricks, want) {
		t.Errorf("the award of %s: got %v and the error %v, want %v", dog, award, err, want)
	}
}

// TestFollowerOnNATS runs a follower whose application is on NATS: it parks
// events, which are retried and discarded, is paused, and processes all events
// again.
func TestFollowerOnNATS(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t).ClientURL())
	k := newKennel(t, conn, single)
	var refused atomic.Value
	refused.Store("")
	k.refuses = func(trick string) bool { return trick == refused.Load() }
	expect.NoError(t, k.runner.Start(t.Context()))
	defer k.runner.Close()

	k.add(t, "Fido sit", "Rex roll", "Fido fetch")
	expect.NoError(t, k.runner.WaitFor(t.Context(), k.app))
	k.wantTricks(t, "Fido", "sit", "fetch")
	k.wantTricks(t, "Rex", "roll")

	refused.Store("Fido bite")
	k.add(t, "Fido bite", "Fido jump", "Rex bow")
	expect.NoError(t, k.runner.WaitFor(t.Context(), k.app))
	k.wantTricks(t, "Fido", "sit", "fetch")
	k.wantTricks(t, "Rex", "roll", "bow")
	parked, err := k.runner.Parked(t.Context(), k.app)
	if err != nil || len(parked) != 2 || parked[0].OriginatorID != school.DogID("Fido") || parked[1].OriginatorVersion != 5 {
		t.Fatalf("got the parked events %+v and the error %v, want two of Fido", parked, err)
	}
	if out := k.command(t, "parked", "Awards"); !strings.Contains(out, "the trick is refused") {
		t.Errorf("the command parked says\n%s\nwant the error", out)
	}

	if n, err := k.runner.RetryParked(t.Context(), k.app); n != 0 || err == nil {
		t.Errorf("retried %d events with the error %v, want that they fail again", n, err)
	}
	refused.Store("")
	if n, err := k.runner.RetryParked(t.Context(), k.app); n != 2 || err != nil {
		t.Errorf("retried %d events with the error %v, want 2", n, err)
	}
	k.wantTricks(t, "Fido", "sit", "fetch", "bite", "jump")

	refused.Store("Rex bark")
	k.add(t, "Rex bark")
	expect.NoError(t, k.runner.WaitFor(t.Context(), k.app))
	parked, err = k.runner.Parked(t.Context(), k.app)
	if err != nil || len(parked) != 1 {
		t.Fatalf("got the parked events %+v and the error %v, want one", parked, err)
	}
	k.command(t, "discard_parked", "--yes", "Awards", "Dogs", fmt.Sprint(parked[0].NotificationID))
	if parked, err = k.runner.Parked(t.Context(), k.app); err != nil || len(parked) != 0 {
		t.Errorf("after it was discarded: got %+v and the error %v, want no error and 0 of them", parked, err)
	}

	expect.NoError(t, k.runner.Pause(t.Context(), k.app, "a test"))
	k.add(t, "Rex beg")
	if statuses := k.command(t, "followers"); !strings.Contains(statuses, "paused") {
		t.Errorf("the command followers says\n%s\nwant that it is paused", statuses)
	}
	k.wantTricks(t, "Rex", "roll", "bow")
	expect.NoError(t, k.runner.Resume(t.Context(), k.app))
	// The runner may not know of it yet.
	eventually(t, func() error { return k.runner.WaitFor(t.Context(), k.app) })
	k.wantTricks(t, "Rex", "roll", "bow", "beg")

	refused.Store("")
	expect.NoError(t, k.runner.Rebuild(t.Context(), k.app))
	expect.NoError(t, k.runner.WaitFor(t.Context(), k.app))
	// A rebuild cannot clear the tricks.
	k.wantTricks(t, "Rex", "roll", "bow", "beg", "roll", "bow", "bark", "beg")
}

// command runs a command of management.
func (k *kennel) command(t *testing.T, args ...string) string {
	t.Helper()
	config := management.Config{Runners: map[string]management.RunnerFunc{"kennel": management.Given(k.runner)}}
	var out bytes.Buffer
	if code := management.Run(t.Context(), config, args, &out, &out); code != 0 {
		t.Errorf("the command %v ends with %d: %s, want 0", args, code, out.String())
	}
	return out.String()
}

// TestFollowerInSeveralProcesses runs the same follower three times at once,
// while all of it is paused and resumed. Each event has its effect once.
func TestFollowerInSeveralProcesses(t *testing.T) {
	t.Parallel()
	url := startServer(t).ClientURL()
	var handled atomic.Int64
	var kennels []*kennel
	for range 3 {
		k := newKennel(t, connect(t, url), single)
		k.handled = func(string) { handled.Add(1) }
		expect.NoError(t, k.runner.Start(t.Context()))
		defer k.runner.Close()
		kennels = append(kennels, k)
	}
	var want [4][]string
	var group sync.WaitGroup
	for i := range want {
		group.Go(func() {
			for j := range 50 {
				want[i] = append(want[i], fmt.Sprint(j))
				kennels[0].add(t, fmt.Sprintf("%d %d", i, j))
			}
		})
	}
	for range 5 {
		expect.NoError(t, kennels[1].runner.Pause(t.Context(), kennels[1].app, "a test"))
		expect.NoError(t, kennels[2].runner.Resume(t.Context(), kennels[2].app))
	}
	group.Wait()
	for _, k := range kennels {
		eventually(t, func() error { return k.runner.WaitFor(t.Context(), k.app) })
	}
	for i, tricks := range want {
		kennels[0].wantTricks(t, fmt.Sprint(i), tricks...)
	}
	t.Logf("200 events were handled %d times", handled.Load())
}

// TestFollowerWhileLeaderIsKilled runs the same follower at three servers, and
// kills the server that leads the stream with its position and its events. Each
// event has its effect once.
func TestFollowerWhileLeaderIsKilled(t *testing.T) {
	t.Parallel()
	c := startCluster(t, full())
	var kennels []*kennel
	for i := range c.nodes {
		kennels = append(kennels, newKennel(t, c.connect(t, i), replicated))
	}
	kennels[0].add(t, "Fido 0")
	for _, k := range kennels {
		expect.NoError(t, k.runner.Start(t.Context()))
		defer k.runner.Close()
	}
	expect.NoError(t, kennels[0].runner.WaitFor(t.Context(), kennels[0].app))
	events, kills := figure(60, 600), figure(1, 4)
	want := []string{"0"}
	for i := 1; i < events; i++ {
		want = append(want, fmt.Sprint(i))
		kennels[i%3].add(t, fmt.Sprintf("Fido %d", i))
		if i%(events/(kills+1)) == 0 && i < events-1 {
			leader := c.leader(t, c.connect(t, i%3), "es_ev_Awards")
			c.nodes[leader].kill()
			c.nodes[leader].start(t)
		}
	}
	for _, k := range kennels {
		eventually(t, func() error { return k.runner.WaitFor(t.Context(), k.app) })
	}
	kennels[1].wantTricks(t, "Fido", want...)
	if parked, err := kennels[2].runner.Parked(t.Context(), kennels[2].app); err != nil || len(parked) > 0 {
		t.Errorf("got the parked events %v and the error %v, want none", parked, err)
	}
}
