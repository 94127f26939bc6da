package natsstore_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"gorm.io/driver/postgres"

	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/natsstore"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// benchmarked are the stores that benchmarks compare: PostgreSQL, which syncs
// before it answers, one server of NATS, and three in separate processes,
// which sync every two minutes, or before they answer.
var benchmarked = []struct {
	name string
	open func(b *testing.B) persistence.Factory
}{
	{"postgres", func(b *testing.B) persistence.Factory {
		db := testdb.Open(b, postgres.Open(testdb.NewCluster(b).Database(b)))
		if err := gormstore.AutoMigrate(db); err != nil {
			b.Fatal(err)
		}
		return gormstore.New(db)
	}},
	{"one server", func(b *testing.B) persistence.Factory {
		return newStore(b, connect(b, startServer(b).ClientURL()), single)
	}},
	{"one server, sync always", func(b *testing.B) persistence.Factory {
		s := startServer(b, func(o *server.Options) { o.SyncAlways = true })
		return newStore(b, connect(b, s.ClientURL()), single)
	}},
	{"three servers", func(b *testing.B) persistence.Factory {
		return newStore(b, startLinked(b, false, false).connect(b, 0), replicated)
	}},
	{"three servers, sync always", func(b *testing.B) persistence.Factory {
		return newStore(b, startLinked(b, true, false).connect(b, 0), replicated)
	}},
}

// BenchmarkSave saves events with states of 200 bytes by some writers at the
// same time, each to its own originators.
func BenchmarkSave(b *testing.B) {
	for _, store := range benchmarked {
		r := benchmarkedRecorder(b, store.open)
		for _, events := range []int{1, 10} {
			for _, writers := range []int{1, 16, 64} {
				b.Run(fmt.Sprintf("%s/%d events/%d writers", store.name, events, writers), func(b *testing.B) {
					var next atomic.Int64
					var group sync.WaitGroup
					took := make([]time.Duration, b.N)
					b.ResetTimer()
					for range writers {
						group.Go(func() {
							for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
								begin := time.Now()
								if _, err := r.InsertEvents(b.Context(), ofSize(fmt.Sprintf("%s %d", b.Name(), i), b.N, events, 200)); err != nil {
									b.Error(err)
									return
								}
								took[i-1] = time.Since(begin)
							}
						})
					}
					group.Wait()
					b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "saves/s")
					reportTimes(b, took)
				})
			}
		}
	}
}

