package natsstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
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

// TestRefusedSettings changes a stream to settings with which events could be
// lost. A store refuses it, and names the setting.
func TestRefusedSettings(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t).ClientURL())
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	for setting, change := range map[string]func(*jetstream.StreamConfig){
		"max_age":              func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
		"max_msgs":             func(c *jetstream.StreamConfig) { c.MaxMsgs = 100 },
		"max_msgs_per_subject": func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 5 },
		"discard":              func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld },
		"deny_delete":          func(c *jetstream.StreamConfig) { c.DenyDelete = false },
		"deny_purge":           func(c *jetstream.StreamConfig) { c.DenyPurge = false },
		"allow_direct":         func(c *jetstream.StreamConfig) { c.AllowDirect = false },
		"allow_atomic":         func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false },
		"allow_msg_ttl":        func(c *jetstream.StreamConfig) { c.AllowMsgTTL = true },
		"storage":              func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
		"no_ack":               func(c *jetstream.StreamConfig) { c.NoAck, c.AllowAtomicPublish = true, false },
		"retention":            func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy },
		"subjects":             func(c *jetstream.StreamConfig) { c.Subjects = c.Subjects[:1] },
		"republish":            func(c *jetstream.StreamConfig) { c.RePublish = nil },
		"persist_mode": func(c *jetstream.StreamConfig) {
			c.PersistMode, c.AllowAtomicPublish = jetstream.AsyncPersistMode, false
		},
		"eventsourcing-first": func(c *jetstream.StreamConfig) { c.Metadata = nil },
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			config := single
			config.Namespace = "refused-" + setting
			stream := config.Namespace + "_ev_" + training
			if _, err := recorderOf(t, conn, config).MaxNotificationID(t.Context()); err != nil {
				t.Fatal(err)
			}
			info, err := streamInfo(conn, stream)
			if err != nil {
				t.Fatal(err)
			}
			changed := info.Config
			change(&changed)
			if err := js.DeleteStream(t.Context(), stream); err != nil {
				t.Fatal(err)
			}
			if _, err := js.CreateStream(t.Context(), changed); err != nil {
				t.Fatal(err)
			}
			_, err = recorderOf(t, conn, config).MaxNotificationID(t.Context())
			wantRefused(t, err, setting)
		})
	}
}

// wantRefused wants a *SettingsError that names a setting.
func wantRefused(t *testing.T, err error, setting string) {
	t.Helper()
	_, ok := errors.AsType[*natsstore.SettingsError](err)
	if !ok || !errors.Is(err, persistence.ErrOperational) || !strings.Contains(err.Error(), setting) {
		t.Errorf("got the error %v, want a *SettingsError about %s", err, setting)
	}
}

// TestWaivers looks at what is refused unless it is waived by name.
func TestWaivers(t *testing.T) {
	t.Parallel()
	s := startServer(t, func(o *server.Options) {
		o.MaxPayload = 1 << 20
		o.HTTPHost, o.HTTPPort = "127.0.0.1", -1
		o.ServerName = "one"
	})
	conn := connect(t, s.ClientURL())
	all := []natsstore.Waiver{natsstore.SingleReplica, natsstore.PeriodicSync, natsstore.SmallPayload}
	monitoring := []string{"http://" + s.MonitorAddr().String()}
	for i, test := range []struct {
		waive      []natsstore.Waiver
		monitoring []string
		want       string
	}{
		{all, nil, ""},
		{all[1:], nil, "num_replicas"},
		{[]natsstore.Waiver{all[0], all[2]}, nil, "Config.Monitoring"},
		{[]natsstore.Waiver{all[0], all[2]}, monitoring, "set sync_interval of server one to always"},
		{[]natsstore.Waiver{all[0], all[2]}, []string{"http://127.0.0.1:1"}, "make the monitoring port of server one reachable"},
		{all[:2], nil, "max_payload"},
	} {
		config := natsstore.Config{Namespace: fmt.Sprintf("w%d", i), Replicas: 1, CreateStreams: true, Waive: test.waive, Monitoring: test.monitoring}
		_, err := recorderOf(t, conn, config).MaxNotificationID(t.Context())
		if test.want == "" {
			if err != nil {
				t.Errorf("with all waivers: %v", err)
			}
			continue
		}
		wantRefused(t, err, test.want)
	}
}

