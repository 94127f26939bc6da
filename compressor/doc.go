// Package compressor compresses the state of stored events, and decompresses it
// up to a limit.
//
// # Choosing a compressor
//
// There are two, which are also the values of the setting COMPRESSOR_TOPIC.
// Both are safe for concurrent use:
//
//   - NewZstd ("zstd") makes the faster one, which is the one for new databases.
//   - NewZlib ("zlib", "eventsourcing.compressor:ZlibCompressor") makes one with
//     the format of the Python library, for a database that is shared with it.
//
// Neither reads what the other wrote. Both take options:
//
//	c, err := compressor.NewZstd(compressor.WithLevel(9), compressor.WithLimit(1<<20))
//
// # The limit
//
// A few bytes of a compressed state can mean gigabytes, and a writer to the
// database can put them there. So decompressing stops at a limit, which is
// 16 MiB unless WithLimit says otherwise, with an ErrTooLarge. It never
// allocates much more than the limit. Compress refuses what is larger as well,
// so that nothing is stored that cannot be read again: a limit may be raised
// later, but not lowered below the largest state.
//
// Everything else that is wrong with a compressed state is ErrDamaged. A state
// is one whole stream, so anything after its end counts as damage.
//
// # Together with a cipher
//
// A state is compressed before it is encrypted, and decompressed after it has
// been decrypted and thereby found genuine. The length of what is stored then
// says something about the content: keep secrets and text chosen by an attacker
// out of the same event.
package compressor
