// Package pythontest runs a small stand-in for the Python library on the
// databases of tests. The program is testdata/library.py; it needs python3 with
// the modules cryptography and psycopg2, which Debian has as
// python3-cryptography and python3-psycopg2.
//
// Where these are missing, a test is skipped with a loud message. If the
// variable CI or REQUIRE_PYTHON is set, it fails.
package pythontest

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
)

//go:embed testdata/library.py
var program []byte

// interpreter finds a Python that has what the program needs. The first one of
// the path may be another than Debian's.
var interpreter = sync.OnceValues(func() (path string, err error) {
	for _, path := range []string{"python3", "/usr/bin/python3"} {
		output, failed := exec.Command(path, "-c", "import cryptography, psycopg2").CombinedOutput()
		if failed == nil {
			return path, nil
		}
		err = errors.Join(err, fmt.Errorf("%s: %w: %s", path, failed, bytes.TrimSpace(output)))
	}
	return "", fmt.Errorf("install python3, python3-cryptography and python3-psycopg2: %w", err)
})

// A Library is the stand-in on one database.
type Library struct {
	python  string
	program string
	address string
	options []string
}

// python returns the interpreter, or ends the test if there is none.
func python(t testing.TB) string {
	t.Helper()
	path, err := interpreter()
	if err != nil {
		if isSet("CI") || isSet("REQUIRE_PYTHON") {
			t.Fatalf("pythontest: %v", err)
		}
		t.Skipf("pythontest: THIS TEST DID NOT RUN: %v", err)
	}
	return path
}

// Eval runs a program in Python with an input, and returns what it printed.
func Eval(t testing.TB, program, input string) string {
	t.Helper()
	run := exec.CommandContext(t.Context(), python(t), "-c", program)
	run.Stdin = strings.NewReader(input)
	output, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("pythontest: %v: %s", err, output)
	}
	return string(output)
}

// New makes a Library on a database. The compressor is "zlib" or "", and the key
// that of the cipher in Base64 or "".
func New(t testing.TB, db *gorm.DB, compressor, key string) *Library {
	t.Helper()
	l := &Library{python: python(t), program: filepath.Join(t.TempDir(), "library.py"), address: address(t, db)}
	if err := os.WriteFile(l.program, program, 0o600); err != nil {
		t.Fatal(err)
	}
	if compressor != "" {
		l.options = append(l.options, "--compressor", compressor)
	}
	if key != "" {
		l.options = append(l.options, "--key", key)
	}
	return l
}

func isSet(name string) bool {
	value := os.Getenv(name)
	return value != "" && value != "0" && value != "false"
}

// address is the address of a database as the program takes it.
func address(t testing.TB, db *gorm.DB) string {
	t.Helper()
	switch d := db.Dialector.(type) {
	case *postgres.Dialector:
		return d.DSN
	case *sqlite.Dialector:
		file, err := url.Parse(d.DSN)
		if err != nil || file.Scheme != "file" {
			t.Fatalf("pythontest: %q is no file", d.DSN)
		}
		return file.Path
	}
	t.Fatalf("pythontest: the database %s has no address", db.Name())
	return ""
}

// Call runs a command and returns what it printed. The command must succeed.
func (l *Library) Call(t testing.TB, command string, arguments ...string) []byte {
	t.Helper()
	output, err := l.Run(t.Context(), command, arguments...)
	if err != nil {
		t.Fatal(err)
	}
	return output
}

// Run runs a command and returns what it printed. It may be called in any
// goroutine.
func (l *Library) Run(ctx context.Context, command string, arguments ...string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	run := exec.CommandContext(ctx, l.python, slices.Concat([]string{l.program}, l.options, []string{l.address, command}, arguments)...)
	run.Stdout, run.Stderr = &stdout, &stderr
	if err := run.Run(); err != nil {
		return nil, fmt.Errorf("pythontest: %s %s: %w: %s", command, strings.Join(arguments, " "), err, &stderr)
	}
	return stdout.Bytes(), nil
}

// Contents are what the library reads from a database. Values have their Python
// types: "Decimal Decimal('10.00')", "datetime 2026-11-23T01:23:01+00:00".
type Contents struct {
	Events []struct {
		ID          int64
		Application string
		Originator  string
		Version     int64
		Topic       string
		State       map[string]any
	}
	// Aggregates are at their last versions, and the History has them at each.
	Aggregates, History []Aggregate
	Snapshots           []struct {
		Originator string
		Version    int64
		Topic      string
		State      map[string]any
	}
	Tracking []Tracking
}

// Aggregate is an aggregate at a version.
type Aggregate struct {
	Application string
	Originator  string
	Version     int64
	Class       string
	State       map[string]any
}

// Tracking is a position, and of how many rows it consists.
type Tracking struct {
	Application, Upstream string
	Rows, Position        int64
}

// Read reads everything that is stored. The library has rebuilt each aggregate
// at each of its versions, with snapshots and without, to the same state.
func (l *Library) Read(t testing.TB) (contents Contents) {
	t.Helper()
	Decode(t, l.Call(t, "read"), &contents)
	return contents
}

// Decode decodes what a command printed.
func Decode(t testing.TB, output []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(output, into); err != nil {
		t.Fatalf("pythontest: %v: %s", err, output)
	}
}
