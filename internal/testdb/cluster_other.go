//go:build !unix

package testdb

import (
	"errors"
	"os"
	"syscall"
)

// unprivileged fails: clusters need the processes and accounts of Unix. Tests
// on other systems set POSTGRES_DSN.
func unprivileged(string) (*syscall.SysProcAttr, error) {
	return nil, errors.Join(errNotInstalled, errors.ErrUnsupported)
}

// stop fails, as unprivileged does.
func stop(*os.Process) error { return errors.ErrUnsupported }
