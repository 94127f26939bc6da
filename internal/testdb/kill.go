package testdb

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Kill ends all processes of the running server with SIGKILL, as the kernel
// does when memory runs out, and returns when they are gone. [Cluster.Start]
// then recovers from the write-ahead log.
func (c *Cluster) Kill() error {
	if err := c.kill(); err != nil {
		return fmt.Errorf("kill the server: %w", err)
	}
	return nil
}

func (c *Cluster) kill() error {
	lock := filepath.Join(c.data(), "postmaster.pid")
	content, err := os.ReadFile(lock)
	if err != nil {
		return err
	}
	line, _, _ := bytes.Cut(content, []byte("\n"))
	id, err := strconv.Atoi(string(line))
	if err != nil {
		return err
	}
	postmaster, err := os.FindProcess(id)
	if err != nil {
		return err
	}
	if err := stop(postmaster); err != nil { // or it would start others meanwhile
		return err
	}
	for deadline := time.Now().Add(time.Minute); !isStopped(postmaster); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d does not stop", id)
		}
	}
	children, err := childrenOf(id)
	server := append(children, postmaster)
	for _, process := range server {
		if failed := process.Kill(); !errors.Is(failed, os.ErrProcessDone) {
			err = errors.Join(err, failed)
		}
	}
	for deadline := time.Now().Add(time.Minute); err == nil && len(server) > 0; time.Sleep(5 * time.Millisecond) {
		if isGone(server[0]) {
			server = server[1:]
		} else if time.Now().After(deadline) {
			err = fmt.Errorf("process %d does not end", server[0].Pid)
		}
	}
	if err != nil {
		return err
	}
	// If no process has waited for the postmaster, it is a zombie, and its file
	// would keep the next one from starting.
	return os.Remove(lock)
}

// childrenOf returns the children of a process.
func childrenOf(parent int) (children []*os.Process, err error) {
	list, err := processes()
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(list) {
		var id, of int
		if _, err := fmt.Sscan(line, &id, &of); err != nil || of != parent {
			continue
		}
		child, err := os.FindProcess(id)
		if err != nil {
			return nil, err
		}
		children = append(children, child)
	}
	return children, nil
}

// processes returns a line for each process of the system with its id and that
// of its parent.
func processes() (string, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		output, err := exec.Command("ps", "-A", "-o", "pid=,ppid=").Output()
		return string(output), err
	}
	var list strings.Builder
	for _, stat := range stats {
		content, err := os.ReadFile(stat)
		fields := strings.Fields(string(content[bytes.LastIndexByte(content, ')')+1:]))
		if err == nil && len(fields) > 1 { // otherwise it has ended
			fmt.Fprintln(&list, filepath.Base(filepath.Dir(stat)), fields[1])
		}
	}
	return list.String(), nil
}

// isGone reports whether a process has ended, even if no process has waited for
// it.
func isGone(process *os.Process) bool {
	return process.Signal(syscall.Signal(0)) != nil || stateOf(process) == 'Z'
}

// isStopped reports whether a process has got the signal to stop. It is asked
// on Linux; elsewhere nothing says so.
func isStopped(process *os.Process) bool {
	state := stateOf(process)
	return state == 'T' || state == 0
}

// stateOf returns the letter of the state of a process, or 0 if it is not
// known.
func stateOf(process *os.Process) byte {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", process.Pid))
	if end := bytes.LastIndex(stat, []byte(") ")); err == nil && end >= 0 && end+2 < len(stat) {
		return stat[end+2]
	}
	return 0
}
