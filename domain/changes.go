package domain

import "github.com/eventsourcing-go/eventsourcing/internal/saving"

func init() {
	saving.MarkSaved = func(changes any, n int) { changes.(Changes).markSaved(n) }
	saving.MarkUnsaved = func(changes, events any) { changes.(Changes).markUnsaved(events.([]Event)) }
}

// Changes is what an application saves: anything that has new events.
// Aggregates have it by embedding Aggregate; Fold and Events implement it too.
//
// An application reads the pending events and stores them. They are pending
// until they are stored, so a save that fails can be tried again.
type Changes interface {
	// PendingEvents returns the events that were not saved yet, oldest first,
	// as a copy.
	PendingEvents() []Event

	// markSaved forgets the first n pending events, because they are stored.
	markSaved(n int)

	// markUnsaved puts events back before the pending ones: the transaction
	// that had stored them was rolled back.
	markUnsaved(events []Event)
}

// Events are bare events to be saved as they are, for imports and for tests of
// followers. Saving the same events twice is a version conflict.
type Events []Event

// PendingEvents implements Changes.
func (e Events) PendingEvents() []Event { return append([]Event(nil), e...) }

// Bare events keep no record of having been saved.

func (e Events) markSaved(int) {}

func (e Events) markUnsaved([]Event) {}
