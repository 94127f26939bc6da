package gormstore

// The models of the tables that only this package reads.
type (
	NotificationTracking = notificationTracking
	Snapshot             = storedSnapshot
	FollowerStatus       = followerStatus
	FollowerRunner       = followerRunner
	FollowerSetting      = followerSetting
	FollowerPartition    = followerPartition
	ParkedEvent          = parkedEvent
)