// TestSyncAlways accepts servers that write to disk before they answer.
func TestSyncAlways(t *testing.T) {
	t.Parallel()
	s := startServer(t, func(o *server.Options) { o.HTTPHost, o.HTTPPort, o.SyncAlways = "127.0.0.1", -1, true })
	config := natsstore.Config{Replicas: 1, CreateStreams: true, Waive: []natsstore.Waiver{natsstore.SingleReplica},
		Monitoring: []string{"http://" + s.MonitorAddr().String()}}
	if _, err := recorderOf(t, connect(t, s.ClientURL()), config).MaxNotificationID(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestChangedWhileUsed changes a stream under a running store, by an update that
// the server allows and that deletes its messages. The next call is refused, so
// that a reader never takes that for an empty log.
func TestChangedWhileUsed(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t).ClientURL())
	r := recorderOf(t, conn, single)
	if _, err := r.InsertEvents(t.Context(), large("Fido", 1, 3)); err != nil {
		t.Fatal(err)
	}
	changeStream(t, conn, func(c *jetstream.StreamConfig) {
		c.MaxAge, c.Duplicates = 100*time.Millisecond, 100*time.Millisecond
	})
	if err := conn.Flush(); err != nil { // the advisory has come before the answer to this
		t.Fatal(err)
	}
	_, err := r.SelectNotifications(t.Context(), persistence.NotificationRange{Limit: 10})
	wantRefused(t, err, "max_age")
	_, err = r.MaxNotificationID(t.Context())
	wantRefused(t, err, "max_age")
	_, err = r.InsertEvents(t.Context(), large("Rex", 1, 1))
	wantRefused(t, err, "max_age")
	_, err = recorderOf(t, conn, single).MaxNotificationID(t.Context())
	wantRefused(t, err, "max_age")
}

// TestOtherServer loses the connection, and gets one to another server. What was
// compared at the first one is compared again, because changes in the meantime
// are not heard of.
func TestOtherServer(t *testing.T) {
	t.Parallel()
	for setting, change := range map[string]func(o *server.Options, c *jetstream.StreamConfig){
		"max_payload": func(o *server.Options, _ *jetstream.StreamConfig) { o.MaxPayload = 1 << 20 },
		"max_age":     func(_ *server.Options, c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			first := startServer(t)
			var settings jetstream.StreamConfig
			second := startServer(t, func(o *server.Options) { change(o, &settings) })
			admin := connect(t, second.ClientURL())
			config := single
			config.Waive = append([]natsstore.Waiver{natsstore.SmallPayload}, config.Waive...)
			expect.NoError(t, natsstore.Create(t.Context(), admin, config, training))
			changeStream(t, admin, func(c *jetstream.StreamConfig) { c.MaxAge = settings.MaxAge })

			r := recorderOf(t, connect(t, first.ClientURL()+","+second.ClientURL()), single)
			_, err := r.MaxNotificationID(t.Context())
			expect.NoError(t, err)
			first.Shutdown()
			first.WaitForShutdown()
			_, err = r.InsertEvents(t.Context(), small("Fido", 1))
			wantRefused(t, err, setting)
		})
	}
}

// TestMadeAnewWhileUsed deletes a stream under a running store, and makes it
// anew. The store does not go on in the empty one.
func TestMadeAnewWhileUsed(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t).ClientURL())
	config := single
	config.Timeout = time.Second
	r := recorderOf(t, conn, config)
	if _, err := r.InsertEvents(t.Context(), large("Fido", 1, 3)); err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), schoolStream); err != nil {
		t.Fatal(err)
	}
	if err := natsstore.Create(t.Context(), conn, config, training); err != nil {
		t.Fatal(err)
	}
	_, err = r.InsertEvents(t.Context(), large("Rex", 1, 1))
	wantLost(t, err)
	_, err = r.MaxNotificationID(t.Context())
	wantLost(t, err)
	_, err = r.SelectNotifications(t.Context(), persistence.NotificationRange{Limit: 10})
	wantLost(t, err)
	if log := wholeLog(t, recorderOf(t, conn, config)); len(log) > 0 {
		t.Errorf("the new stream has %d events, want 0", len(log))
	}
}

func wantLost(t *testing.T, err error) {
	t.Helper()
	damage, ok := errors.AsType[*natsstore.DamageError](err)
	if !ok || damage.From != 1 || damage.To != 3 || !errors.Is(err, persistence.ErrInternal) {
		t.Errorf("got the error %v, want a *DamageError about sequences 1 to 3", err)
	}
}

func TestStreamIsMissing(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t).ClientURL())
	config := single
	config.CreateStreams = false
	_, err := recorderOf(t, conn, config).MaxNotificationID(t.Context())
	expect.ErrorIs(t, err, persistence.ErrNotMigrated)
	if err := natsstore.Create(t.Context(), conn, config, training); err != nil {
		t.Fatal(err)
	}
	if _, err := recorderOf(t, conn, config).MaxNotificationID(t.Context()); err != nil {
		t.Errorf("after Create: %v", err)
	}
}

