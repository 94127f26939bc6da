package doctored

import (
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

// Store is a store in memory for tests to embed, with its capabilities.
type Store struct {
	persistence.Transactor
	capability.Provider
}

// NewStore makes an empty store.
func NewStore() *Store {
	store := memory.New()
	return &Store{store, capability.Provide(capability.Of(store))}
}
