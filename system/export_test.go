package system

import (
	"context"
	"time"
)

// SetBatchTime sets after what time a batch of the followers ends. Call it
// before the runner starts.
func (c *core) SetBatchTime(d time.Duration) {
	for _, edge := range c.edges {
		edge.config.BatchTime = d
	}
}

// SetBatchEvents sets how many events a batch of the followers has at most.
// Call it before the runner starts.
func (c *core) SetBatchEvents(n int) {
	for _, edge := range c.edges {
		edge.config.BatchEvents, edge.limit = n, n
	}
}

// PartitionOf is the partition that a value belongs to.
func PartitionOf(value []byte, count int) int { return partitionOf(value, count) }

// Sync processes everything that there is to process.
func (r *SingleThreadedRunner) Sync(ctx context.Context) error { return r.sync(ctx) }

// Done is closed when all followers have ended.
func (r *Runner) Done() <-chan struct{} { return r.done }

// AheadOf returns the error of a follower whose position is ahead of a log.
func AheadOf(follower, leader string, position, head int64) error {
	return &aheadError{follower, leader, position, head}
}

// Panicked returns the error of a handler that has panicked.
func Panicked(value any) error { return &panicError{value: value} }

// Edges returns which applications follow which, in the order of the pipes.
func (s *System) Edges() (arrows []string) {
	for _, edge := range s.edges {
		arrows = append(arrows, edge.leader+" -> "+edge.follower)
	}
	return arrows
}
