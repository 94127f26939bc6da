package capability

import (
	"context"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Recorder is what a recorder of events can do beside what
// persistence.ProcessRecorder asks of it. A field is nil if it cannot.
type Recorder struct {
	History    HistoryReader
	Hold       LogHoldReader
	Locker     LogLocker
	Order      OrderReporter
	Deleter    OriginatorDeleter
	Settings   SettingsRecorder
	Revisions  RevisionRecorder
	Partitions PartitionRecorder
	Parking    ParkingRecorder
	Tracker    NotificationTracker
	Rows       TrackingRows
}

// OfRecorder returns what a recorder of events can do.
func OfRecorder(recorder any) Recorder {
	return Recorder{
		History:    as[HistoryReader](recorder),
		Hold:       as[LogHoldReader](recorder),
		Locker:     as[LogLocker](recorder),
		Order:      as[OrderReporter](recorder),
		Deleter:    as[OriginatorDeleter](recorder),
		Settings:   as[SettingsRecorder](recorder),
		Revisions:  as[RevisionRecorder](recorder),
		Partitions: as[PartitionRecorder](recorder),
		Parking:    as[ParkingRecorder](recorder),
		Tracker:    as[NotificationTracker](recorder),
		Rows:       as[TrackingRows](recorder),
	}
}

func as[T any](recorder any) T {
	able, _ := recorder.(T)
	return able
}

// NotificationTracker is a TrackingRecorder that keeps positions as the Python
// library does: with a record of each notification, of which the second one
// fails. So the same follower can run in both, and processes each notification
// once.
type NotificationTracker interface {
	// TrackNotifications is MovePosition, and records all notifications of the
	// log between the two positions. A log in another database is not searched
	// for them, so ids has those that were processed. It returns a
	// persistence.ErrPositionMoved if another program has recorded one of them.
	TrackNotifications(ctx context.Context, from int64, to persistence.Tracking, ids []int64) error
}

// TrackingRows is a TrackingRecorder whose table may have several rows of one
// position, because the Python library adds one for each notification.
type TrackingRows interface {
	// HighestTracking returns the highest rows of a position, at most two, the
	// highest first.
	HighestTracking(ctx context.Context, upstream string) (ids []int64, err error)
}
