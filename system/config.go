package system

import (
	"fmt"
	"time"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Config says how a runner works. The zero Config has the defaults.
type Config struct {
	// PollInterval is how often a follower looks for events that other
	// processes have recorded; up to a quarter is added at random, so that
	// followers do not move in step. Saves of this process wake it at once, and
	// those of others do if the store listens (gormstore.WithListener). The
	// default is 500 ms.
	PollInterval time.Duration
	// BatchEvents is how many events are processed in one transaction at most,
	// up to persistence.MaxPage. The default is 500.
	BatchEvents int
	// BatchTime is after how long such a transaction ends, because it keeps
	// others from writing. An event that is being processed is finished. After
	// a conflict with other writers, a batch may take twice as long as the
	// follower was kept from work before it, up to ten times BatchTime. The
	// default is 20 ms.
	BatchTime time.Duration
	// ConcurrentEffects is for how many originators the calls of Effect are made
	// at the same time. The default is 8.
	ConcurrentEffects int
	// PartitionLease is how long a process has the partitions of a follower that
	// is divided (Partitions) without renewing that: after a crash others go on
	// with them after so long. A lease is renewed five times in its time. The
	// default is 10 s; it is from 100 ms to 10 minutes.
	PartitionLease time.Duration
	// ShortestRetry and LongestRetry bound the time after which a follower that
	// has failed tries again. It is twice as long after each failure in a row,
	// and up to a quarter shorter at random. The defaults are 1 s and 1 min.
	ShortestRetry time.Duration
	LongestRetry  time.Duration
}

// withDefaults returns the config with the defaults in place of what is zero,
// or an ErrProgramming.
func (c Config) withDefaults() (Config, error) {
	for _, d := range []struct {
		name  string
		value *time.Duration
		def   time.Duration
	}{
		{"PollInterval", &c.PollInterval, 500 * time.Millisecond},
		{"BatchTime", &c.BatchTime, 20 * time.Millisecond},
		{"PartitionLease", &c.PartitionLease, partitionLease},
		{"ShortestRetry", &c.ShortestRetry, time.Second},
		{"LongestRetry", &c.LongestRetry, max(time.Minute, c.ShortestRetry)},
	} {
		if *d.value < 0 {
			return c, &mistake{"", fmt.Sprintf("Config.%s is %v; give a positive time, or 0 for the default of %v", d.name, *d.value, d.def)}
		}
		if *d.value == 0 {
			*d.value = d.def
		}
	}
	if c.BatchEvents < 0 || c.BatchEvents > persistence.MaxPage {
		return c, &mistake{"", fmt.Sprintf("Config.BatchEvents is %d; give a number up to %d, or 0 for the default of %d",
			c.BatchEvents, persistence.MaxPage, batchEvents)}
	}
	if c.BatchEvents == 0 {
		c.BatchEvents = batchEvents
	}
	if c.PartitionLease < shortestLease || c.PartitionLease > capability.LongestLease {
		return c, &mistake{"", fmt.Sprintf("Config.PartitionLease is %v; give from %v to %v, or 0 for the default of %v",
			c.PartitionLease, shortestLease, capability.LongestLease, partitionLease)}
	}
	if c.ConcurrentEffects < 0 {
		return c, &mistake{"", fmt.Sprintf("Config.ConcurrentEffects is %d; give a positive number, or 0 for the default of %d",
			c.ConcurrentEffects, concurrentEffects)}
	}
	if c.ConcurrentEffects == 0 {
		c.ConcurrentEffects = concurrentEffects
	}
	if c.LongestRetry < c.ShortestRetry {
		return c, &mistake{"", fmt.Sprintf("Config.LongestRetry is %v, shorter than ShortestRetry, which is %v", c.LongestRetry, c.ShortestRetry)}
	}
	return c, nil
}

// partitionLease is the default of Config.PartitionLease, and shortestLease the
// shortest.
const (
	partitionLease = 10 * time.Second
	shortestLease  = 100 * time.Millisecond
)

// batchEvents is the default of Config.BatchEvents.
const batchEvents = 500

// concurrentEffects is the default of Config.ConcurrentEffects.
const concurrentEffects = 8
