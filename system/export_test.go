package system

import "time"

// SetBatchTime sets after what time a batch of the followers ends. Call it
// before the runner starts.
func (c *core) SetBatchTime(d time.Duration) {
	for _, edge := range c.edges {
		edge.config.BatchTime = d
	}
}
