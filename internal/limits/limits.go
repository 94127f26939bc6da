// Package limits has the sizes that every store can keep.
package limits

// Topic is the longest stored name of an event type, in bytes.
const Topic = 255

// Name is the longest application name, in characters: the width of the column
// that Django made.
const Name = 32

// State is the largest state of one event, in bytes, after compression and
// encryption.
const State = 16 << 20
