package capability_test

import (
	"context"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

type wakes struct{}

func (wakes) Listen(context.Context, func(string)) error { return nil }

func TestCapabilitiesOfAStore(t *testing.T) {
	store := memory.New()
	embedding := struct{ *memory.Store }{store}
	changed := struct {
		*memory.Store
		capability.Provider
	}{store, capability.Provide(capability.Store{Listener: wakes{}})}
	for name, test := range map[string]struct {
		store           persistence.Factory
		yields, listens bool
	}{
		"a store of this module":        {store, true, false},
		"a store that embeds it":        {embedding, true, false},
		"a store that provides its own": {changed, false, true},
		"a store that shows recorders":  {struct{ persistence.Factory }{store}, false, false},
		"no store":                      {nil, false, false},
	} {
		c := capability.Of(test.store)
		if yields, listens := c.Yielder != nil, c.Listener != nil; yields != test.yields || listens != test.listens {
			t.Errorf("%s yields: %v and listens: %v, want %v and %v", name, yields, listens, test.yields, test.listens)
		}
	}
}
