package main

import "slices"

// A goal is what one way is to reach: a ratio to another way, or a figure by
// itself.
type goal struct {
	work            string
	row, database   string
	workers, events int
	way             string
	against         string // nobody if the figure itself is bounded
	bound           float64
	quantity        quantity
}

// nobody is what a way is against whose bound is no ratio.
const nobody = ""

// A quantity is what a goal is about.
type quantity struct {
	of    func(sample) float64
	least bool // the smaller the better: the bound is the highest value that is allowed
}

var (
	rate   = quantity{of: func(s sample) float64 { return s.Rate }}
	p99    = quantity{of: func(s sample) float64 { return s.P99 }, least: true}
	p50    = quantity{of: func(s sample) float64 { return s.P50 }, least: true}
	growth = quantity{of: func(s sample) float64 { return s.Growth }, least: true}
	writes = quantity{of: func(s sample) float64 { return s.Writes }, least: true}
	rarity = quantity{of: rate.of, least: true}
)

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
		catchingUp = "catch up with a log"
		delivered  = "save to policy, us (at most)"
		remote     = "save to policy, two processes, us (at most)"
		heap       = "heap while following, MiB (at most)"
		queries    = "idle follower, queries/s (at most)"
		heartbeats = "idle follower, writes/10 s (at most)"
		contending = "process manager beside 16 writers"
	)
	return []goal{
		{save, rowSave, postgresKind, 1, 1, ours, raw, 0.9, rate},
		{save, rowSave, postgresKind, 16, 1, ours, raw, 2, rate},
		{save, rowSave, postgresKind, 64, 1, ours, raw, 3.5, rate},
		{save, rowSave, postgresKind, 1, 1, ours, original, 1.8, rate},
		{save, rowSave, postgresKind, 16, 1, ours, original, 15, rate},
		{save, rowSave, postgresKind, 64, 1, ours, original, 30, rate},
		{tens, rowSave, postgresKind, 1, 10, ours, raw, 0.9, rate},
		{tens, rowSave, postgresKind, 16, 10, ours, raw, 1, rate},
		{tens, rowSave, postgresKind, 64, 10, ours, raw, 1.1, rate},
		{encrypted, rowApplication, postgresKind, 64, 1, ours, raw, 2, rate},
		{save, rowSave, sqliteKind, 1, 1, ours, raw, 0.9, rate},
		{save, rowSave, sqliteKind, 16, 1, ours, raw, 5, rate},
		{save, rowSave, sqliteKind, 64, 1, ours, raw, 8, rate},
		{slow, rowSlowdisk, postgresKind, 64, 1, ours, raw, 1.5, rate},
		{slow, rowSlowdisk, postgresKind, 64, 1, ours, original, 30, rate},
		{fourfold, rowProcesses, postgresKind, 64, 1, ours, raw, 2, rate},
		{loading, rowLoad, postgresKind, 1, 100, ours, raw, 0.8, rate},
		{loading, rowLoad, sqliteKind, 1, 100, ours, raw, 0.8, rate},
		{percentile, rowLatency, postgresKind, 16, 1, ours, raw, 1.2, p99},
		{catchingUp, rowCatchup, postgresKind, 1, 1, ours, raw, 0.5, rate},
		{catchingUp, rowCatchup, postgresKind, 1, 1, ours, original, 30, rate},
		{catchingUp, rowCatchup, sqliteKind, 1, 1, ours, raw, 0.5, rate},
		{catchingUp, rowCatchup, sqliteKind, 1, 1, ours, original, 8, rate},
		{delivered, rowDelivery, postgresKind, 1, 1, ours, nobody, 2_000, p50},
		{delivered, rowDelivery, sqliteKind, 1, 1, ours, nobody, 2_000, p50},
		{remote, rowDelivery, postgresKind, 1, 1, listening, nobody, 10_000, p50},
		{heap, rowFollowing, postgresKind, 1, 1, ours, nobody, 64, growth},
		{heap, rowFollowing, sqliteKind, 1, 1, ours, nobody, 64, growth},
		{queries, rowFollowing, postgresKind, 1, 1, idle, nobody, 2, rarity},
		{queries, rowFollowing, sqliteKind, 1, 1, idle, nobody, 2, rarity},
		{heartbeats, rowFollowing, postgresKind, 1, 1, idle, nobody, 1, writes},
		{heartbeats, rowFollowing, sqliteKind, 1, 1, idle, nobody, 1, writes},
		{contending, rowContention, postgresKind, directWriters, 1, ours, alone, 0.5, rate},
		{contending + ", 20 idle", rowContention, postgresKind, directWriters, 1, pooled, lonesome, 0.5, rate},
	}
}

// An outcome is what became of a goal.
type outcome struct {
	goal
	median  float64 // of the turns, or the ratio of the medians
	best    float64 // of the turns, or the ratio of the best ones
	reached bool
}

// judge compares the results with the goals. Goals whose cells were not
// measured are left out.
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
	mine, measured := r.of(g.way)
	theirs, compared := r.of(g.against)
	if !measured || !compared && g.against != nobody {
		return outcome{}, false
	}
	o := outcome{goal: g, median: g.quantity.of(mine.Median), best: g.quantity.best(mine)}
	if g.against != nobody {
		o.median, o.best = ratio(o.median, g.quantity.of(theirs.Median)), ratio(o.best, g.quantity.best(theirs))
	}
	o.reached = o.median >= g.bound
	if g.quantity.least {
		o.reached = o.median <= g.bound
	}
	return o, true
}

// best is the value of the best turn.
func (q quantity) best(f figure) float64 {
	values := make([]float64, len(f.Samples))
	for i, s := range f.Samples {
		values[i] = q.of(s)
	}
	if q.least {
		return slices.Min(values)
	}
	return slices.Max(values)
}
