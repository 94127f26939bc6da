package prometheus_test

import (
	"context"
	"encoding/json"
	"errors"
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

	"github.com/VictoriaMetrics/metricsql"
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
// Prometheus scrapes.
func scraped(t *testing.T) string {
	t.Helper()
	metrics := prometheus.New()
	registry := client.NewRegistry()
	registry.MustRegister(metrics)
	parked := make(chan struct{}, 1)
	observed := application.WithObserver(telemetry.Join(metrics.Observer(), &telemetry.Observer{
		EventParked: func(context.Context, telemetry.Parked) { parked <- struct{}{} },
	}))
	quiet := application.WithLogger(slog.New(slog.DiscardHandler))
	db, err := gormstore.OpenSQLite(sqlite.Open, filepath.Join(t.TempDir(), "test.sqlite3"))
	if err != nil {
		t.Fatal(err)
	}
	if err := gormstore.AutoMigrate(db); err != nil {
		t.Fatal(err)
	}
	store := application.WithStore(gormstore.New(db))
	dogs, err := school.New(store, observed, quiet, application.WithSnapshotting(map[string]int{"Dog": 2}))
	if err != nil {
		t.Fatal(err)
	}
	app, err := application.New("Tricks", store, observed, quiet)
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
	ctx := context.Background()
	for _, err := range []error{dogs.Register(ctx, "Fido"), dogs.AddTrick(ctx, "Fido", "sit"), dogs.AddTrick(ctx, "Fido", "roll over")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := dogs.Register(ctx, "Fido"); !persistence.IsConflict(err) {
		t.Fatalf("a dog that exists: got %v, want a conflict", err)
	}
	sys, err := system.New(system.Pipe(dogs, follower))
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
	<-parked
	if err := runner.Close(); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	defer server.Close()
	answer, err := http.Get(server.URL)
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
	text := scraped(t)
	descriptions := make(chan *client.Desc, 100)
	prometheus.New().Describe(descriptions)
	close(descriptions)
	for d := range descriptions {
		name := metricName.FindString(d.String())
		if !strings.Contains(text, "\n# TYPE "+name+" ") {
			t.Errorf("the metric %s was not scraped", name)
		}
	}
	for _, query := range append(dashboardQueries(t), alertQueries(t)...) {
		if _, err := metricsql.Parse(query); err != nil {
			t.Errorf("query %s: %v", query, err)
		}
		for _, name := range metricName.FindAllString(query, -1) {
			if !strings.Contains(text, "\n"+name+"{") {
				t.Errorf("query %s: the metric %s was not scraped", query, name)
			}
		}
	}
	for _, want := range []string{
		`eventsourcing_save_duration_seconds_count{application="TrainingSchool",outcome="conflict"} 1`,
		`eventsourcing_saved_events_total{application="TrainingSchool"} 3`,
		`eventsourcing_follower_parked_events_total{follower="Tricks",leader="TrainingSchool"} 1`,
		`eventsourcing_follower_state{follower="Tricks",leader="TrainingSchool",state="stopped"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("got %s, want %s", text, want)
		}
	}
}

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
