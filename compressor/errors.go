package compressor

import (
	"errors"
	"fmt"
	"strings"
)

// ErrDamaged is returned, wrapped with the reason, for a state that is not one
// whole stream of the compressor's format: altered, cut short, written by
// another compressor or not compressed at all.
var ErrDamaged = errors.New("compressor: state is damaged")

var errTrailing = errors.New("bytes after the end")

// damaged keeps only the text of the cause. Its identity belongs to a library
// that may be exchanged.
func damaged(cause error) error {
	return fmt.Errorf("%w: %v", ErrDamaged, cause)
}

// TooLargeError says that a state is, or claims to become, larger than the
// limit.
type TooLargeError struct {
	// Limit is the limit, in bytes.
	Limit int
}

// Error gives the limit.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("compressor: state is larger than the limit of %d bytes", e.Limit)
}

// NeedsSettings reports that a compressor with a higher limit takes the state.
func (e *TooLargeError) NeedsSettings() bool { return true }

// OptionError says that the value of an option is out of range.
type OptionError struct {
	// Option is the name of the option without "With", in lower case.
	Option string

	// Value is the refused value, and Min and Max are the smallest and the
	// largest that would be accepted.
	Value, Min, Max int
}

// Error gives the name of the option, what is wanted and what was given.
func (e *OptionError) Error() string {
	return fmt.Sprintf("compressor: %s: want %d to %d, got %d", e.Option, e.Min, e.Max, e.Value)
}

// UnknownTopicError says that no compressor has the wanted name.
type UnknownTopicError struct {
	// Topic is the wanted name.
	Topic string

	// Known has the names of all compressors, sorted.
	Known []string
}

// Error gives the wanted name and the known names.
func (e *UnknownTopicError) Error() string {
	return fmt.Sprintf("compressor: unknown topic %q, want one of %s", e.Topic, strings.Join(e.Known, ", "))
}
