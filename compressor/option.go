package compressor

import (
	"errors"
	"fmt"
)

// defaultLimit is how large a state may be when it is not compressed, in bytes,
// unless WithLimit says otherwise.
const defaultLimit = 16 << 20

// maxLimit keeps sizes within an int on every platform.
const maxLimit = 1 << 30

// Option changes a compressor under construction.
type Option func(*settings)

type settings struct{ limit, level int }

// WithLimit sets how large a state may be when it is not compressed, in bytes,
// from 1 to 2³⁰. The default is 16 MiB.
func WithLimit(bytes int) Option {
	return func(s *settings) { s.limit = bytes }
}

// WithLevel sets how much time to spend on making states small. The levels of
// Zlib are 1 (fast) to 9 (small), with 7 as the default, because the levels
// below it store states as short as most events without making them smaller.
// Those of Zstd are 1 to 22, with 3 as the default; neighbours may have the
// same effect. The level matters for compressing only, and may be changed at
// any time.
func WithLevel(level int) Option {
	return func(s *settings) { s.level = level }
}

// newSettings reports all mistakes together.
func newSettings(options []Option, defaultLevel, maxLevel int) (settings, error) {
	s := settings{limit: defaultLimit, level: defaultLevel}
	for _, option := range options {
		option(&s)
	}
	return s, errors.Join(
		checkRange("limit", s.limit, 1, maxLimit),
		checkRange("level", s.level, 1, maxLevel),
	)
}

func checkRange(option string, value, lowest, highest int) error {
	if value < lowest || value > highest {
		return fmt.Errorf("compressor: %s: want %d to %d, got %d", option, lowest, highest, value)
	}
	return nil
}
