package main

import (
	"context"
	_ "embed"
	"errors"
	"os"
)

//go:embed shim/fsync.c
var shimSource []byte

// slowWriters is how many writers there are on the slow disk.
const slowWriters = 64

// measureSlowdisk is the row slowdisk. The library that makes syncs slower is
// preloaded by the program that syncs: the server, or with SQLite the process
// that writes.
func (b *bench) measureSlowdisk(ctx context.Context, p *place) ([]result, error) {
	if p.kind == postgresKind {
		return b.onSlowServer(ctx, p, func(d *database) ([]result, error) {
			return b.slowdisk(ctx, d, func(name string) way { return b.saveWay(d, name, slowWriters, 1) })
		})
	}
	return withShim(ctx, func(library string) ([]result, error) {
		return b.within(p, func(d *database) ([]result, error) {
			return b.slowdisk(ctx, d, func(name string) way {
				return b.processWay(d, name, 1, b.task(name, slowWriters, 1), "LD_PRELOAD="+library)
			})
		})
	})
}

// onSlowServer calls f with a database on a server whose syncs take 1 ms more.
func (b *bench) onSlowServer(ctx context.Context, p *place, f func(*database) ([]result, error)) ([]result, error) {
	return withShim(ctx, func(library string) ([]result, error) {
		return b.within(p, func(d *database) ([]result, error) {
			slow, err := openSlowServer(ctx, d, library)
			if err != nil {
				return nil, err
			}
			results, err := b.within(slow, f)
			return results, errors.Join(err, slow.end())
		})
	})
}

// withShim builds the library that makes syncs slower for as long as f runs.
func withShim(ctx context.Context, f func(library string) ([]result, error)) (_ []result, err error) {
	folder, err := os.MkdirTemp("", "es-benchmark-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	if err := os.Chmod(folder, 0o755); err != nil { // the server may run under another account
		return nil, err
	}
	library, err := buildShim(ctx, folder)
	if err != nil {
		return nil, err
	}
	return f(library)
}

func (b *bench) slowdisk(ctx context.Context, d *database, by func(name string) way) ([]result, error) {
	c := &cell{row: rowSlowdisk, database: d.kind, workers: slowWriters, events: 1, note: "recorder, +1 ms a sync"}
	for _, name := range []string{ours, raw, original} {
		c.ways = append(c.ways, by(name))
	}
	r, err := c.measure(ctx, b.rounds)
	return []result{r}, err
}
