package remotelog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system/remotelog"
)

func ask(t testing.TB, handler http.Handler, method, target string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, target, nil))
	return w
}

// page is an answer as a reader sees it who knows only the documentation.
type page struct {
	Format        int
	Application   string
	Head          int64
	Complete      bool
	Notifications []struct {
		ID                int64
		OriginatorID      string `json:"originator_id"`
		OriginatorVersion int64  `json:"originator_version"`
		Topic             string
		State             []byte
	}
}

func read(t testing.TB, handler http.Handler, target string) (p page) {
	t.Helper()
	w := ask(t, handler, http.MethodGet, target)
	if w.Code != http.StatusOK {
		t.Fatalf("%s: status %d: %s, want %v", target, w.Code, w.Body, http.StatusOK)
	}
	expect.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
	return p
}

func (p page) ids() string {
	ids := []int64{}
	for _, n := range p.Notifications {
		ids = append(ids, n.ID)
	}
	return fmt.Sprint(ids)
}

func TestHandlerHead(t *testing.T) {
	dogs := newSchool(t)
	handler := remotelog.NewHandler(dogs.Application, remotelog.HandlerConfig{})
	for _, want := range []int64{0, 3} {
		if got := read(t, handler, "/head"); got.Format != 1 || got.Application != schoolName || got.Head != want {
			t.Errorf("got %+v, want head %d", got, want)
		}
		register(t, dogs, fmt.Sprint("Fido", want), 2)
	}
}

func TestHandlerNotifications(t *testing.T) {
	dogs := newSchool(t)
	register(t, dogs, "Fido", 2) // 1 to 3
	register(t, dogs, "Rex", 1)  // 4 and 5
	handler := remotelog.NewHandler(dogs.Application, remotelog.HandlerConfig{})
	for _, test := range []struct {
		target, want string
		complete     bool
	}{
		{"/notifications", "[1 2 3 4 5]", true},
		{"/notifications/", "[1 2 3 4 5]", true},
		{"/notifications?after=0", "[1 2 3 4 5]", true},
		{"/notifications?after=3", "[4 5]", true},
		{"/notifications?start=3", "[3 4 5]", true},
		{"/notifications?start=1&stop=2", "[1 2]", true},
		{"/notifications?after=4&stop=2", "[]", true},
		{"/notifications?after=9223372036854775807", "[]", true},
		{"/notifications?limit=2", "[1 2]", false},
		{"/notifications?limit=5", "[1 2 3 4 5]", false}, // which may be all, or not
		{"/notifications?after=5&limit=5", "[]", true},
		{"/notifications?limit=9223372036854775807", "[1 2 3 4 5]", true},
		{"/notifications?topics=Dog.Registered", "[1 4]", true},
		{"/notifications?topics=Dog.Registered&topics=Dog.TrickAdded&after=1&limit=3", "[2 3 4]", false},
		{"/notifications?topics=Cat.Born", "[]", true},
		{"/notifications?token=secret", "[1 2 3 4 5]", true},
	} {
		got := read(t, handler, test.target)
		if got.ids() != test.want || got.Complete != test.complete || got.Head != 5 || got.Application != schoolName {
			t.Errorf("%s: got %+v, want %s, complete %t", test.target, got, test.want, test.complete)
		}
	}
	log, err := bridge.Of(dogs).Recorder().SelectNotifications(t.Context(), persistence.NotificationRange{After: 1, Limit: 1})
	expect.NoError(t, err)
	got := read(t, handler, "/notifications?start=2&stop=2").Notifications[0]
	if got.OriginatorID != log[0].OriginatorID.String() || got.OriginatorVersion != 2 || got.Topic != "Dog.TrickAdded" || !bytes.Equal(got.State, log[0].State) {
		t.Errorf("got %+v, want %+v", got, log[0])
	}
}

// A page ends early if its states are too large, and says so.
func TestHandlerPageBytes(t *testing.T) {
	dogs := newSchool(t)
	register(t, dogs, "Fido", 39)
	log, err := bridge.Of(dogs).Recorder().SelectNotifications(t.Context(), persistence.NotificationRange{Limit: 40})
	expect.NoError(t, err)
	three := len(log[0].State) + len(log[1].State) + len(log[2].State)
	for _, test := range []struct {
		bytes    int
		want     string
		complete bool
	}{
		{1, "[1]", false},
		{three - 1, "[1 2]", false},
		{three, "[1 2 3]", false},
	} {
		got := read(t, remotelog.NewHandler(dogs.Application, remotelog.HandlerConfig{MaxPageBytes: test.bytes}), "/notifications")
		if got.ids() != test.want || got.Complete {
			t.Errorf("%d bytes: got %s, complete %t; want %s", test.bytes, got.ids(), got.Complete, test.want)
		}
	}
}

// limits takes down how many events are asked for at a time.
type limits struct {
	persistence.ProcessRecorder
	asked []int
}

type limitsStore struct {
	persistence.Factory
	recorder *limits
}

func (s limitsStore) ProcessRecorder(string) (persistence.ProcessRecorder, error) {
	return s.recorder, nil
}

func (l *limits) SelectNotifications(ctx context.Context, r persistence.NotificationRange) ([]persistence.Notification, error) {
	l.asked = append(l.asked, r.Limit)
	return l.ProcessRecorder.SelectNotifications(ctx, r)
}

