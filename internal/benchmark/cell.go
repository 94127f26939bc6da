package main

import (
	"context"
	"fmt"
)

// A cell is one piece of work that is done in several ways.
type cell struct {
	row      string
	database string
	note     string // what the numbers of workers and events do not say
	workers  int
	events   int // in each operation
	ways     []way
}

// A way is one way of doing the work of a cell.
type way struct {
	name string
	turn func(ctx context.Context) (tally, error)
}

// The ways that others are compared with, and the one that matters.
const (
	ours     = "ours"
	raw      = "raw"
	original = "original"
)

// A result is what was measured in a cell.
type result struct {
	Row      string   `json:"row"`
	Database string   `json:"database"`
	Note     string   `json:"note,omitempty"`
	Workers  int      `json:"workers"`
	Events   int      `json:"events"`
	Figures  []figure `json:"figures"`
}

// A figure is what was measured of one way: the medians of its turns, the best
// rate, and the turns themselves.
type figure struct {
	Way     string   `json:"way"`
	Median  sample   `json:"median"`
	Best    float64  `json:"best_rate"`
	Samples []sample `json:"samples"`
}

// measure gives every way a turn in each round.
func (c *cell) measure(ctx context.Context, rounds int) (result, error) {
	r := result{Row: c.row, Database: c.database, Note: c.note, Workers: c.workers, Events: c.events}
	samples := make([][]sample, len(c.ways))
	for range rounds {
		for i, way := range c.ways {
			t, err := way.turn(ctx)
			if err != nil {
				return r, fmt.Errorf("%s on %s, %d workers, %d events, %s: %w",
					c.row, c.database, c.workers, c.events, way.name, err)
			}
			samples[i] = append(samples[i], t.sample())
		}
	}
	for i, way := range c.ways {
		r.Figures = append(r.Figures, summarise(way.name, samples[i]))
	}
	return r, nil
}

func summarise(way string, samples []sample) figure {
	middle := func(of func(sample) float64) float64 {
		values := make([]float64, len(samples))
		for i, s := range samples {
			values[i] = of(s)
		}
		return median(values)
	}
	f := figure{Way: way, Samples: samples, Median: sample{
		Rate:        middle(func(s sample) float64 { return s.Rate }),
		P50:         middle(func(s sample) float64 { return s.P50 }),
		P99:         middle(func(s sample) float64 { return s.P99 }),
		CPU:         middle(func(s sample) float64 { return s.CPU }),
		Allocations: middle(func(s sample) float64 { return s.Allocations }),
		Allocated:   middle(func(s sample) float64 { return s.Allocated }),
		Growth:      middle(func(s sample) float64 { return s.Growth }),
		Writes:      middle(func(s sample) float64 { return s.Writes }),
	}}
	for _, s := range samples {
		f.Best = max(f.Best, s.Rate)
	}
	return f
}

// of finds the figure of a way.
func (r *result) of(way string) (figure, bool) {
	for _, f := range r.Figures {
		if f.Way == way {
			return f, true
		}
	}
	return figure{}, false
}
