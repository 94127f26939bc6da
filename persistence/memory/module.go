package memory

import "github.com/eventsourcing-go/eventsourcing/persistence"

// The name that PERSISTENCE_MODULE selects this package with. Every application
// gets a store of its own.
func init() {
	persistence.Register("memory", func(*persistence.Environment) (persistence.Factory, error) { return New(), nil })
}
