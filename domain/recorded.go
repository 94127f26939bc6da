package domain

// Recorded is a recorded event with the type of its payload, as handlers get
// it.
type Recorded[E any] struct {
	Event

	// Data is the payload. It is the Data of Event with its type.
	Data E
}
