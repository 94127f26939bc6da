package memory

import (
	"time"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
)

type capabilities = capability.Provider

// storeCapabilities is what a Store can do for the other packages of this
// module, and does not show to its users.
type storeCapabilities struct{ *Store }

// provide says what the store can do.
func (s *Store) provide() {
	c := storeCapabilities{s}
	s.capabilities = capability.Provide(capability.Store{Yielder: c, Positions: c})
}

// YieldTime implements capability.WriterYielder.
func (s storeCapabilities) YieldTime() time.Duration { return yieldTime }
