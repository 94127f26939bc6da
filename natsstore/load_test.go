package natsstore_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/natsstore"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// load is writers and readers of one application.
type load struct {
	t       *testing.T
	stop    chan struct{} // closed when writers are to end
	done    chan struct{} // closed when writers have ended
	writers sync.WaitGroup
	readers sync.WaitGroup
	written atomic.Int64
	unknown atomic.Int64
	errors  atomic.Int64

	mu    sync.Mutex // protects acked
	acked map[int64]persistence.StoredEvent
	seen  [3][]persistence.Notification
}

const writerCount = 12

func newLoad(t *testing.T, c *cluster) *load {
	l := &load{t: t, stop: make(chan struct{}), done: make(chan struct{}), acked: map[int64]persistence.StoredEvent{}}
	for i := range writerCount {
		l.writers.Go(func() { l.write(recorder(t, c.connect(t, i%3)), i) })
	}
	for i := range l.seen {
		l.readers.Go(func() { l.follow(recorder(t, c.connect(t, i)), i) })
	}
	return l
}

func recorder(t testing.TB, conn *nats.Conn) persistence.ProcessRecorder {
	t.Helper()
	return recorderOf(t, conn, replicated)
}

func recorderOf(t testing.TB, conn *nats.Conn, config natsstore.Config) persistence.ProcessRecorder {
	t.Helper()
	r, err := newStore(t, conn, config).ProcessRecorder(training)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func newStore(t testing.TB, conn *nats.Conn, config natsstore.Config) *natsstore.Store {
	t.Helper()
	store, err := natsstore.New(conn, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

func (l *load) isOver(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return l.t.Failed()
	}
}

func (l *load) waitFor(events int64) {
	l.t.Helper()
	deadline := time.Now().Add(10 * time.Minute)
	for l.written.Load() < events && !l.t.Failed() {
		if time.Now().After(deadline) {
			l.t.Fatalf("%d events were written in time, want %d", l.written.Load(), events)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// write saves events of originators that no other writer has, and reads them.
func (l *load) write(r persistence.ProcessRecorder, writer int) {
	ctx := l.t.Context()
	random := rand.New(rand.NewPCG(uint64(writer), 1))
	newest := map[uuid.UUID]int64{}
	for !l.isOver(l.stop) {
		id := school.DogID(fmt.Sprintf("%d/%d", writer, random.IntN(20)))
		events := make([]persistence.StoredEvent, 1+random.IntN(4))
		for i := range events {
			version := newest[id] + int64(i) + 1
			events[i] = persistence.StoredEvent{OriginatorID: id, OriginatorVersion: version, Topic: "Dog.TrickAdded",
				State: fmt.Appendf(nil, "writer %d version %d", writer, version)}
		}
		ids, err := r.InsertEvents(ctx, events)
		switch {
		case errors.Is(err, persistence.ErrOutcomeUnknown):
			l.unknown.Add(1)
			ids = l.adopt(ctx, r, events)
		case errors.Is(err, persistence.ErrUnavailable):
			l.errors.Add(1)
			continue
		case err != nil:
			l.t.Errorf("writer %d, version %d of %s: %v", writer, events[0].OriginatorVersion, id, err)
			return
		}
		if ids == nil {
			continue
		}
		newest[id] = events[len(events)-1].OriginatorVersion
		l.mu.Lock()
		for i := range events {
			l.acked[ids[i]] = events[i]
		}
		l.mu.Unlock()
		l.written.Add(int64(len(events)))
		if random.IntN(8) == 0 {
			l.readOwn(ctx, r, id, newest[id])
		}
	}
}

// adopt saves events again whose outcome is unknown, and returns their ids:
// those that are stored, or those of the second save. That none is stored twice
// is looked at in the end.
func (l *load) adopt(ctx context.Context, r persistence.ProcessRecorder, events []persistence.StoredEvent) []int64 {
	for !l.isOver(l.stop) {
		stored, err := r.InsertEvents(ctx, events)
		var conflict *persistence.ConflictError
		if errors.As(err, &conflict) && len(conflict.Stored) == len(events) {
			ids := make([]int64, len(events))
			for i, n := range conflict.Stored {
				ids[i] = n.ID
			}
			return ids
		}
		if err == nil { // it was not stored, and cannot be any more
			return stored
		}
	}
	return nil
}

// readOwn reads what was acknowledged last.
func (l *load) readOwn(ctx context.Context, r persistence.ProcessRecorder, id uuid.UUID, newest int64) {
	last := int64(0)
	for e, err := range r.SelectEvents(ctx, id, persistence.EventRange{}) {
		if errors.Is(err, persistence.ErrUnavailable) {
			return
		}
		if err != nil || e.OriginatorVersion != last+1 {
			l.t.Errorf("read version %d after %d of %s; error %v, want no error and OriginatorVersion %v", e.OriginatorVersion, last, id, err, last+1)
			return
		}
		last = e.OriginatorVersion
	}
	if last != newest {
		l.t.Errorf("read %s up to version %d, want %d, which was acknowledged", id, last, newest)
	}
}

// follow reads the log page by page.
func (l *load) follow(r persistence.ProcessRecorder, reader int) {
	after := int64(0)
	for {
		last := l.isOver(l.done)
		page, err := r.SelectNotifications(l.t.Context(), persistence.NotificationRange{After: after, Limit: 300})
		switch {
		case errors.Is(err, persistence.ErrUnavailable):
		case err != nil:
			if l.t.Context().Err() == nil {
				l.t.Errorf("reader %d after %d: %v", reader, after, err)
			}
			return
		case len(page) > 0:
			l.seen[reader] = append(l.seen[reader], page...)
			after = page[len(page)-1].ID
		case last:
			return
		}
	}
}

// finish stops the load and looks at what the replicas have.
func (l *load) finish(t *testing.T, c *cluster, conn *nats.Conn) {
	t.Helper()
	close(l.stop)
	l.writers.Wait()
	close(l.done)
	l.readers.Wait()
	if t.Failed() {
		return
	}
	c.settled(t, conn, schoolStream)
	log := wholeLog(t, recorder(t, conn))
	newest := map[uuid.UUID]int64{}
	lost := len(l.acked)
	for _, n := range log {
		if n.OriginatorVersion != newest[n.OriginatorID]+1 {
			t.Fatalf("version %d of %s follows version %d, want %v", n.OriginatorVersion, n.OriginatorID, newest[n.OriginatorID], newest[n.OriginatorID]+1)
		}
		newest[n.OriginatorID] = n.OriginatorVersion
		if e, ok := l.acked[n.ID]; ok && e.OriginatorID == n.OriginatorID && string(e.State) == string(n.State) {
			lost--
		}
	}
	if lost != 0 || len(log) != len(l.acked) {
		t.Errorf("the log has %d events, %d were acknowledged, %d of them are not in the log, want 0", len(log), len(l.acked), lost)
	}
	for i, seen := range l.seen {
		if len(seen) != len(log) {
			t.Errorf("reader %d saw %d events, want %d", i, len(seen), len(log))
			continue
		}
		for j := range seen {
			if seen[j].ID != log[j].ID || string(seen[j].State) != string(log[j].State) {
				t.Errorf("reader %d: event %d is %d, want %d", i, j, seen[j].ID, log[j].ID)
				break
			}
		}
	}
	sums := map[string]string{}
	for i, n := range c.nodes {
		c.lead(t, conn, schoolStream, i)
		sums[n.Name] = leadersLog(t, conn, schoolStream)
	}
	if sums["n1"] != sums["n2"] || sums["n1"] != sums["n3"] {
		t.Errorf("the replicas differ: %v, want one sum", sums)
	}
	t.Logf("%d events, 0 lost; outcome unknown %d times, unavailable %d times; logs of the replicas: %v",
		len(log), l.unknown.Load(), l.errors.Load(), sums)
}

func wholeLog(t testing.TB, r persistence.ProcessRecorder) (log []persistence.Notification) {
	t.Helper()
	for after := int64(0); ; after = log[len(log)-1].ID {
		page, err := r.SelectNotifications(t.Context(), persistence.NotificationRange{After: after, Limit: persistence.MaxPage})
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			return log
		}
		log = append(log, page...)
	}
}

// leadersLog returns how many messages the leader has, and a sum of them.
func leadersLog(t testing.TB, conn *nats.Conn, stream string) string {
	t.Helper()
	info, err := streamInfo(conn, stream)
	if err != nil {
		t.Fatal(err)
	}
	sum := fnv.New64a()
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		reply, err := conn.Request("$JS.API.STREAM.MSG.GET."+stream, fmt.Appendf(nil, `{"seq":%d}`, seq), 5*time.Second)
		if err != nil {
			t.Fatalf("message %d of the leader: %v", seq, err)
		}
		message := string(reply.Data)
		sum.Write([]byte(message[:strings.LastIndex(message, `"time"`)]))
	}
	return fmt.Sprintf("%d to %d, %x", info.State.FirstSeq, info.State.LastSeq, sum.Sum64())
}
