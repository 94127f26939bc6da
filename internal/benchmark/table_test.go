package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the files that the output is compared with")

func TestTables(t *testing.T) {
	t.Parallel()
	r := saves(rowSave, map[string][]float64{ours: {12_000, 14_000, 13_000}, raw: {6500, 6000, 7000}, original: {800, 700, 900}})
	r.Note = "recorder"
	r.Figures[0].Median.CPU, r.Figures[0].Median.Allocations, r.Figures[0].Median.Allocated = 41.25, 12, 1_234_567
	results := []result{r}
	var b strings.Builder
	if err := printResults(&b, results); err != nil {
		t.Fatal(err)
	}
	if err := printOutcomes(&b, judge(goals(), results)); err != nil {
		t.Fatal(err)
	}
	golden(t, "tables.txt", b.String())
}

// golden compares a text with the one in a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "-", 0.9: "0.90", 9.126: "9.13", 41.26: "41.3", 100: "100", 999.6: "1 000", 1234567: "1 234 567",
	} {
		if got := number(v); got != want {
			t.Errorf("%v: got %q, want %q", v, got, want)
		}
	}
}
