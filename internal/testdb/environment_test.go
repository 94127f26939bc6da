package testdb

import "testing"

func TestFigure(t *testing.T) {
	for value, want := range map[string]int{"": 3, "0": 3, "false": 3, "1": 4, "true": 4} {
		t.Setenv("FULL", value)
		if got := Figure(3, 4); got != want {
			t.Errorf("FULL=%q: got %d, want %d", value, got, want)
		}
	}
}
