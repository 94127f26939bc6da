package natsstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/natsstore"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

func TestSmallBatches(t *testing.T) {
	t.Parallel()
	s := startServer(t, func(o *server.Options) { o.JetStreamLimits.MaxBatchSize = 10 })
	r := recorderOf(t, connect(t, s.ClientURL()), single)
	_, err := r.InsertEvents(t.Context(), large("Fido", 1, 11))
	if !errors.Is(err, persistence.ErrNotSupported) || !strings.Contains(err.Error(), "max_batch_size") {
		t.Errorf("got the error %v, want an ErrNotSupported about max_batch_size", err)
	}
	if ids, err := r.InsertEvents(t.Context(), large("Fido", 1, 10)); err != nil || ids[0] != 1 {
		t.Errorf("got the ids %v and the error %v; something of the large save was stored, want no error and 1", ids, err)
	}
}

func TestFullStream(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t).ClientURL())
	r := recorderOf(t, conn, single)
	if _, err := r.InsertEvents(t.Context(), large("Fido", 1, 1)); err != nil {
		t.Fatal(err)
	}
	changeStream(t, conn, func(c *jetstream.StreamConfig) { c.MaxBytes = 50_000 })
	var err error
	version := int64(2)
	for ; err == nil && version < 100; version++ {
		_, err = r.InsertEvents(t.Context(), large("Fido", version, 1))
	}
	if !errors.Is(err, persistence.ErrDiskFull) {
		t.Fatalf("got the error %v, want an ErrDiskFull", err)
	}
	if log := wholeLog(t, r); int64(len(log)) != version-2 {
		t.Errorf("the log has %d events, want %d", len(log), version-2)
	}
}

// TestMissingRights uses NATS users who lack a right that the store needs. The
// error names the subject.
func TestMissingRights(t *testing.T) {
	t.Parallel()
	type rights struct{ publish, subscribe string } // that are denied
	denied := map[string]rights{
		"writer": {publish: "es.>"},
		"asker":  {publish: "$JS.API.STREAM.MSG.GET." + schoolStream},
		"reader": {publish: "$JS.API.DIRECT.GET." + schoolStream},
		"looker": {publish: "$JS.API.STREAM.INFO." + schoolStream},
		"hearer": {subscribe: "$JS.EVENT.ADVISORY.>"},
	}
	s := startServer(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "admin", Password: "p"}, {Username: "listener", Password: "p", Permissions: &server.Permissions{
			Subscribe: &server.SubjectPermission{Deny: []string{"es.*.w"}}}}}
		for name, r := range denied {
			permissions := &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"none"}},
				Subscribe: &server.SubjectPermission{Deny: []string{"none"}}}
			if r.publish != "" {
				permissions.Publish.Deny = []string{r.publish}
			}
			if r.subscribe != "" {
				permissions.Subscribe.Deny = []string{r.subscribe}
			}
			o.Users = append(o.Users, &server.User{Username: name, Password: "p", Permissions: permissions})
		}
	})
	expect.NoError(t, natsstore.Create(t.Context(), connect(t, s.ClientURL(), nats.UserInfo("admin", "p")), single, training))
	config := single
	config.Timeout = time.Second
	silent := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	wantViolation := func(t *testing.T, err error, subject string) {
		t.Helper()
		if !errors.Is(err, persistence.ErrOperational) || !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), subject) {
			t.Errorf("got the error %v, want an ErrOperational with the violation, about %s", err, subject)
		}
	}
	for name, r := range denied {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			recorder := recorderOf(t, connect(t, s.ClientURL(), nats.UserInfo(name, "p"), silent), config)
			_, err := recorder.InsertEvents(t.Context(), large(name, 1, 1))
			for _, failed := range recorder.SelectEvents(t.Context(), school.DogID(name), persistence.EventRange{}) {
				if err == nil {
					err = failed
				}
			}
			wantViolation(t, err, strings.TrimSuffix(r.publish+r.subscribe, ">"))
		})
	}
	t.Run("listener", func(t *testing.T) {
		t.Parallel()
		store := newStore(t, connect(t, s.ClientURL(), nats.UserInfo("listener", "p"), silent), config)
		ctx, cancel := context.WithTimeout(t.Context(), patience) // if it hears nothing, it waits
		defer cancel()
		wantViolation(t, capability.Of(store).Listener.Listen(ctx, func(string) {}), "es.*.w")
	})
}

// changeStream changes the configuration of the stream of the school.
func changeStream(t testing.TB, conn *nats.Conn, change func(*jetstream.StreamConfig)) {
	t.Helper()
	js, err := jetstream.New(conn)
	expect.NoError(t, err)
	info, err := streamInfo(conn, schoolStream)
	expect.NoError(t, err)
	change(&info.Config)
	_, err = js.UpdateStream(t.Context(), info.Config)
	expect.NoError(t, err)
}
