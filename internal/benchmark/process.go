package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// workerVariable has this program be a worker: a process that does the job it
// reads, when it is told to, and writes what it has counted.
const workerVariable = "BENCHMARK_WORKER"

// A job is the work of one worker.
type job struct {
	Kind, DSN string
	Task      *task
	Letters   *letters // instead of a task
	Share     *share   // as well
}

// prepare returns the work itself, whose result can be told in JSON.
func (j *job) prepare() (do func(context.Context) (any, error), end func() error, err error) {
	d := &database{kind: j.Kind, dsn: j.DSN}
	if j.Letters != nil {
		return j.Letters.prepare(d)
	}
	if j.Share != nil {
		return j.Share.prepare(d)
	}
	operations, end, err := j.Task.prepare(d)
	unknown := func() time.Duration { return 0 } // a worker's share of the server is unknown
	return func(ctx context.Context) (any, error) {
		return closedLoop(ctx, j.Task.Timing, operations, unknown)
	}, end, err
}

// work is the life of a worker. Between its two lines of input, the job and the
// sign to begin, it writes one when it is ready.
func work(ctx context.Context, input io.Reader, output io.Writer) (err error) {
	lines := bufio.NewReader(input)
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return err
	}
	var j job
	if err := json.Unmarshal(line, &j); err != nil {
		return err
	}
	do, end, err := j.prepare()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	fmt.Fprintln(output, "ready")
	if _, err := lines.ReadBytes('\n'); err != nil {
		return err
	}
	result, err := do(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(output).Encode(result)
}

// workers runs a number of workers with the same job at once, and adds up what
// they have counted.
func workers(ctx context.Context, n int, j job, environment ...string) (total tally, err error) {
	tallies, err := inProcesses[tally](ctx, n, j, environment...)
	total.Latencies = newHistogram()
	for i := range tallies {
		total.add(&tallies[i])
		total.Elapsed += tallies[i].Elapsed / time.Duration(n)
	}
	return total, err
}

// inProcesses runs a number of workers with the same job at once, and returns
// the result of each.
func inProcesses[R any](ctx context.Context, n int, j job, environment ...string) (results []R, err error) {
	description, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var started []*worker
	defer func() {
		if err != nil {
			cancel() // which ends those that still run
		}
		for _, w := range started {
			err = w.end(err)
		}
		cancel()
	}()
	for range n {
		w, err := startWorker(ctx, description, environment)
		if err != nil {
			return nil, err
		}
		started = append(started, w)
	}
	for _, w := range started {
		if err := w.awaitReady(); err != nil {
			return nil, err
		}
	}
	for _, w := range started {
		if _, err := io.WriteString(w.input, "go\n"); err != nil {
			return nil, err
		}
	}
	results = make([]R, n)
	for i, w := range started {
		if err := json.NewDecoder(w.output).Decode(&results[i]); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// worker is a worker, seen from the process that has started it.
type worker struct {
	command *exec.Cmd
	input   io.WriteCloser
	output  *bufio.Reader
	errors  strings.Builder
}

func startWorker(ctx context.Context, description []byte, environment []string) (*worker, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w := &worker{command: exec.CommandContext(ctx, program)}
	w.command.Env = append(os.Environ(), append(environment, workerVariable+"=1")...)
	w.command.Stderr = &w.errors
	if w.input, err = w.command.StdinPipe(); err != nil {
		return nil, err
	}
	output, err := w.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.output = bufio.NewReader(output)
	if err := w.command.Start(); err != nil {
		return nil, err
	}
	if _, err := w.input.Write(append(description, '\n')); err != nil {
		return nil, errors.Join(err, w.command.Process.Kill(), w.command.Wait())
	}
	return w, nil
}

func (w *worker) awaitReady() error {
	_, err := w.output.ReadString('\n')
	return err
}

// end waits for the process. It returns why the workers have failed, with what
// this one has to say about it.
func (w *worker) end(cause error) error {
	err := w.command.Wait()
	if cause == nil {
		cause = err
	}
	if said := strings.TrimSpace(w.errors.String()); cause != nil && said != "" {
		return fmt.Errorf("%w; worker: %s", cause, said)
	}
	return cause
}

// processWay has a number of processes do a task each at the same time.
func (b *bench) processWay(d *database, name string, processes int, t task, environment ...string) way {
	turn := func(ctx context.Context) (tally, error) {
		return workers(ctx, processes, job{Kind: d.kind, DSN: d.dsn, Task: &t}, environment...)
	}
	return way{name: name, turn: b.saving(d, t.Events, turn)}
}

// measureProcesses is the row processes.
func (b *bench) measureProcesses(ctx context.Context, p *place) ([]result, error) {
	const processes, writers = 4, 64
	return b.within(p, func(d *database) ([]result, error) {
		c := &cell{row: rowProcesses, database: d.kind, workers: writers, events: 1, note: "four processes, or one"}
		c.ways = []way{
			b.processWay(d, ours, processes, b.task(ours, writers/processes, 1)),
			b.processWay(d, raw, processes, b.task(raw, writers/processes, 1)),
			b.processWay(d, "ours, one", 1, b.task(ours, writers, 1)),
			b.processWay(d, "raw, one", 1, b.task(raw, writers, 1)),
		}
		r, err := c.measure(ctx, b.rounds)
		return []result{r}, err
	})
}
