package application

import "errors"

// maxCacheSize is the largest AGGREGATE_CACHE_MAXSIZE: more is a slip of the
// hand.
const maxCacheSize = 10_000_000

// cacheSettings say whether and how repositories cache aggregates.
type cacheSettings struct {
	size        int  // 0 is off
	fastForward bool // apply what was saved since, on every Get
	skipping    bool // do not wait for another fast-forward of the same aggregate
}

func (c *config) readCache() error {
	var mistakes [4]error
	e := c.environment
	c.cache.size, mistakes[0] = e.Int(0, 1, maxCacheSize, "AGGREGATE_CACHE_MAXSIZE")
	c.cache.fastForward, mistakes[1] = e.Bool(true, "AGGREGATE_CACHE_FASTFORWARD")
	c.cache.skipping, mistakes[2] = e.Bool(false, "AGGREGATE_CACHE_FASTFORWARD_SKIPPING")
	copies, err := e.Bool(true, "DEEPCOPY_FROM_AGGREGATE_CACHE")
	if mistakes[3] = err; !copies && err == nil {
		c.logger.Warn("DEEPCOPY_FROM_AGGREGATE_CACHE=n has no effect: each caller gets its own aggregate, "+
			"because two that change the same one would corrupt it", "application", c.name)
	}
	return errors.Join(mistakes[:]...)
}
