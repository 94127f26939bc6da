// Package otel reports what applications and followers do to OpenTelemetry, as
// traces and metrics.
//
//	observer, err := otel.New()
//	app, err := application.New("Bank", application.WithObserver(observer))
//
// A save is a span "save APPLICATION", and its context travels in the metadata
// of its events ("traceparent", "tracestate"). A follower's batch is a span
// "process LEADER", and each event that it handles a span "handle TOPIC", which
// links to the span of the save that stored the event. What the handler saves
// is a child of that. The call of a system.Effect is a span "call TOPIC" with the
// same link. So a trace leads from a command to everything that it has caused.
//
// Spans have ids of aggregates and names, and never payloads; texts of errors
// are those that callers get. Attributes of metrics are names only.
package otel

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/telemetry"
)

// scope is the name of the instrumentation.
const scope = "github.com/eventsourcing-go/eventsourcing/contrib/otel"

// Option is a setting of New.
type Option func(*observer)

// WithTracerProvider sets where spans go. The default is the global provider.
func WithTracerProvider(provider trace.TracerProvider) Option {
	return func(o *observer) { o.tracers = provider }
}

// WithMeterProvider sets where metrics go. The default is the global provider.
func WithMeterProvider(provider metric.MeterProvider) Option {
	return func(o *observer) { o.meters = provider }
}

// observer is an observer for OpenTelemetry.
type observer struct {
	tracers    trace.TracerProvider
	meters     metric.MeterProvider
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator

	saveDuration, saveWait, saveWrite, loadDuration, batchDuration, handleDuration, callDuration metric.Float64Histogram
	replayed                                                                                     metric.Int64Histogram
	savedEvents, snapshots, processed, parked, failures                                          metric.Int64Counter
	delay                                                                                        metric.Float64Gauge

	mu      sync.Mutex          // protects what follows
	lags    map[[2]string]int64 // by follower and leader
	resting map[[2]string]bool  // followers that stand by, are paused or have stopped
}

// New makes an observer that reports to OpenTelemetry.
func New(options ...Option) (*telemetry.Observer, error) {
	o := &observer{tracers: otel.GetTracerProvider(), meters: otel.GetMeterProvider(), propagator: propagation.TraceContext{},
		lags: map[[2]string]int64{}, resting: map[[2]string]bool{}}
	for _, option := range options {
		option(o)
	}
	o.tracer = o.tracers.Tracer(scope, trace.WithInstrumentationVersion(version()))
	if err := o.instruments(o.meters.Meter(scope, metric.WithInstrumentationVersion(version()))); err != nil {
		return nil, err
	}
	return &telemetry.Observer{
		SaveStart: o.saveStart, Metadata: o.metadata, SaveDone: o.saveDone,
		LoadStart: o.loadStart, LoadDone: o.loadDone, SnapshotDone: o.snapshotDone,
		BatchStart: o.batchStart, BatchDone: o.batchDone, HandleStart: o.handleStart, HandleDone: o.handleDone,
		CallStart: o.callStart, CallDone: o.callDone,
		FollowerChanged: o.changed, EventParked: o.eventParked,
	}, nil
}

// version returns the version of this module in the program, or "".
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == scope {
			return m.Version
		}
	}
	return ""
}

