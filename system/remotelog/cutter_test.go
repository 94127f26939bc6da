package remotelog_test

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/internal/expect"
)

// cutter is a proxy for a service that cuts connections at random: some before
// anything was answered, others after so many bytes, which is in the middle of
// an answer as a rule. To begin with it cuts two of three at once.
type cutter struct {
	listener net.Listener
	service  string
	most     int64 // bytes that a connection may carry to the client
	cuts     atomic.Int64
	accepted atomic.Int64
	handlers sync.WaitGroup

	mu      sync.Mutex // protects what follows
	open    map[net.Conn]struct{}
	stopped bool
}

// certainCuts is how many connections are cut at once to begin with.
const certainCuts = 10

// startCutter starts a proxy. It ends with the test.
func startCutter(t testing.TB, service string, most int64) *cutter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	expect.NoError(t, err)
	c := &cutter{listener: listener, service: service, most: most, open: map[net.Conn]struct{}{}}
	c.handlers.Go(c.accept)
	t.Cleanup(c.stop)
	return c
}

func (c *cutter) address() string { return c.listener.Addr().String() }

func (c *cutter) stop() {
	_ = c.listener.Close()
	c.mu.Lock()
	c.stopped = true
	for conn := range c.open {
		_ = conn.Close()
	}
	c.mu.Unlock()
	c.handlers.Wait()
}

func (c *cutter) accept() {
	for {
		client, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.handlers.Go(func() { c.serve(client) })
	}
}

// keep remembers a connection so that stop can close it.
func (c *cutter) keep(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped {
		c.open[conn] = struct{}{}
	}
	return !c.stopped
}

func (c *cutter) release(conn net.Conn) {
	_ = conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, conn)
}

func (c *cutter) serve(client net.Conn) {
	defer c.release(client)
	server, err := net.Dial("tcp", c.service)
	if err != nil {
		return
	}
	defer c.release(server)
	if !c.keep(client) || !c.keep(server) {
		return
	}
	c.handlers.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.Close() // the client has gone, or was cut off
	})
	if n := c.accepted.Add(1); n <= certainCuts*3/2 && n%3 > 0 || rand.IntN(8) == 0 {
		c.cut(client)
		return
	}
	if _, err := io.CopyN(client, server, rand.Int64N(c.most)); err == nil {
		c.cut(client)
	}
}

// cut ends a connection, in one of two ways: with an orderly end, or a reset.
func (c *cutter) cut(client net.Conn) {
	c.cuts.Add(1)
	if rand.IntN(2) == 0 {
		_ = client.(*net.TCPConn).SetLinger(0)
	}
	_ = client.Close()
}
