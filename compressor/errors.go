package compressor

import (
	"errors"
	"fmt"
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