func TestNoJetStream(t *testing.T) {
	t.Parallel()
	s := startServer(t, func(o *server.Options) { o.JetStream = false })
	_, err := recorderOf(t, connect(t, s.ClientURL()), single).MaxNotificationID(t.Context())
	if !errors.Is(err, persistence.ErrNotSupported) || !strings.Contains(err.Error(), "enable JetStream") {
		t.Errorf("got the error %v, want an ErrNotSupported that says what to enable", err)
	}
}

// TestNoJetStreamForAccount uses an account of a server that has JetStream for
// others.
func TestNoJetStreamForAccount(t *testing.T) {
	t.Parallel()
	account := server.NewAccount("without")
	s := startServer(t, func(o *server.Options) {
		o.Accounts = []*server.Account{account}
		o.Users = []*server.User{{Username: "user", Password: "u", Account: account}}
	})
	config := single
	config.Timeout = time.Second
	_, err := recorderOf(t, connect(t, s.ClientURL(), nats.UserInfo("user", "u")), config).MaxNotificationID(t.Context())
	if !errors.Is(err, persistence.ErrNotSupported) || !strings.Contains(err.Error(), "for the account") {
		t.Errorf("got the error %v, want an ErrNotSupported about the account", err)
	}
}

// TestOldServer is connected to a server that says that it is older than it is.
func TestOldServer(t *testing.T) {
	t.Parallel()
	for version, isOld := range map[string]bool{"2.11.99": true, "1.99.0": true, "2.12.00": false, "3.0.0": false} {
		conn := connect(t, startServer(t).ClientURL(), nats.SetCustomDialer(versionDialer(version)))
		_, err := recorderOf(t, conn, single).MaxNotificationID(t.Context())
		if isOld {
			wantRefused(t, err, "it is NATS "+version+"; use 2.12 or later")
		} else if err != nil {
			t.Errorf("NATS %s: %v", version, err)
		}
	}
}

// versionDialer makes connections to servers that say that they have a version.
type versionDialer string

func (d versionDialer) Dial(network, address string) (net.Conn, error) {
	conn, err := net.Dial(network, address)
	return &versionConn{Conn: conn, version: string(d)}, err
}

type versionConn struct {
	net.Conn
	version string
}

// Read changes the version wherever the server tells it, which may be again
// after the connection was made.
func (c *versionConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		return n, err
	}
	told := strings.Replace(string(b[:n]), `"version":"`+server.VERSION+`"`, `"version":"`+c.version+`"`, -1)
	return copy(b, told), nil
}

// TestNotConnectedYet uses a connection whose servers are not up.
func TestNotConnectedYet(t *testing.T) {
	t.Parallel()
	config := single
	config.Timeout = 200 * time.Millisecond
	conn := connect(t, "nats://127.0.0.1:9", nats.RetryOnFailedConnect(true))
	_, err := recorderOf(t, conn, config).MaxNotificationID(t.Context())
	if !errors.Is(err, persistence.ErrUnavailable) {
		t.Errorf("got the error %v, want an ErrUnavailable", err)
	}
	conn.Close()
	_, err = recorderOf(t, conn, config).MaxNotificationID(t.Context())
	if !errors.Is(err, persistence.ErrInterface) {
		t.Errorf("after it was closed: got the error %v, want an ErrInterface", err)
	}
}

// TestServersAway writes while no server is up.
func TestServersAway(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	config := single
	config.Timeout = 300 * time.Millisecond
	r := recorderOf(t, connect(t, s.ClientURL()), config)
	if _, err := r.InsertEvents(t.Context(), large("Fido", 1, 1)); err != nil {
		t.Fatal(err)
	}
	s.Shutdown()
	s.WaitForShutdown()
	_, err := r.InsertEvents(t.Context(), large("Fido", 2, 1))
	if !errors.Is(err, persistence.ErrUnavailable) && !errors.Is(err, persistence.ErrOutcomeUnknown) {
		t.Errorf("a save: got the error %v, want an ErrUnavailable", err)
	}
	_, err = r.MaxNotificationID(t.Context())
	if !errors.Is(err, persistence.ErrUnavailable) {
		t.Errorf("a read: got the error %v, want an ErrUnavailable", err)
	}
	_, err = natsstore.Open(t.Context(), s.ClientURL(), single)
	if !errors.Is(err, persistence.ErrUnavailable) {
		t.Errorf("Open: got the error %v, want an ErrUnavailable", err)
	}
}

