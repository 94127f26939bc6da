package remotelog_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/system"
	"github.com/eventsourcing-go/eventsourcing/system/remotelog"
)

// heldStore is a store whose logs a transaction of another program holds back.
type heldStore struct {
	*memory.Store
	hold *persistence.LogHold
}

func (s *heldStore) ProcessRecorder(name string) (persistence.ProcessRecorder, error) {
	r, err := s.Store.ProcessRecorder(name)
	return &heldRecorder{r, s}, err
}

type heldRecorder struct {
	persistence.ProcessRecorder
	store *heldStore
}

func (r *heldRecorder) LogHold(context.Context, time.Duration) (*persistence.LogHold, error) {
	return r.store.hold, nil
}

// A client learns whose transaction keeps readers from newer events, and since
// when by its own clock, and nothing if there is none.
func TestClientReadsHold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &heldStore{Store: memory.New()}
		dogs := newSchool(t, application.WithStore(store))
		client := from(remotelog.NewHandler(dogs.Application, remotelog.HandlerConfig{})).client(t, remotelog.ClientConfig{})
		if hold, err := client.Hold(t.Context(), 0); hold != nil || err != nil {
			t.Fatalf("got %v, %v, want nil and no error", hold, err)
		}
		want := persistence.LogHold{Bound: 3, Newest: 7, PID: 42, User: "billing", Program: "nightly",
			Client: "10.0.0.7", State: "idle in transaction", Since: time.Now().UTC()}
		store.hold = &want
		time.Sleep(time.Minute)
		hold, err := client.Hold(t.Context(), 0)
		if err != nil || hold == nil || *hold != want {
			t.Fatalf("got %+v, %v, want %+v", hold, err, want)
		}
		unknown := want
		unknown.Since = time.Time{}
		store.hold = &unknown
		if hold, err = client.Hold(t.Context(), 0); err != nil || hold == nil || *hold != unknown {
			t.Fatalf("got %+v, %v, want %+v", hold, err, unknown)
		}
	})
}

// The status of a follower names a transaction in the other service's database
// that has been open for long, as over a leader in the same process.
func TestStatusOverRemoteLogHasHold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &heldStore{Store: memory.New()}
		client := from(remotelog.NewHandler(newSchool(t, application.WithStore(store)).Application, remotelog.HandlerConfig{})).client(t, remotelog.ClientConfig{})
		announcements, err := NewAnnouncements()
		expect.NoError(t, err)
		sys, err := system.New(system.Pipe(client, announcements))
		expect.NoError(t, err)
		runner, err := system.NewRunner(sys, system.Config{})
		expect.NoError(t, err)
		defer func() { expect.NoError(t, runner.Close()) }()
		held := persistence.LogHold{Bound: 3, Newest: 7, PID: 42, Since: time.Now().UTC()}
		store.hold = &held
		for _, named := range []bool{false, true} { // it is not named at once
			statuses, err := runner.Statuses(t.Context())
			expect.NoError(t, err)
			if got := statuses[0].Held; (got != nil) != named || named && *got != held {
				t.Errorf("got %v, want %v: %t", got, held, named)
			}
			time.Sleep(time.Minute)
		}
	})
}

// An answer of a service of a former version has no hold, and a client of a
// former version is not sent one.
func TestHoldOfFormerVersions(t *testing.T) {
	t.Parallel()
	former := answering(func(*http.Request) (*http.Response, error) {
		return status(http.StatusOK, `{"format": 1, "application": "`+schoolName+`", "head": 3}`), nil
	})
	if hold, err := former.client(t, remotelog.ClientConfig{}).Hold(t.Context(), 0); hold != nil || err != nil {
		t.Errorf("got %v, %v, want nil and no error", hold, err)
	}
	store := &heldStore{Store: memory.New(), hold: &persistence.LogHold{PID: 42}}
	handler := remotelog.NewHandler(newSchool(t, application.WithStore(store)).Application, remotelog.HandlerConfig{})
	for _, target := range []string{"/head", "/notifications"} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil))
		if body, err := io.ReadAll(w.Body); err != nil || w.Code != http.StatusOK || strings.Contains(string(body), "held") {
			t.Errorf("%s: got %d, %s, %v, want no error and Code %v", target, w.Code, body, err, http.StatusOK)
		}
	}
}

// A hold that cannot be is malformed.
func TestImpossibleHold(t *testing.T) {
	t.Parallel()
	for _, open := range []string{"-1", "9223372036854775807"} {
		service := answering(func(*http.Request) (*http.Response, error) {
			return status(http.StatusOK, `{"format": 1, "application": "`+schoolName+
				`", "head": 3, "held": {"bound": 3, "newest": 7, "open_for_ms": `+open+`}}`), nil
		})
		_, err := service.client(t, remotelog.ClientConfig{}).Hold(t.Context(), 0)
		expect.ErrorIs(t, err, persistence.ErrDatabase)
		expect.Contains(t, err.Error(), "cannot be open for so long")
	}
}
