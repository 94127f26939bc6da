package gormstore_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
)

// A test that needs other processes runs its own program again, as a child that
// does one command and ends. The variables say which, and on which database.
const (
	childCommand  = "GORMSTORE_TEST_COMMAND"
	childDatabase = "GORMSTORE_TEST_DATABASE"
	childDSN      = "GORMSTORE_TEST_DSN"
)

// child is the program of a child. It returns the exit code.
func child(command string) int {
	open := func() (*gorm.DB, error) {
		if path := os.Getenv(childDSN); filepath.IsAbs(path) {
			return gormstore.OpenSQLite(sqlite.Open, path, &gorm.Config{Logger: logger.Discard})
		}
		return gorm.Open(dialector(os.Getenv(childDatabase), os.Getenv(childDSN)), &gorm.Config{Logger: logger.Discard})
	}
	db, err := open()
	for command == "write" && err != nil { // the server is killed as well
		time.Sleep(10 * time.Millisecond)
		db, err = open()
	}
	if err == nil {
		switch command {
		case "migrate":
			err = gormstore.AutoMigrate(db)
		case "write":
			err = writeUntilEnd(db)
		case followPython, followPythonControl:
			err = followBesideTheLibrary(db, command)
		default:
			err = fmt.Errorf("unknown command %q", command)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// startChild starts a child. Its standard error is written to the buffer.
func startChild(t testing.TB, command, database, dsn string, stderr *bytes.Buffer) *exec.Cmd {
	t.Helper()
	cmd := childOf(t, command, database, dsn)
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// childOf makes the command of a child.
func childOf(t testing.TB, command, database, dsn string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), childCommand+"="+command, childDatabase+"="+database, childDSN+"="+dsn,
		"GORACE=atexit_sleep_ms=0") // the race detector waits at the end of a process
	return cmd
}
