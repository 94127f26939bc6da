// Package pgproxy is a proxy for a PostgreSQL server that understands enough of
// the protocol to cut a connection at a chosen statement: before the server
// sees it, or after the server has answered and before the client has the
// answer. It can also keep a connection open and silent, as a server does that
// has vanished from the network.
//
// It listens on the loopback interface only, and speaks without TLS.
package pgproxy

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"strconv"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// Action is what the proxy does about a statement.
type Action int

// The actions that a Rule chooses from.
const (
	Forward   Action = iota // the statement reaches the server, and the answer the client
	CutBefore               // the statement does not reach the server; the connection is cut
	CutAfter                // the server does the statement; its answer is lost, the connection cut
	Swallow                 // the statement does not reach the server; the client waits on
)

// Rule decides about each statement that is about to be executed, by its text.
// It is called by one goroutine at a time.
type Rule func(statement string) Action

// Proxy is a running proxy.
type Proxy struct {
	listener net.Listener
	server   *pgconn.Config
	dsn      string
	handlers sync.WaitGroup

	mu      sync.Mutex // protects what follows
	rule    Rule
	refuse  bool
	cancels *heldCancels
	open    map[net.Conn]struct{}
	stopped bool
}

// New starts a proxy for the server of a DSN. It ends with the test.
func New(t testing.TB, dsn string) *Proxy {
	t.Helper()
	server, err := pgconn.ParseConfig(dsn)
	if err != nil {
		t.Fatalf("pgproxy: %v", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("pgproxy: %v", err)
	}
	p := &Proxy{listener: listener, server: server, open: map[net.Conn]struct{}{}}
	p.dsn = redirect(dsn, listener.Addr().(*net.TCPAddr))
	p.handlers.Go(p.accept)
	t.Cleanup(p.stop)
	return p
}

// DSN is the address of the database by way of the proxy.
func (p *Proxy) DSN() string { return p.dsn }

// Use has a rule decide from now on; nil forwards everything.
func (p *Proxy) Use(rule Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rule = rule
}

// Refuse says whether new connections are refused.
func (p *Proxy) Refuse(refuse bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = refuse
}

// heldCancels are cancel requests that wait to be forwarded.
type heldCancels struct {
	held    chan struct{} // holds a value for each request
	forward chan struct{} // closed when they are forwarded
}

// HoldCancels has cancel requests wait until forward is called, also if the
// client has given up meanwhile, as on a server that is slow to accept
// connections. Each request that waits sends a value on held.
func (p *Proxy) HoldCancels() (held <-chan struct{}, forward func()) {
	h := &heldCancels{held: make(chan struct{}, 100), forward: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cancels = h
	return h.held, sync.OnceFunc(func() { close(h.forward) })
}

// awaitForward returns when a cancel request may be forwarded.
func (p *Proxy) awaitForward() {
	p.mu.Lock()
	h := p.cancels
	p.mu.Unlock()
	if h == nil {
		return
	}
	h.held <- struct{}{}
	<-h.forward
}

// redirect replaces the host in a DSN, which is a URL or a list of key=value.
func redirect(dsn string, to *net.TCPAddr) string {
	port := strconv.Itoa(to.Port)
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme == "" {
		return dsn + " host=" + to.IP.String() + " port=" + port + " sslmode=disable"
	}
	u.Host = net.JoinHostPort(to.IP.String(), port)
	query := u.Query()
	query.Del("host") // would win over the authority
	query.Del("port")
	query.Set("sslmode", "disable")
	u.RawQuery = query.Encode()
	return u.String()
}

func (p *Proxy) stop() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.stopped = true
	for c := range p.open {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.handlers.Wait()
}

// keep remembers a connection so that stop can close it.
func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped || p.refuse {
		return false
	}
	p.open[c] = struct{}{}
	return true
}

func (p *Proxy) release(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.handlers.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer p.release(client)
	if !p.keep(client) {
		return
	}
	server, err := net.Dial(pgconn.NetworkAddress(p.server.Host, p.server.Port))
	if err != nil {
		return
	}
	defer p.release(server)
	if !p.keep(server) {
		return
	}
	s := &session{proxy: p, client: client, server: server, prepared: map[string]string{}, muted: make(chan struct{})}
	p.handlers.Go(s.answers)
	s.requests() // whose end closes both connections, which ends the answers
}

// session is one connection of a client.
type session struct {
	proxy          *Proxy
	client, server net.Conn
	prepared       map[string]string // statements by name
	muted          chan struct{}     // closed when answers are to be thrown away
	mute           sync.Once
}

// Codes in the place of the protocol version, in the first message of a
// connection.
const (
	sslRequest    = 80877103
	gssEncRequest = 80877104
	cancelRequest = 80877102
)

// requests forwards what the client sends.
func (s *session) requests() {
	in := bufio.NewReader(s.client)
	if err := s.startup(in); err != nil {
		return
	}
	for {
		message, err := readMessage(in)
		if err != nil {
			return
		}
		switch s.decide(message) {
		case CutBefore:
			return
		case Swallow:
			continue
		case CutAfter:
			s.mute.Do(func() { close(s.muted) })
		}
		if _, err := s.server.Write(message); err != nil {
			return
		}
	}
}

// startup forwards the first message, which has no type. Encryption is declined
// without asking the server.
func (s *session) startup(in *bufio.Reader) error {
	for {
		head, err := in.Peek(8)
		if err != nil {
			return err
		}
		message := make([]byte, binary.BigEndian.Uint32(head))
		if _, err := io.ReadFull(in, message); err != nil {
			return err
		}
		switch binary.BigEndian.Uint32(head[4:]) {
		case sslRequest, gssEncRequest:
			if _, err := s.client.Write([]byte{'N'}); err != nil {
				return err
			}
		case cancelRequest:
			s.proxy.awaitForward()
			_, err = s.server.Write(message)
			return err
		default:
			_, err = s.server.Write(message)
			return err
		}
	}
}

// decide asks the rule about a message that executes a statement: a simple
// query, or a bind of a prepared one.
func (s *session) decide(message []byte) Action {
	body := message[5:]
	var statement string
	switch message[0] {
	case 'Q':
		statement, _ = text(body)
	case 'P':
		name, rest := text(body)
		s.prepared[name], _ = text(rest)
		return Forward
	case 'B':
		_, rest := text(body) // the portal
		name, _ := text(rest)
		statement = s.prepared[name]
	default:
		return Forward
	}
	s.proxy.mu.Lock()
	defer s.proxy.mu.Unlock()
	if s.proxy.rule == nil {
		return Forward
	}
	return s.proxy.rule(statement)
}

// readyForQuery is the type of the message that ends the server's answer.
const readyForQuery = 'Z'

// answers forwards what the server sends, until an answer is to be thrown away:
// then it awaits its end, and cuts.
func (s *session) answers() {
	defer s.client.Close()
	in := bufio.NewReader(s.server)
	for {
		message, err := readMessage(in)
		if err != nil {
			return
		}
		select {
		case <-s.muted:
			if message[0] == readyForQuery {
				return
			}
			continue
		default:
		}
		if _, err := s.client.Write(message); err != nil {
			return
		}
	}
}

// readMessage reads a message with its type and length.
func readMessage(in *bufio.Reader) ([]byte, error) {
	head, err := in.Peek(5)
	if err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(head[1:])
	if length < 4 || length > 1<<30 {
		return nil, errors.New("pgproxy: message has an impossible length")
	}
	message := make([]byte, 1+length)
	_, err = io.ReadFull(in, message)
	return message, err
}

// text splits off a string that ends with a zero byte.
func text(b []byte) (string, []byte) {
	before, after, _ := bytes.Cut(b, []byte{0})
	return string(before), after
}
