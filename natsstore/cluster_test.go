package natsstore_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/logger"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// nodeVariable has the settings of a server that this test program is to be.
const nodeVariable = "NATSSTORE_TEST_NODE"

// node is a server of a cluster, in a separate process.
type node struct {
	Name       string
	StoreDir   string
	ClientPort int
	RoutePort  int // 0 if it is in no cluster
	HTTPPort   int
	Routes     []string // through links
	Always     bool     // sync_interval: always

	process *exec.Cmd
	stdin   io.Closer
}

// runNode is the process of a node. It ends with its standard input.
func runNode(settings string) {
	var n node
	if err := json.Unmarshal([]byte(settings), &n); err != nil {
		panic(err)
	}
	options := serverOptions(n.StoreDir)
	options.ServerName, options.Port = n.Name, n.ClientPort
	options.HTTPHost, options.HTTPPort = "127.0.0.1", n.HTTPPort
	options.SyncAlways = n.Always
	if n.RoutePort > 0 {
		options.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: n.RoutePort,
			Advertise: "127.0.0.1:9"} // no server listens there: they use links only
	}
	for _, route := range n.Routes {
		options.Routes = append(options.Routes, &url.URL{Scheme: "nats", Host: route})
	}
	s, err := server.NewServer(options)
	if err != nil {
		panic(err)
	}
	if os.Getenv("NATS_TEST_LOG") != "" {
		s.SetLoggerV2(logger.NewStdLogger(true, false, false, false, true), false, false, false)
	}
	s.Start()
	io.Copy(io.Discard, os.Stdin)
	s.Shutdown()
	s.WaitForShutdown()
}

// looksForRaces says that this program was built with -race.
var looksForRaces bool

// nodeProgram returns the program that nodes run: this one, or, if it looks for
// races, one that does not, because the servers are not what is tested and would
// take several times as long.
var nodeProgram = sync.OnceValues(func() (string, error) {
	if !looksForRaces {
		return os.Executable()
	}
	program := filepath.Join(scratch, "node.test")
	if out, err := exec.Command("go", "test", "-c", "-o", program, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program of the nodes: %w\n%s", err, out)
	}
	return program, nil
})

func (n *node) url() string { return fmt.Sprintf("nats://127.0.0.1:%d", n.ClientPort) }

func (n *node) start(t testing.TB) {
	t.Helper()
	settings, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	program, err := nodeProgram()
	if err != nil {
		t.Fatal(err)
	}
	n.process = exec.Command(program)
	n.process.Env = append(os.Environ(), nodeVariable+"="+string(settings))
	n.process.Stderr = os.Stderr
	if n.stdin, err = n.process.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := n.process.Start(); err != nil {
		t.Fatal(err)
	}
}

// kill ends the process as a crash does, and stop as an operator does.
func (n *node) kill() {
	n.process.Process.Kill()
	n.process.Wait()
}

func (n *node) stop() {
	n.stdin.Close()
	n.process.Wait()
}

func (n *node) freeze(t testing.TB) { n.signal(t, syscall.SIGSTOP) }
func (n *node) thaw(t testing.TB)   { n.signal(t, syscall.SIGCONT) }

func (n *node) signal(t testing.TB, signal os.Signal) {
	t.Helper()
	if err := n.process.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

// link is what two servers reach each other through.
type link struct {
	from, to int
	listener net.Listener
	target   string

	mu    sync.Mutex // protects what follows
	cut   bool
	delay time.Duration
	conns []net.Conn
}

func newLink(t testing.TB, from, to int, target string) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{from: from, to: to, listener: listener, target: target}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			group.Go(func() { l.serve(in) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		l.set(true, 0)
		group.Wait()
	})
	return l
}

// set cuts the link or joins it, and delays what goes through it.
func (l *link) set(cut bool, delay time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut, l.delay = cut, delay
	if cut {
		for _, conn := range l.conns {
			conn.Close()
		}
		l.conns = nil
	}
}

