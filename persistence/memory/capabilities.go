package memory

import (
	"time"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
)

type capabilities = capability.Provider

// storeCapabilities is what a store can do for the other packages of this
// module, and does not show to its users.
type storeCapabilities struct{ *Store }

// What recorders can do is found by their methods, so with another signature a
// capability would be missing without an error.
var (
	_ capability.LogLocker         = (*processRecorder)(nil)
	_ capability.OriginatorDeleter = (*processRecorder)(nil)
	_ capability.PartitionRecorder = (*processRecorder)(nil) // and its settings
	_ capability.SnapshotRecorder  = (*snapshotRecorder)(nil)
)

// provide says what the store can do.
func (s *Store) provide() {
	c := storeCapabilities{s}
	s.capabilities = capability.Provide(capability.Store{Yielder: c, Positions: c, Volatile: true})
}

// YieldTime implements capability.WriterYielder.
func (s storeCapabilities) YieldTime() time.Duration { return yieldTime }
