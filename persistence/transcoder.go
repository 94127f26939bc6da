package persistence

// Transcoder turns payloads into bytes and back. The package jsontranscoder has
// the one to use. A user's own must be safe for concurrent use, and its errors
// must not contain what is in the payloads. It may have further methods:
//
//   - CheckType(reflect.Type) error returns an error for the first part
//     of a type that would be lost or come back differently. Repositories call
//     it, so that a forgotten field is found before the first event without it
//     is stored.
//   - CopiesPlain(reflect.Type) bool reports whether a value of a type comes
//     back as a copy of its memory would be, but for times, which are in UTC and
//     cut to the microsecond. Followers and caches then copy values of the same
//     process in place of decoding them.
type Transcoder interface {
	// Encode appends the encoded form of value to dst and returns the extended
	// slice.
	Encode(dst []byte, value any) ([]byte, error)

	// Decode fills the value that into points to. It keeps no part of data.
	Decode(data []byte, into any) error
}