func (l *link) serve(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", l.target)
	if err != nil {
		return
	}
	defer out.Close()
	l.mu.Lock()
	cut := l.cut
	if !cut {
		l.conns = append(l.conns, in, out)
	}
	l.mu.Unlock()
	if cut {
		return
	}
	var group sync.WaitGroup
	group.Go(func() { l.pass(out, in) })
	l.pass(in, out)
	group.Wait()
}

// pass passes on what it reads, each piece as late as the link says.
func (l *link) pass(to, from net.Conn) {
	defer to.Close()
	type piece struct {
		bytes []byte
		due   time.Time
	}
	pieces := make(chan piece, 1<<14)
	go func() {
		defer close(pieces)
		for {
			buffer := make([]byte, 64<<10)
			n, err := from.Read(buffer)
			l.mu.Lock()
			due := time.Now().Add(l.delay)
			l.mu.Unlock()
			if n > 0 {
				pieces <- piece{buffer[:n], due}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range pieces {
		if wait := time.Until(p.due); wait > 0 {
			time.Sleep(wait)
		}
		if _, err := to.Write(p.bytes); err != nil {
			from.Close()
		}
	}
}

// startAlone starts a server in a separate process, and connects to it.
func startAlone(t testing.TB) *nats.Conn {
	t.Helper()
	n := &node{Name: "alone", StoreDir: t.TempDir(), ClientPort: freePort(t), HTTPPort: freePort(t)}
	c := &cluster{nodes: []*node{n}}
	n.start(t)
	t.Cleanup(n.kill)
	c.ready(t, 0)
	return c.connect(t, 0)
}

// cluster is three servers, each in a separate process.
type cluster struct {
	nodes []*node
	links []*link
}

// clusters has an entry for each cluster that runs. More at the same time would
// wait for processors longer than for elections.
var clusters = make(chan struct{}, 4)

// startCluster starts servers that write to disk before they answer, or every
// two minutes.
func startCluster(t testing.TB, always bool) *cluster {
	t.Helper()
	return startLinked(t, always, true)
}

// startLinked starts servers that reach each other through links, which cost
// time, or directly.
func startLinked(t testing.TB, always, linked bool) *cluster {
	t.Helper()
	clusters <- struct{}{}
	t.Cleanup(func() { <-clusters })
	c := &cluster{}
	folder := t.TempDir()
	for i := range 3 {
		name := fmt.Sprintf("n%d", i+1)
		c.nodes = append(c.nodes, &node{Name: name, StoreDir: filepath.Join(folder, name), ClientPort: freePort(t), RoutePort: freePort(t),
			HTTPPort: freePort(t), Always: always})
	}
	for i, n := range c.nodes {
		for j := range c.nodes {
			if j == i {
				continue
			}
			address := fmt.Sprintf("127.0.0.1:%d", c.nodes[j].RoutePort)
			if !linked {
				n.Routes = append(n.Routes, address)
				continue
			}
			l := newLink(t, i, j, address)
			c.links = append(c.links, l)
			n.Routes = append(n.Routes, l.listener.Addr().String())
		}
		n.start(t)
	}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			n.process.Process.Signal(syscall.SIGCONT)
			n.kill()
		}
	})
	for i := range c.nodes {
		c.ready(t, i)
	}
	conn := c.connect(t, 0)
	eventually(t, func() error { // until the servers know each other
		reply, err := conn.Request("$JS.API.STREAM.CREATE.ready", []byte(`{"name":"ready","subjects":["ready"],"num_replicas":3}`), 5*time.Second)
		if err == nil && strings.Contains(string(reply.Data), `"error"`) {
			err = errors.New(string(reply.Data))
		}
		return err
	})
	return c
}

// freePort returns a free port below those that systems give to outgoing
// connections (32768 and up): one of these could be taken while a node is down.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 10_000 + rand.IntN(20_000)
		if listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			listener.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// ready waits until JetStream answers at a node.
func (c *cluster) ready(t testing.TB, i int) {
	t.Helper()
	eventually(t, func() error {
		conn, err := nats.Connect(c.nodes[i].url())
		if err != nil {
			return err
		}
		defer conn.Close()
		reply, err := conn.Request("$JS.API.INFO", nil, time.Second)
		if err == nil && strings.Contains(string(reply.Data), `"error"`) {
			err = errors.New(string(reply.Data))
		}
		return err
	})
}

