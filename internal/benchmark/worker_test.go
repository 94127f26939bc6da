package benchmark

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/eventsourcing-go/eventsourcing/internal/expect"
)

// A job is the work of one worker: a process that prepares it, does it when it
// is told to, and writes the result.
type job struct {
	Kind, DSN string

	Way                string // saves
	Writers, N, Warmup int

	Letters int // saves one by one, as for Delivery

	Partitions int // of a follower, as for ScaleFollowers
	Position   int64
}

// TestWorker is the life of a worker. In the process of the tests it starts one
// whose job does not exist: what a worker has to say about its end gets into
// the error.
func TestWorker(t *testing.T) {
	description := os.Getenv(workerVariable)
	if description == "" {
		_, err := runWorkers(t, 2, job{Kind: sqliteKind, Way: "another"}, nil, func(json.RawMessage) error { return nil })
		if err == nil || !strings.Contains(err.Error(), `there is no way "another"`) {
			t.Errorf("got %v, want an error about the way", err)
		}
		return
	}
	var j job
	expect.NoError(t, json.Unmarshal([]byte(description), &j))
	do := j.prepare(t)
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	result := expect.Must(do())
	expect.NoError(t, json.NewEncoder(os.Stdout).Encode(result))
}

func (j *job) prepare(t *testing.T) (do func() (any, error)) {
	t.Helper()
	d := &database{kind: j.Kind, dsn: j.DSN}
	switch {
	case j.Letters > 0:
		return d.prepareLetters(t, j.Letters)
	case j.Partitions > 0:
		return d.prepareShare(t, j.Partitions, j.Position)
	}
	open, ok := map[string]opener{ours: openOurs, raw: openRaw, original: openOriginal}[j.Way]
	if !ok {
		t.Fatalf("there is no way %q", j.Way)
	}
	_, save := open(t, d, j.Writers, 1)
	operations := newWriters(j.Writers, 1, sampleTopic, sampleState, save)
	expect.NoError(t, newLoop(operations).run(t.Context(), j.Warmup))
	return func() (any, error) {
		l := newLoop(operations)
		err := l.run(t.Context(), j.N)
		all := newHistogram()
		for _, h := range l.latencies {
			all.Merge(h)
		}
		return all.Export(), err
	}
}

// inWorkers is a way to save in processes that do a share of the work each.
func inWorkers(d *database, name, kind string, processes, writers int, environment ...string) way {
	return unprepared(name, func(b *testing.B) float64 {
		warmup := 10 * writers
		d.reset(b, *preload)
		var all []*hdrhistogram.Histogram
		j := job{Kind: d.kind, DSN: d.dsn, Way: kind, Writers: writers, N: (b.N + processes - 1) / processes, Warmup: warmup}
		elapsed, err := runWorkers(b, processes, j, environment, func(result json.RawMessage) error {
			var exported hdrhistogram.Snapshot
			err := json.Unmarshal(result, &exported)
			all = append(all, hdrhistogram.Import(&exported))
			return err
		})
		expect.NoError(b, err)
		d.verify(b, processes*(j.N+warmup))
		taken := float64(elapsed) / float64(processes*j.N)
		b.ReportMetric(taken, "ns/op")
		reportLatencies(b, all...)
		return taken
	})
}

// runWorkers runs a number of workers with the same job at once, and calls
// result with what each returns. It returns how long they worked; in a benchmark
// that alone is timed.
func runWorkers(t testing.TB, n int, j job, environment []string, result func(json.RawMessage) error) (elapsed time.Duration, err error) {
	t.Helper()
	description := expect.Must(json.Marshal(j))
	var all []*worker
	defer func() {
		for _, w := range all {
			err = w.end(err)
		}
	}()
	for range n {
		w, err := startWorker(t, append(environment, workerVariable+"="+string(description)))
		if err != nil {
			return 0, err
		}
		all = append(all, w)
	}
	for _, w := range all {
		if line, err := w.output.ReadString('\n'); err != nil || line != "ready\n" {
			return 0, fmt.Errorf("a worker is not ready: %q, %v", line, err)
		}
	}
	start := time.Now()
	if b, ok := t.(*testing.B); ok {
		b.StartTimer()
		defer b.StopTimer()
	}
	for _, w := range all {
		if _, err := io.WriteString(w.input, "go\n"); err != nil {
			return 0, err
		}
	}
	for _, w := range all {
		line, err := w.output.ReadBytes('\n')
		if err != nil {
			return 0, err
		}
		w.result = line
	}
	elapsed = time.Since(start)
	for _, w := range all {
		if err := result(w.result); err != nil {
			return 0, fmt.Errorf("the result of a worker: %w: %s", err, w.result)
		}
	}
	return elapsed, nil
}

// worker is a worker, seen from the process that has started it.
type worker struct {
	command *exec.Cmd
	input   io.WriteCloser
	output  *bufio.Reader
	result  []byte
}

func startWorker(t testing.TB, environment []string) (*worker, error) {
	t.Helper()
	w := &worker{command: exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWorker$")}
	w.command.Env = append(os.Environ(), environment...)
	var err error
	if w.input, err = w.command.StdinPipe(); err != nil {
		return nil, err
	}
	output, err := w.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.output = bufio.NewReader(output)
	return w, w.command.Start()
}

// end ends the process. It returns why the workers have failed, with what this
// one has to say about it.
func (w *worker) end(cause error) error {
	w.input.Close()
	rest, _ := io.ReadAll(w.output) // the end of the process says more
	err := w.command.Wait()
	if cause == nil {
		cause = err
	}
	if cause != nil {
		return fmt.Errorf("%w; worker: %s%s", cause, w.result, rest)
	}
	return nil
}
