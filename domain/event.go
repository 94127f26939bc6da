package domain

import (
	"iter"
	"maps"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/eventtype"
)

// Event is a fact about one originator (an aggregate, a fold or a log): the
// payload, which the user defined, and around it what every event has. Events
// are values; nothing changes one after it was triggered.
type Event struct {
	// Application is the name of the application that recorded the event, and
	// NotificationID its position in that application's log. Both are zero
	// until the event is recorded; only Application is set earlier, in pending
	// events of an aggregate that was loaded.
	// NotificationID is zero in events that were read as part of an aggregate,
	// because only the log knows positions.
	Application    string
	NotificationID int64

	// OriginatorID and OriginatorVersion say whose event it is and its place in
	// the originator's history. No two events of an application share both.
	OriginatorID      uuid.UUID
	OriginatorVersion int64

	// Topic is the stored name of the payload's type. An event read under an
	// old name keeps the name it was stored with.
	Topic string

	// ID is random and different for every event. It is zero in events that
	// were written without one, as the Python library does.
	ID uuid.UUID

	// Timestamp is when the event was triggered, in UTC, to the microsecond. It
	// describes; it never orders.
	Timestamp time.Time

	// Metadata is what the application knew about the cause of the event. It
	// may be nil.
	Metadata Metadata

	// Part tells the events apart that UpcastToMany has made of one stored
	// event, which have everything else but their Data in common. It counts
	// from 0, and is 0 for all other events.
	Part int

	// Data is the payload: a value (never a pointer) of a type given to Define.
	// It is a RetiredEvent if the type is retired. If one stored event means
	// several today, as of UpcastToMany, it has the payloads of all of them, and
	// Parts tells them apart; only system.Leader hands out such an event.
	Data any
}

// Parts returns the events that a stored event means today: one for each
// payload that UpcastToMany has made of it, in their order, or the event itself.
// They differ only in Data and Part.
func (e Event) Parts() iter.Seq[Event] {
	return func(yield func(Event) bool) {
		payloads, ok := e.Data.(eventtype.Payloads)
		if !ok {
			yield(e)
			return
		}
		for i, payload := range payloads {
			part := e
			part.Part, part.Data = i, payload
			if !yield(part) {
				return
			}
		}
	}
}

// Metadata travels with an event beside its payload, and is compressed and
// encrypted with it. Keys beginning with "correlation_id" and "causation_id"
// have a fixed meaning; the others are the user's. A save with keys or values
// that are not valid UTF-8 is refused.
type Metadata map[string]string

// The metadata keys that the framework itself sets: the correlation id names
// the whole conversation an event belongs to, the causation id the event (or
// command) that directly caused it.
const (
	CorrelationID = "correlation_id"
	CausationID   = "causation_id"
)

// EventOption says something about one event at the moment it is triggered.
type EventOption func(*eventSettings)

// eventSettings are the parts of an event that its trigger may choose.
type eventSettings struct {
	timestamp time.Time
	metadata  Metadata
}

// At gives the event this time instead of the clock's. It is for facts that are
// entered after they happened, and for tests. The zero time means the clock's.
// A time in the future does not change those of later events, unless it is only
// seconds ahead.
func At(t time.Time) EventOption {
	return func(s *eventSettings) { s.timestamp = normalTime(t) }
}

// With gives the event these metadata, beside those of an earlier With. What
// the application adds when it saves the event (from the context) does not
// replace them.
func With(m Metadata) EventOption {
	return func(s *eventSettings) {
		if s.metadata == nil && len(m) > 0 {
			s.metadata = make(Metadata, len(m))
		}
		maps.Copy(s.metadata, m)
	}
}
