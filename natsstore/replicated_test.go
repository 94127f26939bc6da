package natsstore_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/natsstore"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/persistencetest"
)

// replicated is a config for three servers of this test program, whose disks
// are written as the test says.
var replicated = natsstore.Config{CreateStreams: true, Waive: []natsstore.Waiver{natsstore.PeriodicSync}}

// TestConformanceReplicated runs the suite on three servers: all rows if FULL
// is set, and otherwise those about concurrency.
func TestConformanceReplicated(t *testing.T) {
	t.Parallel()
	c := startCluster(t, full())
	only := func(r persistencetest.Row) bool {
		return full() || strings.HasPrefix(r.Name, "concurrency/") || strings.HasPrefix(r.Name, "tracking/")
	}
	persistencetest.Run(t, harness(t, c.connect(t, 0), replicated, only))
}

const (
	training     = "TrainingSchool"
	schoolStream = "es_ev_TrainingSchool"
)

// TestLeaderKilled and the others of its kind write while the leader of the
// stream fails. Each writer reads what it has written; each reader follows the
// log. In the end all that was acknowledged is in the logs of all replicas,
// once and in order.
func TestLeaderKilled(t *testing.T) {
	t.Parallel()
	disturbed(t, figure(1, 4), func(c *cluster, leader int) {
		c.nodes[leader].kill()
		time.Sleep(500 * time.Millisecond)
		c.nodes[leader].start(t)
		c.ready(t, leader)
	})
}

func TestLeaderFrozen(t *testing.T) {
	t.Parallel()
	disturbed(t, figure(1, 3), func(c *cluster, leader int) {
		c.nodes[leader].freeze(t)
		time.Sleep(12 * time.Second) // longer than an election
		c.nodes[leader].thaw(t)
	})
}

func TestLeaderStepsDown(t *testing.T) {
	t.Parallel()
	disturbed(t, figure(3, 12), func(c *cluster, leader int) {
		conn := c.connect(t, leader)
		_, err := conn.Request("$JS.API.STREAM.LEADER.STEPDOWN."+schoolStream, nil, 5*time.Second)
		if err != nil {
			t.Logf("the request to step down: %v", err)
		}
	})
}

func TestLeaderCutOff(t *testing.T) {
	t.Parallel()
	disturbed(t, figure(1, 3), func(c *cluster, leader int) {
		c.partition(leader)
		time.Sleep(20 * time.Second) // until the leader knows that it has no quorum
		c.heal()
	})
}

// TestAllServersKilled kills all servers at once, as a loss of power does that
// leaves the page cache, and starts them again.
func TestAllServersKilled(t *testing.T) {
	t.Parallel()
	disturbed(t, figure(1, 3), func(c *cluster, _ int) {
		for _, n := range c.nodes {
			n.kill()
		}
		for _, n := range c.nodes {
			n.start(t)
		}
		for i := range c.nodes {
			c.ready(t, i)
		}
	})
}

// disturbed writes at least 50,000 events (with FULL), and calls disturb the
// given number of times meanwhile.
func disturbed(t *testing.T, times int, disturb func(c *cluster, leader int)) {
	c := startCluster(t, full())
	watcher := c.connect(t, 0)
	l := newLoad(t, c)
	want := int64(figure(3_000, 50_000))
	for i := range times {
		l.waitFor(want * int64(i+1) / int64(times+2))
		disturb(c, c.leader(t, watcher, schoolStream))
	}
	l.waitFor(want)
	l.finish(t, c, watcher)
}

// TestWritesToLeaderThatIsCutOff writes through the leader alone, which the
// others do not reach. Nothing is acknowledged, and nothing of it is in the log
// when the leader is back.
func TestWritesToLeaderThatIsCutOff(t *testing.T) {
	t.Parallel()
	c := startCluster(t, full())
	watcher := c.connect(t, 0)
	config := replicated
	config.Timeout = 3 * time.Second
	if _, err := recorder(t, watcher).MaxNotificationID(t.Context()); err != nil {
		t.Fatal(err)
	}
	leader := c.leader(t, watcher, schoolStream)
	r := recorderOf(t, c.only(t, leader), config)
	if _, err := r.InsertEvents(t.Context(), large("Fido", 1, 1)); err != nil {
		t.Fatal(err)
	}
	c.partition(leader)
	for version := int64(2); version < 5; version++ {
		_, err := r.InsertEvents(t.Context(), large("Fido", 2, 1))
		if !errors.Is(err, persistence.ErrOutcomeUnknown) && !errors.Is(err, persistence.ErrUnavailable) {
			t.Errorf("got the error %v, want an ErrOutcomeUnknown or ErrUnavailable", err)
		}
	}
	other := recorder(t, c.only(t, (leader+1)%3))
	var err error
	eventually(t, func() error {
		_, err = other.InsertEvents(t.Context(), large("Fido", 2, 1))
		return err
	})
	c.heal()
	c.settled(t, watcher, schoolStream)
	if log := wholeLog(t, recorder(t, watcher)); len(log) != 2 {
		t.Errorf("the log has %d events, want 2", len(log))
	}
}

