package domain

import "time"

// Clock tells the time of new events. It is called by many goroutines at once.
type Clock func() time.Time

// resolution is the precision of every timestamp: what PostgreSQL and Python keep as well, so that a time is the same
// before and after it was stored.
const resolution = time.Microsecond

// normalTime is t as it will be read back from a store: UTC, to the microsecond, without a monotonic part.
func normalTime(t time.Time) time.Time {
	return t.UTC().Round(0).Truncate(resolution)
}

// notBefore is now, or just after last where the clock went backwards: the times of one aggregate only ever grow.
func notBefore(now, last time.Time) time.Time {
	now = normalTime(now)
	if now.After(last) {
		return now
	}
	return last.Add(resolution)
}