// reportTimes reports the median and the 99th percentile.
func reportTimes(b *testing.B, took []time.Duration) {
	b.Helper()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// BenchmarkLoad reads an originator with 100 events.
func BenchmarkLoad(b *testing.B) {
	for _, store := range benchmarked {
		r := benchmarkedRecorder(b, store.open)
		if _, err := r.InsertEvents(b.Context(), ofSize("Fido", 0, 100, 200)); err != nil {
			b.Fatal(err)
		}
		b.Run(store.name, func(b *testing.B) {
			for b.Loop() {
				n := 0
				for _, err := range r.SelectEvents(b.Context(), school.DogID("Fido 0"), persistence.EventRange{}) {
					if err != nil {
						b.Fatal(err)
					}
					n++
				}
				if n != 100 {
					b.Fatalf("read %d events, want 100", n)
				}
			}
		})
	}
}

// BenchmarkCatchUp reads a log of 50,000 events in pages of 1,000.
func BenchmarkCatchUp(b *testing.B) {
	const events = 50_000
	for _, store := range benchmarked {
		opened := store.open(b)
		r := benchmarkedRecorder(b, func(*testing.B) persistence.Factory { return opened })
		for i := range events / 500 {
			if _, err := r.InsertEvents(b.Context(), ofSize("Dog", i, 500, 200)); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(store.name, func(b *testing.B) {
			for b.Loop() {
				if n := len(wholeLog(b, r)); n != events {
					b.Fatalf("read %d events, want %d", n, events)
				}
			}
			b.ReportMetric(float64(b.N*events)/b.Elapsed().Seconds(), "events/s")
			if store, ok := opened.(*natsstore.Store); ok {
				info, err := streamInfo(natsstore.ConnOf(store), schoolStream)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(info.State.Bytes)/events, "bytes/event")
			}
		})
		b.Run(store.name+", a topic that no event has", func(b *testing.B) {
			for b.Loop() {
				page, err := r.SelectNotifications(b.Context(), persistence.NotificationRange{Topics: []string{"Dog.Renamed"}, Limit: 10})
				if err != nil || len(page) > 0 {
					b.Fatalf("got %d events and the error %v, want no error and 0 of them", len(page), err)
				}
			}
			b.ReportMetric(float64(b.N*events)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkWake measures the time from the answer to a save until a listener of
// another connection hears of it. It is negative if that hears first.
func BenchmarkWake(b *testing.B) {
	for _, c := range []struct {
		name   string
		config natsstore.Config
		open   func(b *testing.B) *nats.Conn
	}{
		{"one server", single, func(b *testing.B) *nats.Conn { return connect(b, startServer(b).ClientURL()) }},
		{"three servers", replicated, func(b *testing.B) *nats.Conn { return startLinked(b, false, false).connect(b, 0) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			conn := c.open(b)
			heard := make(chan time.Time, 1)
			listening, stop := context.WithCancel(b.Context())
			listener := newStore(b, connect(b, conn.ConnectedUrl()), c.config)
			done := make(chan error, 1)
			go func() {
				done <- capability.Of(listener).Listener.Listen(listening, func(string) { heard <- time.Now() })
			}()
			r := recorderOf(b, conn, c.config)
			var took []time.Duration
			for version := int64(1); b.Loop(); version++ {
				if _, err := r.InsertEvents(b.Context(), ofSize("Fido", 0, int(version), 200)[version-1:]); err != nil {
					b.Fatal(err)
				}
				answered := time.Now()
				select {
				case at := <-heard:
					took = append(took, at.Sub(answered))
				case <-time.After(time.Second): // it did not listen yet
				}
			}
			stop()
			if err := <-done; err != nil {
				b.Fatal(err)
			}
			reportTimes(b, took)
		})
	}
}

func benchmarkedRecorder(b *testing.B, open func(*testing.B) persistence.Factory) persistence.ProcessRecorder {
	b.Helper()
	r, err := open(b).ProcessRecorder(training)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := r.MaxNotificationID(b.Context()); err != nil {
		b.Fatal(err)
	}
	return r
}

// ofSize returns the first events of an originator.
func ofSize(name string, number, n, size int) []persistence.StoredEvent {
	events := make([]persistence.StoredEvent, n)
	for i := range events {
		events[i] = persistence.StoredEvent{OriginatorID: school.DogID(fmt.Sprintf("%s %d", name, number)), OriginatorVersion: int64(i + 1),
			Topic: "Dog.TrickAdded", State: make([]byte, size)}
	}
	return events
}

// BenchmarkMemory stores an event of each of 1,000,000 originators on three
// servers, and reports what the leader's process has in memory. Run it with
// -benchtime 1x.
func BenchmarkMemory(b *testing.B) {
	const originators, batch = 1_000_000, 1_000
	for b.Loop() {
		c := startLinked(b, false, false)
		conn := c.connect(b, 0)
		r := benchmarkedRecorder(b, func(b *testing.B) persistence.Factory { return newStore(b, conn, replicated) })
		before := resident(b, c.nodes[c.leader(b, conn, schoolStream)])
		for i := range originators / batch {
			events := make([]persistence.StoredEvent, batch)
			for j := range events {
				events[j] = ofSize("Dog", i*batch+j, 1, 200)[0]
			}
			if _, err := r.InsertEvents(b.Context(), events); err != nil {
				b.Fatal(err)
			}
		}
		after := resident(b, c.nodes[c.leader(b, conn, schoolStream)])
		b.ReportMetric(float64(after-before)/originators, "bytes/originator")
		b.ReportMetric(float64(after)/(1<<20), "MiB")
	}
}

// resident returns how many bytes of a process are in memory.
func resident(b *testing.B, n *node) int64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.process.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var kilobytes int64
	if _, err := fmt.Sscanf(rest, "%d kB", &kilobytes); err != nil {
		b.Fatal(err)
	}
	return kilobytes << 10
}