// TestServerAway opens a store while one of three servers is down, so that its
// monitoring port does not answer, and goes on when another one leads.
func TestServerAway(t *testing.T) {
	t.Parallel()
	c := startCluster(t, true)
	conn := c.connect(t, 0)
	config := natsstore.Config{Monitoring: c.monitoring()}
	expect.NoError(t, natsstore.Create(t.Context(), conn, config, training))
	c.settled(t, conn, schoolStream)
	leader := c.leader(t, conn, schoolStream)
	c.nodes[leader].kill()
	r := recorderOf(t, c.connect(t, (leader+1)%3), config)
	if _, err := r.InsertEvents(t.Context(), small("Fido", 1)); err != nil {
		t.Errorf("while server n%d is away: %v", leader+1, err)
	}
	c.nodes[leader].start(t)
	c.ready(t, leader)
	c.settled(t, conn, schoolStream)
	c.lead(t, c.connect(t, 0), schoolStream, leader)
	if _, err := r.InsertEvents(t.Context(), small("Rex", 1)); err != nil {
		t.Errorf("after it is back and leads: %v", err)
	}
}

// TestFrozenServerIsLeft reads through a connection of Open whose server is
// frozen. It goes on at another one.
func TestFrozenServerIsLeft(t *testing.T) {
	t.Parallel()
	c := startCluster(t, false)
	store, err := natsstore.Open(t.Context(), c.urls(0), replicated, nats.DontRandomize())
	expect.NoError(t, err)
	defer store.Close()
	r, err := store.ProcessRecorder(training)
	expect.NoError(t, err)
	if _, err := r.InsertEvents(t.Context(), small("Fido", 1)); err != nil {
		t.Fatal(err)
	}
	c.nodes[0].freeze(t)
	if err := readDog(t, r, "Fido", 1); err != nil {
		t.Error(err)
	}
}

// TestConsumerSeesPartsOfBatches is why the store reads by direct gets: a
// consumer that has received all there is may have a part of a batch. A page of
// the log has whole batches at its end.
func TestConsumerSeesPartsOfBatches(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t).ClientURL())
	r := recorderOf(t, conn, single)
	if _, err := r.MaxNotificationID(t.Context()); err != nil {
		t.Fatal(err)
	}
	const size = 900
	js, err := conn.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	var parts, received atomic.Int64
	subscription, err := js.Subscribe("es."+training+".>", func(m *nats.Msg) {
		if meta, err := m.Metadata(); err == nil && meta.NumPending == 0 && meta.Sequence.Stream%size != 0 {
			parts.Add(1)
		}
		received.Add(1)
	}, nats.OrderedConsumer())
	if err != nil {
		t.Fatal(err)
	}
	defer subscription.Unsubscribe()
	reading := make(chan struct{})
	var end atomic.Int64 // of the log, once it is known
	go func() {
		defer close(reading)
		for after := int64(0); end.Load() == 0 || after < end.Load(); {
			page, err := r.SelectNotifications(t.Context(), persistence.NotificationRange{After: after, Limit: size})
			if err != nil || len(page)%size != 0 {
				t.Errorf("a page has %d events, which is a part of a save; error %v, want no error and 0", len(page), err)
				return
			}
			if len(page) > 0 {
				after = page[len(page)-1].ID
			}
		}
	}()
	// The consumer is not at the end of the log in the middle of every batch.
	written, begin := int64(0), time.Now()
	for i := 0; i < batches || parts.Load() == 0 && time.Since(begin) < patience; i++ {
		if _, err := r.InsertEvents(t.Context(), small(fmt.Sprint(i), size)); err != nil {
			t.Fatal(err)
		}
		written += size
	}
	end.Store(written)
	<-reading
	eventually(t, func() error {
		if n := received.Load(); n < written {
			return fmt.Errorf("the consumer has received %d messages", n)
		}
		return nil
	})
	if parts.Load() == 0 {
		t.Error("the control: the consumer saw whole batches only")
	}
	t.Logf("the consumer was at the end of the log in the middle of a batch %d times", parts.Load())
}

// batches is how many saves the control of consumers writes at least.
const batches = 40

// small returns many events with small states.
func small(name string, n int) []persistence.StoredEvent {
	events := large(name, 1, n)
	for i := range events {
		events[i].State = events[i].State[:20]
	}
	return events
}
