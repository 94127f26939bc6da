package gormstore

import "github.com/eventsourcing-go/eventsourcing/internal/capability"

type capabilities = capability.Provider

// storeCapabilities is what a Store can do for the other packages of this
// module, and does not show to its users.
type storeCapabilities struct{ *Store }

// What recorders can do is found by their methods, so with another signature a
// capability would be missing without an error.
var (
	_ capability.HistoryReader       = (*processRecorder)(nil)
	_ capability.LogHoldReader       = (*processRecorder)(nil)
	_ capability.LogLocker           = (*processRecorder)(nil)
	_ capability.OrderReporter       = (*processRecorder)(nil)
	_ capability.OriginatorDeleter   = (*processRecorder)(nil)
	_ capability.ParkingRecorder     = (*processRecorder)(nil)
	_ capability.PartitionRecorder   = (*processRecorder)(nil) // and its settings
	_ capability.TrackingRows        = (*processRecorder)(nil)
	_ capability.LogLocker           = pythonRecorder{}
	_ capability.NotificationTracker = pythonRecorder{}
	_ capability.SnapshotRecorder    = (*snapshotRecorder)(nil)
)

// provide says what the store can do.
func (s *Store) provide() {
	c := storeCapabilities{s}
	s.capabilities = capability.Provide(capability.Store{
		Statuses: c, Classifier: c, Listener: c, Yielder: c, Positions: c, Python: c,
	})
}
