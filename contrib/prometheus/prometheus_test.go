package prometheus_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metricsql"
	"github.com/google/uuid"
	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"gorm.io/driver/sqlite"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/contrib/prometheus"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
	"github.com/eventsourcing-go/eventsourcing/telemetry"
)

// scraped runs a school with a follower that parks an event, and returns what
// Prometheus scrapes while its runner runs, and after that.
func scraped(t *testing.T) (running, stopped string) {
	t.Helper()
	metrics := prometheus.New()
	registry := client.NewRegistry()
	registry.MustRegister(metrics)
	parked, recovered := false, make(chan struct{}, 1)
	observed := application.WithObserver(metrics.Observer())
	noted := application.WithObserver(&telemetry.Observer{
		EventParked: func(context.Context, telemetry.Parked) { parked = true },
		FollowerChanged: func(_ context.Context, c telemetry.Change) {
			if c.Follower == "Tricks" && parked && c.To == "running" {
				recovered <- struct{}{}
			}
		},
	})
	quiet := application.WithLogger(slog.New(slog.DiscardHandler))
	db, err := gormstore.OpenSQLite(sqlite.Open, filepath.Join(t.TempDir(), "test.sqlite3"))
	if err != nil {
		t.Fatal(err)
	}
	if err := gormstore.AutoMigrate(db); err != nil {
		t.Fatal(err)
	}
	store := application.WithStore(gormstore.New(db))
	dogs, err := school.New(store, observed, noted, quiet, application.WithSnapshotting(map[string]int{"Dog": 2}))
	if err != nil {
		t.Fatal(err)
	}
	app, err := application.New("Tricks", store, observed, noted, quiet)
	if err != nil {
		t.Fatal(err)
	}
	follower, err := system.NewFollower(app, system.OnEvery(func(_ context.Context, e domain.Event) error {
		if e.OriginatorVersion == 3 {
			return errors.New("broken")
		}
		return nil
	}), system.Park(func(_ persistence.Notification, _ error, attempts int) bool { return attempts > 1 }))
	if err != nil {
		t.Fatal(err)
	}
	mail, err := application.New("Mailer", store, observed, noted, quiet)
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
	ctx := context.Background()
	for _, err := range []error{dogs.Register(ctx, "Fido"), dogs.AddTrick(ctx, "Fido", "sit"), dogs.AddTrick(ctx, "Fido", "roll over")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := dogs.Register(ctx, "Fido"); !persistence.IsConflict(err) {
		t.Fatalf("a dog that exists: got %v, want a conflict", err)
	}
	sys, err := system.New(system.Pipe(dogs, follower), system.Pipe(dogs, mailer))
	if err != nil {
		t.Fatal(err)
	}
	runner, err := system.NewRunner(sys, system.Config{ShortestRetry: 1, LongestRetry: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := runner.Start(ctx); err != nil {
		t.Fatal(err)
	}
	<-recovered
	<-mailed
	if err := runner.WaitFor(ctx, mailer); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	defer server.Close()
	running = scrape(t, server.URL)
	if err := runner.Close(); err != nil {
		t.Fatal(err)
	}
	return running, scrape(t, server.URL)
}

func scrape(t *testing.T, address string) string {
	t.Helper()
	answer, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var metricName = regexp.MustCompile(`eventsourcing_[a-z_]+`)

// TestEveryMetricIsScraped scrapes every metric of the package, and those that
// the dashboard and the alerts query.
func TestEveryMetricIsScraped(t *testing.T) {
	text, stopped := scraped(t)
	descriptions := make(chan *client.Desc, 100)
	prometheus.New().Describe(descriptions)
	close(descriptions)
	documented := documentedMetrics(t)
	for d := range descriptions {
		name := metricName.FindString(d.String())
		if !documented[name] {
			t.Errorf("docs/operations.md lacks the metric %s", name)
		}
		delete(documented, name)
		if !strings.Contains(text, "\n# TYPE "+name+" ") {
			t.Errorf("the metric %s was not scraped, want it to contain %q", name, "\n# TYPE "+name+" ")
		}
	}
	for name := range documented {
		t.Errorf("docs/operations.md has the metric %s, which does not exist", name)
	}
	for _, query := range append(dashboardQueries(t), alertQueries(t)...) {
		if _, err := metricsql.Parse(query); err != nil {
			t.Errorf("query %s: %v", query, err)
		}
		for _, name := range metricName.FindAllString(query, -1) {
			if !strings.Contains(text, "\n"+name+"{") {
				t.Errorf("query %s: the metric %s was not scraped, want it to contain %q", query, name, "\n"+name+"{")
			}
		}
	}
	for _, want := range []string{
		`eventsourcing_save_duration_seconds_count{application="TrainingSchool",outcome="conflict"} 1`,
		`eventsourcing_saved_events_total{application="TrainingSchool"} 3`,
		`eventsourcing_follower_parked_events_total{follower="Tricks",leader="TrainingSchool"} 1`,
		`eventsourcing_follower_state{follower="Tricks",leader="TrainingSchool",state="running"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("got %s, want %s", text, want)
		}
	}
	if !strings.Contains(stopped, `eventsourcing_follower_state{follower="Tricks",leader="TrainingSchool",state="stopped"} 1`) {
		t.Errorf("after the runner has stopped: got %s, want the state", stopped)
	}
}

// TestAFollowerThatStandsStillIsSeen shows what the alert FollowerStandsStill
// compares: neither a batch that has begun nor one that has failed changes the
// time of the last progress, and the lag stays above 0.
func TestAFollowerThatStandsStillIsSeen(t *testing.T) {
	metrics := prometheus.New()
	observer, ctx := metrics.Observer(), context.Background()
	registry := client.NewRegistry()
	registry.MustRegister(metrics)
	value := func(name string) float64 {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == name {
				return f.Metric[0].GetGauge().GetValue()
			}
		}
		t.Fatalf("there is no metric %s", name)
		return 0
	}
	const lag, progress = "eventsourcing_follower_lag", "eventsourcing_follower_last_progress_timestamp_seconds"
	begun := telemetry.Batch{Follower: "Tricks", Leader: "School", Position: 4, Head: 10, Read: 6}
	observer.BatchStart(ctx, begun)
	if value(lag) != 6 || value(progress) == 0 {
		t.Errorf("after the begin of a batch: got a lag of %v and progress at %v, want 6 and the time of the begin", value(lag), value(progress))
	}
	since := value(progress)
	failed := begun
	failed.Err = errors.New("broken")
	time.Sleep(2 * time.Millisecond) // the metric has milliseconds
	observer.BatchDone(ctx, failed)
	observer.BatchStart(ctx, begun)
	if value(lag) != 6 || value(progress) != since {
		t.Errorf("after a failure: got a lag of %v and progress at %v, want 6 and %v", value(lag), value(progress), since)
	}
	done := begun
	done.Processed, done.Position = 6, 10
	observer.BatchDone(ctx, done)
	if value(lag) != 0 || value(progress) <= since {
		t.Errorf("after a batch: got a lag of %v and progress at %v, want 0 and a later time than %v", value(lag), value(progress), since)
	}
}

// TestAFollowerAtRestHasNoLag follows a process that has left a lag and then
// stands by: another process moves the follower, and the alert
// FollowerStandsStill must not see the lag of the first one.
func TestAFollowerAtRestHasNoLag(t *testing.T) {
	for _, state := range []string{"standing by", "paused", "stopped"} {
		t.Run(state, func(t *testing.T) {
			metrics := prometheus.New()
			observer, ctx := metrics.Observer(), t.Context()
			registry := client.NewRegistry()
			registry.MustRegister(metrics)
			want := func(present bool) {
				t.Helper()
				families, err := registry.Gather()
				if err != nil {
					t.Fatal(err)
				}
				found := 0
				for _, f := range families {
					if name := f.GetName(); name == "eventsourcing_follower_lag" || name == "eventsourcing_follower_last_progress_timestamp_seconds" {
						found++
					}
				}
				if present != (found == 2) || !present && found > 0 {
					t.Errorf("got %d of the metrics of lag and progress, want %t", found, present)
				}
			}
			batch := telemetry.Batch{Follower: "Tricks", Leader: "School", Position: 4, Head: 10, Read: 2}
			done := batch
			done.Processed, done.Position = 2, 6
			observer.FollowerChanged(ctx, telemetry.Change{Follower: "Tricks", Leader: "School", From: "stopped", To: "running"})
			observer.BatchStart(ctx, batch)
			observer.BatchDone(ctx, done)
			want(true)
			observer.FollowerChanged(ctx, telemetry.Change{Follower: "Tricks", Leader: "School", From: "running", To: state})
			want(false)
			observer.BatchStart(ctx, batch) // which finds the position locked
			observer.BatchDone(ctx, batch)
			want(false)
			observer.BatchStart(ctx, batch)
			observer.BatchDone(ctx, done) // it has taken over
			want(true)
		})
	}
}

// TestSeriesAreBounded reports ever other aggregates, topics, errors and
// positions. The series are as many as before.
func TestSeriesAreBounded(t *testing.T) {
	metrics := prometheus.New()
	observer, ctx := metrics.Observer(), t.Context()
	registry := client.NewRegistry()
	registry.MustRegister(metrics)
	series := func() (n int) {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			n += len(f.Metric)
		}
		return n
	}
	report := func(i int64) {
		id, err := uuid.New(), fmt.Errorf("failure %d", i)
		event := domain.Event{ID: id, OriginatorID: id, OriginatorVersion: i, NotificationID: i, Topic: fmt.Sprint("Topic", i),
			Metadata: domain.Metadata{fmt.Sprint("key", i): "value"}, Timestamp: time.Now()}
		for _, err := range []error{nil, err} {
			observer.SaveDone(ctx, telemetry.Save{Application: "A", Originators: []uuid.UUID{id}, Events: 1, Together: 1, Position: i, Err: err})
			observer.LoadDone(ctx, telemetry.Load{Application: "A", Definition: "D", OriginatorID: id, Version: i, Source: "events", Err: err})
			observer.SnapshotDone(ctx, telemetry.Snapshot{Application: "A", Definition: "D", OriginatorID: id, Version: i, Err: err})
			observer.BatchStart(ctx, telemetry.Batch{Follower: "F", Leader: "A", Position: i, Head: 2 * i})
			observer.BatchDone(ctx, telemetry.Batch{Follower: "F", Leader: "A", Position: i, Head: 2 * i, Err: err})
			observer.HandleDone(ctx, telemetry.Handle{Follower: "F", Leader: "A", Event: event, Err: err})
			observer.CallDone(ctx, telemetry.Handle{Follower: "F", Leader: "A", Event: event, Err: err})
			observer.FollowerChanged(ctx, telemetry.Change{Follower: "F", Leader: "A", From: "running", To: "retrying", Failures: int(i), Err: err})
			observer.EventParked(ctx, telemetry.Parked{Follower: "F", Leader: "A", NotificationID: i, OriginatorID: id, Topic: event.Topic, Err: err})
		}
	}
	report(1)
	before := series()
	for i := range int64(100) {
		report(i + 2)
	}
	if after := series(); before == 0 || after != before {
		t.Errorf("got %d series after 100 other aggregates, and %d before, want other than 0", after, before)
	}
}

// documentedMetrics returns the metrics that docs/operations.md has.
func documentedMetrics(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "### Metrics")
	section, _, _ = strings.Cut(section, "\n### ")
	names := map[string]bool{}
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || strings.Contains(cells[1], "…") {
			continue
		}
		for _, name := range documentedName.FindAllStringSubmatch(cells[1], -1) {
			names["eventsourcing_"+name[1]] = true
		}
	}
	return names
}

var documentedName = regexp.MustCompile("`([a-z_]+)`")

func dashboardQueries(t *testing.T) (queries []string) {
	t.Helper()
	text, err := os.ReadFile("grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			queries = append(queries, target.Expr)
		}
	}
	if len(queries) < 10 {
		t.Fatalf("got %d queries, want those of a dashboard", len(queries))
	}
	return queries
}

func alertQueries(t *testing.T) (queries []string) {
	t.Helper()
	text, err := os.ReadFile("alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if _, query, found := strings.Cut(line, "expr: "); found {
			queries = append(queries, strings.TrimSpace(query))
		}
	}
	return queries
}

// Metrics of an application.
func Example() {
	metrics := prometheus.New()
	if err := client.NewRegistry().Register(metrics); err != nil {
		log.Fatal(err)
	}
	if _, err := school.New(application.WithObserver(metrics.Observer())); err != nil {
		log.Fatal(err)
	}
	// Output:
}
