package memory

import (
	"maps"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// data is what a store keeps. That of a transaction has what the transaction
// has changed, and finds the rest in its base.
type data struct {
	base      *data             // nil for the committed data
	events    map[string]*table // by application
	snapshots map[string]*table // by application
	positions map[position]int64
	settings  map[position]capability.FollowerSettings
	divisions map[position]*persistence.PartitionSet // never changed; nil if whole
	deletions map[string]int64                       // by application
}

// position is the key of a follower's position in the log of an upstream
// application.
type position struct{ follower, upstream string }

func newData(base *data) *data {
	return &data{
		base:      base,
		events:    map[string]*table{},
		snapshots: map[string]*table{},
		positions: map[position]int64{},
		settings:  map[position]capability.FollowerSettings{},
		divisions: map[position]*persistence.PartitionSet{},
		deletions: map[string]int64{},
	}
}

// eventsOf returns the events of an application, to read or to change.
func (d *data) eventsOf(application string) *table {
	return d.table(application, func(d *data) map[string]*table { return d.events })
}

// snapshotsOf returns the snapshots of an application, to read or to change.
func (d *data) snapshotsOf(application string) *table {
	return d.table(application, func(d *data) map[string]*table { return d.snapshots })
}

// table returns a table for the caller, who has the only access to d if d has a
// base. A table that does not exist is returned empty; only a writer keeps it.
func (d *data) table(application string, kind func(*data) map[string]*table) *table {
	if t := kind(d)[application]; t != nil {
		return t
	}
	t := newTable()
	if d.base != nil {
		t = d.base.table(application, kind).overlay()
	}
	return t
}

// keep keeps a table that eventsOf or snapshotsOf has returned and that was
// changed.
func keep(tables map[string]*table, application string, t *table) { tables[application] = t }

// positionOf returns a follower's position, or 0. That of a follower that is
// divided is the lowest of its partitions.
func (d *data) positionOf(key position) int64 {
	if set := d.divisionOf(key); set != nil {
		lowest := set.Partitions[0].Position
		for _, p := range set.Partitions {
			lowest = min(lowest, p.Position)
		}
		return lowest
	}
	for ; d != nil; d = d.base {
		if id, ok := d.positions[key]; ok {
			return id
		}
	}
	return 0
}

// settingsOf returns the settings of a follower.
func (d *data) settingsOf(key position) capability.FollowerSettings {
	for ; d != nil; d = d.base {
		if settings, ok := d.settings[key]; ok {
			return settings
		}
	}
	return capability.FollowerSettings{}
}

// deletionsOf returns how many originators of an application were deleted.
func (d *data) deletionsOf(application string) int64 {
	for ; d != nil; d = d.base {
		if n, ok := d.deletions[application]; ok {
			return n
		}
	}
	return 0
}

// positionsIn returns the positions of all followers in a log.
func (d *data) positionsIn(upstream string) map[position]int64 {
	found := map[position]int64{}
	for ; d != nil; d = d.base {
		for key, id := range d.positions {
			if _, known := found[key]; !known && key.upstream == upstream {
				found[key] = id
			}
		}
	}
	return found
}

// checkMove returns a persistence.ErrPositionMoved if a position is not before
// the one that it is to be moved to.
func (d *data) checkMove(follower string, to persistence.Tracking) error {
	key := position{follower, to.ApplicationName}
	current := d.positionOf(key)
	if to.NotificationID > current && d.divisionOf(key) == nil {
		return nil
	}
	return capability.PositionMoved(follower, to, current)
}

// move moves a position.
func (d *data) move(follower string, to persistence.Tracking) {
	d.positions[position{follower, to.ApplicationName}] = to.NotificationID
}

// commit writes what a transaction has changed to its base.
func (d *data) commit() {
	commitTables(d.base.events, d.events)
	commitTables(d.base.snapshots, d.snapshots)
	maps.Copy(d.base.positions, d.positions)
	maps.Copy(d.base.settings, d.settings)
	maps.Copy(d.base.divisions, d.divisions)
	maps.Copy(d.base.deletions, d.deletions)
}

func commitTables(to, from map[string]*table) {
	for application, t := range from {
		if base := to[application]; base != nil {
			base.adopt(t)
		} else {
			to[application] = t
		}
	}
}
