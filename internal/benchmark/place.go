package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
)

// A place is where databases are made: a server, or a folder for files.
type place struct {
	kind string
	// create makes an empty database and returns its address.
	create func() (dsn string, err error)
	end    func() error
}

// openPlace opens a place of one of the kinds.
func openPlace(kind string) (*place, error) {
	if kind == postgresKind {
		return openServer()
	}
	return openFolder()
}

// serverSettings are what differs from a server as it is installed. It syncs
// every commit.
var serverSettings = []string{
	"fsync=on",
	"synchronous_commit=on",
	"autovacuum=off", // every table is analysed before it is used
	"checkpoint_timeout=1h",
	"max_wal_size=8GB",
}

// openServer starts a private PostgreSQL server.
func openServer() (*place, error) {
	l := &lifetime{}
	var cluster *testdb.Cluster
	if err := l.start(func() { cluster = testdb.NewCluster(l, serverSettings...) }); err != nil {
		return nil, errors.Join(err, l.end())
	}
	create := func() (dsn string, err error) {
		err = l.start(func() { dsn = cluster.Database(l) })
		return dsn, err
	}
	return &place{kind: postgresKind, create: create, end: l.end}, nil
}

// openFolder makes a folder for SQLite files.
func openFolder() (*place, error) {
	folder, err := os.MkdirTemp("", "es-benchmark-")
	if err != nil {
		return nil, err
	}
	files := 0
	create := func() (string, error) {
		files++
		return testdb.SQLiteDSN(filepath.Join(folder, fmt.Sprintf("%d.db", files))), nil
	}
	return &place{kind: sqliteKind, create: create, end: func() error { return os.RemoveAll(folder) }}, nil
}

// openSlowServer starts a server whose syncs take longer, by a library that it
// preloads, from the same installation as the server of another database.
//
// A server of testdb has its own environment, so the library cannot be named
// there. But testdb runs the pg_ctl that it finds first, and a script of that
// name can preload the library before it becomes the real one.
func openSlowServer(ctx context.Context, ordinary *database, library string) (_ *place, err error) {
	programs, err := ordinary.programs(ctx)
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "es-benchmark-")
	if err != nil {
		return nil, err
	}
	remove := func() error { return os.RemoveAll(folder) }
	script := fmt.Sprintf("#!/bin/sh\nLD_PRELOAD='%s' exec '%s' \"$@\"\n", library, filepath.Join(programs, "pg_ctl"))
	// The account that runs the server has to read the folder.
	err = errors.Join(os.Chmod(folder, 0o755), os.WriteFile(filepath.Join(folder, "pg_ctl"), []byte(script), 0o755))
	if err != nil {
		return nil, errors.Join(err, remove())
	}
	path := os.Getenv("PATH")
	if err := os.Setenv("PATH", folder+string(os.PathListSeparator)+path); err != nil {
		return nil, errors.Join(err, remove())
	}
	server, err := openServer()
	if err = errors.Join(err, os.Setenv("PATH", path)); err != nil {
		return nil, errors.Join(err, remove())
	}
	end := server.end
	server.end = func() error { return errors.Join(end(), remove()) }
	return server, nil
}

// buildShim compiles the library that makes syncs slower, and returns its path.
func buildShim(ctx context.Context, folder string) (string, error) {
	library := filepath.Join(folder, "fsync.so")
	source := filepath.Join(folder, "fsync.c")
	if err := os.WriteFile(source, shimSource, 0o644); err != nil {
		return "", err
	}
	compiler := "cc"
	if given := os.Getenv("CC"); given != "" {
		compiler = given
	}
	output, err := exec.CommandContext(ctx, compiler, "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("compile the slow disk: %w: %s", err, output)
	}
	return library, nil
}
