// Package limits has the sizes that every store can keep.
package limits

// Topic is the longest stored name of an event type, in bytes.
const Topic = 255
