package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// The tests are their own workers.
func TestMain(m *testing.M) {
	if os.Getenv(workerVariable) != "" {
		os.Exit(exitCode(work(context.Background(), os.Stdin, os.Stdout), os.Stderr))
	}
	os.Exit(testdb.Main(m))
}

// Every row runs, counts right and gets into the tables and the file.
func TestRunAllRows(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "figures.json")
	var out strings.Builder
	err := run(t.Context(), []string{
		"-databases", sqliteKind, "-writers", "1,16", "-seconds", "0.02", "-warmup", "0.005", "-rounds", "1", "-preload", "200",
		"-histories", "10,100", "-json", file, "-backlog", "1200", "-deliveries", "5", "-followed", "1500", "-idle", "2",
	}, &out, &out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"SQLite 3.", "a sync takes", "figures to reach", "Repository.Get", "Application.Save"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, &out)
		}
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var figures struct{ Results []result }
	if err := json.Unmarshal(content, &figures); err != nil {
		t.Fatal(err)
	}
	measured := map[string]bool{}
	for _, r := range figures.Results {
		measured[r.Row] = true
		for _, f := range r.Figures {
			if f.Median.Rate <= 0 || f.Best < f.Median.Rate || f.Median.P99 < f.Median.P50 {
				t.Errorf("%s: %+v makes no sense, want Rate more than 0, Best at least %v and P99 at least %v", r.Row, f, f.Median.Rate, f.Median.P50)
			}
		}
	}
	for _, row := range rowNames() {
		if !measured[row] && row != rowContention && row != rowScale { // which need writers that run at the same time, so PostgreSQL
			t.Errorf("%s was not measured", row)
		}
	}
}

// The row scale runs on servers of its own, and counts right.
func TestScale(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	err := run(t.Context(), []string{"-databases", postgresKind, "-rows", rowScale, "-writers", "1", "-seconds", "0.02", "-warmup", "0",
		"-rounds", "1", "-preload", "10", "-backlog", "200", "-slow", "40"}, &out, &out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{oneServer, synchronousStandby, oneDatabase, twoServers, notDivided, "4 processes"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, &out)
		}
	}
}

// Events of another process come to the policy, with and without a listener.
func TestDeliveryBetweenProcesses(t *testing.T) {
	t.Parallel()
	p, err := openServer()
	if err != nil {
		t.Skip(err) // tests of other packages fail where PostgreSQL is required
	}
	defer func() {
		if err := p.end(); err != nil {
			t.Error(err)
		}
	}()
	b := &bench{config: config{rounds: 1, followers: followers{deliveries: 3}}}
	results, err := b.measureDelivery(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{ours, listening, polling} {
		if f, ok := results[0].of(name); !ok || f.Median.Rate <= 0 || f.Median.P50 < 0 {
			t.Errorf("%s: got %+v, want Rate more than 0 and P50 at least 0", name, f)
		}
	}
}

// A follower that has left out events gives no figure.
func TestVoidCatchUp(t *testing.T) {
	t.Parallel()
	p, err := openFolder()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.end(); err != nil {
			t.Error(err)
		}
	}()
	_, err = (&bench{}).within(p, func(d *database) ([]result, error) {
		h := &history{application: applicationName, events: 700}
		if err := d.record(t.Context(), h); err != nil {
			return nil, err
		}
		h.events++
		for _, w := range []way{follow(d, ours, h, nil), readRaw(d, &history{application: rawName, events: 1})} {
			if _, err := w.turn(t.Context()); err == nil || !strings.Contains(err.Error(), "void: ") {
				t.Errorf("%s: got %v, want an error that contains %q", w.name, err, "void: ")
			}
		}
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A way that loses a row, or leaves a gap, gives no figure.
func TestVoid(t *testing.T) {
	t.Parallel()
	p, err := openFolder()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.end(); err != nil {
			t.Error(err)
		}
	}()
	b := &bench{config: config{preload: 100, timing: timing{Measured: time.Millisecond}}}
	_, err = b.within(p, func(d *database) ([]result, error) {
		s, err := openRaw(d, 1, 1)
		if err != nil {
			return nil, err
		}
		for _, row := range []struct {
			want     string
			versions []int64
		}{
			{"0 rows were added, 1 were acknowledged", nil},
			{"not contiguous", []int64{2}},
		} {
			turn := b.saving(d, 1, func(ctx context.Context) (tally, error) {
				id := uuid.New()
				for _, version := range row.versions {
					event := persistence.StoredEvent{OriginatorID: id, OriginatorVersion: version, Topic: "t", State: []byte{}}
					if err := s.save(ctx, []persistence.StoredEvent{event}); err != nil {
						return tally{}, err
					}
				}
				return tally{Acknowledged: 1}, nil
			})
			if _, err := turn(t.Context()); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want an error that contains %q", err, row.want)
			}
		}
		return nil, s.close()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A turn keeps the rows that the log was filled with, and deletes those that
// the turn before has added.
func TestResetKeepsRows(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{postgresKind, sqliteKind} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			p, err := openPlace(kind)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := p.end(); err != nil {
					t.Error(err)
				}
			}()
			_, err = (&bench{}).within(p, func(d *database) ([]result, error) {
				for _, row := range []struct {
					rows int
					kept bool
				}{{200, false}, {200, true}, {300, false}, {300, true}} {
					before := d.highest
					if err := d.reset(t.Context(), row.rows); err != nil {
						return nil, err
					}
					if kept := d.highest == before; kept != row.kept {
						t.Errorf("%d rows: were kept: %t, want %v", row.rows, kept, row.kept)
					}
					var stored int
					err := d.admin.QueryRowContext(t.Context(), "SELECT count(*) FROM stored_events").Scan(&stored)
					if err != nil || stored != row.rows {
						t.Errorf("got %d of %d rows, %v", stored, row.rows, err)
					}
					if err := d.fill(t.Context(), "Another", 50, "t", []byte{}); err != nil {
						return nil, err
					}
					if err := d.verify(t.Context(), 50); err != nil {
						t.Error(err)
					}
				}
				return nil, nil
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// What a worker has to say about its end gets into the error.
func TestWorkerFails(t *testing.T) {
	t.Parallel()
	_, err := workers(t.Context(), 2, job{Kind: sqliteKind, Task: &task{Way: "another"}})
	if err == nil || !strings.Contains(err.Error(), `there is no way "another"`) {
		t.Errorf("got %v, want an error that contains %q", err, `there is no way "another"`)
	}
}

// The lifetime outside of a test returns errors instead of ending a test.
func TestLifetime(t *testing.T) {
	t.Parallel()
	l := &lifetime{}
	var ended []int
	err := l.start(func() {
		l.Cleanup(func() { ended = append(ended, 1) })
		l.Cleanup(func() { ended = append(ended, 2) })
		l.Skipf("no %s", "server")
		t.Error("Skipf has returned")
	})
	expect.ErrorText(t, err, "no server")
	l.Errorf("folder remains")
	if err := l.end(); err == nil || err.Error() != "folder remains" || len(ended) != 2 || ended[0] != 2 {
		t.Errorf("got %v after %v, want the error %q, 2 of them and 2", err, ended, "folder remains")
	}
}
