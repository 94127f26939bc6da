package domain

import "time"

// resolution is the precision of every timestamp: what PostgreSQL and Python
// keep as well, so that a time is the same before and after it was stored.
const resolution = time.Microsecond

// normalTime is t as it will be read back from a store: UTC, to the
// microsecond, without a monotonic part.
func normalTime(t time.Time) time.Time {
	return t.UTC().Round(0).Truncate(resolution)
}

// withoutZone is the name of the location of times that have no offset from
// UTC, as Python has them; see python.Naive.
const withoutZone = "naive"

// payloadTime is normalTime for a time in a payload, which stays without an
// offset.
func payloadTime(t time.Time) time.Time {
	if t.Location().String() == withoutZone {
		return t.Round(0).Truncate(resolution)
	}
	return normalTime(t)
}

// maxSkew is how far clocks may differ for the times of an aggregate to keep
// the order of its events.
const maxSkew = 5 * time.Second

// notBefore is now, or just after last if the clock is at most maxSkew before
// it. If it is further before, last came from a wrong clock or from At, and
// later events do not follow it: timestamps describe events, versions order
// them.
func notBefore(now, last time.Time) time.Time {
	now = normalTime(now)
	if now.After(last) || last.Sub(now) > maxSkew {
		return now
	}
	return last.Add(resolution)
}
