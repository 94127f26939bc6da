package main

import (
	"io"
	"slices"
	"testing"
)

// saves is a result of three rounds with these rates.
func saves(row string, rates map[string][]float64) result {
	r := result{Row: row, Database: postgresKind, Workers: 16, Events: 1}
	for _, name := range []string{ours, raw, original} {
		if rates[name] == nil {
			continue
		}
		var samples []sample
		for _, rate := range rates[name] {
			samples = append(samples, sample{Rate: rate, P99: 1e6 / rate})
		}
		r.Figures = append(r.Figures, summarise(name, samples))
	}
	return r
}

func TestJudge(t *testing.T) {
	t.Parallel()
	results := []result{
		saves(rowSave, map[string][]float64{ours: {900, 1000, 4000}, raw: {500, 100, 600}, original: {50, 50, 50}}),
		saves(rowLatency, map[string][]float64{ours: {1000, 1000, 500}, raw: {1000, 1000, 2000}}),
	}
	got := judge([]goal{
		{"save", rowSave, postgresKind, 16, 1, ours, raw, 2, rate},
		{"save", rowSave, postgresKind, 16, 1, ours, original, 21, rate},
		{"save", rowSave, postgresKind, 64, 1, ours, raw, 2, rate}, // was not measured
		{"p99", rowLatency, postgresKind, 16, 1, ours, raw, 1, p99},
		{"p99", rowLatency, postgresKind, 16, 1, ours, original, 1, p99}, // was not measured
		{"p99", rowLatency, postgresKind, 16, 1, ours, nobody, 1000, p99},
		{"p99", rowLatency, postgresKind, 16, 1, raw, nobody, 999, p99},
		{"p99", rowLatency, postgresKind, 16, 1, original, nobody, 1, p99}, // was not measured
	}, results)
	type verdict struct {
		median, best float64
		reached      bool
	}
	var verdicts []verdict
	for _, o := range got {
		verdicts = append(verdicts, verdict{o.median, o.best, o.reached})
	}
	want := []verdict{{2, 4000.0 / 600, true}, {20, 80, false}, {1, 2, true}, {1000, 1000, true}, {1000, 500, false}}
	if !slices.Equal(verdicts, want) {
		t.Errorf("got %v, want %v", verdicts, want)
	}
}

// Every goal is measured by the program's default settings.
func TestGoalsAreMeasured(t *testing.T) {
	t.Parallel()
	c, err := parseConfig(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range goals() {
		flags := true
		switch g.row {
		case rowSave:
			flags = slices.Contains(c.writers, g.workers) && slices.Contains(c.events, g.events)
		case rowLoad:
			flags = slices.Contains(c.histories, g.events)
		}
		if !slices.Contains(c.rows, g.row) || !slices.Contains(c.databases, g.database) || !flags || g.bound <= 0 {
			t.Errorf("%+v is not measured, want bound more than 0", g)
		}
	}
}
