package compressor

import (
	"errors"

	"github.com/klauspost/compress/zstd"
)

// Zstd compresses in the Zstandard format (RFC 8878). Each state is one frame,
// with the size of the plain form in its header and a checksum. It is safe for
// concurrent use, starts no goroutines and needs no closing.
type Zstd struct {
	settings settings
	encoder  *zstd.Encoder
	decoder  *zstd.Decoder
}

// NewZstd returns a compressor, or an error if an option is out of range. It has
// buffers for as many states at a time as there are processors, so make one and
// share it.
func NewZstd(options ...Option) (*Zstd, error) {
	settings, err := newSettings(options, 3, 22)
	if err != nil {
		return nil, err
	}
	encoder, err := newEncoder(settings.level)
	if err != nil {
		return nil, err
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(settings.memory()), zstd.WithDecoderConcurrency(0))
	if err != nil {
		return nil, err
	}
	return &Zstd{settings: settings, encoder: encoder, decoder: decoder}, nil
}

func newEncoder(level int) (*zstd.Encoder, error) {
	return zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)),
		// States without repetitions, as those of most events are, would
		// otherwise become larger.
		zstd.WithAllLitEntropyCompression(true),
		// Reading needs the size in the header, and no window that is larger
		// than the state and perhaps the limit.
		zstd.WithSingleSegment(true),
		// An empty state is a frame as well, so that nothing at all is always
		// damage.
		zstd.WithZeroFrames(true))
}

// memory is the limit, but at least the smallest window that a frame can have.
func (s settings) memory() uint64 {
	return uint64(max(s.limit, zstd.MinWindowSize))
}

// Compress appends the compressed form of src to dst and returns the extended
// slice. It returns a *TooLargeError if src is larger than the limit. The spare
// capacity of dst must not overlap src.
func (c *Zstd) Compress(dst, src []byte) ([]byte, error) {
	if len(src) > c.settings.limit {
		return nil, &TooLargeError{Limit: c.settings.limit}
	}
	return c.encoder.EncodeAll(src, dst), nil
}

// Decompress appends the plain form of src to dst and returns the extended
// slice. It returns a *TooLargeError if that form is larger than the limit, or
// if the frame asks for a window that is, and an error that wraps ErrDamaged
// for anything else. The spare capacity of dst must not overlap src, and its
// contents are undefined after an error.
func (c *Zstd) Decompress(dst, src []byte) ([]byte, error) {
	if err := c.checkFrame(src); err != nil {
		return nil, err
	}
	// The decoder would count what dst has already against the limit, so it
	// gets the spare capacity alone.
	plain, err := c.decoder.DecodeAll(src, dst[len(dst):])
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded) || err == nil && len(plain) > c.settings.limit:
		return nil, &TooLargeError{Limit: c.settings.limit}
	case err != nil:
		return nil, damaged(err)
	case len(dst) == 0:
		return plain, nil
	}
	return append(dst, plain...), nil
}
