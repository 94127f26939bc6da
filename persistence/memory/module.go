package memory

import (
	"github.com/eventsourcing-go/eventsourcing/internal/environment"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// The name that PERSISTENCE_MODULE selects this package with. Every application
// gets its own store.
func init() {
	environment.Register("memory", func(*environment.Environment) (persistence.Factory, error) { return New(), nil })
}