func (o *observer) instruments(meter metric.Meter) error {
	var mistakes []error
	seconds := func(name, description string) metric.Float64Histogram {
		h, err := meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description),
			metric.WithExplicitBucketBoundaries(.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10))
		mistakes = append(mistakes, err)
		return h
	}
	count := func(name, unit, description string) metric.Int64Counter {
		c, err := meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
		mistakes = append(mistakes, err)
		return c
	}
	o.saveDuration = seconds("eventsourcing.save.duration", "Time of a save.")
	o.saveWait = seconds("eventsourcing.save.wait.duration", "Time that a save waited for other saves of its process.")
	o.saveWrite = seconds("eventsourcing.save.write.duration", "Time of the statement of a save, with the wait for locks.")
	o.loadDuration = seconds("eventsourcing.load.duration", "Time of a load of an aggregate.")
	o.batchDuration = seconds("eventsourcing.follower.batch.duration", "Time of a batch of a follower.")
	o.handleDuration = seconds("eventsourcing.follower.handle.duration", "Time of the handlers of an event.")
	o.callDuration = seconds("eventsourcing.follower.call.duration", "Time of a call of an effect.")
	o.savedEvents = count("eventsourcing.save.events", "{event}", "Events that were saved; those of transactions may be rolled back.")
	o.snapshots = count("eventsourcing.snapshots", "{snapshot}", "Snapshots by what became of them.")
	o.processed = count("eventsourcing.follower.processed", "{event}", "Events that a follower has processed.")
	o.parked = count("eventsourcing.follower.parked", "{event}", "Events that a follower has parked because they failed.")
	o.failures = count("eventsourcing.follower.failures", "{failure}", "Failures of a follower.")
	var err error
	o.replayed, err = meter.Int64Histogram("eventsourcing.load.replayed", metric.WithUnit("{event}"),
		metric.WithDescription("Events that a load has replayed."), metric.WithExplicitBucketBoundaries(0, 1, 4, 16, 64, 256, 1024, 4096))
	mistakes = append(mistakes, err)
	_, err = meter.Int64ObservableGauge("eventsourcing.follower.lag", metric.WithUnit("{id}"), metric.WithInt64Callback(o.observeLags),
		metric.WithDescription("Ids between a follower's position and the head when its last batch was read, or after it."))
	mistakes = append(mistakes, err)
	o.delay, err = meter.Float64Gauge("eventsourcing.follower.delay", metric.WithUnit("s"),
		metric.WithDescription("Age of the event that a follower handled last."))
	return errors.Join(append(mistakes, err)...)
}

func text(key, value string) attribute.KeyValue { return attribute.String(key, value) }

// end ends the span of ctx with an error or without.
func end(ctx context.Context, err error, attributes ...attribute.KeyValue) {
	span := trace.SpanFromContext(ctx)
	span.SetAttributes(append(attributes, errorType(err)...)...)
	if err != nil {
		span.SetStatus(codes.Error, description(err))
	}
	span.End()
}

// longestDescription is how much of an error's text a span has, in bytes.
const longestDescription = 4 << 10

// description returns the text of an error as an exporter can encode it.
func description(err error) string {
	text := fmt.Sprint(err) // which survives a method that panics
	return strings.ToValidUTF8(text[:min(len(text), longestDescription)], "")
}

// errorType returns the attribute error.type of a failure, one of a few words,
// or nothing.
func errorType(err error) []attribute.KeyValue {
	what := "_OTHER"
	switch {
	case err == nil:
		return nil
	case persistence.IsConflict(err):
		what = "conflict"
	case errors.Is(err, persistence.ErrLockTimeout):
		what = "lock_timeout"
	case errors.Is(err, persistence.ErrOutcomeUnknown):
		what = "outcome_unknown"
	case errors.Is(err, context.DeadlineExceeded):
		what = "timeout"
	case errors.Is(err, context.Canceled):
		what = "canceled"
	}
	return []attribute.KeyValue{text("error.type", what)}
}

// outcome returns the attributes of a measurement that say how it has ended.
func outcome(err error) []attribute.KeyValue {
	what := "ok"
	if err != nil {
		what = "error"
	}
	return append(errorType(err), text("eventsourcing.outcome", what))
}

func (o *observer) saveStart(ctx context.Context, s telemetry.Save) context.Context {
	attributes := []attribute.KeyValue{
		text("messaging.system", "eventsourcing"), text("messaging.operation.type", "send"),
		text("messaging.operation.name", "save"), text("messaging.destination.name", s.Application),
		attribute.Int("messaging.batch.message_count", s.Events), attribute.Bool("eventsourcing.in_transaction", s.InTransaction),
	}
	if len(s.Originators) == 1 {
		attributes = append(attributes, text("eventsourcing.originator.id", s.Originators[0].String()))
	}
	ctx, _ = o.tracer.Start(ctx, "save "+s.Application, trace.WithSpanKind(trace.SpanKindProducer), trace.WithTimestamp(s.Start),
		trace.WithAttributes(attributes...))
	return ctx
}

