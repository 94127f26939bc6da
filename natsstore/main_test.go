package natsstore_test

import (
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
)

func TestMain(m *testing.M) {
	if node := os.Getenv(nodeVariable); node != "" {
		runNode(node)
		return
	}
	var err error
	if scratch, err = os.MkdirTemp("", "natsstore"); err != nil {
		panic(err)
	}
	code := testdb.Main(m) // which also looks for leaked goroutines
	os.RemoveAll(scratch)
	os.Exit(code)
}

// scratch is a folder for all tests.
var scratch string

// full reports whether tests use their full figures.
func full() bool { return os.Getenv("FULL") != "" && os.Getenv("FULL") != "0" }

// figure returns full where FULL is set, and otherwise reduced.
func figure(reduced, most int) int {
	if full() {
		return most
	}
	return reduced
}

// payload is max_payload of the servers.
const payload = 32 << 20

// serverOptions returns the options of a server that the conformance suite
// needs.
func serverOptions(storeDir string) *server.Options {
	options := &server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true, JetStream: true, StoreDir: storeDir,
		MaxPayload: payload, MaxPending: 256 << 20}
	options.JetStreamLimits.MaxBatchSize = 20_000
	return options
}

// startServer starts a server in this process.
func startServer(t testing.TB, change ...func(*server.Options)) *server.Server {
	t.Helper()
	options := serverOptions(t.TempDir())
	for _, f := range change {
		f(options)
	}
	return runServer(t, options)
}

func runServer(t testing.TB, options *server.Options) *server.Server {
	t.Helper()
	s, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	return s
}

// connect connects to servers.
func connect(t testing.TB, url string, options ...nats.Option) *nats.Conn {
	t.Helper()
	options = append([]nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond), nats.ReconnectBufSize(-1),
		nats.DontRandomize(), nats.IgnoreDiscoveredServers()}, options...)
	conn, err := nats.Connect(url, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// patience is how long a test waits for what must happen, before it calls it
// missing.
const patience = 3 * time.Minute

// eventually waits until f returns no error.
func eventually(t testing.TB, f func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
