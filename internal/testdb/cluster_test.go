package testdb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gorm.io/driver/postgres"
)

func TestClusterStopAndStart(t *testing.T) {
	t.Parallel()
	cluster := NewCluster(t, "fsync=off")
	db := Open(t, postgres.Open(cluster.Database(t)))
	createTable(t, db)

	ends := map[string]func() error{"killed": cluster.Kill}
	for _, mode := range []Mode{Immediate, Fast} {
		ends[string(mode)] = func() error { return cluster.Stop(mode) }
	}
	for mode, end := range ends {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if hasTable(db) {
			t.Errorf("%s: the server still answers", mode)
		}
		if err := cluster.Start(); err != nil {
			t.Fatal(err)
		}
		if err := pool(t, db).PingContext(t.Context()); err != nil {
			t.Errorf("%s: connect again: %v", mode, err)
		}
		if !hasTable(db) {
			t.Errorf("%s: the table is gone", mode)
		}
	}
}

// All processes of a server that is killed have ended when Kill returns.
func TestClusterKill(t *testing.T) {
	t.Parallel()
	cluster := NewCluster(t, "fsync=off")
	db := Open(t, postgres.Open(cluster.DSN("postgres")))
	var backend int
	if err := db.Raw("SELECT pg_backend_pid()").Scan(&backend).Error; err != nil {
		t.Fatal(err)
	}
	process, err := os.FindProcess(backend)
	if err != nil {
		t.Fatal(err)
	}
	if isGone(process) {
		t.Error("a process that runs counts as gone")
	}
	if err := cluster.Kill(); err != nil {
		t.Fatal(err)
	}
	if !isGone(process) {
		t.Error("a process of the server still runs")
	}
	if err := cluster.Kill(); err == nil {
		t.Error("a server that does not run was killed")
	}
	if err := cluster.Start(); err != nil {
		t.Error(err)
	}
}

func TestClusterSettings(t *testing.T) {
	t.Parallel()
	db := Open(t, postgres.Open(NewCluster(t, "max_connections=7", "work_mem='1MB'").DSN("postgres")))
	for setting, want := range map[string]string{"fsync": "on", "max_connections": "7", "work_mem": "1MB"} {
		var got string
		if err := db.Raw("SHOW " + setting).Scan(&got).Error; err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", setting, got, err, want)
		}
	}
}

// A cluster that does not start says why, and leaves nothing.
func TestClusterStartFails(t *testing.T) {
	temporary := t.TempDir()
	// The account that runs the server must reach the folder, as it does /tmp.
	if err := errors.Join(os.Chmod(temporary, 0o777), os.Chmod(filepath.Dir(temporary), 0o755)); err != nil {
		t.Fatal(err)
	}
	if _, err := template(); err != nil { // which other tests go on to use
		unavailable(t, err)
	}
	t.Setenv("TMPDIR", temporary)
	_, err := startCluster("no_such_setting=1")
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("got %v, want the name of the setting", err)
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v, want no error and 0 of them", left, err)
	}
}

func TestFindPgCtlPrefersNewest(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]float64{
		"/usr/lib/postgresql/9.6/bin/pg_ctl": 9.6,
		"/usr/lib/postgresql/15/bin/pg_ctl":  15,
	} {
		if got := debianVersion(path); got != want {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
	}
}

// Neither the server nor its folder outlive the process that started them,
// however that process ends.
func TestClusterEndsWithProcess(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		end  func(*exec.Cmd) error
	}{
		{"killed", func(victim *exec.Cmd) error { return victim.Process.Kill() }},
		{"terminated", func(victim *exec.Cmd) error { return victim.Process.Signal(syscall.SIGTERM) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			victim, folder, address := startVictim(t)
			if err := row.end(victim); err != nil {
				t.Fatal(err)
			}
			_ = victim.Wait() // reports the signal
			waitUntil(t, "the server is gone", func() bool { return !answers(address) })
			waitUntil(t, "its folder is gone", func() bool {
				_, err := os.Stat(folder)
				return errors.Is(err, fs.ErrNotExist)
			})
		})
	}
}

// victimVariable makes the test binary run [victim] in place of the tests.
const victimVariable = "TESTDB_VICTIM"

// victim starts the shared cluster, prints its folder and address, and hangs.
func victim() {
	cluster, err := sharedCluster()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(cluster.folder, cluster.address())
	time.Sleep(time.Hour)
}

func startVictim(t *testing.T) (process *exec.Cmd, folder, address string) {
	t.Helper()
	if _, err := findPgCtl(); err != nil {
		unavailable(t, err)
	}
	process = exec.Command(os.Args[0])
	process.Env = append(os.Environ(), victimVariable+"=1")
	output, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = process.Process.Kill() }) // of no effect after Wait
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatalf("output of the process: %q, %v", line, err)
	}
	if _, err := fmt.Sscan(line, &folder, &address); err != nil {
		t.Fatalf("output of the process: %q, %v", line, err)
	}
	if !answers(address) {
		t.Fatalf("no server at %s", address)
	}
	return process, folder, address
}

// answers reports whether something listens at the address.
func answers(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func waitUntil(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatalf("waiting in vain until %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
