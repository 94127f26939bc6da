package persistence

// DeletedOriginator counts what was deleted of an originator.
type DeletedOriginator struct {
	Events, Snapshots int64
	// Parked counts the events of the originator that followers in the same
	// database had parked.
	Parked int64
}
