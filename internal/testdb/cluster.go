package testdb

import (
	"bytes"
	"cmp"
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
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A Mode says how [Cluster.Stop] ends the server.
type Mode string

const (
	// Smart waits until every client has disconnected.
	Smart Mode = "smart"
	// Fast disconnects the clients, rolls back their transactions and shuts
	// down in good order.
	Fast Mode = "fast"
	// Immediate aborts without a word, as a crash does; the next start recovers
	// from the write-ahead log.
	Immediate Mode = "immediate"
)

// A Cluster is a private PostgreSQL server. Its address stays the same when it
// is stopped and started. Stop and Start must not run at the same time.
type Cluster struct {
	pgCtl   string
	folder  string // holds the data folder and the log of the server
	port    int
	process *syscall.SysProcAttr

	guard     *exec.Cmd
	guardPipe io.Closer // held open by this process only; the guard acts when it closes
}

// NewCluster starts a cluster for t alone, which ends with t. The settings are
// lines of postgresql.conf, such as "fsync=off" or "max_connections=5", and win
// over the defaults: fsync on, 200 connections. Turn fsync off unless the test
// is about the loss of power: what a killed server has written survives without
// it, and a synced cluster may take seconds to start. Like [Postgres],
// NewCluster skips the test where PostgreSQL is missing.
func NewCluster(t testing.TB, settings ...string) *Cluster {
	t.Helper()
	cluster, err := startCluster(settings...)
	if err != nil {
		unavailable(t, err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("testdb: end of the log of the server:\n%s", cluster.logTail())
		}
		if err := cluster.close(); err != nil {
			t.Errorf("testdb: %v", err)
		}
	})
	return cluster
}

// NewStandby starts a hot standby of the cluster for t alone, which ends with
// t.
func (c *Cluster) NewStandby(t testing.TB) *Cluster {
	t.Helper()
	standby, err := makeCluster(filepath.Dir(c.folder))
	if err != nil {
		unavailable(t, err)
	}
	t.Cleanup(func() {
		if err := standby.close(); err != nil {
			t.Errorf("testdb: %v", err)
		}
	})
	pgCtl, err := filepath.EvalSymlinks(standby.pgCtl) // its folder has the other programs
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
	backup := standby.command(filepath.Join(filepath.Dir(pgCtl), "pg_basebackup"), "--host=127.0.0.1",
		"--port="+strconv.Itoa(c.port), "--username=postgres", "--pgdata="+standby.data(), "--write-recovery-conf",
		"--checkpoint=fast", "--no-sync")
	if output, err := backup.CombinedOutput(); err != nil {
		t.Fatalf("testdb: pg_basebackup: %v: %s", err, bytes.TrimSpace(output))
	}
	if err := standby.startOnFreePort(nil); err != nil {
		t.Fatalf("testdb: %v", err)
	}
	return standby
}