// connect connects to a node first, and to the others if it is away.
func (c *cluster) connect(t testing.TB, first int) *nats.Conn {
	t.Helper()
	return connect(t, c.urls(first))
}

func (c *cluster) urls(first int) string {
	urls := make([]string, len(c.nodes))
	for i := range c.nodes {
		urls[i] = c.nodes[(first+i)%len(c.nodes)].url()
	}
	return strings.Join(urls, ",")
}

// monitoring returns the monitoring URLs of all nodes.
func (c *cluster) monitoring() (urls []string) {
	for _, n := range c.nodes {
		urls = append(urls, fmt.Sprintf("http://127.0.0.1:%d", n.HTTPPort))
	}
	return urls
}

// only connects to one node.
func (c *cluster) only(t testing.TB, i int) *nats.Conn {
	t.Helper()
	return connect(t, c.nodes[i].url())
}

// partition cuts a node off from the others, and heal joins all.
func (c *cluster) partition(node int) {
	for _, l := range c.links {
		if l.from == node || l.to == node {
			l.set(true, 0)
		}
	}
}

func (c *cluster) heal() {
	for _, l := range c.links {
		l.set(false, 0)
	}
}

// slow delays what a node exchanges with the others.
func (c *cluster) slow(node int, delay time.Duration) {
	for _, l := range c.links {
		if l.from == node || l.to == node {
			l.set(false, delay)
		}
	}
}

// info returns what the leader says about a stream.
func streamInfo(conn *nats.Conn, stream string) (*jetstream.StreamInfo, error) {
	reply, err := conn.Request("$JS.API.STREAM.INFO."+stream, nil, 2*time.Second)
	if err != nil {
		return nil, err
	}
	var info struct {
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
		jetstream.StreamInfo
	}
	if err := json.Unmarshal(reply.Data, &info); err != nil {
		return nil, err
	}
	if info.Error != nil {
		return nil, errors.New(info.Error.Description)
	}
	return &info.StreamInfo, nil
}

// leader returns the node that leads a stream.
func (c *cluster) leader(t testing.TB, conn *nats.Conn, stream string) int {
	t.Helper()
	leader := -1
	eventually(t, func() error {
		info, err := streamInfo(conn, stream)
		if err != nil {
			return err
		}
		leader = slices.IndexFunc(c.nodes, func(n *node) bool { return n.Name == info.Cluster.Leader })
		if leader < 0 {
			return errors.New("stream " + stream + " has no leader")
		}
		return nil
	})
	return leader
}

// lead makes a node the leader of a stream.
func (c *cluster) lead(t testing.TB, conn *nats.Conn, stream string, node int) {
	t.Helper()
	eventually(t, func() error {
		info, err := streamInfo(conn, stream)
		if err != nil {
			return err
		}
		if info.Cluster.Leader == c.nodes[node].Name {
			return nil
		}
		body := fmt.Sprintf(`{"placement":{"preferred":%q}}`, c.nodes[node].Name)
		if _, err := conn.Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream, []byte(body), 2*time.Second); err != nil {
			return err
		}
		return errors.New("the leader is " + info.Cluster.Leader)
	})
}

// settled waits until all replicas have all messages of a stream.
func (c *cluster) settled(t testing.TB, conn *nats.Conn, stream string) *jetstream.StreamInfo {
	t.Helper()
	var settled *jetstream.StreamInfo
	eventually(t, func() error {
		info, err := streamInfo(conn, stream)
		if err != nil {
			return err
		}
		if info.Cluster.Leader == "" || len(info.Cluster.Replicas) != 2 {
			return errors.New("stream " + stream + " has no leader")
		}
		for _, replica := range info.Cluster.Replicas {
			if !replica.Current || replica.Offline || replica.Lag > 0 {
				return fmt.Errorf("replica %s has not caught up: %+v", replica.Name, *replica)
			}
		}
		settled = info
		return nil
	})
	return settled
}
