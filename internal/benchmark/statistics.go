package main

import (
	"math/bits"
	"slices"
	"time"
)

// median is the value in the middle, or between the two in the middle. The
// median of nothing is 0.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// ratio is a as a multiple of b, and 0 if there is nothing to compare with.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// A histogram counts durations in classes that are at most 1/32 wide: exactly
// up to 31 ns, then 32 classes for each power of two. It costs a few
// nanoseconds an entry. The zero value is not usable; make one with
// newHistogram.
type histogram []uint32

const (
	classBits = 5
	classes   = 1 << classBits
)

func newHistogram() histogram { return make(histogram, (64-classBits)*classes) }

func (h histogram) add(d time.Duration) { h[classOf(uint64(max(d, 0)))]++ }

func (h histogram) merge(other histogram) {
	for i, n := range other {
		h[i] += n
	}
}

// quantile is the duration that a share q of the entries does not exceed, as
// the middle of its class.
func (h histogram) quantile(q float64) time.Duration {
	var total uint64
	for _, n := range h {
		total += uint64(n)
	}
	if total == 0 {
		return 0
	}
	rank := min(uint64(q*float64(total)), total-1)
	for class, n := range h {
		if rank < uint64(n) {
			return middleOf(class)
		}
		rank -= uint64(n)
	}
	panic("unreachable: the rank is below the total")
}

func classOf(v uint64) int {
	if v < classes {
		return int(v)
	}
	shift := bits.Len64(v) - classBits - 1
	return (shift+1)*classes + int(v>>shift)%classes
}

func middleOf(class int) time.Duration {
	if class < classes {
		return time.Duration(class)
	}
	shift := class/classes - 1
	low := uint64(classes+class%classes) << shift
	return time.Duration(low + (uint64(1)<<shift)/2)
}
