package main

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{7}, 7},
		{[]float64{3, 1, 2}, 2},
		{[]float64{4, 1, 3, 2}, 2.5},
	} {
		before := slices.Clone(row.values)
		if got := median(row.values); got != row.want {
			t.Errorf("%v: got %v, want %v", row.values, got, row.want)
		}
		if !slices.Equal(row.values, before) {
			t.Errorf("%v were put in order in place: %v", before, row.values)
		}
	}
}

func TestRatio(t *testing.T) {
	t.Parallel()
	if got := ratio(3, 2); got != 1.5 {
		t.Errorf("got %v, want 1.5", got)
	}
	if got := ratio(3, 0); got != 0 {
		t.Errorf("nothing to compare with: got %v, want 0", got)
	}
}

// Every quantile is within half a class, 1.6 percent, of the exact one.
func TestHistogramQuantile(t *testing.T) {
	t.Parallel()
	h, other := newHistogram(), newHistogram()
	var all []time.Duration
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 10_000 {
		d := time.Duration(random.ExpFloat64() * float64(time.Millisecond))
		all = append(all, d)
		if i%2 == 0 {
			h.add(d)
		} else {
			other.add(d)
		}
	}
	h.merge(other)
	slices.Sort(all)
	for _, q := range []float64{0, 0.01, 0.5, 0.99, 1} {
		exact := all[min(int(q*float64(len(all))), len(all)-1)]
		got := h.quantile(q)
		if difference := (got - exact).Abs(); float64(difference) > 0.016*float64(exact)+1 {
			t.Errorf("quantile %v: got %v, want %v", q, got, exact)
		}
	}
}

func TestHistogramLimits(t *testing.T) {
	t.Parallel()
	h := newHistogram()
	if got := h.quantile(0.5); got != 0 {
		t.Errorf("of nothing: got %v, want 0", got)
	}
	for _, d := range []time.Duration{-1, 0, 31, 32, 1<<63 - 1} {
		h.add(d)
	}
	if got := h.quantile(0); got != 0 {
		t.Errorf("lowest: got %v, want 0", got)
	}
	if got := h.quantile(1); got < 1<<62 {
		t.Errorf("highest: got %d, want nearly %d", got, int64(1<<63-1))
	}
}
