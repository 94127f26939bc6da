package natsstore

import "github.com/eventsourcing-go/eventsourcing/internal/capability"

type capabilities = capability.Provider

// storeCapabilities is what a Store can do for the packages of the framework,
// and does not show to its users.
type storeCapabilities struct{ *Store }

// provide says what the store can do.
func (s *Store) provide() {
	c := storeCapabilities{s}
	s.capabilities = capability.Provide(capability.Store{Statuses: c, Listener: c, Positions: c})
}
