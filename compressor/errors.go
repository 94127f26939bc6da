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

// ErrTooLarge is returned, wrapped with the limit, for a state that is, or
// claims to become, larger than the limit.
var ErrTooLarge = errors.New("compressor: state is too large")

// tooLargeError is an ErrTooLarge that gives the limit, in bytes.
type tooLargeError struct{ limit int }

func (e *tooLargeError) Error() string {
	return fmt.Sprintf("compressor: state is larger than the limit of %d bytes", e.limit)
}

func (e *tooLargeError) Unwrap() error { return ErrTooLarge }

// NeedsSettings reports that a compressor with a higher limit takes the state.
func (e *tooLargeError) NeedsSettings() bool { return true }
