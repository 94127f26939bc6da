//go:build !unix

package testdb

import (
	"errors"
	"syscall"
)

// unprivileged fails: clusters need the processes and accounts of Unix. Tests on
// other systems set POSTGRES_DSN.
func unprivileged(string) (*syscall.SysProcAttr, error) {
	return nil, errors.Join(errNotInstalled, errors.ErrUnsupported)
}
