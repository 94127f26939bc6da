package compressor

import (
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

type zstdCompressor struct {
	settings settings
	encoder  *zstd.Encoder
	decoder  *zstd.Decoder
}

// NewZstd returns the compressor "zstd", or an error if an option is out of
// range. It compresses in the Zstandard format (RFC 8878): each state is one
// frame, with the size of the plain form in its header and a checksum. It has
// buffers for as many states at a time as there are processors, so make one and
// share it; it starts no goroutines and needs no closing.
//
// The methods return the errors of those of NewZlib. Decompress also returns an
// ErrTooLarge if the frame asks for a window that is larger than the limit.
func NewZstd(options ...Option) (persistence.Compressor, error) {
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
	return &zstdCompressor{settings: settings, encoder: encoder, decoder: decoder}, nil
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

// String returns a text with the level.
func (c *zstdCompressor) String() string {
	return fmt.Sprintf("compressor zstd(level %d)", c.settings.level)
}

// Compress implements persistence.Compressor.
func (c *zstdCompressor) Compress(dst, src []byte) ([]byte, error) {
	if len(src) > c.settings.limit {
		return nil, &tooLargeError{limit: c.settings.limit}
	}
	return c.encoder.EncodeAll(src, dst), nil
}

// Decompress implements persistence.Compressor.
func (c *zstdCompressor) Decompress(dst, src []byte) ([]byte, error) {
	if err := c.checkFrame(src); err != nil {
		return nil, err
	}
	// The decoder would count what dst has already against the limit, so it
	// gets the spare capacity alone.
	plain, err := c.decoder.DecodeAll(src, dst[len(dst):])
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded) || err == nil && len(plain) > c.settings.limit:
		return nil, &tooLargeError{limit: c.settings.limit}
	case err != nil:
		return nil, damaged(err)
	case len(dst) == 0:
		return plain, nil
	}
	return append(dst, plain...), nil
}

// Setting returns the value of COMPRESSOR_TOPIC that means it.
func (*zstdCompressor) Setting() string { return "zstd" }
