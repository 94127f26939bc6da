package persistence

import (
	"time"

	"github.com/google/uuid"
)

// ParkedEvent is an event that a follower has parked, because it could not be
// processed or because an earlier event of its originator is parked.
type ParkedEvent struct {
	ApplicationName         string
	UpstreamApplicationName string
	NotificationID          int64
	OriginatorID            uuid.UUID
	OriginatorVersion       int64
	Topic                   string
	// Error is why it was parked.
	Error string
	// ParkedAt is when, in UTC.
	ParkedAt time.Time
}
