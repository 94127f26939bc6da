package compressor

import (
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

// The parts of a zstd frame that follow its header.
const (
	blockHeaderSize = 3
	blockTypeRLE    = 1
	checksumSize    = 4
)

var errFrameKind = errors.New("zstd: skippable frame or dictionary")

// checkFrame refuses what the decoder would accept: sizes whose memory it would
// allocate before it has seen that many bytes, several frames in a row, frames
// to be skipped, and nothing at all.
func (c *zstdCompressor) checkFrame(src []byte) error {
	var header zstd.Header
	blocks, err := header.DecodeAndStrip(src)
	switch {
	case err != nil:
		return damaged(err)
	case header.Skippable || header.DictionaryID != 0:
		return damaged(errFrameKind)
	case header.FrameContentSize > uint64(c.settings.limit) || header.WindowSize > c.settings.memory():
		return &tooLargeError{limit: c.settings.limit}
	}
	return checkEnd(blocks, header.HasCheckSum)
}

// checkEnd walks over the blocks of a frame, to see whether anything follows.
func checkEnd(blocks []byte, hasChecksum bool) error {
	for last := false; !last; {
		var size int
		if size, last = blockSize(blocks); size > len(blocks) {
			return damaged(io.ErrUnexpectedEOF)
		}
		blocks = blocks[size:]
	}
	if hasChecksum {
		blocks = blocks[min(checksumSize, len(blocks)):] // the decoder misses what is missing
	}
	if len(blocks) > 0 {
		return damaged(errTrailing)
	}
	return nil
}

// blockSize returns the size of the first block with its header, and whether it
// is the last block of its frame.
func blockSize(blocks []byte) (size int, last bool) {
	if len(blocks) < blockHeaderSize {
		return blockHeaderSize, true
	}
	header := int(blocks[0]) | int(blocks[1])<<8 | int(blocks[2])<<16
	last, size = header&1 != 0, header>>3
	if header>>1&3 == blockTypeRLE {
		size = 1 // one byte, which is repeated
	}
	return blockHeaderSize + size, last
}
