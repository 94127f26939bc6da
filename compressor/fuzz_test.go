package compressor_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/compressor"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// FuzzZlib decompresses arbitrary bytes, which must not take more memory than
// the limit explains and must be refused with a documented error, and
// compresses them, which must be undone by decompressing.
func FuzzZlib(f *testing.F) {
	for _, vector := range readVectors(f, "python.txt") {
		f.Add(fromHex(f, vector[1]))
	}
	fuzz(f, "zlib")
}

// FuzzZstd is FuzzZlib for Zstd.
func FuzzZstd(f *testing.F) {
	for _, vector := range readVectors(f, "zstd.txt") {
		f.Add(fromHex(f, vector[0]))
	}
	f.Add(repeatBlocks(3))
	f.Add(repeatBlocks(1000))
	fuzz(f, "zstd")
}

func fuzz(f *testing.F, topic string) {
	const limit, allowed = 1 << 20, 16 << 20
	c := mustNew(f, topic, compressor.WithLimit(limit))
	state := mustCompress(f, c, event)
	f.Add(state)
	f.Add(state[:len(state)/2])
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		var plain []byte
		var err error
		if n := allocatedBy(func() { plain, err = c.Decompress(nil, data) }); n > allowed {
			t.Errorf("allocated %d bytes, want at most %v", n, allowed)
		}
		if err != nil && !errors.Is(err, compressor.ErrTooLarge) && !errors.Is(err, compressor.ErrDamaged) || len(plain) > limit {
			t.Errorf("got %d bytes, error %v, want at most %d bytes, ErrDamaged or a size that is too large", len(plain), err, limit)
		}
		checkRoundTrip(t, c, data)
	})
}

func checkRoundTrip(t *testing.T, c persistence.Compressor, data []byte) {
	t.Helper()
	state, err := c.Compress(nil, data)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Decompress(nil, state); err != nil || !bytes.Equal(got, data) {
		t.Errorf("got %q, error %v, want %q", got, err, data)
	}
}
