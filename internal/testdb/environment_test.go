package testdb

import "testing"

func TestExhaustive(t *testing.T) {
	for _, row := range []struct {
		ci, full string
		want     bool
	}{{"", "", false}, {"false", "0", false}, {"true", "", true}, {"", "1", true}} {
		t.Setenv("CI", row.ci)
		t.Setenv("FULL", row.full)
		if got := Exhaustive(); got != row.want {
			t.Errorf("CI=%q FULL=%q: got %t, want %t", row.ci, row.full, got, row.want)
		}
		if got := Sample(1, 2) == 2; got != row.want {
			t.Errorf("CI=%q FULL=%q: got the whole %t, want %t", row.ci, row.full, got, row.want)
		}
	}
}

func TestFigure(t *testing.T) {
	for value, want := range map[string]int{"": 3, "0": 3, "false": 3, "1": 4, "true": 4} {
		t.Setenv("FULL", value)
		if got := Figure(3, 4); got != want {
			t.Errorf("FULL=%q: got %d, want %d", value, got, want)
		}
	}
}