// TestNoSecretInErrors opens URLs that are wrong. No error has the password.
func TestNoSecretInErrors(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"nats://user:secret%zz@127.0.0.1:1", "nats://user:secret@[::1:4", "nats://user:secret@127.0.0.1:1",
		"nats://user:secret@host:port:1", "nats://127.0.0.1:1,nats://user:secret%zz@127.0.0.1:1"} {
		store, err := natsstore.Open(t.Context(), url, single)
		if err == nil {
			store.Close()
		}
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("got the error %v, want one without the password", err)
		}
	}
}

// TestForeignMessage finds a message that another program has written.
func TestForeignMessage(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t).ClientURL())
	r := recorderOf(t, conn, single)
	if _, err := r.InsertEvents(t.Context(), large("Fido", 1, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Request("es.TrainingSchool.e.00.0", []byte("hello"), time.Second); err != nil {
		t.Fatal(err)
	}
	_, err := r.SelectNotifications(t.Context(), persistence.NotificationRange{Limit: 10})
	if !errors.Is(err, persistence.ErrInternal) {
		t.Errorf("got the error %v, want an ErrInternal", err)
	}
}

func TestBadConfig(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t).ClientURL())
	for _, config := range []natsstore.Config{{Namespace: "a.b"}, {Replicas: 6}, {Replicas: -1}, {Timeout: -1}, {Waive: []natsstore.Waiver{"all"}}} {
		if _, err := natsstore.New(conn, config); !errors.Is(err, persistence.ErrProgramming) {
			t.Errorf("New with %+v: got the error %v, want an ErrProgramming", config, err)
		}
	}
	if _, err := natsstore.New(nil, single); !errors.Is(err, persistence.ErrInterface) {
		t.Errorf("New(nil): got the error %v, want an ErrInterface", err)
	}
}

// TestListen hears of the saves of another connection.
func TestListen(t *testing.T) {
	t.Parallel()
	url := startServer(t).ClientURL()
	listener, err := natsstore.New(connect(t, url), single)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	heard, done := make(chan string, 100), make(chan error, 1)
	go func() {
		done <- capability.Of(listener).Listener.Listen(ctx, func(application string) { heard <- application })
	}()
	writer, err := natsstore.New(connect(t, url), single)
	if err != nil {
		t.Fatal(err)
	}
	const name = "犬 School"
	r, err := writer.ProcessRecorder(name)
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.After(patience)
	for version, got := int64(1), ""; got != name; version++ {
		if _, err := r.InsertEvents(t.Context(), large("Fido", version, 1)); err != nil {
			t.Fatal(err)
		}
		select {
		case got = <-heard:
		case <-time.After(100 * time.Millisecond): // it may not listen yet
		case <-deadline:
			t.Fatalf("heard %q, want %q", got, name)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Listen: %v", err)
	}
}

// TestLayout is what a stream has in it. A program of another version must read
// it.
func TestLayout(t *testing.T) {
	t.Parallel()
	conn := connect(t, startServer(t).ClientURL())
	r := recorderOf(t, conn, single)
	event := persistence.StoredEvent{OriginatorID: school.DogID("Fido"), OriginatorVersion: 300, Topic: "Dog.Registered", State: []byte("state"), Begins: true}
	if _, err := r.InsertProcessed(t.Context(), []persistence.StoredEvent{event}, persistence.Tracking{ApplicationName: "Kennels & Co", NotificationID: 7}); err != nil {
		t.Fatal(err)
	}
	id := strings.ReplaceAll(school.DogID("Fido").String(), "-", "")
	for i, want := range []struct{ subject, head, tail string }{
		{"es.TrainingSchool.t.=9DIMSRJ5DHPI09H08DNG", "\x01p\x00", "\x07\x00"},
		{"es.TrainingSchool.e." + id + ".0", "\x01b\x00", "\xac\x02\x00"},
		{"es.TrainingSchool.e." + id + ".1", "\x01e\x01", "\xac\x02\x0eDog.Registeredstate"},
	} {
		reply, err := conn.Request("$JS.API.STREAM.MSG.GET."+schoolStream, fmt.Appendf(nil, `{"seq":%d}`, i+1), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Message struct {
				Subject string `json:"subject"`
				Data    []byte `json:"data"`
			} `json:"message"`
		}
		if err := json.Unmarshal(reply.Data, &got); err != nil {
			t.Fatal(err)
		}
		data := string(got.Message.Data)
		if got.Message.Subject != want.subject || data[:3] != want.head || data[3+12:] != want.tail {
			t.Errorf("message %d: got %s %q, want %s %q, 12 bytes, %q", i+1, got.Message.Subject, data, want.subject, want.head, want.tail)
		}
	}
}
