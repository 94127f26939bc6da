package benchmark

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/pglisten"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/system"
)

const (
	letterPause   = 10 * time.Millisecond // between saves
	letterTimeout = 10 * time.Second      // for the last one to be delivered
)

// sent is when a save had returned. Processes of one machine have one clock.
type sent struct {
	Position int64
	At       int64 // in nanoseconds since 1970
}

// sendLetters saves an event at a time.
func sendLetters(ctx context.Context, app *application.Application, n int) (all []sent, err error) {
	for range n {
		saved, err := app.Save(ctx, newAccount(uuid.New(), 1))
		if err != nil {
			return nil, err
		}
		all = append(all, sent{Position: saved.Position, At: time.Now().UnixNano()})
		time.Sleep(letterPause)
	}
	return all, nil
}

// prepareLetters opens the application of another process, which tells listeners
// of what it saves.
func (d *database) prepareLetters(t testing.TB, n int) func() (any, error) {
	t.Helper()
	app := expect.Must(application.New(applicationName, application.WithStore(gormstore.New(d.gorm(t, 1), gormstore.WithNotify()))))
	expect.Must(application.NewRepository(app, accounts))
	return func() (any, error) { return sendLetters(t.Context(), app, n) }
}

// postbox is a policy that takes down when events have come.
type postbox struct {
	expected int
	all      chan struct{} // closed when all have come

	mu       sync.Mutex // protects the field below
	received map[int64]time.Time
}

func (p *postbox) receive(_ context.Context, event domain.Event) error {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, again := p.received[event.NotificationID]; again {
		return nil
	}
	p.received[event.NotificationID] = now
	if len(p.received) == p.expected {
		close(p.all)
	}
	return nil
}

// A sender does the saves of a turn. The application is the leader in the
// follower's process.
type sender func(b *testing.B, leader *application.Application, n int) []sent

// delivering is a way to tell followers: with the options of the follower's
// store.
func delivering(d *database, name string, send sender, options ...gormstore.Option) way {
	return unprepared(name, func(b *testing.B) float64 {
		d.reset(b, 0)
		d.forget(b)
		n := b.N * *deliveries
		box := &postbox{expected: n, all: make(chan struct{}), received: map[int64]time.Time{}}
		at := setting{d.gorm(b, 4), options}
		p := newPair(b, at, at, applicationName, box.receive, nil)
		p.run(b, system.Config{})
		b.StartTimer()
		all := send(b, p.leader, n)
		select {
		case <-box.all:
		case <-time.After(letterTimeout):
			b.Fatal("void: not every event that was saved has come to the policy")
		}
		b.StopTimer()
		latencies := newHistogram()
		for _, s := range all {
			received, ok := box.received[s.Position]
			if !ok {
				b.Fatal("void: another event has come than was saved")
			}
			// A policy may be called before the save returns.
			expect.NoError(b, latencies.RecordValue(max(received.UnixNano()-s.At, 1)))
		}
		b.ReportMetric(0, "ns/op") // mostly the pauses
		reportLatencies(b, latencies)
		return 0
	})
}

// BenchmarkDelivery is the row Delivery: from this process, and on PostgreSQL,
// which can tell of it, from another one.
func BenchmarkDelivery(b *testing.B) {
	here := func(b *testing.B, leader *application.Application, n int) []sent {
		all := expect.Must(sendLetters(b.Context(), leader, n))
		return all
	}
	each(b, func(b *testing.B, d *database) {
		ways := []way{delivering(d, ours, here)}
		if d.kind == postgresKind {
			listener := expect.Must(pglisten.New(d.dsn, nil))
			elsewhere := func(b *testing.B, _ *application.Application, n int) (all []sent) {
				_, err := runWorkers(b, 1, job{Kind: d.kind, DSN: d.dsn, Letters: n}, nil,
					func(result json.RawMessage) error { return json.Unmarshal(result, &all) })
				expect.NoError(b, err)
				return all
			}
			ways = append(ways, delivering(d, "other-process", elsewhere, gormstore.WithListener(listener)),
				delivering(d, "other-process-polling", elsewhere))
		}
		compare(b, ways...)
	})
}
