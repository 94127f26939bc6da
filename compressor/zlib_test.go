package compressor_test

import (
	"bytes"
	"compress/zlib"
	"encoding/json"
	"io"
	"testing"
)

// States that the Python library wrote can be read.
func TestZlibReadsPython(t *testing.T) {
	t.Parallel()
	c := mustNew(t, "eventsourcing.compressor:ZlibCompressor")
	for _, vector := range readVectors(t, "python.txt") {
		got, err := c.Decompress(nil, fromHex(t, vector[1]))
		if err != nil || !bytes.Equal(got, fromHex(t, vector[2])) || !json.Valid(got) {
			t.Errorf("%s: got %q, error %v, want the JSON %q", vector[0], got, err, fromHex(t, vector[2]))
		}
	}
}

// Other implementations read what Zlib writes.
func TestZlibIsReadByOthers(t *testing.T) {
	t.Parallel()
	state := mustCompress(t, mustNew(t, "zlib"), event)
	r, err := zlib.NewReader(bytes.NewReader(state))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != event {
		t.Errorf("got %q, error %v, want no error and %v", got, err, event)
	}
}
