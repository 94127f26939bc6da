package domain

// Changes is what an application saves: anything that has new events.
// Aggregates have it by embedding Aggregate; Fold, Events and the application's
// event-sourced logs implement it too.
//
// An application reads the pending events, stores them, and only after they are
// stored calls MarkSaved, so that a save that fails can be tried again.
type Changes interface {
	// PendingEvents returns the events that were not saved yet, oldest first,
	// as a copy.
	PendingEvents() []Event

	// MarkSaved forgets the first n pending events, because they are stored.
	MarkSaved(n int)

	// MarkUnsaved puts events back before the pending ones: the transaction
	// that had stored them was rolled back.
	MarkUnsaved(events []Event)
}

// Events are bare events to be saved as they are, for imports and for tests of
// followers. Saving the same events twice is a version conflict.
type Events []Event

// PendingEvents implements Changes.
func (e Events) PendingEvents() []Event { return append([]Event(nil), e...) }

// MarkSaved implements Changes; bare events keep no record of having been
// saved.
func (e Events) MarkSaved(int) {}

// MarkUnsaved implements Changes.
func (e Events) MarkUnsaved([]Event) {}
