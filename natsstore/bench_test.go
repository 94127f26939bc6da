package natsstore_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"gorm.io/driver/postgres"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// benchmarked are the stores that benchmarks compare: PostgreSQL, which syncs
// before it answers, one server of NATS, and three in processes of their own.
// The last two sync every two minutes, or before they answer.
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
					b.ResetTimer()
					for range writers {
						group.Go(func() {
							for {
								i := next.Add(1)
								if i > int64(b.N) {
									return
								}
								if _, err := r.InsertEvents(b.Context(), ofSize(fmt.Sprintf("%s %d", b.Name(), i), b.N, events, 200)); err != nil {
									b.Error(err)
									return
								}
							}
						})
					}
					group.Wait()
					b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "saves/s")
				})
			}
		}
	}
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
				for _, err := range r.SelectEvents(b.Context(), dogID("Fido 0"), persistence.EventRange{}) {
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
		r := benchmarkedRecorder(b, store.open)
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
		events[i] = persistence.StoredEvent{OriginatorID: dogID(fmt.Sprintf("%s %d", name, number)), OriginatorVersion: int64(i + 1),
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