// DSN returns the address of the named database, which need not exist yet. The
// database "postgres" always exists.
func (c *Cluster) DSN(database string) string {
	server := url.URL{
		Scheme:   "postgres",
		User:     url.User("postgres"),
		Host:     c.address(),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	return server.String()
}

// Database returns the DSN of a new database, which lives as long as the
// cluster.
func (c *Cluster) Database(t testing.TB) string {
	t.Helper()
	return c.DSN(createDatabase(t, c.DSN("postgres"), execute))
}

// Start starts the stopped server and returns when it accepts connections.
//
// A server that was killed leaves processes that end when they notice it. On a
// busy machine they may take seconds, and until then no server can start.
func (c *Cluster) Start() error {
	for deadline := time.Now().Add(leftoversTime); ; time.Sleep(100 * time.Millisecond) {
		err := c.control("start", "--log="+c.log())
		if err == nil {
			return nil
		}
		tail := c.logTail()
		if !strings.Contains(tail, "pre-existing shared memory block") || time.Now().After(deadline) {
			return fmt.Errorf("%w\n%s", err, tail)
		}
		if err := os.Truncate(c.log(), 0); err != nil { // what it says is of the last attempt
			return err
		}
	}
}

// leftoversTime is how long Start waits for processes of a killed server.
// One that has just been forked waits for its client for a minute at most.
const leftoversTime = 90 * time.Second

// Stop stops the running server and returns when it is gone.
func (c *Cluster) Stop(mode Mode) error {
	return c.control("stop", "--mode="+string(mode))
}

// startCluster makes a new cluster and starts it. The caller must close it.
func startCluster(settings ...string) (*Cluster, error) {
	parent := "" // the temporary folder
	if slices.Contains(settings, "fsync=off") {
		parent = memoryFolder()
	}
	c, err := makeCluster(parent)
	if err != nil {
		return nil, err
	}
	if err := c.create(settings); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// makeCluster makes the folder of a cluster and the guard that removes it.
func makeCluster(parent string) (*Cluster, error) {
	pgCtl, err := findPgCtl()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp(parent, "es-postgres-")
	if err != nil {
		return nil, err
	}
	process, err := unprivileged(folder)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	c := &Cluster{pgCtl: pgCtl, folder: folder, process: process}
	if err := c.startGuard(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(folder))
	}
	return c, nil
}

// create makes the data folder and starts the server.
func (c *Cluster) create(settings []string) error {
	made, err := template()
	if err != nil {
		return err
	}
	if output, err := c.command("cp", "-R", made.data(), c.data()).CombinedOutput(); err != nil {
		return fmt.Errorf("copy the template of a cluster: %w: %s", err, bytes.TrimSpace(output))
	}
	return c.startOnFreePort(settings)
}

// initialise makes the data folder as initdb does.
func (c *Cluster) initialise() error {
	return c.control("initdb",
		"--options=--auth=trust --username=postgres --encoding=UTF8 --locale=C --no-sync")
}

// startOnFreePort configures and starts the server. Another process may take a
// port between the moment it is found free and the moment the server listens on
// it, so a few ports are tried.
func (c *Cluster) startOnFreePort(settings []string) (err error) {
	for range 3 {
		if c.port, err = freePort(); err != nil {
			return err
		}
		if err = c.configure(settings); err != nil {
			return err
		}
		if err = c.Start(); err == nil {
			return nil
		}
	}
	return err
}

// configure appends to the configuration that initdb wrote; of two lines for
// one setting, the later counts.
func (c *Cluster) configure(settings []string) error {
	lines := slices.Concat([]string{
		"listen_addresses='127.0.0.1'",
		"port=" + strconv.Itoa(c.port),
		// The path of a socket must be short; that of a temporary folder need not be.
		"unix_socket_directories=''",
		"max_connections=200",
	}, settings, []string{""})
	file, err := os.OpenFile(filepath.Join(c.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(strings.Join(lines, "\n"))
	return errors.Join(err, file.Close())
}

// close stops the server, if it runs, and removes the folder of the cluster.
func (c *Cluster) close() error {
	c.guardPipe.Close()
	err := c.guard.Wait()
	return errors.Join(err, os.RemoveAll(c.folder))
}

// guardScript is the life of a guard, for $1 the pg_ctl command and $2 the
// folder of a cluster. Its input is a pipe that only the test process holds, so
// the first line returns when that process closes the pipe or ends in any way.
//
// If the tests end while a command of theirs still makes or starts the cluster,
// that command may put files back, hence the loop; a server that finds its
// folder gone ends itself. The last line may fail, since the owner of a folder
// cannot remove it from every kind of parent; then only an empty one is left.
const guardScript = `
cat
"$1" stop --silent --mode=immediate --pgdata="$2/data"
until rm -rf "$2/data"; do sleep 1; done
rm -rf "$2" || true
`

// startGuard starts the process that ends the cluster, whether [Cluster.close]
// asks for it or the test process is gone.
func (c *Cluster) startGuard() error {
	c.guard = c.command("sh", "-c", guardScript, "sh", c.pgCtl, c.folder)
	pipe, err := c.guard.StdinPipe()
	if err != nil {
		return err
	}
	c.guardPipe = pipe
	return c.guard.Start()
}

// control runs a pg_ctl command on the cluster and waits for its effect.
func (c *Cluster) control(command string, args ...string) error {
	args = append([]string{command, "--silent", "--wait", "--pgdata=" + c.data()}, args...)
	output, err := c.command(c.pgCtl, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("pg_ctl %s: %w: %s", command, err, bytes.TrimSpace(output))
	}
	return nil
}

// command returns a command that runs as the owner of the cluster, untouched by
// the PG* variables and the locale of the caller.
func (c *Cluster) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = c.folder
	// Each connection is a fork of the server. With LD_BIND_NOW the server resolves
	// the symbols of its libraries once, not each fork those it uses.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "LD_BIND_NOW=1"}
	cmd.SysProcAttr = c.process
	return cmd
}

// version returns the major version of PostgreSQL that made the data folder, 0
// if it cannot be read.
func (c *Cluster) version() int {
	text, _ := os.ReadFile(filepath.Join(c.data(), "PG_VERSION"))
	version, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return version
}

func (c *Cluster) data() string    { return filepath.Join(c.folder, "data") }
func (c *Cluster) log() string     { return filepath.Join(c.folder, "log") }
func (c *Cluster) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)) }

// logTail returns the last lines of the log of the server.
func (c *Cluster) logTail() string {
	log, err := os.ReadFile(c.log())
	if err != nil {
		return err.Error()
	}
	return string(log[max(0, len(log)-4096):])
}

// errNotInstalled means that this machine has no PostgreSQL server to start.
var errNotInstalled = errors.New("PostgreSQL is missing: install it (Debian: apt-get install postgresql; " +
	"macOS: brew install postgresql), or set POSTGRES_DSN to a server on which tests may create databases")

// findPgCtl returns the pg_ctl command: the one on the PATH, or else the newest
// of those that Debian keeps off it.
func findPgCtl() (string, error) {
	if path, err := exec.LookPath("pg_ctl"); err == nil {
		return path, nil
	}
	paths, err := filepath.Glob("/usr/lib/postgresql/*/bin/pg_ctl")
	if err != nil || len(paths) == 0 {
		return "", errNotInstalled
	}
	return slices.MaxFunc(paths, func(a, b string) int {
		return cmp.Compare(debianVersion(a), debianVersion(b))
	}), nil
}

// debianVersion returns 15 for /usr/lib/postgresql/15/bin/pg_ctl.
func debianVersion(path string) float64 {
	version, _ := strconv.ParseFloat(filepath.Base(filepath.Dir(filepath.Dir(path))), 64)
	return version
}

// freePort returns a free loopback port from below the range that systems give
// to outgoing connections (32768 and up). A port of that range could be taken
// while the server is stopped, and the server could not start again.
func freePort() (int, error) {
	var err error
	for range 100 {
		port := 10_000 + rand.IntN(20_000)
		var listener net.Listener
		if listener, err = net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, listener.Close()
		}
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}
