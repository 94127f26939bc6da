package persistence

import "github.com/google/uuid"

// StoredEvent is an event as a recorder keeps it. Its State is what the mapper
// made of the payload: transcoded, compressed and encrypted. Recorders never
// look inside.
type StoredEvent struct {
	OriginatorID      uuid.UUID
	OriginatorVersion int64
	Topic             string
	State             []byte

	// Begins allows the event to be the first of its originator although its
	// version is above 1, because its definition has a FirstVersion. Recorders
	// do not store it.
	Begins bool

	// Continues forbids the event to be the first of its originator although
	// its version is 1, because its definition begins at version 0. Recorders
	// do not store it.
	Continues bool
}

// Notification is a stored event with its position in the log of its
// application. Positions start at 1, become visible in ascending order, and may
// have gaps.
type Notification struct {
	ID int64
	StoredEvent
}

// Tracking is how far a follower has processed the log of an upstream
// application: up to and including the event with this notification id.
type Tracking struct {
	ApplicationName string
	NotificationID  int64
}

// EventRange selects events of one originator. The zero value selects all of
// them, in ascending order of version.
type EventRange struct {
	// From is the lowest version wanted.
	From int64
	// Before is the version before which the range ends; 0 means no end.
	Before int64
	// Descending turns the order round.
	Descending bool
	// Limit is the largest number of events wanted; 0 means no limit.
	Limit int
}

// NotificationRange selects a page of an application's log, in ascending order
// of id.
type NotificationRange struct {
	// After is the id after which the page begins; 0 means the beginning of the
	// log.
	After int64
	// Stop is the last id wanted; 0 means no end.
	Stop int64
	// Limit is the largest number of notifications wanted, from 1. A Limit over
	// MaxPage counts as MaxPage.
	Limit int
	// Topics are the stored names wanted; none means all.
	Topics []string
	// Except are stored names not wanted. A recorder of an earlier version may
	// return events with these names all the same.
	Except []string
}