// However large states are, hardly more of them is read than is sent; small
// ones are not read one by one.
func TestHandlerReadsWhatFits(t *testing.T) {
	recorder, err := memory.New().ProcessRecorder(schoolName)
	expect.NoError(t, err)
	l := &limits{ProcessRecorder: recorder}
	dogs := newSchool(t, application.WithStore(limitsStore{memory.New(), l}))
	register(t, dogs, "Fido", 599)
	read(t, remotelog.NewHandler(dogs.Application, remotelog.HandlerConfig{}), "/notifications?limit=500")
	if got := fmt.Sprint(l.asked); got != "[16 484]" {
		t.Errorf("small states: got reads of %s, want two", got)
	}
	l.asked = nil
	read(t, remotelog.NewHandler(dogs.Application, remotelog.HandlerConfig{MaxPageBytes: 2000}), "/notifications?limit=500")
	if sum := l.asked[0] + l.asked[1]; sum > 60 {
		t.Errorf("large states: got reads of %v, want few", l.asked)
	}
}

func TestHandlerMaxPage(t *testing.T) {
	dogs := newSchool(t)
	register(t, dogs, "Fido", 1199)
	for _, test := range []struct {
		max, want int
		query     string
	}{
		{1000, 100, ""}, {1000, 1000, "?limit=1100"}, {3, 3, "?limit=1100"}, {3, 3, ""}, {-1, 100, ""}, {0, 1000, "?limit=1100"}, {2000, 1000, "?limit=2000"},
	} {
		got := read(t, remotelog.NewHandler(dogs.Application, remotelog.HandlerConfig{MaxPage: test.max}), "/notifications"+test.query)
		if len(got.Notifications) != test.want || got.Complete {
			t.Errorf("%+v: got %d, complete %t, want %v Notifications", test, len(got.Notifications), got.Complete, test.want)
		}
	}
}

func TestHandlerRefusals(t *testing.T) {
	handler := remotelog.NewHandler(newSchool(t).Application, remotelog.HandlerConfig{MaxTopics: 2})
	for _, test := range []struct {
		method, target string
		status         int
		says           string
	}{
		{"POST", "/notifications", 405, "use GET"},
		{"DELETE", "/head", 405, "use GET"},
		{"GET", "/", 404, "head and notifications"},
		{"GET", "/notifications/1,10", 404, "head and notifications"},
		{"GET", "/notifications?after=-1", 400, `after "-1" must be a whole number from 0`},
		{"GET", "/notifications?after=", 400, `after "" must be`},
		{"GET", "/notifications?after=1&after=2", 400, "after must be given once"},
		{"GET", "/notifications?after=1&start=2", 400, "either start or after"},
		{"GET", "/notifications?start=0", 400, `start "0" must be a whole number from 1`},
		{"GET", "/notifications?stop=0", 400, `stop "0"`},
		{"GET", "/notifications?stop=99999999999999999999", 400, `stop "99999999999999999999"`},
		{"GET", "/notifications?limit=0", 400, `limit "0" must be a whole number from 1`},
		{"GET", "/notifications?limit=x&stop=y", 400, `stop "y"`},
		{"GET", "/notifications?limit=" + strings.Repeat("9", 500), 400, `limit "` + strings.Repeat("9", 40) + `" must`},
		{"GET", "/notifications?topics=", 400, "topic must not be empty"},
		{"GET", "/notifications?topics=a&topics=b&topics=c", 400, "there are 3 topics; at most 2"},
		{"GET", "/notifications?after=%zz", 400, "cannot be read"},
	} {
		w := ask(t, handler, test.method, test.target)
		var got struct {
			Format int
			Error  string
		}
		expect.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
		if w.Code != test.status || got.Format != 1 || !strings.Contains(got.Error, test.says) {
			t.Errorf("%s %.60s: got %d %q, want %d %q", test.method, test.target, w.Code, got.Error, test.status, test.says)
		}
		if allow := w.Header().Get("Allow"); (allow == "GET, HEAD") != (test.status == 405) {
			t.Errorf("%s %s: allows %q, want GET and HEAD with a 405 alone", test.method, test.target, allow)
		}
	}
}

func TestHandlerHeaders(t *testing.T) {
	w := ask(t, remotelog.NewHandler(newSchool(t).Application, remotelog.HandlerConfig{}), http.MethodHead, "/head")
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("got %d %v, want Code 200, Get %q and Get %q", w.Code, w.Header(), "application/json", "no-store")
	}
}

// What a store says is for the service's log, not for the one who asked.
func TestHandlerFailures(t *testing.T) {
	for _, test := range []struct {
		err    error
		status int
	}{
		{errors.New("secret table"), 500},
		{&persistence.Error{Class: persistence.ErrInternal, Op: "secret"}, 500},
		{&persistence.Error{Class: persistence.ErrOperational, Op: "secret"}, 503},
		{&persistence.Error{Class: persistence.ErrClosed, Op: "secret"}, 503},
	} {
		var log bytes.Buffer
		dogs := newSchool(t, application.WithStore(broken{memory.New(), test.err}),
			application.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		for _, target := range []string{"/head", "/notifications"} {
			log.Reset()
			w := ask(t, remotelog.NewHandler(dogs.Application, remotelog.HandlerConfig{}), http.MethodGet, target)
			if w.Code != test.status || strings.Contains(w.Body.String(), "secret") || !strings.Contains(log.String(), "secret") {
				t.Errorf("%s of %v: got %d %s, logged %q, want Code %v and it to contain %q", target, test.err, w.Code, w.Body, &log, test.status, "secret")
			}
		}
	}
	t.Run("cancelled", func(t *testing.T) {
		var log bytes.Buffer
		dogs := newSchool(t, application.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		w := httptest.NewRecorder()
		remotelog.NewHandler(dogs.Application, remotelog.HandlerConfig{}).ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/head", nil))
		if w.Code != 503 || log.Len() > 0 {
			t.Errorf("got %d, logged %q, want Code 503 and Len 0", w.Code, &log)
		}
	})
}
