package persistencetest

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	deadlock, patience = 2*time.Second, 30*time.Second // some of the seeded bugs wait for ever
	goleak.VerifyTestMain(m)
}

// able is a harness that declares everything.
func able() Harness { return transactional() }

func TestRowsAreTheContract(t *testing.T) {
	rows := Rows(able())
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
		if len(e) < 20 || !strings.HasSuffix(e, ".") || strings.Count(e, ". ") > 0 || strings.ToUpper(e[:1]) != e[:1] {
			t.Errorf("%s: %q is not one sentence", r.Name, e)
		}
	}
	t.Logf("%d rows", len(rows))
}
