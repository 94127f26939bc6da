// Package inventory is what a store of gormstore shows to the commands and
// pages of this module, and not to its users.
package inventory

import (
	"context"

	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Inventory reads what a database has of all applications.
type Inventory interface {
	// ApplicationNames returns the names of all applications that the database
	// has events or positions of, and of those that they follow, in ascending
	// order.
	ApplicationNames(ctx context.Context) ([]string, error)
	// TrackingStates returns the positions of all applications in the database,
	// in the order of their names and of those that they follow.
	TrackingStates(ctx context.Context) ([]TrackingState, error)
	// CountNotifications returns how many events of an application have
	// notification ids up to and including this one.
	CountNotifications(ctx context.Context, application string, upTo int64) (int64, error)
	// LastNotificationID returns the highest notification id of an application's
	// events up to and including this one, or 0 if there is none.
	LastNotificationID(ctx context.Context, application string, upTo int64) (int64, error)
	// MovePartitionsBack moves the partitions of a follower that are after a
	// position of an upstream application to it, and deletes the follower's
	// status. ctx must carry a transaction of the database.
	MovePartitionsBack(ctx context.Context, application, upstream string, to int64) error
	// SnapshotPage returns snapshots of an application in the order of their
	// rows after one of them, at most limit, and which row is the last. 0 is the
	// beginning.
	SnapshotPage(ctx context.Context, application string, after int64, limit int) ([]persistence.StoredEvent, int64, error)
	// ParkedPage returns what a follower has parked after an event of an
	// upstream application, in the order of the upstream applications and of
	// notification ids, at most limit events. "" and 0 are the beginning.
	ParkedPage(
		ctx context.Context, application, upstream string, after int64, limit int,
	) ([]persistence.ParkedEvent, error)
}

// Of returns the inventory of a *gormstore.Store, or of a store that embeds
// one, and nil for others. Package gormstore sets it when it is initialised.
var Of func(store any) Inventory

// Databases returns the registered databases by their names. Package gormstore
// sets it when it is initialised.
var Databases func() map[string]*gorm.DB

// Missing returns the names of the tables that gormstore.AutoMigrate would
// create, and Outdated those of projections that it would change. They change
// nothing. If a table that exists does not fit, Missing returns a
// gormstore.ErrSchema as well, of which Differences returns each difference.
// Package gormstore sets them when it is initialised.
var Missing, Outdated func(ctx context.Context, db *gorm.DB) (tables []string, err error)

// Differences returns how tables differ from what the recorders need, if err
// says so. Package gormstore sets it when it is initialised.
var Differences func(err error) []string

// TrackingState is the position of an application in the log of another, as the
// database has it.
type TrackingState struct {
	ApplicationName         string
	UpstreamApplicationName string
	// Position is how far the log is processed. It is the lowest of the
	// partitions of a divided follower, of those there are if they are damaged.
	Position int64
	// Rows is how many rows there are: one if gormstore wrote it, one for
	// each notification if Django did.
	Rows int64
}
