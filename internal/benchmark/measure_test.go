package benchmark

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/eventsourcing-go/eventsourcing/internal/expect"
)

func number(n int) string { return strconv.Itoa(n) }

// An operation is what one worker does again and again.
type operation func(ctx context.Context) error

// operate measures b.N operations of workers, each of which does the next one
// as soon as its last has returned. It returns the time of an operation.
func operate(b *testing.B, d *database, workers []operation) float64 {
	b.Helper()
	loop := newLoop(workers)
	taken := measure(b, d, b.N, func() error { return loop.run(b.Context(), b.N) })
	reportLatencies(b, loop.latencies...)
	return taken
}

// A loop has workers do operations.
type loop struct {
	workers   []operation
	latencies []*hdrhistogram.Histogram // of each worker
}

func newLoop(workers []operation) *loop {
	l := &loop{workers: workers}
	for range workers {
		l.latencies = append(l.latencies, newHistogram())
	}
	return l
}

// run does n operations. Their context does not end, as that of a program which
// waits for the outcome: drivers then do without a goroutine that watches it.
// The first error ends the loop.
func (l *loop) run(ctx context.Context, n int) error {
	ctx = context.WithoutCancel(ctx)
	var begun atomic.Int64
	failures := make([]error, len(l.workers))
	var group sync.WaitGroup
	for i, work := range l.workers {
		group.Go(func() {
			for failures[i] == nil && begun.Add(1) <= int64(n) {
				start := time.Now()
				if failures[i] = work(ctx); failures[i] != nil {
					begun.Add(int64(n))
					return
				}
				failures[i] = l.latencies[i].RecordValue(int64(time.Since(start)))
			}
		})
	}
	group.Wait()
	return errors.Join(failures...)
}

// newHistogram makes a histogram of nanoseconds up to ten minutes.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(10*time.Minute), 2)
}

func reportLatencies(b *testing.B, all ...*hdrhistogram.Histogram) {
	latencies := newHistogram()
	for _, h := range all {
		latencies.Merge(h)
	}
	b.ReportMetric(float64(latencies.ValueAtQuantile(50)), "p50-ns")
	b.ReportMetric(float64(latencies.ValueAtQuantile(99)), "p99-ns")
}

// measure measures work that does so many operations, and returns the time of
// one.
func measure(b *testing.B, d *database, operations int, work func() error) float64 {
	b.Helper()
	used := d.meter(b)
	runtime.GC() // what was before is not this turn's
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu := used()
	begin := b.Elapsed() // of a turn that measures several times
	b.StartTimer()
	err := work()
	b.StopTimer()
	cpu = used() - cpu
	runtime.ReadMemStats(&after)
	expect.NoError(b, err)
	n := float64(operations)
	taken := float64(b.Elapsed()-begin) / n
	b.ReportAllocs()
	b.ReportMetric(taken, "ns/op")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/n, "allocs/op")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/n, "B/op")
	if cpu > 0 {
		b.ReportMetric(float64(cpu)/n, "cpu-ns")
	}
	return taken
}

// processorTime is the processor time that this process has used.
func processorTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// serverTime is the processor time that the server of a backend and all its
// processes, as they are now, will have used; 0 if there is no /proc.
func serverTime(backend int) func() time.Duration {
	server := parentOf(backend)
	processes := []int{server}
	entries, _ := os.ReadDir("/proc") // 0 is what is unknown
	for _, entry := range entries {
		if id, err := strconv.Atoi(entry.Name()); err == nil && server > 0 && parentOf(id) == server {
			processes = append(processes, id)
		}
	}
	return func() (total time.Duration) {
		for _, id := range processes {
			// The first field is in nanoseconds; /proc/ID/stat has hundredths of a
			// second.
			stat, _ := os.ReadFile(filepath.Join("/proc", number(id), "schedstat"))
			used, _, _ := bytes.Cut(stat, []byte(" "))
			n, _ := strconv.ParseInt(string(used), 10, 64)
			total += time.Duration(n)
		}
		return total
	}
}

// parentOf reads the fourth field of /proc/ID/stat. The second one is a name in
// brackets that may contain anything.
func parentOf(process int) int {
	stat, _ := os.ReadFile(filepath.Join("/proc", number(process), "stat"))
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(string(fields[1]))
	return parent
}
