package benchmark

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/perf/benchfmt"

	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Every row runs on every database that it is for, counts right, and prints what
// benchstat reads.
func TestAllRows(t *testing.T) {
	t.Parallel()
	small := strings.Fields("-test.run=^$ -test.bench=. -test.benchtime=1x -preload=100 -backlog=200 -followed=300 " +
		"-idle=3s -deliveries=3 -slow=8 -orders=50")
	output, err := exec.CommandContext(t.Context(), os.Args[0], small...).Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	// These rows have a raw way.
	const rows = "Save Application Load Processes SlowDisk Transaction CatchUp "
	found := map[string]bool{}
	reader := benchfmt.NewReader(bytes.NewReader(output), "output")
	for reader.Scan() {
		r, ok := reader.Result().(*benchfmt.Result)
		if !ok {
			continue // of another package's log
		}
		row, rest, _ := strings.Cut(r.Name.String(), "/")
		database, _, _ := strings.Cut(rest, "/")
		found[row+" "+strings.TrimPrefix(database, "database=")] = true
		for _, v := range r.Values {
			if v.Value <= 0 && v.Unit != "heap-growth-B" && v.Unit != "writes/10s" {
				t.Errorf("%s: got %v %s, want more than 0", r.Name, v.Value, v.Unit)
			}
		}
		_, compared := r.Value("x-raw")
		if mine := strings.Contains(r.Name.String(), "/way=ours-") && strings.Contains(rows, row+" "); mine && !compared {
			t.Errorf("%s: was not compared with raw", r.Name)
		}
	}
	for _, want := range strings.Fields(rows + "Delivery Following Idle") {
		if !found[want+" "+postgresKind] || !found[want+" "+sqliteKind] {
			t.Errorf("%s was not measured on both databases", want)
		}
	}
	for _, want := range []string{"Contention", "ScaleSave", "ScaleServers", "ScaleFollowers"} {
		if !found[want+" "+postgresKind] {
			t.Errorf("%s was not measured", want)
		}
	}
}

// TestShortLog: a way whose whole log takes less than -benchtime reads it again
// until that is over, and no more often.
func TestShortLog(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // it would be hours
	defer cancel()
	short := strings.Fields("-test.run=^$ -test.bench=CatchUp/database=sqlite/round=1/way=ours$ -test.benchtime=100ms -backlog=50")
	output, err := exec.CommandContext(ctx, os.Args[0], short...).Output()
	if err != nil || !strings.Contains(string(output), "way=ours") {
		t.Fatalf("%v, %v\n%s", err, context.Cause(ctx), output)
	}
}

// TestVoid: a way that has lost a row, has left a gap, or has passed over an
// event gives no figure.
func TestVoid(t *testing.T) {
	t.Parallel()
	d := newSQLite(t)
	_, save := openRaw(t, d, 1, 1)
	store := func(versions ...int64) {
		d.reset(t, 100)
		id := uuid.New()
		for _, version := range versions {
			event := persistence.StoredEvent{OriginatorID: id, OriginatorVersion: version, Topic: "t", State: []byte{}}
			expect.NoError(t, save(context.Background(), []persistence.StoredEvent{event}))
		}
	}
	follow := func(position int64) {
		store(1, 2, 3)
		d.forget(t)
		d.execute(t, "INSERT INTO notification_tracking (application_name, upstream_application_name, notification_id) "+
			"SELECT 'F', 'Benchmark', MAX(id) - "+strconv.FormatInt(position, 10)+" FROM stored_events")
	}
	for _, row := range []struct {
		name, want string
		make       func()
		verify     func(t testing.TB)
	}{
		{"all rows", "", func() { store(1, 2) }, func(t testing.TB) { d.verify(t, 2) }},
		{"a row is lost", "0 rows were added, 1 were acknowledged", func() { store() }, func(t testing.TB) { d.verify(t, 1) }},
		{"a gap", "not contiguous", func() { store(2) }, func(t testing.TB) { d.verify(t, 1) }},
		{"the whole log", "", func() { follow(0) }, func(t testing.TB) { d.verifyPosition(t, &history{applicationName, 103, nil, false}, d, 103) }},
		{"an event is passed over", "102 of 103", func() { follow(0) }, func(t testing.TB) { d.verifyPosition(t, &history{applicationName, 103, nil, false}, d, 102) }},
		{"the position is behind", "is behind 102", func() { follow(1) }, func(t testing.TB) { d.verifyPosition(t, &history{applicationName, 103, nil, false}, d, 103) }},
	} {
		row.make()
		if got := fatal(t, row.verify); row.want == "" && got != "" || !strings.Contains(got, row.want) {
			t.Errorf("%s: got %q, want %q", row.name, got, row.want)
		}
	}
}

// fatal returns with what message f ends a test.
func fatal(t testing.TB, f func(t testing.TB)) string {
	t.Helper()
	r := &fatality{TB: t}
	var group sync.WaitGroup
	group.Go(func() { f(r) })
	group.Wait()
	return r.message
}

// A fatality is a test that records with what message it is ended.
type fatality struct {
	testing.TB
	message string
}

func (r *fatality) Fatalf(format string, args ...any) {
	r.message = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// A turn keeps the rows that the log was filled with, and deletes those that
// the turn before has added.
func TestResetKeepsRows(t *testing.T) {
	t.Parallel()
	for _, d := range []*database{newPostgres(t, newServer(t)), newSQLite(t)} {
		for _, row := range []struct {
			rows int
			kept bool
		}{{200, false}, {200, true}, {300, false}, {300, true}} {
			before := d.highest
			d.reset(t, row.rows)
			if kept := d.highest == before; kept != row.kept {
				t.Errorf("%s, %d rows: got kept %t, want %t", d.kind, row.rows, kept, row.kept)
			}
			if stored := d.number(t, "SELECT count(*) FROM stored_events"); stored != int64(row.rows) {
				t.Errorf("%s: got %d rows, want %d", d.kind, stored, row.rows)
			}
			d.fill(t, "Another", 50, "t", []byte{})
			d.verify(t, 50)
		}
	}
}
