package persistencetest

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

func TestMain(m *testing.M) {
	deadlock, patience = 3*time.Second, 3*time.Minute // some of the seeded bugs wait for ever
	if enabled("CI") {
		deadlock = 10 * time.Second
	}
	goleak.VerifyTestMain(m)
}

// Only the rows that Harness.Only selects run.
func TestRunOnly(t *testing.T) {
	var ran []string
	h := transactional()
	h.Only = func(r Row) bool { return r.Name == "aggregate/an unknown originator has no events" }
	made := h.New
	h.New = func(t testing.TB) persistence.Factory {
		ran = append(ran, t.Name())
		return made(t)
	}
	Run(t, h)
	if want := []string{t.Name() + "/aggregate/an_unknown_originator_has_no_events"}; !slices.Equal(ran, want) {
		t.Errorf("got %v, want %v", ran, want)
	}
}

func TestRowsAreTheContract(t *testing.T) {
	rows := Rows(transactional())
	if len(rows) < 120 {
		t.Errorf("there are %d rows, want at least 120", len(rows))
	}
	seen := map[string]bool{}
	for _, r := range rows {
		if seen[r.Name] {
			t.Errorf("there are two rows %q", r.Name)
		}
		seen[r.Name] = true
		group, name, ok := strings.Cut(r.Name, "/")
		if !ok || group == "" || name == "" || strings.Contains(name, "/") {
			t.Errorf("%q is not a group and a name", r.Name)
		}
		e := r.Explanation
		if len(e) < 20 || !strings.HasSuffix(e, ".") || strings.Contains(e, ". ") || strings.ToUpper(e[:1]) != e[:1] {
			t.Errorf("%s: %q is not one sentence, want at least 20 bytes from a capital to a full stop", r.Name, e)
		}
	}
	t.Logf("%d rows", len(rows))
}

func TestRowsAreLeftOutByFeature(t *testing.T) {
	all := len(Rows(transactional()))
	reopen := func(_ testing.TB, f persistence.Factory) persistence.Factory { return f }
	transaction := transactional().Transaction
	for _, c := range []struct {
		harness Harness
		lacks   []Feature
	}{
		{Harness{}, []Feature{Reopen, Concurrent, Transaction}},
		// There is nothing to be used beside it.
		{Harness{Concurrent: true}, []Feature{Reopen, Concurrent, Transaction}},
		{Harness{Reopen: reopen}, []Feature{Concurrent, Transaction}},
		{Harness{Reopen: reopen, Concurrent: true}, []Feature{Transaction}},
		{Harness{Transaction: transaction}, []Feature{Reopen, Concurrent}},
		{transactional(), nil},
	} {
		runs, without := Rows(c.harness), LeftOut(c.harness)
		if len(runs)+len(without) != all {
			t.Errorf("features %v: %d rows and %d left out, want %d together", c.harness.Features(), len(runs), len(without), all)
		}
		needed := map[Feature]bool{}
		for _, r := range without {
			if !missing(r.Needs, c.harness.Features()) {
				t.Errorf("features %v: %s is left out, but needs only %v", c.harness.Features(), r.Name, r.Needs)
			}
			for _, f := range r.Needs {
				needed[f] = true
			}
		}
		for _, f := range c.lacks {
			if !needed[f] {
				t.Errorf("features %v: no row is left out for want of %s", c.harness.Features(), f)
			}
		}
	}
}

func TestAFailureSaysWhatTheContractIs(t *testing.T) {
	failing := row{says: "Nothing is stored.", run: func(t testing.TB, s *store) {
		s.events.insert(t, at(dog("Fido"), 1))
		t.Error("something is stored")
	}}
	got := record(t, func(t testing.TB) { failing.exercise(t, transactional()) })
	if output := strings.Join(got.output, "\n"); !got.Failed() || !strings.Contains(output, "Nothing is stored.") {
		t.Errorf("failed: %v, output:\n%s", got.Failed(), output)
	}
}

func TestARowMustLeaveTheNeighbourAlone(t *testing.T) {
	for name, disturb := range map[string]func(ctx context.Context, r persistence.ProcessRecorder) error{
		"an event": func(ctx context.Context, r persistence.ProcessRecorder) error {
			_, err := r.InsertEvents(ctx, history(dog("Stranger"), 1, 1))
			return err
		},
		"a position": func(ctx context.Context, r persistence.ProcessRecorder) error {
			return r.InsertTracking(ctx, tracking(kennels, 1_000))
		},
	} {
		disturbing := row{run: func(t testing.TB, s *store) { must(t, disturb(s.ctx, s.neighbour.process)) }}
		if got := record(t, func(t testing.TB) { disturbing.exercise(t, transactional()) }); !got.Failed() {
			t.Errorf("%s more is not noticed", name)
		}
	}
}

func TestHistoriesCanBeRepeated(t *testing.T) {
	var steps [2][]int64
	t.Setenv("PERSISTENCETEST_SEED", "42")
	for i := range steps {
		r := row{run: func(t testing.TB, s *store) {
			histories(t, s, func(h *random) { steps[i] = append(steps[i], h.Int64()) })
		}}
		if got := record(t, func(t testing.TB) { r.exercise(t, transactional()) }); got.Failed() {
			t.Fatal(got.output)
		}
	}
	if len(steps[0]) == 0 || !slices.Equal(steps[0], steps[1]) {
		t.Errorf("two histories with one seed differ or are empty: %v and %v", steps[0], steps[1])
	}
}
