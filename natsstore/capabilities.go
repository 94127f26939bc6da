package natsstore

import "github.com/eventsourcing-go/eventsourcing/internal/capability"

type capabilities = capability.Provider

// storeCapabilities is what a Store can do for the packages of the framework,
// and does not show to its users.
type storeCapabilities struct{ *Store }

// What recorders can do is found by their methods, so with another signature a
// capability would be missing without an error.
var (
	_ capability.ParkingRecorder  = (*processRecorder)(nil)
	_ capability.SettingsRecorder = (*processRecorder)(nil)
	_ capability.SnapshotRecorder = (*snapshotRecorder)(nil)
)

// provide says what the store can do.
func (s *Store) provide() {
	c := storeCapabilities{s}
	s.capabilities = capability.Provide(capability.Store{Statuses: c, Listener: c, Positions: c})
}
