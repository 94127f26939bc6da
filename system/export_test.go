package system

import "time"

// SetBatchTime sets after what time a batch of the followers ends. Call it
// before the runner starts.
func (m *members) SetBatchTime(d time.Duration) {
	for _, edge := range m.edges {
		edge.batchTime = d
	}
}
