// Package transcoding is what the JSON transcoder shows to the packages of this
// module and not to its users.
package transcoding

import (
	"reflect"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// JSON is the transcoder that jsontranscoder.New returns.
type JSON interface {
	persistence.Transcoder

	// CheckType returns an *invalid.Error for the first part of the
	// type whose values would be lost, or would come back as something else.
	CheckType(typ reflect.Type) error
	// CopiesPlain reports whether a value of a type comes back as a copy of its
	// memory would be, but for times, which are in UTC and cut to the
	// microsecond.
	CopiesPlain(typ reflect.Type) bool
	// HasTranscoding reports whether values of exactly this type have a
	// transcoding.
	HasTranscoding(typ reflect.Type) bool

	// QuoteFloats replaces the tokens NaN, Infinity and -Infinity, which Python
	// writes and JSON does not have, by values that Decode reads as such
	// numbers. It returns data itself if it has none. UnquoteFloats undoes that
	// in what Encode has written.
	QuoteFloats(data []byte) []byte
	UnquoteFloats(data []byte) []byte

	// ForProgram returns a transcoder that writes some values in another form,
	// for another program that reads them.
	ForProgram(form Form) JSON
}

// Form is a form of values that is not that of encoding/json.
type Form struct {
	// AppendFloat appends a floating-point number of 64 or 32 bits to dst, as a
	// number in JSON. Numbers that are not finite are then accepted as well; see
	// JSON.QuoteFloats. Nil writes floats as encoding/json does.
	AppendFloat func(dst []byte, value float64, bits int) []byte
	// EmptyForNil writes nil slices and maps as [] and {}. They come back
	// empty, and not nil.
	EmptyForNil bool
}
