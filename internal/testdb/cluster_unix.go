//go:build unix

package testdb

import (
	"errors"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// unprivileged returns the attributes of processes that work on the folder of a
// cluster. They form their own sessions, so that an interrupt from the terminal
// reaches the tests but not the server or its guard. PostgreSQL refuses to run
// as root; if the tests do, the folder is given to an unprivileged account, and
// the processes run under it.
func unprivileged(folder string) (*syscall.SysProcAttr, error) {
	process := &syscall.SysProcAttr{Setsid: true}
	if os.Geteuid() != 0 {
		return process, nil
	}
	account, err := firstAccount("postgres", "nobody")
	if err != nil {
		return nil, err
	}
	if err := os.Chown(folder, int(account.Uid), int(account.Gid)); err != nil {
		return nil, err
	}
	process.Credential = account
	return process, nil
}

// firstAccount returns the first of the named accounts that exists.
func firstAccount(names ...string) (*syscall.Credential, error) {
	var missing error
	for _, name := range names {
		account, err := user.Lookup(name)
		if err != nil {
			missing = errors.Join(missing, err)
			continue
		}
		uid, errUID := strconv.ParseUint(account.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(account.Gid, 10, 32)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(errUID, errGID)
	}
	return nil, missing
}

// stop keeps a process from running.
func stop(process *os.Process) error { return process.Signal(syscall.SIGSTOP) }
