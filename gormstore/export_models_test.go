package gormstore

// The models of the tables that only this package reads.
type (
	FollowerStatus    = followerStatus
	FollowerRunner    = followerRunner
	FollowerSetting   = followerSetting
	FollowerPartition = followerPartition
	ParkedEvent       = parkedEvent
)
