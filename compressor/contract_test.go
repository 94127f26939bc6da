package compressor_test

import (
	"github.com/eventsourcing-go/eventsourcing/compressor"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// What the framework asks of a compressor.
var (
	_ persistence.Compressor = (*compressor.Zlib)(nil)
	_ persistence.Compressor = (*compressor.Zstd)(nil)
	_ persistence.Compressor = stateCompressor(nil)
)
