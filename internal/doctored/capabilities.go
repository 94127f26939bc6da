package doctored

import "github.com/eventsourcing-go/eventsourcing/internal/capability"

// Capabilities are those of a store with a change, for a store of a test that
// embeds both of them.
func Capabilities(store any, change func(*capability.Store)) capability.Provider {
	c := capability.Of(store)
	change(&c)
	return capability.Provide(c)
}