func (o *observer) metadata(ctx context.Context) domain.Metadata {
	carrier := propagation.MapCarrier{}
	o.propagator.Inject(ctx, carrier)
	return domain.Metadata(carrier)
}

func (o *observer) saveDone(ctx context.Context, s telemetry.Save) {
	name := text("eventsourcing.application", s.Application)
	how := append(errorType(s.Err), name, text("eventsourcing.outcome", s.Outcome()))
	o.saveDuration.Record(ctx, s.Duration.Seconds(), metric.WithAttributes(how...))
	if s.Together > 0 {
		o.saveWait.Record(ctx, s.Wait.Seconds(), metric.WithAttributes(name))
		o.saveWrite.Record(ctx, s.Write.Seconds(), metric.WithAttributes(name))
	}
	if s.Err == nil {
		o.savedEvents.Add(ctx, int64(s.Events), metric.WithAttributes(name))
	}
	end(ctx, s.Err, text("eventsourcing.outcome", s.Outcome()), attribute.Int64("eventsourcing.position", s.Position),
		attribute.Float64("eventsourcing.save.wait", s.Wait.Seconds()), attribute.Int("eventsourcing.save.together", s.Together))
}

func (o *observer) loadStart(ctx context.Context, l telemetry.Load) context.Context {
	ctx, _ = o.tracer.Start(ctx, "load "+l.Definition, trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(l.Start),
		trace.WithAttributes(text("db.system.name", "eventsourcing"), text("db.operation.name", "load"), text("db.collection.name", l.Application),
			text("eventsourcing.definition", l.Definition), text("eventsourcing.originator.id", l.OriginatorID.String())))
	return ctx
}

func (o *observer) loadDone(ctx context.Context, l telemetry.Load) {
	names := []attribute.KeyValue{text("eventsourcing.application", l.Application), text("eventsourcing.definition", l.Definition)}
	missing := errors.Is(l.Err, application.ErrAggregateNotFound)
	source := l.Source
	switch {
	case missing:
		source = "not found"
	case l.Err != nil:
		source = "error"
	default:
		o.replayed.Record(ctx, l.Replayed, metric.WithAttributes(names...))
	}
	o.loadDuration.Record(ctx, l.Duration.Seconds(), metric.WithAttributes(append(names, text("eventsourcing.source", source))...))
	err := l.Err
	if missing { // an answer, and not a fault
		err = nil
	}
	end(ctx, err, text("eventsourcing.source", source), attribute.Int64("eventsourcing.originator.version", l.Version),
		attribute.Int64("eventsourcing.load.replayed", l.Replayed))
}

func (o *observer) snapshotDone(ctx context.Context, s telemetry.Snapshot) {
	what := s.Outcome
	if s.Err != nil {
		what = "error"
	}
	o.snapshots.Add(ctx, 1, metric.WithAttributes(text("eventsourcing.application", s.Application),
		text("eventsourcing.definition", s.Definition), text("eventsourcing.outcome", what)))
}

func edge(follower, leader string) []attribute.KeyValue {
	return []attribute.KeyValue{text("eventsourcing.follower", follower), text("eventsourcing.leader", leader)}
}

// setLag sets the lag of a follower. One that is at rest and has processed
// nothing has only tried whether it can take over; another process knows its
// lag.
func (o *observer) setLag(b telemetry.Batch) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if key := [2]string{b.Follower, b.Leader}; !o.resting[key] || b.Processed > 0 {
		o.lags[key] = b.Lag()
	}
}

func (o *observer) observeLags(_ context.Context, gauge metric.Int64Observer) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key, lag := range o.lags {
		gauge.Observe(lag, metric.WithAttributes(edge(key[0], key[1])...))
	}
	return nil
}

