package remotelog_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system/remotelog"
)

// TestMain runs the tests, or, in a process that a test has started, the
// program of that process.
func TestMain(m *testing.M) {
	// Followers fail on purpose, and runners report it.
	slog.SetDefault(slog.New(slog.DiscardHandler))
	if os.Getenv(childDialect) != "" {
		os.Exit(child())
	}
	os.Exit(testdb.Main(m))
}

const schoolName = "TrainingSchool"

var known = []application.Option{application.WithDefinitions(school.Dogs)}

// newSchool makes an application on the memory store.
func newSchool(t testing.TB, options ...application.Option) *school.TrainingSchool {
	t.Helper()
	dogs, err := school.New(options...)
	expect.NoError(t, err)
	t.Cleanup(func() { expect.NoError(t, dogs.Close()) })
	return dogs
}

// register saves a dog with so many tricks, which is one event more.
func register(t testing.TB, dogs *school.TrainingSchool, name string, tricks int) {
	t.Helper()
	dog := school.RegisterDog(name)
	for range tricks {
		dog.AddTrick("sit")
	}
	_, err := dogs.Save(t.Context(), dog)
	expect.NoError(t, err)
}

// serve serves a log until the test ends, and returns its address.
func serve(t testing.TB, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(http.StripPrefix("/log", handler))
	t.Cleanup(server.Close)
	return server.URL + "/log"
}

func newClient(t testing.TB, address string, config remotelog.ClientConfig) *remotelog.Client {
	t.Helper()
	config.Application = append(config.Application, known...)
	leader, err := remotelog.NewClient(schoolName, address, config)
	expect.NoError(t, err)
	client := leader.(*remotelog.Client)
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// answering is a service that needs no network, so that its time need not be
// real.
type answering func(*http.Request) (*http.Response, error)

func (f answering) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// client is a client of the service.
func (f answering) client(t testing.TB, config remotelog.ClientConfig) *remotelog.Client {
	t.Helper()
	config.HTTPClient = &http.Client{Transport: f}
	return newClient(t, "http://service/log", config)
}

// from has a handler answer.
func from(handler http.Handler) answering {
	return func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		http.StripPrefix("/log", handler).ServeHTTP(w, r)
		return w.Result(), nil
	}
}

func status(code int, body string, header ...string) *http.Response {
	response := &http.Response{StatusCode: code, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
	for i := 0; i < len(header); i += 2 {
		response.Header.Set(header[i], header[i+1])
	}
	return response
}

// broken is a store whose reads fail.
type broken struct {
	persistence.Factory
	err error
}

func (b broken) ProcessRecorder(string) (persistence.ProcessRecorder, error) {
	return brokenRecorder{err: b.err}, nil
}

type brokenRecorder struct {
	persistence.ProcessRecorder
	err error
}

func (r brokenRecorder) MaxNotificationID(context.Context) (int64, error) { return 0, r.err }
