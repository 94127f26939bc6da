package persistence

import "reflect"

// Transcoder turns payloads into bytes and back. The package jsontranscoder has
// the one to use. A user's own must be safe for concurrent use, and its errors
// must not contain what is in the payloads.
type Transcoder interface {
	// Encode appends the encoded form of value to dst and returns the extended
	// slice.
	Encode(dst []byte, value any) ([]byte, error)

	// Decode fills the value that into points to. It keeps no part of data.
	Decode(data []byte, into any) error
}

// TypeChecker is a Transcoder that can say beforehand that values of a type
// would not come back as they were. Checking when a program starts finds a
// forgotten field before the first event without it is stored.
type TypeChecker interface {
	// CheckType returns an *InvalidError for the first part of the type that
	// would be lost or come back differently.
	CheckType(t reflect.Type) error
}
