package testdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Kill ends all processes of the running server with SIGKILL, as the kernel does
// when memory runs out, and returns when they are gone. [Cluster.Start] then
// recovers from the write-ahead log.
func (c *Cluster) Kill() error {
	ids, err := c.processes()
	if err != nil {
		return fmt.Errorf("kill the server: %w", err)
	}
	var server []*os.Process
	for _, id := range ids { // the first one starts the others
		process, err := os.FindProcess(id)
		if err != nil {
			return fmt.Errorf("kill the server: %w", err)
		}
		server = append(server, process)
	}
	for _, process := range server {
		if err := process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("kill process %d of the server: %w", process.Pid, err)
		}
	}
	for deadline := time.Now().Add(time.Minute); len(server) > 0; time.Sleep(5 * time.Millisecond) {
		if isGone(server[0]) {
			server = server[1:]
		} else if time.Now().After(deadline) {
			return fmt.Errorf("process %d of the server does not end", server[0].Pid)
		}
	}
	// The file would keep the next server from starting if the process is a zombie,
	// because nobody has waited for it.
	return os.Remove(filepath.Join(c.data(), "postmaster.pid"))
}

// processes returns the ids of the server's processes, of the postmaster first.
func (c *Cluster) processes() (ids []int, err error) {
	file, err := os.ReadFile(filepath.Join(c.data(), "postmaster.pid"))
	if err != nil {
		return nil, err
	}
	line, _, _ := bytes.Cut(file, []byte("\n"))
	postmaster, err := strconv.Atoi(string(line))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.DSN("postgres"))
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "SELECT pid FROM pg_stat_activity")
	if err != nil {
		return nil, err
	}
	others, err := pgx.CollectRows(rows, pgx.RowTo[int])
	return append([]int{postmaster}, others...), err
}

// isGone reports whether a process has ended, even if nobody has waited for it.
func isGone(process *os.Process) bool {
	if process.Signal(syscall.Signal(0)) != nil {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", process.Pid))
	_, state, found := bytes.Cut(stat, []byte(") "))
	return err == nil && found && bytes.HasPrefix(state, []byte("Z"))
}
