// Package prometheus counts and measures what applications and followers do,
// for Prometheus.
//
//	metrics := prometheus.New()
//	registry.MustRegister(metrics)
//	app, err := application.New("Bank", application.WithObserver(metrics.Observer()))
//
// Metric names begin with "eventsourcing_". Labels are names of applications,
// followers and definitions, outcomes and states; never ids or payloads.
// grafana.json is a dashboard of them.
package prometheus

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/telemetry"
)

// Metrics are the metrics of any number of applications. It is a
// prometheus.Collector, and safe for concurrent use.
type Metrics struct {
	saves        *prometheus.HistogramVec
	saveWait     *prometheus.HistogramVec
	saveWrite    *prometheus.HistogramVec
	saveEvents   *prometheus.CounterVec
	loads        *prometheus.HistogramVec
	replayed     *prometheus.HistogramVec
	snapshots    *prometheus.CounterVec
	batches      *prometheus.HistogramVec
	processed    *prometheus.CounterVec
	handled      *prometheus.HistogramVec
	called       *prometheus.HistogramVec
	delay        *prometheus.GaugeVec
	position     *prometheus.GaugeVec
	lag          *prometheus.GaugeVec
	state        *prometheus.GaugeVec
	failures     *prometheus.CounterVec
	parked       *prometheus.CounterVec
	lastProgress *prometheus.GaugeVec

	mu     sync.Mutex               // protects states
	states map[[2]string]*lastState // by follower and leader
}

// lastState is what was heard last of a follower and leader.
type lastState struct {
	state string // of the last change, or ""
	begun bool   // it has read a batch since it is not at rest
}

// isAtRest reports whether the follower does nothing in this process, which then
// does not know its lag.
func (l *lastState) isAtRest() bool {
	return l.state == "standing by" || l.state == "paused" || l.state == "stopped"
}

// New makes the metrics. Register them, and give Observer to each application.
func New() *Metrics {
	seconds := prometheus.ExponentialBuckets(0.0001, 2.5, 14) // to 15 s
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	return &Metrics{
		saves:      histogram("eventsourcing_save_duration_seconds", "Time of a save.", seconds, "application", "outcome"),
		saveWait:   histogram("eventsourcing_save_wait_seconds", "Time that a save waited for other saves of its process.", seconds, "application"),
		saveWrite:  histogram("eventsourcing_save_write_seconds", "Time of the statement of a save, with the wait for locks.", seconds, "application"),
		saveEvents: counter("eventsourcing_saved_events_total", "Events that were saved; those of transactions may be rolled back.", "application"),
		loads:      histogram("eventsourcing_load_duration_seconds", "Time of a load of an aggregate.", seconds, "application", "definition", "source"),
		replayed: histogram("eventsourcing_load_replayed_events", "Events that a load has replayed.",
			prometheus.ExponentialBuckets(1, 4, 8), "application", "definition"),
		snapshots: counter("eventsourcing_snapshots_total", "Snapshots by what became of them.", "application", "definition", "outcome"),
		batches:   histogram("eventsourcing_follower_batch_duration_seconds", "Time of a batch of a follower.", seconds, "follower", "leader", "outcome"),
		processed: counter("eventsourcing_follower_processed_events_total", "Events that a follower has processed.", "follower", "leader"),
		handled:   histogram("eventsourcing_follower_handle_duration_seconds", "Time of the handlers of an event.", seconds, "follower", "leader", "outcome"),
		called:    histogram("eventsourcing_follower_call_duration_seconds", "Time of a call of an effect.", seconds, "follower", "leader", "outcome"),
		delay:     gauge("eventsourcing_follower_delay_seconds", "Age of the event that a follower handled last.", "follower", "leader"),
		position:  gauge("eventsourcing_follower_position", "Position of a follower after its last batch.", "follower", "leader"),
		lag:       gauge("eventsourcing_follower_lag", "Ids between a follower's position and the head when its last batch was read, or after it.", "follower", "leader"),
		state:     gauge("eventsourcing_follower_state", "1 for the state that a follower is in, 0 for one that it has been in.", "follower", "leader", "state"),
		failures:  counter("eventsourcing_follower_failures_total", "Failures of a follower.", "follower", "leader"),
		parked:    counter("eventsourcing_follower_parked_events_total", "Events that a follower has parked because they failed.", "follower", "leader"),
		lastProgress: gauge("eventsourcing_follower_last_progress_timestamp_seconds", "When a follower has last moved, or has begun its first batch, in Unix time.",
			"follower", "leader"),
		states: map[[2]string]*lastState{},
	}
}

func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.saves, m.saveWait, m.saveWrite, m.saveEvents, m.loads, m.replayed, m.snapshots, m.batches,
		m.processed, m.handled, m.called, m.delay, m.position, m.lag, m.state, m.failures, m.parked, m.lastProgress}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(descriptions chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(descriptions)
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(metrics chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(metrics)
	}
}

