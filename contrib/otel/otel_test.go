package otel_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"gorm.io/driver/sqlite"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/contrib/otel"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
	"github.com/eventsourcing-go/eventsourcing/telemetry"
)

// Trick counts the dogs that know it.
type Trick struct {
	domain.Aggregate
	Dogs int
}

// Learned says that a dog has learned the trick.
type Learned struct{}

// Apply counts the dog.
func (Learned) Apply(t *Trick) { t.Dogs++ }

var tricks = domain.Define("Trick", domain.On("Learned", Learned{}))

// span is a span as the collector's format has it.
type span struct {
	Name        string
	SpanContext struct{ TraceID, SpanID string }
	Parent      struct{ TraceID, SpanID string }
	Links       []struct {
		SpanContext struct{ TraceID, SpanID string }
	}
	Status struct{ Code string }
}

// TestATraceLeadsFromTheCommandToWhatItCaused follows a save to the follower's
// batch, its handler and the event that the handler saves, in the format of the
// stdout exporter; and reads every metric.
func TestATraceLeadsFromTheCommandToWhatItCaused(t *testing.T) {
	var out bytes.Buffer
	exporter, err := stdouttrace.New(stdouttrace.WithWriter(&out))
	if err != nil {
		t.Fatal(err)
	}
	tracers := trace.NewTracerProvider(trace.WithSyncer(exporter))
	reader := metric.NewManualReader()
	observer, err := otel.New(otel.WithTracerProvider(tracers), otel.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(reader))))
	if err != nil {
		t.Fatal(err)
	}
	db, err := gormstore.OpenSQLite(sqlite.Open, filepath.Join(t.TempDir(), "test.sqlite3"))
	if err != nil {
		t.Fatal(err)
	}
	if err := gormstore.AutoMigrate(db); err != nil {
		t.Fatal(err)
	}
	parked, recovered := false, make(chan struct{}, 10)
	listening := &telemetry.Observer{
		EventParked: func(context.Context, telemetry.Parked) { parked = true },
		FollowerChanged: func(_ context.Context, c telemetry.Change) {
			if c.Follower == "Tricks" && parked && c.To == "running" {
				recovered <- struct{}{}
			}
		},
	}
	options := []application.Option{application.WithStore(gormstore.New(db)), application.WithObserver(observer), application.WithObserver(listening),
		application.WithLogger(slog.New(slog.DiscardHandler)), application.WithSnapshotting(map[string]int{"Dog": 2})}
	dogs, err := school.New(options...)
	if err != nil {
		t.Fatal(err)
	}
	app, err := application.New("Tricks", options...)
	if err != nil {
		t.Fatal(err)
	}
	repository, err := application.NewRepository(app, tricks)
	if err != nil {
		t.Fatal(err)
	}
	follower, err := system.NewFollower(app, system.On(func(ctx context.Context, e domain.Recorded[school.TrickAdded]) error {
		if e.Data.Trick == "fail" {
			return errors.New("broken")
		}
		return repository.Save(ctx, tricks.Create(uuid.New(), Learned{}))
	}), system.Park(func(_ persistence.Notification, _ error, attempts int) bool { return attempts == 3 }))
	if err != nil {
		t.Fatal(err)
	}
	mail, err := application.New("Mailer", options...)
	if err != nil {
		t.Fatal(err)
	}
	mailed := make(chan struct{}, 10)
	mailer, err := system.NewFollower(mail, system.Effect(func(context.Context, domain.Recorded[school.Registered]) (string, error) {
		return "sent", nil
	}, func(context.Context, domain.Recorded[school.Registered], string) error {
		mailed <- struct{}{}
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, command := tracers.Tracer("test").Start(context.Background(), "command")
	for _, err := range []error{dogs.Register(ctx, "Fido"), dogs.AddTrick(ctx, "Fido", "sit"), dogs.AddTrick(ctx, "Fido", "fail")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	command.End()
	sys, err := system.New(system.Pipe(dogs, follower), system.Pipe(dogs, mailer))
	if err != nil {
		t.Fatal(err)
	}
	runner, err := system.NewRunner(sys, system.Config{ShortestRetry: 1, LongestRetry: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := runner.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	<-recovered
	<-mailed
	if err := runner.WaitFor(context.Background(), mailer); err != nil {
		t.Fatal(err)
	}
	checkMetrics(t, reader)
	if err := runner.Close(); err != nil {
		t.Fatal(err)
	}
	if metricNames(t, reader)["eventsourcing.follower.lag"] {
		t.Error("followers that have stopped have a lag")
	}

	spans := map[string][]span{}
	for decoder := json.NewDecoder(&out); decoder.More(); {
		var s span
		if err := decoder.Decode(&s); err != nil {
			t.Fatal(err)
		}
		spans[s.Name] = append(spans[s.Name], s)
	}
	first := func(name string) span {
		t.Helper()
		if len(spans[name]) == 0 {
			t.Fatalf("there is no span %q among %d names, want some", name, len(spans))
		}
		return spans[name][0]
	}
	saves := spans["save TrainingSchool"]
	if len(saves) != 3 || saves[0].SpanContext.TraceID != command.SpanContext().TraceID().String() {
		t.Fatalf("saves: got %+v, want three in the trace of the command", saves)
	}
	if load := first("load Dog"); load.SpanContext.TraceID != saves[0].SpanContext.TraceID {
		t.Errorf("load: got %+v, want it in the trace of the command", load)
	}
	handle := first("handle Dog.TrickAdded")
	if len(handle.Links) != 1 || handle.Links[0].SpanContext.SpanID != saves[1].SpanContext.SpanID {
		t.Errorf("handler: got the links %+v, want one to the span %s of the save", handle.Links, saves[1].SpanContext.SpanID)
	}
	// The mailer has batches of the same name.
	if !slices.ContainsFunc(spans["process TrainingSchool"], func(batch span) bool { return batch.SpanContext == handle.Parent }) {
		t.Errorf("handler: got the parent %+v, want a batch", handle.Parent)
	}
	if made := first("save Tricks"); made.Parent.SpanID != handle.SpanContext.SpanID {
		t.Errorf("what the handler saved: got the parent %+v, want the span of the handler", made.Parent)
	}
	if call := first("call Dog.Registered"); len(call.Links) != 1 || call.Links[0].SpanContext.SpanID != saves[0].SpanContext.SpanID {
		t.Errorf("call of the effect: got the links %+v, want one to the span %s of the save", call.Links, saves[0].SpanContext.SpanID)
	}
	// A batch that failed was rolled back, and the event was handled again.
	for event, err := range app.Log().Subscribe(context.Background(), 0) {
		isOf := func(s span) bool { return strings.Contains(event.Metadata["traceparent"], s.SpanContext.TraceID) }
		if err != nil || !slices.ContainsFunc(spans["handle Dog.TrickAdded"], isOf) {
			t.Errorf("stored event: got the metadata %v, error %v; want the trace of a handler", event.Metadata, err)
		}
		break
	}
	if !slices.ContainsFunc(spans["handle Dog.TrickAdded"], func(s span) bool { return s.Status.Code == "Error" }) {
		t.Error("no span of a handler has failed")
	}
}

// metricNames returns the names of the metrics that have a value.
func metricNames(t *testing.T, reader *metric.ManualReader) map[string]bool {
	t.Helper()
	var data metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &data); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, s := range data.ScopeMetrics {
		for _, m := range s.Metrics {
			if gauge, ok := m.Data.(metricdata.Gauge[int64]); !ok || len(gauge.DataPoints) > 0 {
				found[m.Name] = true
			}
		}
	}
	return found
}

// checkMetrics wants every metric that docs/operations.md names.
func checkMetrics(t *testing.T, reader *metric.ManualReader) {
	t.Helper()
	found := metricNames(t, reader)
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "### Metrics")
	section, _, _ = strings.Cut(section, "\n### ")
	documented := 0
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.Contains(cells[1], "_") || strings.Contains(cells[1], "…") {
			continue
		}
		if name := strings.Trim(cells[2], " `"); name != "" {
			documented++
			if !found["eventsourcing."+name] {
				t.Errorf("there is no metric eventsourcing.%s", name)
			}
			delete(found, "eventsourcing."+name)
		}
	}
	if documented < 10 || len(found) > 0 {
		t.Errorf("docs/operations.md has %d metrics, and lacks %v", documented, found)
	}
}

// TestATraceparentThatIsNoneIsNoLink handles events whose metadata came from
// elsewhere: no link, and no failure, unless it names a span.
func TestATraceparentThatIsNoneIsNoLink(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	observer, err := otel.New(otel.WithTracerProvider(trace.NewTracerProvider(trace.WithSyncer(spans))))
	if err != nil {
		t.Fatal(err)
	}
	const valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for name, c := range map[string]struct {
		metadata domain.Metadata
		links    int
	}{
		"valid":                     {domain.Metadata{"traceparent": valid}, 1},
		"no metadata":               {nil, 0},
		"empty":                     {domain.Metadata{"traceparent": ""}, 0},
		"text":                      {domain.Metadata{"traceparent": "<script>"}, 0},
		"of zeros":                  {domain.Metadata{"traceparent": "00-00000000000000000000000000000000-0000000000000000-00"}, 0},
		"too long":                  {domain.Metadata{"traceparent": valid + strings.Repeat("-00", 100_000)}, 0},
		"without UTF-8":             {domain.Metadata{"traceparent": "00-\xff\xfe"}, 0},
		"of an unknown version":     {domain.Metadata{"traceparent": "ff" + valid[2:]}, 0},
		"with a state that is none": {domain.Metadata{"traceparent": valid, "tracestate": strings.Repeat("a=b,", 300_000)}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			spans.Reset()
			handle := telemetry.Handle{Follower: "F", Leader: "A", Event: domain.Event{ID: uuid.New(), Topic: "T", Metadata: c.metadata}}
			observer.HandleDone(observer.HandleStart(t.Context(), handle), handle)
			made := spans.GetSpans()
			if len(made) != 1 || len(made[0].Links) != c.links {
				t.Fatalf("got %+v, want one span with %d links", made, c.links)
			}
			for _, link := range made[0].Links {
				if size := len(link.SpanContext.TraceState().String()); size > 1000 {
					t.Errorf("the link has a state of %d bytes, want at most 1000", size)
				}
			}
		})
	}
}

// TestAttributesOfMetricsAreBounded reports ever other aggregates, topics,
// errors and positions. The data points are as many as before.
func TestAttributesOfMetricsAreBounded(t *testing.T) {
	reader := metric.NewManualReader()
	observer, err := otel.New(otel.WithTracerProvider(trace.NewTracerProvider()),
		otel.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(reader))))
	if err != nil {
		t.Fatal(err)
	}
	points := func() int {
		var data metricdata.ResourceMetrics
		if err := reader.Collect(t.Context(), &data); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(data)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), `"Attributes"`)
	}
	ctx := t.Context()
	report := func(i int64) {
		id := uuid.New()
		event := domain.Event{ID: id, OriginatorID: id, OriginatorVersion: i, NotificationID: i, Topic: fmt.Sprint("Topic", i)}
		for _, err := range []error{nil, fmt.Errorf("failure %d", i)} {
			save := telemetry.Save{Application: "A", Originators: []uuid.UUID{id}, Events: 1, Together: int(i), Position: i, Err: err}
			observer.SaveDone(observer.SaveStart(ctx, save), save)
			load := telemetry.Load{Application: "A", Definition: "D", OriginatorID: id, Version: i, Source: "events", Err: err}
			observer.LoadDone(observer.LoadStart(ctx, load), load)
			observer.SnapshotDone(ctx, telemetry.Snapshot{Application: "A", Definition: "D", OriginatorID: id, Version: i, Err: err})
			batch := telemetry.Batch{Follower: "F", Leader: "A", Position: i, Head: 2 * i, Err: err}
			observer.BatchDone(observer.BatchStart(ctx, batch), batch)
			handle := telemetry.Handle{Follower: "F", Leader: "A", Event: event, Err: err}
			observer.HandleDone(observer.HandleStart(ctx, handle), handle)
			observer.CallDone(observer.CallStart(ctx, handle), handle)
			observer.FollowerChanged(ctx, telemetry.Change{Follower: "F", Leader: "A", To: "retrying", Failures: int(i), Err: err})
			observer.EventParked(ctx, telemetry.Parked{Follower: "F", Leader: "A", NotificationID: i, OriginatorID: id, Topic: event.Topic, Err: err})
		}
	}
	report(1)
	before := points()
	for i := range int64(100) {
		report(i + 2)
	}
	if after := points(); before == 0 || after != before {
		t.Errorf("got %d data points after 100 other aggregates, and %d before, want other than 0", after, before)
	}
}

// Traces and metrics of an application, by the global providers.
func Example() {
	observer, err := otel.New()
	if err != nil {
		log.Fatal(err)
	}
	if _, err := school.New(application.WithObserver(observer)); err != nil {
		log.Fatal(err)
	}
	// Output:
}