func (o *observer) batchStart(ctx context.Context, b telemetry.Batch) context.Context {
	o.setLag(b) // also if it hangs
	ctx, _ = o.tracer.Start(ctx, "process "+b.Leader, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(b.Start), trace.WithAttributes(
		text("messaging.system", "eventsourcing"), text("messaging.operation.type", "process"), text("messaging.operation.name", "process"),
		text("messaging.destination.name", b.Leader), text("messaging.consumer.group.name", b.Follower),
		attribute.Int("messaging.batch.message_count", b.Read)))
	return ctx
}

func (o *observer) batchDone(ctx context.Context, b telemetry.Batch) {
	names := edge(b.Follower, b.Leader)
	o.batchDuration.Record(ctx, b.Duration.Seconds(), metric.WithAttributes(append(outcome(b.Err), names...)...))
	o.setLag(b)
	if b.Err == nil {
		o.processed.Add(ctx, int64(b.Processed), metric.WithAttributes(names...))
	}
	end(ctx, b.Err, attribute.Int64("eventsourcing.position", b.Position), attribute.Int("eventsourcing.processed", b.Processed))
}

// eventStart begins a span about an event of a follower, which links to the save
// that stored the event.
func (o *observer) eventStart(ctx context.Context, operation string, h telemetry.Handle) context.Context {
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(h.Start), trace.WithAttributes(
		text("messaging.system", "eventsourcing"), text("messaging.operation.type", "process"), text("messaging.operation.name", operation),
		text("messaging.destination.name", h.Leader), text("messaging.consumer.group.name", h.Follower),
		text("messaging.message.id", h.Event.ID.String()), text("eventsourcing.topic", h.Event.Topic),
		text("eventsourcing.originator.id", h.Event.OriginatorID.String()),
		attribute.Int64("eventsourcing.originator.version", h.Event.OriginatorVersion),
		attribute.Int64("eventsourcing.position", h.Event.NotificationID))}
	cause := o.propagator.Extract(context.Background(), propagation.MapCarrier(h.Event.Metadata))
	if from := trace.SpanContextFromContext(cause); from.IsValid() {
		options = append(options, trace.WithLinks(trace.Link{SpanContext: from}))
	}
	ctx, _ = o.tracer.Start(ctx, operation+" "+h.Event.Topic, options...)
	return ctx
}

func (o *observer) handleStart(ctx context.Context, h telemetry.Handle) context.Context {
	return o.eventStart(ctx, "handle", h)
}

func (o *observer) handleDone(ctx context.Context, h telemetry.Handle) {
	names := edge(h.Follower, h.Leader)
	o.handleDuration.Record(ctx, h.Duration.Seconds(), metric.WithAttributes(append(outcome(h.Err), names...)...))
	if !h.Event.Timestamp.IsZero() {
		o.delay.Record(ctx, time.Since(h.Event.Timestamp).Seconds(), metric.WithAttributes(names...))
	}
	end(ctx, h.Err)
}

func (o *observer) callStart(ctx context.Context, h telemetry.Handle) context.Context {
	return o.eventStart(ctx, "call", h)
}

func (o *observer) callDone(ctx context.Context, h telemetry.Handle) {
	o.callDuration.Record(ctx, h.Duration.Seconds(), metric.WithAttributes(append(outcome(h.Err), edge(h.Follower, h.Leader)...)...))
	end(ctx, h.Err)
}

func (o *observer) changed(ctx context.Context, c telemetry.Change) {
	o.rest(c)
	if c.Err != nil && c.To != "stopped" {
		o.failures.Add(ctx, 1, metric.WithAttributes(edge(c.Follower, c.Leader)...))
	}
}

// rest takes down whether a follower is at rest in this process, which then does
// not know its lag.
func (o *observer) rest(c telemetry.Change) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := [2]string{c.Follower, c.Leader}
	o.resting[key] = c.To == "standing by" || c.To == "paused" || c.To == "stopped"
	if o.resting[key] {
		delete(o.lags, key)
	}
}

func (o *observer) eventParked(ctx context.Context, p telemetry.Parked) {
	o.parked.Add(ctx, 1, metric.WithAttributes(edge(p.Follower, p.Leader)...))
}
