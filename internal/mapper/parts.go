package mapper

import (
	"iter"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
)

// Parts returns the events that a stored event means today: one for each of its
// eventtype.Payloads, in their order, or the event itself if it has another
// Data. They differ only in Data and Part.
func Parts(event domain.Event) iter.Seq[domain.Event] {
	return func(yield func(domain.Event) bool) {
		payloads, ok := event.Data.(eventtype.Payloads)
		if !ok {
			yield(event)
			return
		}
		for i, payload := range payloads {
			part := event
			part.Part, part.Data = i, payload
			if !yield(part) {
				return
			}
		}
	}
}
