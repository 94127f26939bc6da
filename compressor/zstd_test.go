package compressor_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/eventsourcing-go/eventsourcing/compressor"
)

// Frames of the reference implementation can be read.
func TestZstdReadsReference(t *testing.T) {
	t.Parallel()
	c := mustNew(t, "zstd")
	for _, vector := range readVectors(t, "zstd.txt") {
		got, err := c.Decompress(nil, fromHex(t, vector[0]))
		if err != nil || !bytes.Equal(got, fromHex(t, vector[1])) {
			t.Errorf("%.40s...: got %q, error %v, want %q", vector[0], got, err, fromHex(t, vector[1]))
		}
	}
}

// Frames that other writers produce, with and without a size in the header and
// a checksum at the end.
func TestZstdReadsOtherWriters(t *testing.T) {
	t.Parallel()
	c := mustNew(t, "zstd")
	for name, frame := range map[string][]byte{
		"raw block":    slices.Concat(zstdMagic, []byte{0, 0, 4<<3 | 1, 0, 0}, []byte("text")),
		"two blocks":   slices.Concat(zstdMagic, []byte{0, 0, 2 << 3, 0, 0}, []byte("te"), []byte{2<<3 | 1, 0, 0}, []byte("xt")),
		"content size": slices.Concat(zstdMagic, []byte{0x20, 4, 4<<3 | 1, 0, 0}, []byte("text")),
		"checksum":     encodeAll(t, "text", zstd.WithEncoderCRC(true), zstd.WithEncoderLevel(zstd.SpeedBestCompression)),
		"no checksum":  encodeAll(t, "text", zstd.WithEncoderCRC(false)),
	} {
		if got, err := c.Decompress(nil, frame); err != nil || string(got) != "text" {
			t.Errorf("%s: got %q, error %v, want no error and %q", name, got, err, "text")
		}
	}
}

func TestZstdRefusesFrames(t *testing.T) {
	t.Parallel()
	c := mustNew(t, "zstd")
	text := encodeAll(t, "text")
	skippable := append(binary.LittleEndian.AppendUint32([]byte{0x50, 0x2a, 0x4d, 0x18}, 3), "xyz"...)
	for name, frames := range map[string][]byte{
		"skippable":            skippable,
		"skippable before":     slices.Concat(skippable, text),
		"skippable after":      slices.Concat(text, skippable),
		"checksum is missing":  text[:len(text)-4],
		"half a checksum":      text[:len(text)-2],
		"reserved block":       slices.Concat(zstdMagic, []byte{0x20, 4, 4<<3 | 3<<1 | 1, 0, 0}, []byte("text")),
		"reserved bit":         slices.Concat(zstdMagic, []byte{0x28, 4, 4<<3 | 1, 0, 0}, []byte("text")),
		"size is not kept":     slices.Concat(zstdMagic, []byte{0x20, 5, 4<<3 | 1, 0, 0}, []byte("text")),
		"size is exceeded":     slices.Concat(zstdMagic, []byte{0x20, 3, 4<<3 | 1, 0, 0}, []byte("text")),
		"no block":             slices.Concat(zstdMagic, []byte{0x20, 0}),
		"no last block":        slices.Concat(zstdMagic, []byte{0x20, 4, 4 << 3, 0, 0}, []byte("text")),
		"dictionary":           slices.Concat(zstdMagic, []byte{0x21, 7, 4, 4<<3 | 1, 0, 0}, []byte("text")),
		"block exceeds window": slices.Concat(zstdMagic, []byte{0, 0, 0x03, 0x01, 1}, []byte("x")),
	} {
		if got, err := c.Decompress(nil, frames); got != nil || !errors.Is(err, compressor.ErrDamaged) {
			t.Errorf("%s: got %q, error %v, want ErrDamaged", name, got, err)
		}
	}
}

func encodeAll(t *testing.T, text string, options ...zstd.EOption) []byte {
	t.Helper()
	encoder, err := zstd.NewWriter(nil, options...)
	if err != nil {
		t.Fatal(err)
	}
	return encoder.EncodeAll([]byte(text), nil)
}