// Observer returns the observer that fills the metrics.
func (m *Metrics) Observer() *telemetry.Observer {
	return &telemetry.Observer{
		SaveDone: m.save, LoadDone: m.load, SnapshotDone: m.snapshot, BatchStart: m.batchStart, BatchDone: m.batch, HandleDone: m.handle, CallDone: m.call,
		FollowerChanged: m.change, EventParked: m.park,
	}
}

func outcome(err error) string {
	if err != nil {
		return "error"
	}
	return "ok"
}

func (m *Metrics) save(_ context.Context, s telemetry.Save) {
	m.saves.WithLabelValues(s.Application, s.Outcome()).Observe(s.Duration.Seconds())
	if s.Together > 0 {
		m.saveWait.WithLabelValues(s.Application).Observe(s.Wait.Seconds())
		m.saveWrite.WithLabelValues(s.Application).Observe(s.Write.Seconds())
	}
	if s.Err == nil {
		m.saveEvents.WithLabelValues(s.Application).Add(float64(s.Events))
	}
}

func (m *Metrics) load(_ context.Context, l telemetry.Load) {
	source := l.Source
	if errors.Is(l.Err, application.ErrAggregateNotFound) {
		source = "not found"
	} else if l.Err != nil {
		source = "error"
	}
	m.loads.WithLabelValues(l.Application, l.Definition, source).Observe(l.Duration.Seconds())
	if l.Err == nil {
		m.replayed.WithLabelValues(l.Application, l.Definition).Observe(float64(l.Replayed))
	}
}

func (m *Metrics) snapshot(_ context.Context, s telemetry.Snapshot) {
	what := s.Outcome
	if s.Err != nil {
		what = "error"
	}
	m.snapshots.WithLabelValues(s.Application, s.Definition, strings.ToLower(what)).Inc()
}

// last returns what was heard last of a follower. The lock must be held.
func (m *Metrics) last(follower, leader string) *lastState {
	key := [2]string{follower, leader}
	if m.states[key] == nil {
		m.states[key] = &lastState{}
	}
	return m.states[key]
}

// batchStart shows that there is something to do, also if the batch hangs.
func (m *Metrics) batchStart(ctx context.Context, b telemetry.Batch) context.Context {
	m.mu.Lock()
	defer m.mu.Unlock()
	last := m.last(b.Follower, b.Leader)
	if last.isAtRest() { // it tries whether it can take over
		return ctx
	}
	m.lag.WithLabelValues(b.Follower, b.Leader).Set(float64(b.Lag()))
	if !last.begun {
		last.begun = true
		m.progressed(b)
	}
	return ctx
}

// progressed sets when a follower has last moved, or begun, to now.
func (m *Metrics) progressed(b telemetry.Batch) {
	m.lastProgress.WithLabelValues(b.Follower, b.Leader).Set(float64(time.Now().UnixMilli()) / 1000)
}

func (m *Metrics) batch(_ context.Context, b telemetry.Batch) {
	m.batches.WithLabelValues(b.Follower, b.Leader, outcome(b.Err)).Observe(b.Duration.Seconds())
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last(b.Follower, b.Leader).isAtRest() && b.Processed == 0 {
		return
	}
	m.lag.WithLabelValues(b.Follower, b.Leader).Set(float64(b.Lag()))
	if b.Err != nil {
		return
	}
	m.processed.WithLabelValues(b.Follower, b.Leader).Add(float64(b.Processed))
	m.position.WithLabelValues(b.Follower, b.Leader).Set(float64(b.Position))
	m.progressed(b)
}

func (m *Metrics) handle(_ context.Context, h telemetry.Handle) {
	m.handled.WithLabelValues(h.Follower, h.Leader, outcome(h.Err)).Observe(h.Duration.Seconds())
	if !h.Event.Timestamp.IsZero() {
		m.delay.WithLabelValues(h.Follower, h.Leader).Set(time.Since(h.Event.Timestamp).Seconds())
	}
}

func (m *Metrics) call(_ context.Context, h telemetry.Handle) {
	m.called.WithLabelValues(h.Follower, h.Leader, outcome(h.Err)).Observe(h.Duration.Seconds())
}

func (m *Metrics) change(_ context.Context, c telemetry.Change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	last := m.last(c.Follower, c.Leader)
	if last.state != "" {
		m.state.WithLabelValues(c.Follower, c.Leader, last.state).Set(0)
	}
	last.state = c.To
	m.state.WithLabelValues(c.Follower, c.Leader, c.To).Set(1)
	if last.isAtRest() { // another process may move it, or none is to
		last.begun = false
		m.lag.DeleteLabelValues(c.Follower, c.Leader)
		m.lastProgress.DeleteLabelValues(c.Follower, c.Leader)
	}
	if c.Err != nil && c.To != "stopped" {
		m.failures.WithLabelValues(c.Follower, c.Leader).Inc()
	}
}

func (m *Metrics) park(_ context.Context, p telemetry.Parked) {
	m.parked.WithLabelValues(p.Follower, p.Leader).Inc()
}
