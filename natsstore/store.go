package natsstore

import (
	"context"
	"errors"
	neturl "net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Store keeps the events of any number of applications on NATS JetStream. It
// implements persistence.Factory. Make one with New or Open. It is safe for
// concurrent use.
type Store struct {
	capabilities

	conn   *nats.Conn
	owned  bool // Close closes conn
	config Config
	closed atomic.Bool

	// What controls of the tests leave out: that the leader is asked, that a
	// damaged replica is an error, and that a read is sent again before its
	// first try has ended.
	hedging hedging
	ask     func(s *stream, ctx context.Context, op string, request getRequest) (message, bool, error)
	alarm   func(*DamageError) error

	mu      sync.Mutex // protects streams
	streams map[string]*stream

	checking      sync.Mutex      // protects what follows, and is held while servers are asked
	checkedServer string          // the id of the server that was looked at
	syncing       map[string]bool // whether servers write to disk before they answer, by name
	syncingRead   time.Time
}

var _ persistence.Factory = (*Store)(nil)

// New makes a store over a connection, which it does not close. It sends
// nothing; the first use of an application's recorder looks at the servers. Set
// nats.ReconnectBufSize(-1) on the connection, so that a write which was given
// up is not sent later, and a nats.PingInterval of a few seconds, so that it
// leaves a server that is frozen.
func New(conn *nats.Conn, config Config) (*Store, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	if conn == nil {
		return nil, &persistence.Error{Class: persistence.ErrInterface, Op: "natsstore: make a store",
			Hint: "the connection is nil; check the error of nats.Connect first"}
	}
	s := &Store{conn: conn, config: config, streams: map[string]*stream{}, hedging: hedging{first: firstHedge}, ask: (*stream).leaderGet,
		alarm: func(e *DamageError) error { return e }}
	s.provide()
	return s, nil
}

// pingInterval is how often a connection that Open has made looks whether its
// server is there. It leaves one that has not answered two times. With the
// default of the client a server that is frozen keeps it for six minutes.
const pingInterval = 5 * time.Second

// Open connects to the servers of the URL, which may be several with commas
// between them, and makes a store whose Close closes the connection. The
// options are those of nats.Connect, such as nats.UserCredentials.
func Open(ctx context.Context, url string, config Config, options ...nats.Option) (*Store, error) {
	if _, err := config.withDefaults(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, contextError("natsstore", "connect", err)
	}
	defaults := []nats.Option{nats.Name("eventsourcing"), nats.MaxReconnects(-1), nats.ReconnectBufSize(-1),
		nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(2)}
	conn, err := nats.Connect(url, append(defaults, options...)...)
	// The text of this error has the URL, which may have a password.
	if _, ok := errors.AsType[*neturl.Error](err); ok {
		return nil, &persistence.Error{Class: persistence.ErrInterface, Op: "natsstore: connect",
			Hint: "a URL cannot be read; give it the form nats://user:password@host:4222, and write % in a password as %25"}
	}
	if err != nil {
		return nil, &persistence.Error{Class: persistence.ErrUnavailable, Op: "natsstore: connect",
			Hint: "look whether the servers are up, and at the URL and the credentials", Err: err}
	}
	s, err := New(conn, config)
	if err != nil {
		conn.Close()
		return nil, err
	}
	s.owned = true
	return s, nil
}

// Create makes the streams of applications, as a migration makes tables, and
// the one that all followers share. Streams that exist are compared with their
// settings in config; a *SettingsError names the differences, and nothing is
// changed.
func Create(ctx context.Context, conn *nats.Conn, config Config, applications ...string) error {
	config.CreateStreams = true
	s, err := New(conn, config)
	if err != nil {
		return err
	}
	defer s.Close() // which leaves the connection
	create := func(stream *stream, err error) error {
		if err != nil {
			return err
		}
		_, cancel, err := stream.begin(ctx, "create streams")
		if err == nil {
			cancel()
		}
		return err
	}
	for _, application := range applications {
		for _, k := range []kind{ofEvents, ofSnapshots} {
			if err := create(s.stream(application, k)); err != nil {
				return err
			}
		}
	}
	return create(s.statusStream())
}

// ProcessRecorder implements persistence.Factory.
func (s *Store) ProcessRecorder(application string) (persistence.ProcessRecorder, error) {
	stream, err := s.stream(application, ofEvents)
	if err != nil {
		return nil, err
	}
	return &processRecorder{stream}, nil
}

// SnapshotRecorder implements persistence.Factory.
func (s *Store) SnapshotRecorder(application string) (persistence.AggregateRecorder, error) {
	stream, err := s.stream(application, ofSnapshots)
	if err != nil {
		return nil, err
	}
	return &snapshotRecorder{stream}, nil
}

// Close ends the use of the store: later calls of its recorders return
// persistence.ErrClosed. It closes the connection if Open has made it. Closing
// again does nothing.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, stream := range s.streams {
		stream.close()
	}
	if s.owned {
		s.conn.Close()
	}
	return nil
}

// stream returns the stream of an application's events or snapshots.
func (s *Store) stream(application string, k kind) (*stream, error) {
	if err := persistence.ValidateName(application); err != nil {
		return nil, err
	}
	return s.streamOf(application, k, namesOf(s.config.Namespace, application))
}

// statusStream returns the stream of all statuses.
func (s *Store) statusStream() (*stream, error) {
	return s.streamOf("followers", ofStatuses, statusNames(s.config.Namespace))
}

func (s *Store) streamOf(application string, k kind, n names) (*stream, error) {
	if s.closed.Load() {
		return nil, s.closedError(application, "make a recorder")
	}
	key := n.stream(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams[key] == nil {
		s.streams[key] = newStream(s, application, n, k)
	}
	return s.streams[key], nil
}
