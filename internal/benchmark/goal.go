package main

// A goal is a ratio between ours and another way that is to be reached.
type goal struct {
	work            string
	row, database   string
	workers, events int
	against         string
	bound           float64
	latency         bool // the bound is the highest ratio of the 99th percentiles, not the lowest of the rates
}

// goals are the ratios to be reached, as the project has set them.
func goals() []goal {
	const (
		save       = "recorder, 1 event a save"
		tens       = "recorder, 10 events a save"
		slow       = "recorder, 1 event a save, +1 ms a sync"
		encrypted  = "Application.Save, JSON, zlib, AES"
		fourfold   = "four processes, one application"
		loading    = "load 100 events"
		percentile = "p99 of a save (at most)"
	)
	return []goal{
		{save, rowSave, postgresKind, 1, 1, raw, 0.9, false},
		{save, rowSave, postgresKind, 16, 1, raw, 2, false},
		{save, rowSave, postgresKind, 64, 1, raw, 3.5, false},
		{save, rowSave, postgresKind, 1, 1, original, 1.8, false},
		{save, rowSave, postgresKind, 16, 1, original, 15, false},
		{save, rowSave, postgresKind, 64, 1, original, 30, false},
		{tens, rowSave, postgresKind, 1, 10, raw, 0.9, false},
		{tens, rowSave, postgresKind, 16, 10, raw, 1, false},
		{tens, rowSave, postgresKind, 64, 10, raw, 1.1, false},
		{encrypted, rowApplication, postgresKind, 64, 1, raw, 2, false},
		{save, rowSave, sqliteKind, 1, 1, raw, 0.9, false},
		{save, rowSave, sqliteKind, 16, 1, raw, 5, false},
		{save, rowSave, sqliteKind, 64, 1, raw, 8, false},
		{slow, rowSlowdisk, postgresKind, 64, 1, raw, 1.5, false},
		{slow, rowSlowdisk, postgresKind, 64, 1, original, 30, false},
		{fourfold, rowProcesses, postgresKind, 64, 1, raw, 2, false},
		{loading, rowLoad, postgresKind, 1, 100, raw, 0.8, false},
		{loading, rowLoad, sqliteKind, 1, 100, raw, 0.8, false},
		{percentile, rowLatency, postgresKind, 16, 1, raw, 1.2, true},
	}
}

// An outcome is what became of a goal.
type outcome struct {
	goal
	median  float64 // the ratio of the medians
	best    float64 // the ratio of the best turns
	reached bool
}

// judge compares the results with the goals. Goals whose cells were not measured are left out.
func judge(goals []goal, results []result) (outcomes []outcome) {
	for _, g := range goals {
		for i := range results {
			if o, ok := g.judge(&results[i]); ok {
				outcomes = append(outcomes, o)
			}
		}
	}
	return outcomes
}

func (g goal) judge(r *result) (outcome, bool) {
	if r.Row != g.row || r.Database != g.database || r.Workers != g.workers || r.Events != g.events {
		return outcome{}, false
	}
	mine, measured := r.of(ours)
	theirs, compared := r.of(g.against)
	if !measured || !compared {
		return outcome{}, false
	}
	o := outcome{goal: g}
	if g.latency {
		o.median, o.best = ratio(mine.Median.P99, theirs.Median.P99), ratio(mine.lowestP99(), theirs.lowestP99())
		o.reached = o.median <= g.bound
		return o, true
	}
	o.median, o.best = ratio(mine.Median.Rate, theirs.Median.Rate), ratio(mine.Best, theirs.Best)
	o.reached = o.median >= g.bound
	return o, true
}

// lowestP99 is the 99th percentile of the best turn.
func (f *figure) lowestP99() float64 {
	lowest := f.Median.P99
	for _, s := range f.Samples {
		lowest = min(lowest, s.P99)
	}
	return lowest
}
